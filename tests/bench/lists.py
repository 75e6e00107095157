"""Rows of long lists: the tags of one repository, and the repositories of a registry.

Both sides read the very same tree, which is made without a registry.
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

from tests.bench.measure import Figure, Meter, Row, Scale, Stage
from tests.bench.wire import Unverified, Wire
from tests.support.servers import Server

_REPOSITORY = "bench/tags"
_PAGE = 1000
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


def _over(
    make: Callable[[Path, int], list[str]],
) -> Callable[[Stage], contextlib.AbstractContextManager[_Lists]]:
    @contextlib.contextmanager
    def setup(stage: Stage) -> Iterator[_Lists]:
        root = stage.directory.parent / "tree"
        names = make(root / "docker/registry/v2/repositories", stage.scale.listed)
        storage = {"filesystem": {"rootdirectory": str(root)}}
        with stage.contender.start(stage.directory, storage) as server:
            yield _Lists(server, stage.scale, names)

    return setup


def _list_tags(state: _Lists, meter: Meter) -> None:
    state.listed = []
    with Wire(state.server.port) as wire, meter.measure(state.server, state.scale.lists):
        for _ in range(state.scale.lists):
            head, body = wire.ask("GET", f"/v2/{_REPOSITORY}/tags/list")
            head.expect(200, "GET of the tags")
            state.listed.append(json.loads(body)["tags"])


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
        setup=_over(_tags),
        run=_list_tags,
        verify=_are_whole,
    ),
    Row(
        name="catalog",
        title="catalog of 10,000 repositories, in pages of 1,000",
        figure=Figure.CPU,
        unit="list",
        setup=_over(_repositories),
        run=_list_repositories,
        verify=_are_whole,
        most_rounds=3,
    ),
)
