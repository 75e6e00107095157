"""Docker, skopeo, podman and containerd, each visiting a registry over TLS in its own words.

Each is told of the private authority in the way that its manual describes, and keeps what it logs in
with in a directory of the test.
"""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

from tests.support.clients import (
    Client,
    Containerd,
    Docker,
    Outcome,
    Podman,
    Skopeo,
    random_files,
)
from tests.support.images import MIB, Layout, random_layer
from tests.support.names import Names

AnyClient = TypeVar("AnyClient", bound=Client)


class Visitor(ABC, Generic[AnyClient]):
    """One client in one directory, at the registry `address`. Nothing here raises for a refusal."""

    def __init__(self, client: AnyClient, names: Names, address: str, directory: Path) -> None:
        self.client = client
        self.names = names
        self.address = address
        self.directory = directory
        self.trusting = directory / "trusting"
        self.trusting.mkdir(parents=True)

    @abstractmethod
    def make(self, image: str) -> str:
        """Have an image of that name to push; the digest of its configuration."""

    @abstractmethod
    def trust(self, authority: Path) -> None: ...

    @abstractmethod
    def log_in(self, user: str, password: str) -> Outcome: ...

    @abstractmethod
    def push(self, image: str) -> Outcome: ...

    @abstractmethod
    def pull(self, image: str) -> tuple[Outcome, str]:
        """With nothing of it at hand before; also the digest of the manifest that came."""

    @abstractmethod
    def leave(self) -> None:
        """Log out, and keep no image."""


def within(client: AnyClient, names: Names, **environ: str) -> AnyClient:
    """The client as it runs where the names are known."""
    return replace(
        client,
        command=(*names.prefix, *client.command),
        environ={**client.environ, **environ},
    )


def _layout(directory: Path, seed: str) -> tuple[Layout, str]:
    """With an image that is tagged 1, and the digest of its configuration."""
    layout = Layout(directory)
    image = layout.image([random_layer(2 * MIB, seed), random_layer(MIB, f"more {seed}")])
    layout.tag(image, "1")
    manifest = directory / "blobs" / "sha256" / image["digest"].partition(":")[2]
    return layout, str(json.loads(manifest.read_bytes())["config"]["digest"])


class WithDocker(Visitor[Docker]):
    """The engine runs where the names are known; its client only speaks to the engine."""

    def make(self, image: str) -> str:
        self._images = [image]
        files = random_files(2, MIB, "docker")
        return f"sha256:{self.client.build(self.directory / 'image', files, image)}"

    def trust(self, authority: Path) -> None:
        shutil.copy(authority, self.names.certificates(self.address) / "ca.crt")

    def log_in(self, user: str, password: str) -> Outcome:
        return self.client("login", "-u", user, "-p", password, self.address, check=False)

    def push(self, image: str) -> Outcome:
        return self.client("push", image, check=False)

    def pull(self, image: str) -> tuple[Outcome, str]:
        self.client.forget(image)
        done = self.client("pull", image, check=False)
        if done.code != 0:
            return done, ""
        return done, self.client.repo_digest(image, image.rpartition(":")[0])

    def leave(self) -> None:
        self.client("logout", self.address, check=False)
        self.client("rmi", "-f", *self._images, check=False)
        shutil.rmtree(self.names.certificates(self.address))


class WithPodman(Visitor[Podman]):
    def make(self, image: str) -> str:
        self._images = [image]
        self.client = within(
            self.client, self.names, REGISTRY_AUTH_FILE=str(self.directory / "auth.json")
        )
        files = random_files(2, MIB, "podman")
        return f"sha256:{self.client.build(self.directory / 'image', files, image)}"

    def trust(self, authority: Path) -> None:
        shutil.copy(authority, self.trusting / "ca.crt")

    def log_in(self, user: str, password: str) -> Outcome:
        who = ("-u", user, "-p", password)
        return self.client("login", *self._trusting, *who, self.address, check=False)

    def push(self, image: str) -> Outcome:
        return self.client("push", *self._trusting, image, check=False)

    def pull(self, image: str) -> tuple[Outcome, str]:
        self.client.forget(image)
        done = self.client("pull", *self._trusting, image, check=False)
        if done.code != 0:
            return done, ""
        return done, str(self.client.inspect(image)["Digest"])

    def leave(self) -> None:
        self.client("rmi", "-f", *self._images, check=False)

    @property
    def _trusting(self) -> Sequence[str]:
        return ("--cert-dir", str(self.trusting))


class WithSkopeo(Visitor[Skopeo]):
    def make(self, image: str) -> str:
        self.client = within(
            self.client, self.names, REGISTRY_AUTH_FILE=str(self.directory / "auth.json")
        )
        self._layout, config = _layout(self.directory / "layout", "skopeo")
        return config

    def trust(self, authority: Path) -> None:
        shutil.copy(authority, self.trusting / "ca.crt")

    def log_in(self, user: str, password: str) -> Outcome:
        who = ("-u", user, "-p", password)
        where = ("--cert-dir", str(self.trusting))
        return self.client("login", *where, *who, self.address, check=False)

    def push(self, image: str) -> Outcome:
        there = f"docker://{image}"
        where = ("--preserve-digests", "--dest-cert-dir", str(self.trusting))
        return self.client("copy", *where, self._layout.reference("1"), there, check=False)

    def pull(self, image: str) -> tuple[Outcome, str]:
        back = self.directory / "back"
        shutil.rmtree(back, ignore_errors=True)
        where = ("--preserve-digests", "--src-cert-dir", str(self.trusting))
        done = self.client("copy", *where, f"docker://{image}", f"oci:{back}:1", check=False)
        if done.code != 0:
            return done, ""
        return done, str(json.loads((back / "index.json").read_bytes())["manifests"][0]["digest"])

    def leave(self) -> None:
        shutil.rmtree(self.directory)


class WithContainerd(Visitor[Containerd]):
    """`ctr` has no log-in: it shows name and password with each command."""

    def make(self, image: str) -> str:
        self.client = within(self.client, self.names)
        self._user = ""
        layout, config = _layout(self.directory / "layout", "ctr")
        archive = layout.archive(self.directory / "layout.tar")
        base = image.rpartition(":")[0]
        self.client("images", "import", "--no-unpack", "--base-name", base, str(archive))
        return config

    def trust(self, authority: Path) -> None:
        hosts = self.trusting / self.address
        hosts.mkdir()
        shutil.copy(authority, hosts / "ca.crt")

    def log_in(self, user: str, password: str) -> Outcome:
        self._user = f"{user}:{password}"
        image = f"{self.address}/team/absent:1"
        done = self.client("images", "pull", *self._options, image, check=False)
        return Outcome(0, "", "") if "not found" in done.text else done

    def push(self, image: str) -> Outcome:
        return self.client("images", "push", *self._options, image, check=False)

    def pull(self, image: str) -> tuple[Outcome, str]:
        self.client.clear()
        done = self.client("images", "pull", *self._options, image, check=False)
        if done.code != 0:
            return done, ""
        listed = self.client("images", "ls", f"name=={image}").stdout.split()
        return done, next(word for word in listed if word.startswith("sha256:"))

    def leave(self) -> None:
        self.client.clear()

    @property
    def _options(self) -> Sequence[str]:
        return ("--hosts-dir", str(self.trusting), "--user", self._user)
