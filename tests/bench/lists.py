"""Rows of long lists: the tags of one repository, and the repositories of a registry.

The trees are made without a registry. Both sides read the very same one, but where tags are pushed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.bench.content import Content
from tests.bench.measure import Figure, Meter, Row, Scale, Stage, settle
from tests.bench.processes import answered, answering
from tests.bench.small import image
from tests.bench.transfers import push_manifest, push_put
from tests.bench.wire import Unverified, Wire
from tests.support.servers import Server

_REPOSITORY = "bench/tags"
_PAGE = 1000
_CONNECTIONS = 200
"""So many that each of a few workers gets some of them."""
_CONTENTS = (Content(2000), Content(1000))
"""A config and a layer."""
_NEXT = re.compile(r'<([^>]+)>; rel="?next"?')


@dataclass(slots=True)
class _Lists:
    server: Server
    scale: Scale
    names: list[str]
    """What the list must be, sorted."""
    listed: list[list[str]] = field(default_factory=list)


def _links(repository: Path, *names: str) -> None:
    digest = f"sha256:{hashlib.sha256(b'{}').hexdigest()}"
    for name in names:
        path = repository / name.format(digest.removeprefix("sha256:")) / "link"
        os.makedirs(path.parent)
        path.write_text(digest)


@cache
def _tags(base: Path, count: int) -> list[str]:
    """Once for both sides, as the catalog."""
    names = [f"v{number}" for number in range(count)]
    repository = base / _REPOSITORY
    _links(repository, "_manifests/revisions/sha256/{}", "_layers/sha256/{}")
    for name in names:
        tag = f"_manifests/tags/{name}"
        _links(repository, f"{tag}/current", tag + "/index/sha256/{}")
    return sorted(names)


@cache
def _repositories(base: Path, count: int) -> list[str]:
    names = [f"team-{number // 100}/app-{number}" for number in range(count)]
    for name in names:
        _links(
            base / name,
            "_layers/sha256/{}",
            "_manifests/revisions/sha256/{}",
            "_manifests/tags/latest/current",
        )
    return sorted(names)


@contextlib.contextmanager
def _over(stage: Stage, root: Path, make: Callable[[Path, int], list[str]]) -> Iterator[_Lists]:
    names = make(root / "docker/registry/v2/repositories", stage.scale.listed)
    storage = {"filesystem": {"rootdirectory": str(root)}}
    with stage.contender.start(stage.directory, storage) as server:
        yield _Lists(server, stage.scale, names)


def _same_tree(stage: Stage) -> Path:
    return stage.directory.parent / "tree"


@contextlib.contextmanager
def _with_repositories(stage: Stage) -> Iterator[_Lists]:
    with _over(stage, _same_tree(stage), _repositories) as state:
        yield state


@contextlib.contextmanager
def _with_tags(stage: Stage) -> Iterator[_Lists]:
    with _over(stage, _same_tree(stage), _tags) as state:
        _warm(state)
        yield state


@contextlib.contextmanager
def _with_tags_to_push(stage: Stage) -> Iterator[_Lists]:
    with _over(stage, stage.directory.with_name(f"{stage.directory.name}-tree"), _tags) as state:
        with Wire(state.server.port) as wire:
            for content in _CONTENTS:
                push_put(wire, _REPOSITORY, content)
        _warm(state)
        yield state


def _warm(state: _Lists) -> None:
    """Every process that answers has listed once: what it does the first time is no part of a sample."""
    root = state.server.process.pid
    left = answering(root)
    for _ in range(_CONNECTIONS):
        with Wire(state.server.port) as wire:
            _ask_for_tags(wire)
            left -= answered(root, wire.socket)
        if not left:
            return
    raise Unverified(f"Of {_CONNECTIONS} connections none came to the processes {left}.")


def _ask_for_tags(wire: Wire) -> list[str]:
    head, body = wire.ask("GET", f"/v2/{_REPOSITORY}/tags/list")
    head.expect(200, "GET of the tags")
    tags: list[str] = json.loads(body)["tags"]
    return tags


def _list_tags(state: _Lists, meter: Meter) -> None:
    state.listed = []
    with Wire(state.server.port) as wire, meter.measure(state.server, state.scale.lists):
        for _ in range(state.scale.lists):
            state.listed.append(_ask_for_tags(wire))


def _list_new_tags(state: _Lists, meter: Meter) -> None:
    """A list after each push of a tag that was not there; pushes do not count."""
    manifest, digest = image(_CONTENTS[1:], _CONTENTS[0])
    with Wire(state.server.port) as wire:
        for _ in range(state.scale.lists):
            tag = f"new{len(state.names)}"
            push_manifest(wire, _REPOSITORY, tag, manifest, digest)
            state.names = sorted([*state.names, tag])
            settle()
            with meter.measure(state.server, 1):
                listed = _ask_for_tags(wire)
            state.listed = [listed]
            _are_whole(state)


def _list_repositories(state: _Lists, meter: Meter) -> None:
    """All pages of 1,000, as tools go through them."""
    found: list[str] = []
    path: str | None = f"/v2/_catalog?n={_PAGE}"
    with Wire(state.server.port) as wire, meter.measure(state.server, 1):
        while path is not None:
            head, body = wire.ask("GET", path)
            head.expect(200, "GET of the catalog")
            found += json.loads(body)["repositories"]
            following = _NEXT.match(head.headers.get("link", ""))
            path = None if following is None else _path(following[1])
    state.listed = [found]


def _path(url: str) -> str:
    """Of a URL that may be absolute."""
    return "/" + url.partition("://")[2].partition("/")[2] if "://" in url else url


def _are_whole(state: _Lists) -> None:
    for listed in state.listed:
        if sorted(listed) != state.names:
            raise Unverified(f"A list has {len(listed)} names and is not the {len(state.names)}.")


ROWS = (
    Row(
        name="tags-list",
        title="list of the 10,000 tags of a repository",
        figure=Figure.CPU,
        unit="list",
        setup=_with_tags,
        run=_list_tags,
        verify=_are_whole,
    ),
    Row(
        name="tags-list-new",
        title="list of the 10,000 tags of a repository, after a push of another",
        figure=Figure.CPU,
        unit="list",
        setup=_with_tags_to_push,
        run=_list_new_tags,
        verify=_are_whole,
    ),
    Row(
        name="catalog",
        title="catalog of 10,000 repositories, in pages of 1,000",
        figure=Figure.CPU,
        unit="list",
        setup=_with_repositories,
        run=_list_repositories,
        verify=_are_whole,
        most_rounds=3,
    ),
)
