"""Real clients: the Docker engine, skopeo, podman, buildah and containerd, each on its own directory.

An engine's context manager starts what it needs, and stops that by its process at the end; the
directory goes with it. Registries on 127.0.0.1 are spoken to over plain HTTP.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.engines import missing, program, require_root
from tests.support.images import random_bytes

START_TIMEOUT = 60.0
TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    code: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout + self.stderr


class CommandFailed(AssertionError):
    """A client said no. Its text has the command and all that was printed."""


def run(
    command: Sequence[str],
    *,
    check: bool = True,
    timeout: float = TIMEOUT,
    environ: Mapping[str, str] | None = None,
) -> Outcome:
    """Run a client to its end. Raises CommandFailed for an exit code other than 0, if `check`."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(environ or {})},
    )
    if check and done.returncode != 0:
        line = " ".join(command)
        raise CommandFailed(f"{line}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
    return Outcome(done.returncode, done.stdout, done.stderr)


def wait_for(
    condition: Callable[[], object], what: str, timeout: float = START_TIMEOUT, every: float = 0.01
) -> None:
    """Return once `condition()` is true; fail if it is not in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(every)


@dataclass(frozen=True)
class Client:
    """A program with the arguments and variables that every one of its commands takes."""

    command: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str, check: bool = True, timeout: float = TIMEOUT) -> Outcome:
        return run([*self.command, *arguments], check=check, timeout=timeout, environ=self.environ)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command, running. The caller waits for it."""
        return subprocess.Popen(
            [*self.command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **self.environ},
        )


class Engine(Client):
    """Docker or podman: what both say in the same words."""

    def image_id(self, reference: str) -> str:
        """The digest of the image's configuration."""
        return str(self.inspect(reference)["Id"]).removeprefix("sha256:")

    def diff_ids(self, reference: str) -> list[str]:
        return list(self.inspect(reference)["RootFS"]["Layers"])

    def repo_digest(self, reference: str, repository: str) -> str:
        """The manifest digest under which the engine knows the image in `repository`."""
        names: list[str] = self.inspect(reference)["RepoDigests"]
        return next(name.rpartition("@")[2] for name in names if name.startswith(f"{repository}@"))

    def inspect(self, reference: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(self("image", "inspect", reference).stdout)
        return found[0]

    def forget(self, *references: str) -> None:
        """Remove images, so that the next pull has to fetch them."""
        self("rmi", "-f", *references)


def context(directory: Path, layers: Sequence[Mapping[str, bytes]]) -> Path:
    """A build context, FROM scratch with one COPY for each layer."""
    directory.mkdir(parents=True)
    lines = ["FROM scratch"]
    for number, files in enumerate(layers):
        source = directory / f"layer{number}"
        for name, content in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content)
        lines.append(f"COPY layer{number} /")
    (directory / "Dockerfile").write_text("\n".join([*lines, 'CMD ["/none"]', ""]))
    return directory


class Docker(Engine):
    def build(self, directory: Path, layers: Sequence[Mapping[str, bytes]], *tags: str) -> str:
        """Build in a new `directory`; the image's id."""
        source = str(context(directory, layers))
        names = [option for tag in tags for option in ("-t", tag)]
        built = self("build", "-q", *names, source).stdout.strip()
        shutil.rmtree(directory)
        return built.removeprefix("sha256:")


class Podman(Engine):
    def build(self, directory: Path, layers: Sequence[Mapping[str, bytes]], *tags: str) -> str:
        """Build in a new `directory`, a layer for each COPY; the image's id."""
        source = str(context(directory, layers))
        names = [option for tag in tags for option in ("-t", tag)]
        built = self("build", "-q", "--layers", "--isolation", "chroot", *names, source)
        shutil.rmtree(directory)
        return built.stdout.strip()


class Containerd(Client):
    def content(self) -> set[str]:
        """The digests in the content store."""
        return set(self("content", "ls", "-q").stdout.split())

    def blob(self, digest: str) -> bytes:
        got = subprocess.run(
            [*self.command, "content", "get", digest],
            capture_output=True,
            timeout=TIMEOUT,
            check=True,
        )
        return got.stdout

    def clear(self) -> None:
        """Remove every image, and with them the content."""
        names = self("images", "ls", "-q").stdout.split()
        if names:
            self("images", "rm", "--sync", *names)
        wait_for(lambda: not self.content(), "containerd's content is collected")


class Skopeo(Client):
    def copy(self, source: str, destination: str, *options: str) -> None:
        """Copy without changing a digest; fails if that cannot be."""
        self.convert(source, destination, "--preserve-digests", *options)

    def convert(self, source: str, destination: str, *options: str) -> None:
        """Copy, changing what the options ask for."""
        insecure = ("--src-tls-verify=false", "--dest-tls-verify=false")
        self("copy", "-q", *insecure, *options, source, destination, timeout=300)

    def raw(self, reference: str) -> bytes:
        """The manifest's bytes."""
        got = self("inspect", "--tls-verify=false", "--raw", f"docker://{reference}")
        return got.stdout.encode()


def skopeo(directory: Path) -> Skopeo:
    return Skopeo((program("skopeo"),), {"TMPDIR": str(directory), "HOME": str(directory)})


@contextlib.contextmanager
def docker_engine(prefix: Sequence[str] = ()) -> Iterator[Docker]:
    """`prefix` goes before the engine's command, which must keep its process."""
    require_root("dockerd")
    client, daemon = program("docker"), program("dockerd")
    with _short_directory("docker") as directory:
        address = f"unix://{directory}/docker.sock"
        engine = Docker(
            (client, "-H", address),
            # The builder that is in the engine itself; the newer one would be one more download.
            {"DOCKER_CONFIG": str(directory / "config"), "DOCKER_BUILDKIT": "0"},
        )
        command = [
            *(daemon, "--data-root", f"{directory}/root", "--exec-root", f"{directory}/exec"),
            *("-H", address, "--pidfile", f"{directory}/pid"),
            *("--iptables=false", "--ip6tables=false", "--bridge=none"),
        ]
        try:
            with _first_that_starts(
                [
                    [*prefix, *command, f"--storage-driver={driver}"]
                    for driver in ("overlay2", "vfs")
                ],
                directory,
                lambda: engine("version", check=False).code == 0,
            ):
                yield engine
        finally:
            _unmount(directory)


@contextlib.contextmanager
def podman_engine() -> Iterator[Podman]:
    with _short_directory("podman") as directory:
        options = (
            *("--root", f"{directory}/root", "--runroot", f"{directory}/run"),
            *("--tmpdir", f"{directory}/tmp", "--storage-driver", "vfs"),
            *("--cgroup-manager", "cgroupfs"),
        )
        engine = Podman((program("podman"), *options), {"BUILDAH_ISOLATION": "chroot"})
        try:
            said = engine("info", check=False)
            if said.code != 0:
                missing(f"podman cannot run here ({said.stderr.strip()[-200:]})")
            yield engine
        finally:
            _unmount(directory)


@contextlib.contextmanager
def buildah_builder() -> Iterator[Client]:
    with _short_directory("buildah") as directory:
        options = ("--root", f"{directory}/root", "--runroot", f"{directory}/run")
        builder = Client(
            (program("buildah"), *options, "--storage-driver", "vfs"),
            {"BUILDAH_ISOLATION": "chroot"},
        )
        try:
            said = builder("info", check=False)
            if said.code != 0:
                missing(f"buildah cannot run here ({said.stderr.strip()[-200:]})")
            yield builder
        finally:
            _unmount(directory)


@contextlib.contextmanager
def containerd_engine() -> Iterator[Containerd]:
    require_root("containerd")
    client, daemon = program("ctr"), program("containerd")
    with _short_directory("ctr") as directory:
        configuration = directory / "config.toml"
        configuration.write_text(
            'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[plugins."io.containerd.internal.v1.opt"]\npath = "{directory}/opt"\n'
        )
        address = f"{directory}/containerd.sock"
        engine = Containerd((client, "-a", address))
        command = [
            *(daemon, "--config", str(configuration), "--address", address),
            *("--root", f"{directory}/root", "--state", f"{directory}/state"),
        ]
        try:
            with _first_that_starts(
                [command], directory, lambda: engine("version", check=False).code == 0
            ):
                yield engine
        finally:
            _unmount(directory)


@contextlib.contextmanager
def _first_that_starts(
    commands: Sequence[Sequence[str]], directory: Path, ready: Callable[[], bool]
) -> Iterator[None]:
    """Run the first of the commands that comes up, and end it by SIGTERM."""
    log = directory / "log"
    for command in commands:
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        with _ended(process):
            if _comes_up(process, ready):
                yield
                return
    missing(f"{commands[0][0]} cannot run here ({log.read_text(errors='replace')[-300:]})")


def _comes_up(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> bool:
    """Whether the daemon answers; False if it ended instead, or is not ready in time."""
    deadline = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        if ready():
            return True
        time.sleep(0.05)
    return False


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


@contextlib.contextmanager
def _short_directory(name: str) -> Iterator[Path]:
    """A directory whose path leaves room for sockets, which may have 107 characters."""
    directory = Path(tempfile.mkdtemp(prefix=f"holdfast-{name}-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _unmount(directory: Path) -> None:
    """Engines leave mounts when they are stopped; nothing below can be removed before those."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in sorted(points, reverse=True):
        if point.startswith(f"{directory}/"):
            run(["umount", "-l", point], check=False)


def random_files(count: int, size: int, seed: str) -> list[Mapping[str, bytes]]:
    """For build(): a layer for each, with one file of `size` random bytes."""
    return [{f"{seed}-{number}": random_bytes(size, f"{seed}{number}")} for number in range(count)]
