#!/bin/sh
# The first process of a guest. Its root is this machine's, over hostfs, and read only.
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
for word in $(cat /proc/cmdline); do
  case $word in guest.*) eval "${word#guest.}" ;; esac
done

# A root of its own: the host's below, and in memory what is written.
mount -t tmpfs -o size=70% memory /mnt
mkdir /mnt/written /mnt/work /mnt/root
modprobe -a -d "$modules" overlay nfsv4
mount -t overlay -o lowerdir=/,upperdir=/mnt/written,workdir=/mnt/work root /mnt/root
cd /mnt/root
mount -t proc proc proc
mount -t sysfs sys sys
mount -t devtmpfs dev dev
mkdir -p dev/shm dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t devpts pts dev/pts
mount -t tmpfs -o mode=755 run run
# What tests put here is seen at once; below the overlay it might not be.
mount -t hostfs -o "$shared" none ".$shared"

# A server tells the clients of NFS 4 apart by their host names.
echo "$host" >/proc/sys/kernel/hostname
ip link set lo up
ip address add "$address/24" dev vec0
ip link set vec0 up
[ -z "$manager" ] || . "$manager"
exec chroot . "$python" -I -S "$agent" "$address" "$port"
