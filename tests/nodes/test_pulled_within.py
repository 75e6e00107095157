"""Tags that are pulled stay, whichever way they are pulled; from real pulls to what a run removes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from registry.last_pulls import DAY
from tests.nodes.clients import Stubborn
from tests.nodes.conftest import STORAGES, Placing, sound
from tests.nodes.operator import QUICK, Operator
from tests.support.clients import Containerd, Skopeo, wait_for
from tests.support.nodes import Storage, nodes
from tests.support.registry import image

RULES = {"retention": {"rules": [{"repositories": ["**"], "keep": {"pulledwithin": "1s"}}]}}
TAGS = ["pulled-by-tag", "pulled-by-containerd", "asked-for", "pulled-by-digest", "idle"]
KEPT = sorted({*TAGS} - {"idle"})


def verdicts(operator: Operator) -> dict[str, str]:
    return {tag: cells[3] for tag, cells in operator.retention().items() if tag in TAGS}


def there(client: Stubborn) -> list[str]:
    listed: list[str] = client.http.get("/v2/app/tags/list").json()["tags"]
    return listed


def age_marks(storage: Storage, seconds: float) -> None:
    assert storage.root is not None
    for mark in storage.root.glob("docker/registry/v2/repositories/app/_holdfast/pulled*/**/*"):
        if mark.is_file():
            then = time.time() - seconds
            os.utime(mark, (then, then))


@pytest.mark.parametrize("kind", STORAGES)
def test_tags_that_are_pulled_stay(
    kind: str, placing: Placing, skopeo: Skopeo, containerd: Containerd, tmp_path: Path
) -> None:
    storage = placing(kind)
    config = {**RULES, "gc": {**QUICK["gc"], "minimumage": 0}}
    operator = Operator.of(storage, **config)
    with nodes(storage, 1, **config) as (node,):
        client, place = Stubborn(node.url), node.url.removeprefix("http://")
        documents = {tag: image(tag.encode()) for tag in TAGS}
        for tag, document in documents.items():
            client.push("app", tag, document)
        assert set(verdicts(operator).values()) == {"kept"}, "nobody knows of pulls yet"

        skopeo.copy(f"docker://{place}/app:pulled-by-tag", f"dir:{tmp_path}/copy")
        # Its layers are no archives, and it need not unpack them.
        containerd("content", "fetch", "--plain-http", f"{place}/app:pulled-by-containerd")
        assert client.http.head("/v2/app/manifests/asked-for").status_code == 200
        by_digest = documents["pulled-by-digest"].digest
        assert client.http.get(f"/v2/app/manifests/{by_digest}").status_code == 200
        node.stop()  # which writes what it has noted

        time.sleep(2)  # stores count whole seconds
        assert verdicts(operator) == {tag: "kept" if tag in KEPT else "removed" for tag in TAGS}
        for options in (["--dry-run"], []):
            assert ", 1 tags, " in operator.gc(*options).stdout
        node.start()
        assert there(client) == KEPT
        for tag in KEPT:
            client.pull("app", tag, documents[tag])
        operator.restore("app:idle")
        client.pull("app", "idle", documents["idle"])
        node.stop()

        if storage.root is not None:
            age_marks(storage, 2 * DAY)
            assert set(verdicts(operator).values()) == {"removed"}
        client.close()
    sound(storage, node)


def test_a_mark_is_written_while_the_node_runs(placing: Placing) -> None:
    """Within two minutes; a node is not stopped for months."""
    storage = placing("filesystem")
    with nodes(storage, 1, **RULES) as (node,):
        client = Stubborn(node.url)
        document = image(b"one")
        client.push("app", "1", document)
        client.pull("app", "1", document)
        client.close()
        assert storage.root is not None
        mark = storage.root / "docker/registry/v2/repositories/app/_holdfast/pulled/1"
        wait_for(mark.exists, "the mark of the pull", timeout=120)
