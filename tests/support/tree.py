"""What must hold for a registry's tree at rest, whatever happened to its server.

Every name leads to content, and all content is what its name says: a tag to a revision, a revision
to a manifest, a manifest to its config, layers and children, a layer link to a blob. What a crash may
leave behind is passed over: uploads in progress, our own temporary files, a tag's history without
the tag.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_ELSEWHERE = re.compile(r"foreign|nondistributable")
_OURS = "_holdfast"


def check_tree(root: Path, *, removed: Collection[str] = ()) -> list[str]:
    """The problems of the tree below `root` (a `rootdirectory`), a sentence each.

    `removed`: digests that were deleted on purpose although a manifest or a link still names them.
    """
    return list(_Check(root / "docker" / "registry" / "v2", removed).problems())


class _Check:
    def __init__(self, top: Path, removed: Collection[str]) -> None:
        self._blobs = top / "blobs"
        self._repositories = top / "repositories"
        self._removed = removed
        self._sound: set[str] = set()

    def problems(self) -> Iterator[str]:
        if not self._blobs.parent.is_dir():
            return
        yield from self._check_blobs()
        for manifests in sorted(self._repositories.rglob("_manifests")):
            yield from self._check_repository(manifests.parent)
        yield from self._check_strays()

    def _check_blobs(self) -> Iterator[str]:
        for file in _files(self._blobs):
            parts = file.relative_to(self._blobs).parts
            if len(parts) != 4 or parts[3] != "data" or parts[1] != parts[2][:2]:
                yield f"{file} has no place among the blobs"
                continue
            with file.open("rb") as content:
                found = hashlib.file_digest(content, parts[0]).hexdigest()
            if found == parts[2]:
                self._sound.add(f"{parts[0]}:{parts[2]}")
            else:
                yield f"{file} hashes to {found}"

    def _check_repository(self, repository: Path) -> Iterator[str]:
        manifests = repository / "_manifests"
        for link in sorted((repository / "_layers").glob("*/*/link")):
            digest, named = _read(link), _named(link)
            if digest is None or (digest != named and not named.startswith("sha512:")):
                yield f"{link} holds {link.read_bytes()!r}"
            elif digest not in self._sound and digest not in self._removed:
                yield f"{link} names {digest}, which is no sound blob"
        for link in sorted((manifests / "revisions").glob("*/*/link")):
            if _read(link) != _named(link):
                yield f"{link} holds {link.read_bytes()!r}"
            elif _named(link) not in self._sound:
                yield f"{link} names a manifest that is no sound blob"
            else:
                yield from self._check_manifest(repository, _named(link))
        for tag in sorted((manifests / "tags").glob("*")):
            yield from self._check_tag(repository, tag)

    def _check_tag(self, repository: Path, tag: Path) -> Iterator[str]:
        current = tag / "current" / "link"
        digest = _read(current)
        if digest is None and current.exists():
            yield f"{current} holds {current.read_bytes()!r}"
        if digest is not None and not _revision(repository, digest).is_file():
            yield f"{current} names {digest}, which is no revision of {repository}"
        if digest is not None and not _index_entry(tag, digest).is_file():
            yield f"{tag} has no index entry of {digest}"
        for link in sorted((tag / "index").glob("*/*/link")):
            if _read(link) != _named(link):
                yield f"{link} holds {link.read_bytes()!r}"

    def _check_manifest(self, repository: Path, digest: str) -> Iterator[str]:
        algorithm, _, value = digest.partition(":")
        data = self._blobs / algorithm / value[:2] / value / "data"
        manifest: dict[str, Any] = json.loads(data.read_bytes())
        for child in manifest.get("manifests", []):
            revision = _revision(repository, child["digest"])
            if child["digest"] not in self._removed and not revision.is_file():
                yield f"{digest} of {repository} names {child['digest']}, no revision there"
        config = [manifest["config"]] if "config" in manifest else []
        for part in config + manifest.get("layers", []):
            if part["digest"] in self._removed or _ELSEWHERE.search(part["mediaType"]):
                continue
            link = repository / "_layers" / part["digest"].replace(":", "/") / "link"
            if not link.is_file():
                yield f"{digest} of {repository} names {part['digest']}, which has no layer link"

    def _check_strays(self) -> Iterator[str]:
        for file in _files(self._repositories):
            parts = file.relative_to(self._repositories).parts
            if "_uploads" not in parts and _OURS not in parts and parts[-1] != "link":
                yield f"{file} has no place in a repository"


def unfinished_uploads(root: Path) -> list[Path]:
    """The data files of the uploads in progress."""
    return [file for file in data_files(root) if file.parts[-3] == "_uploads"]


def data_files(root: Path) -> list[Path]:
    """The data files of blobs and of uploads in progress, sorted; of a tree that may be in use.

    `Path.rglob` fails when a directory goes away under it; `os.walk` passes it over.
    """
    walked = os.walk(root / "docker" / "registry" / "v2")
    return sorted(Path(top, "data") for top, _, files in walked if "data" in files)


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file())


def _revision(repository: Path, digest: str) -> Path:
    return repository / "_manifests" / "revisions" / digest.replace(":", "/") / "link"


def _index_entry(tag: Path, digest: str) -> Path:
    return tag / "index" / digest.replace(":", "/") / "link"


def _named(link: Path) -> str:
    return f"{link.parent.parent.name}:{link.parent.name}"


def _read(link: Path) -> str | None:
    """The digest a link holds, if it holds that and nothing else."""
    text = link.read_text() if link.is_file() else ""
    return text if _DIGEST.fullmatch(text) else None
