# The end of init.sh where a guest runs systemd. Nothing of what this machine has enabled is started: it
# was never asked to, and some of it cleans up what it takes for left behind.
rm -rf etc/systemd/system usr/lib/systemd/system/*.target.wants
mkdir -p etc/systemd/system
: >etc/fstab
echo "$host" >etc/hostname
rm -f .dockerenv # systemd would take itself for a container's
cat >etc/systemd/system/agent.service <<unit
[Unit]
DefaultDependencies=no
After=systemd-journald.socket
[Service]
ExecStart=$python -I -S $agent $address $port
unit
cat >etc/systemd/system/default.target <<unit
[Unit]
Wants=systemd-journald.socket systemd-journald.service agent.service
unit

# No chroot, for the processes in one get no user namespaces.
pivot_root . mnt
cd /
umount -l /mnt
exec /lib/systemd/systemd
