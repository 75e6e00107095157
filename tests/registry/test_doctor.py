"""`registry doctor`: each mistake is found and named, with what to do; a sound registry has none."""

from __future__ import annotations

import errno
import http.server
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from registry.doctor import Node, examine_nodes
from storage.drivers import examining
from storage.drivers.filesystem import FilesystemDriver
from storage.examination import Observation, Verdict
from tests.faults.mounts import mounted_readonly
from tests.support.s3 import S3Store
from tests.support.servers import free_port, holdfast


def problems(found: Iterator[Observation]) -> list[Observation]:
    return [each for each in found if each.verdict is Verdict.PROBLEM]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "registry.cli", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def config(path: Path, storage: dict[str, object]) -> str:
    file = path / "config.yml"
    file.write_text(yaml.safe_dump({"version": "0.1", "storage": storage}))
    return str(file)


Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextmanager
def impostor(answer: Answer) -> Iterator[str]:
    """Something at an address that is not the registry people think it is."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def handle_any(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            answer(self)

    for method in ("GET", "POST", "PATCH", "PUT", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.handle_any)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def reply(
    handler: http.server.BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


class TestNodes:
    def test_two_sound_nodes_on_one_tree(self, tmp_path: Path) -> None:
        with holdfast(tmp_path) as one, holdfast(tmp_path) as other:
            found = list(examine_nodes([Node(one.url), Node(other.url)]))
        assert {each.verdict for each in found} == {Verdict.OK}
        assert any("continued and finished at the other" in each.sentence for each in found)
        assert any("A tag that it moves is seen moved" in each.sentence for each in found)
        assert not list(tmp_path.rglob("_layers/*/*/link")), "the probe was not taken out"

    def test_nodes_with_two_trees(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
        with holdfast(tmp_path / "one") as one, holdfast(tmp_path / "two") as two:
            found = problems(examine_nodes([Node(one.url), Node(two.url)]))
        assert found
        assert "refused at the other" in found[0].sentence
        assert "same storage" in found[0].remedy

    def test_nodes_with_two_secrets(self, tmp_path: Path) -> None:
        first, second = ({"http": {"secret": secret}} for secret in ("a" * 32, "b" * 32))
        with holdfast(tmp_path, config=first) as one, holdfast(tmp_path, config=second) as two:
            found = problems(examine_nodes([Node(one.url), Node(two.url)]))
        assert found
        assert "http.secret" in found[0].remedy

    def test_a_location_that_leads_elsewhere(self, tmp_path: Path) -> None:
        elsewhere = {"http": {"host": "https://registry.example.com"}}
        with holdfast(tmp_path, config=elsewhere) as server:
            found = problems(examine_nodes([Node(server.url)]))
        assert [each.sentence for each in found] == [
            "It sends clients on to https://registry.example.com."
        ]
        assert "http.host" in found[0].remedy

    def test_nobody_there(self) -> None:
        (found,) = problems(examine_nodes([Node(f"http://127.0.0.1:{free_port()}")]))
        assert "does not answer" in found.sentence

    def test_something_else_there(self) -> None:
        with impostor(lambda handler: reply(handler, 200, b"hello")) as url:
            (found,) = problems(examine_nodes([Node(url)]))
        assert "not by a registry" in found.sentence

    def test_a_clock_that_is_off(self) -> None:
        def late(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.date_time_string = lambda timestamp=None: "Thu, 01 Jan 2026 00:00:00 GMT"  # type: ignore[method-assign]
            reply(handler, 200, b"{}", Docker_Distribution_Api_Version="registry/2.0")

        with impostor(late) as url:
            (found,) = problems(examine_nodes([Node(url)]))
        assert "clock" in found.sentence

    def test_a_node_that_goes_on_to_serve_a_tag_as_it_was(
        self, rgw: S3Store, tmp_path: Path
    ) -> None:
        """Here because it was told to; a mount that breaks close-to-open looks no other."""
        with rgw.fresh() as bucket:
            section = {"s3": rgw.parameters(bucket), "redirect": {"disable": True}}
            stale = {**section, "cache": {"tagttl": "1m"}}
            with (
                holdfast(tmp_path, driver="s3", config={"storage": section}) as one,
                holdfast(tmp_path, driver="s3", workers=1, config={"storage": stale}) as other,
            ):
                (found,) = problems(examine_nodes([Node(one.url), Node(other.url)]))
            kept = [key for key in rgw.keys(bucket) if "/tags/" in key]
        assert found.subject == other.url
        assert "A tag that was just set" in found.sentence
        assert "storage.cache.tagttl" in found.remedy
        assert kept == [], "the probe was not taken out"

    def test_wrong_credentials(self, tmp_path: Path) -> None:
        users = tmp_path / "htpasswd"
        users.write_text("alice:$2b$04$abcdefghijklmnopqrstuuOZgBPfgGjSBhZVjbeP4CNOgDGu/YGhq\n")
        auth = {"auth": {"htpasswd": {"realm": "here", "path": str(users)}}}
        with holdfast(tmp_path, config=auth) as server:
            (found,) = problems(examine_nodes([Node(server.url, "alice", "wrong")]))
        assert "credentials" in found.sentence
        assert "REGISTRY_DOCTOR_PASSWORD" in found.remedy

    def test_presigned_urls_that_lead_nowhere(self, rgw: S3Store, tmp_path: Path) -> None:
        with rgw.fresh() as bucket:
            nowhere = f"http://127.0.0.1:{free_port()}"
            s3 = rgw.parameters(bucket, redirectendpoint=nowhere)
            with holdfast(tmp_path, driver="s3", config={"storage": {"s3": s3}}) as server:
                (found,) = problems(examine_nodes([Node(server.url)]))
        assert "cannot be reached" in found.sentence
        assert "redirectendpoint" in found.remedy


class TestBuckets:
    def test_a_sound_one(self, rgw: S3Store, tmp_path: Path) -> None:
        with rgw.fresh() as bucket:
            done = run(config(tmp_path, {"s3": rgw.parameters(bucket)}))
            assert rgw.keys(bucket) == {}
        assert done.returncode == 0, done.stdout + done.stderr
        assert "0 problems, 1 warning\n" in done.stdout
        assert "conditional writes: The store keeps the first" in done.stdout
        assert "AbortIncompleteMultipartUpload" in done.stdout

    def test_one_with_a_lifecycle_rule(self, rgw: S3Store, tmp_path: Path) -> None:
        rule = {
            "ID": "unfinished",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
        }
        with rgw.fresh() as bucket:
            rgw.client().put_bucket_lifecycle_configuration(
                Bucket=bucket,
                LifecycleConfiguration={"Rules": [rule]},  # type: ignore[list-item]
            )
            done = run(config(tmp_path, {"s3": rgw.parameters(bucket)}))
        assert "0 problems, 0 warnings\n" in done.stdout

    def test_a_store_with_gaps(self, rclone_s3: S3Store, tmp_path: Path) -> None:
        with rclone_s3.fresh() as bucket:
            done = run(config(tmp_path, {"s3": rclone_s3.parameters(bucket)}))
        assert "warning  conditional writes" in done.stdout
        assert "Traceback" not in done.stderr

    def test_one_that_is_not_there(self, rgw: S3Store, tmp_path: Path) -> None:
        done = run(config(tmp_path, {"s3": rgw.parameters("no-such-bucket")}))
        assert done.returncode == 1
        assert "PROBLEM  bucket" in done.stdout
        assert "Traceback" not in done.stderr


class TestDirectories:
    def test_a_sound_one(self, tmp_path: Path) -> None:
        done = run(config(tmp_path, {"filesystem": {"rootdirectory": str(tmp_path / "tree")}}))
        assert done.returncode == 0, done.stdout
        assert "PROBLEM" not in done.stdout
        assert not list(tmp_path.rglob("doctor-*"))

    def test_one_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        root = tmp_path / "file" / "tree"
        (found,) = examining.examine(root, root / "tmp")
        assert found.verdict is Verdict.PROBLEM
        assert "cannot be written" in found.sentence

    @pytest.mark.parametrize(
        ("mount", "verdict", "word"),
        [
            ("server:/x /data nfs4 rw,vers=4.1,hard 0 0", Verdict.OK, "NFS 4"),
            ("server:/x /data nfs rw,vers=3,hard 0 0", Verdict.PROBLEM, "vers=4.1"),
            ("server:/x /data nfs4 rw,vers=4.1,soft 0 0", Verdict.PROBLEM, "hard"),
            ("server:/x /data nfs4 rw,vers=4.2,hard,nocto 0 0", Verdict.PROBLEM, "without nocto"),
            ("server:/x /data nfs4 rw,vers=4.1,local_lock=all 0 0", Verdict.PROBLEM, "local_lock"),
            ("bucket /data fuse.s3fs rw 0 0", Verdict.PROBLEM, "storage.s3"),
            ("host:/x /data 9p rw 0 0", Verdict.OK, "9p"),
            ("host:/x /data fuse.sshfs rw 0 0", Verdict.PROBLEM, "single node"),
            ("ceph /data ceph rw 0 0", Verdict.OK, "ceph"),
            ("/dev/sda /data ext4 rw 0 0", Verdict.OK, "single node"),
        ],
    )
    def test_mounts(
        self, mount: str, verdict: Verdict, word: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def mounts(path: Path, *_: object) -> str:
            assert path == Path("/proc/self/mounts")
            return f"/dev/vda / ext4 rw 0 0\n{mount}\n"

        monkeypatch.setattr(Path, "read_text", mounts)
        monkeypatch.setattr(examining, "_host_name", lambda _: iter(()))
        (found,) = examining._mount(Path("/data/registry"), Path("/data/registry/tmp"))
        assert found.verdict is verdict
        assert word in f"{found.sentence} {found.remedy}"

    def test_two_machines_of_one_name(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Another was here since this one started: it was not this one before its restart."""
        proc = tmp_path / "proc"
        proc.mkdir()
        monkeypatch.setattr(examining, "PROC", proc)
        temporary = tmp_path / "tmp"
        temporary.mkdir()

        def on(machine: str, name: str, running_for: float) -> Verdict:
            (proc / "uptime").write_text(f"{running_for} 1.0\n")
            (proc / "sys/kernel/random").mkdir(parents=True, exist_ok=True)
            (proc / "sys/kernel/random/boot_id").write_text(f"{machine}\n")
            monkeypatch.setattr("socket.gethostname", lambda: name)
            (found,) = examining._host_name(temporary)
            return found.verdict

        assert on("a", "node", 1000.0) is Verdict.OK
        assert on("a", "node", 1001.0) is Verdict.OK
        assert on("b", "other", 1000.0) is Verdict.OK
        time.sleep(0.1)
        assert on("c", "node", 0.05) is Verdict.OK, "as after a restart"
        assert on("d", "node", 1000.0) is Verdict.PROBLEM

    @pytest.mark.parametrize("how", ["not there", "half written", "under its readers"])
    def test_renames_that_take_more_than_one_step(
        self, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def replace(self: Path, target: Path) -> Path:
            content = self.read_bytes()
            if how == "not there":
                target.unlink()
                time.sleep(0.002)
                target.write_bytes(content)
            elif how == "half written":
                fresh = target.with_name("half")
                with fresh.open("wb") as file:
                    file.write(content[:100])
                    file.flush()
                    os.replace(fresh, target)
                    time.sleep(0.002)
                    file.write(content[100:])
            else:
                with target.open("r+b") as file:
                    file.write(content)
            return target

        monkeypatch.setattr(Path, "replace", replace)
        found = examining._rename(tmp_path)
        assert found.verdict is Verdict.PROBLEM
        assert "not replaced in one step" in found.sentence

    def test_a_filesystem_without_locks(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

        monkeypatch.setattr("fcntl.flock", refuse)
        found = [each for each in examining.examine(tmp_path, tmp_path / "tmp") if each.remedy]
        assert [each.subject for each in found] == ["locks"]
        assert "not supported" in found[0].sentence

    def test_one_that_may_only_be_read(self, tmp_path: Path) -> None:
        driver = FilesystemDriver(tmp_path / "written")
        driver.prepare()
        driver.write("docker/registry/v2/blobs/x", b"")
        readonly = {"maintenance": {"readonly": {"enabled": True}}}
        with mounted_readonly(tmp_path / "written", tmp_path / "tree"):
            section = {"filesystem": {"rootdirectory": str(tmp_path / "tree")}, **readonly}
            done = run(config(tmp_path, section))
        assert done.returncode == 0, done.stdout
        assert "It can be read" in done.stdout
        absent = {"filesystem": {"rootdirectory": str(tmp_path / "absent")}, **readonly}
        done = run(config(tmp_path, absent))
        assert done.returncode == 1
        assert "PROBLEM  storage: It cannot be read" in done.stdout

    def test_the_longest_mount_point_counts(self) -> None:
        mounts = "a / ext4 rw 0 0\nb /data nfs4 hard 0 0\nc /data/re xfs rw 0 0\n"
        assert examining.mount_of(Path("/data/registry"), mounts)[0] == "nfs4"
        assert examining.mount_of(Path("/data/re/x"), mounts)[0] == "xfs"
        assert examining.mount_of(Path("/dat"), mounts)[0] == "ext4"


def test_memory_is_warned_of(tmp_path: Path) -> None:
    done = run(config(tmp_path, {"inmemory": {}}))
    assert done.returncode == 0
    assert "a restart loses everything" in done.stdout
