"""Attacks on HTTP itself, byte for byte, on a registry that asks who everybody is.

Once at a node, once through nginx and once through HAProxy, which read the same bytes by rules of their
own: what one takes for a body must not be a request to the other.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
import yaml

from auth.making import htpasswd_line
from tests.registry.server.test_refusals import REFUSED
from tests.support import access
from tests.support.balancers import BALANCERS
from tests.support.nodes import Node, Storage, nodes
from tests.support.registry import Registry, digest_of

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()
LAYER = b"a layer, and not a short one" * 100
ALLOW = {
    "root": ["pull", "push", "delete", "catalog"],
    "reader": ["pull"],
}
QUIET = 0.2
"""Seconds without a byte after which no further answer is expected."""


def basic(name: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{name}'s".encode()).decode()


@dataclass
class World:
    running: list[Node]
    ports: dict[str, int] = field(default_factory=dict)
    """Of the fronts, by name."""
    serial: Iterator[int] = field(default_factory=count)

    def say(self, front: str, data: bytes, quiet: float = QUIET) -> bytes:
        """All that comes back until the server closes, or says nothing more for so many seconds."""
        with socket.create_connection(("127.0.0.1", self.ports[front]), timeout=10) as client:
            with contextlib.suppress(ConnectionError):  # refused before all of it was read
                client.sendall(data)
            received = b""
            with contextlib.suppress(ConnectionError, TimeoutError):
                while piece := client.recv(65536):
                    received += piece
                    client.settimeout(quiet)
            return received

    def ask(
        self,
        front: str,
        method: str,
        path: str,
        *lines: str,
        body: bytes = b"",
        who: str = "root",
        host: str = "registry.test",
    ) -> bytes:
        """The whole answer to one plain request."""
        head = ask(method, path, *lines, "Connection: close", who=who, host=host)
        return self.say(front, head + body, quiet=10)

    def seen(self, text: str) -> bool:
        """Whether any node was asked for a path with this text in it."""
        return any(
            text in line["path"] for node in self.running for line in access.requests(node.server)
        )

    def tags(self) -> list[str]:
        with contextlib.closing(Registry(self.running[0].url)) as registry:
            answer = registry.get(
                "/v2/team/app/tags/list", headers={"Authorization": basic("root")}
            )
            tags: list[str] = answer.json()["tags"]
            return tags


def statuses(received: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"(?m)^HTTP/1\.[01] (\d{3}) ", received)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("raw")
    lines = [htpasswd_line(name, f"{name}'s", 4) for name in ALLOW]
    (directory / "users").write_text("\n".join(lines) + "\n")
    rules = [
        {"who": [f"user:{name}"], "repositories": ["**"], "actions": actions}
        for name, actions in ALLOW.items()
    ]
    (directory / "policy.yml").write_text(yaml.safe_dump({"version": 1, "allow": rules}))
    auth = {
        "builtin": {
            "keys": str(directory / "keys"),
            "htpasswd": str(directory / "users"),
            "policy": str(directory / "policy.yml"),
        }
    }
    with contextlib.ExitStack() as stack:
        # Nobody is trusted here: what a balancer says of its client is what a stranger says.
        both = stack.enter_context(
            nodes(Storage(directory), auth=auth, http={"trustedproxies": [], "draindelay": "0s"})
        )
        world = World(both, {"a node": both[0].port})
        for name, balancer in BALANCERS.items():
            place: Path = directory / name
            place.mkdir()
            front = stack.enter_context(balancer(place, [node.port for node in both]))
            world.ports[name] = front.port
        with contextlib.closing(Registry(both[0].url)) as registry:
            registry.http.headers["Authorization"] = basic("root")
            path = f"/v2/team/app/blobs/uploads/?digest={digest_of(LAYER)}"
            assert registry.ask("POST", path, content=LAYER).status_code == 201
            put = registry.ask(
                "PUT",
                "/v2/team/app/manifests/1",
                content=MANIFEST,
                headers={"Content-Type": INDEX},
            )
            assert put.status_code == 201
        yield world
        assert world.tags() == ["1"]
    for node in both:
        # 505 is an answer to another version of HTTP.
        assert [line for line in access.failures(node.server) if line.get("status") != 505] == []


@pytest.fixture(params=["a node", *BALANCERS])
def front(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ask(
    method: str, path: str, *lines: str, who: str = "root", host: str = "registry.test"
) -> bytes:
    """A head. `lines` are further headers."""
    shown = [f"Authorization: {basic(who)}"] if who else []
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}", *shown, *lines]
    return "\r\n".join([*head, "", ""]).encode("latin-1")


def is_well(world: World, front: str) -> bool:
    """Whether the next client of the same front gets the answer to its own question."""
    for _ in range(2):  # a balancer takes its nodes by turns
        received = world.ask(front, "GET", "/v2/")
        if statuses(received) != [200] or not received.endswith(b"\r\n\r\n{}"):
            return False
    return True


def test_what_a_node_refuses_alone_nobody_gets_through(world: World, front: str) -> None:
    """By each front in its own words, and never as a success."""
    for name, (data, status) in REFUSED.items():
        # As far as there is a head, it is that of somebody who may do everything.
        shown = data.replace(b"\r\n", f"\r\nAuthorization: {basic('root')}\r\n".encode(), 1)
        answered = statuses(world.say(front, shown if b"Host" in data else data))
        if front == "a node":
            assert answered == [status], name
        cleaned = name in CLEANED and answered == [200]
        assert cleaned or all(status >= 400 for status in answered), (name, answered)
    assert is_well(world, front)


CLEANED = {
    "two hosts",
    "another host in the target",
    "another scheme",
    "folded header",
    "bare LF",
    "no colon",
    "name with a parenthesis",
    "HTTP/1.2",
    "HTTP/2.0",
}
"""What one of the balancers puts right itself, as RFC 9112 lets it: the nodes get one plain request."""

UNCLEAR = {
    "length and chunked, by the length": (
        "Content-Length: {all}\r\nTransfer-Encoding: chunked",
        "end",
    ),
    "length and chunked, by the chunks": (
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "chunk",
    ),
    "two codings": (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\nContent-Length: {all}",
        "end",
    ),
    "a coding that is none": ("Transfer-Encoding: xchunked\r\nContent-Length: {all}", "end"),
    "a space before the colon": ("Transfer-Encoding : chunked\r\nContent-Length: {all}", "end"),
    "a vertical tab": ("Transfer-Encoding: \x0bchunked\r\nContent-Length: {all}", "end"),
    "a coding behind a line feed": (
        "X: x\nTransfer-Encoding: chunked\r\nContent-Length: {all}",
        "end",
    ),
    "a coding behind a carriage return": (
        "X: x\rTransfer-Encoding: chunked\r\nContent-Length: {all}",
        "end",
    ),
    "a folded coding": ("X: x\r\n Transfer-Encoding: chunked\r\nContent-Length: {all}", "end"),
    "two lengths": ("Content-Length: {all}\r\nContent-Length: 0", "bare"),
    "two lengths in one": ("Content-Length: {all}, 0", "bare"),
    "a length with a sign": ("Content-Length: +0", "bare"),
    "a length in hexadecimal": ("Content-Length: 0x0", "bare"),
    "a length with an underscore": ("Content-Length: 0_0", "bare"),
    "a length behind NUL": ("Content-Length: 0\0{all}", "bare"),
    "a chunk with a sign": ("Transfer-Encoding: chunked", "+0"),
    "a chunk in 0x": ("Transfer-Encoding: chunked", "0x0"),
    "a chunk that overflows": ("Transfer-Encoding: chunked", "1" + "0" * 16),
    "a chunk ended by a line feed": ("Transfer-Encoding: chunked", "0\n"),
    "an extension with a line feed": ("Transfer-Encoding: chunked", "0;a\nb"),
    "a chunk longer than it says": ("Transfer-Encoding: chunked", "long"),
    "a name with an underscore": ("Transfer_Encoding: chunked\r\nContent-Length: {all}", "end"),
}
"""Framings that two readers may read in two ways, and what stands where the body begins."""


def unclear(framing: str, begins: str, hidden: bytes) -> bytes:
    body = {
        "end": b"0\r\n\r\n" + hidden,
        "chunk": b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden),
        "bare": hidden,
        "long": b"1\r\nab\r\n0\r\n\r\n" + hidden,
    }.get(begins, begins.encode() + b"\r\n\r\n" + hidden)
    framing = framing.format(all=len(body))
    return ask("PUT", "/v2/team/app/manifests/hidden", f"Content-Type: {INDEX}", framing) + body


@pytest.mark.parametrize("name", UNCLEAR)
def test_no_request_hides_in_a_body(world: World, front: str, name: str) -> None:
    """A node that is asked for what is hidden was asked by somebody who was answered too."""
    mark = f"hidden-{next(world.serial)}"
    hidden = ask("GET", f"/v2/team/{mark}/tags/list", "Connection: close")
    received = world.say(front, unclear(*UNCLEAR[name], hidden))
    answered = statuses(received)
    assert all(status >= 400 for status in answered), received
    if front == "a node":
        assert len(answered) == 1
    assert is_well(world, front)
    assert not world.seen(mark) or len(answered) == 2, received


SAID = {
    "evil host": ["Host: evil.example"],
    "forwarded host": ["Host: registry.test", "X-Forwarded-Host: evil.example"],
    "forwarded scheme": ["Host: registry.test", "X-Forwarded-Proto: javascript"],
    "forwarded": ["Host: registry.test", "Forwarded: for=1.2.3.4;host=evil.example;proto=https"],
    "all of it": [
        "Host: evil.example",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Proto: https",
        "Forwarded: host=evil.example;proto=https",
    ],
}


@pytest.mark.parametrize("lines", SAID.values(), ids=SAID)
def test_no_address_comes_from_a_client(world: World, front: str, lines: list[str]) -> None:
    host = lines[0].removeprefix("Host: ")
    for who, method, path in (
        ("root", "POST", "/v2/team/app/blobs/uploads/"),
        ("", "GET", "/v2/team/app/tags/list"),
        ("root", "GET", "/v2/_catalog?n=0"),
        ("", "GET", "/healthz/"),
        ("", "GET", "/auth/token/"),
    ):
        more = [*lines[1:], "Content-Length: 0"]
        received = world.ask(front, method, path, *more, who=who, host=host)
        assert statuses(received), received
        assert b"evil" not in received
        assert b"javascript" not in received
    # The one who was told to log in is told so at the address of the node itself.
    received = world.ask(front, "GET", "/v2/", *lines[1:], who="", host=host)
    assert re.search(rb'realm="http://127\.0\.0\.1:\d+/auth/token"', received)


@pytest.mark.parametrize(
    ("who", "status"), [("", 401), ("reader", 403)], ids=["a stranger", "a reader"]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v2/team/app/manifests/2"),
        ("POST", f"/v2/team/app/blobs/uploads/?digest={digest_of(LAYER)}"),
        ("PATCH", "/v2/team/app/blobs/uploads/0c337451-7bba-44a7-907d-2be42e7fb013"),
    ],
)
def test_a_body_is_not_waited_for(
    world: World, who: str, status: int, method: str, path: str
) -> None:
    """The refusal is there before a byte of the body, and before a client is told to send it."""
    for more in (["Expect: 100-continue"], []):
        head = ask(method, path, "Content-Length: 1073741824", *more, who=who)
        received = world.say("a node", head)
        assert statuses(received) == [status]


def test_ranges_by_the_thousand_are_no_work(world: World, front: str) -> None:
    blob = f"/v2/team/app/blobs/{digest_of(LAYER)}"
    many = "bytes=" + ",".join(["0-"] * 2500)
    received = world.ask(front, "GET", blob, f"Range: {many}")
    assert statuses(received) == [200]
    assert received.endswith(b"\r\n\r\n" + LAYER)


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "gzip, identity", "zstd"])
def test_nothing_is_unpacked(world: World, front: str, coding: str) -> None:
    received = world.ask(
        front,
        "PUT",
        "/v2/team/app/manifests/packed",
        f"Content-Type: {INDEX}",
        f"Content-Encoding: {coding}",
        f"Content-Length: {len(MANIFEST)}",
        body=MANIFEST,
    )
    assert statuses(received) == [415]


@pytest.mark.parametrize(
    "lines",
    [
        [
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: eA==",
            "Sec-WebSocket-Version: 13",
        ],
        ["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk"],
    ],
    ids=["websocket", "h2c"],
)
def test_no_other_protocol_is_spoken(world: World, front: str, lines: list[str]) -> None:
    """The request is answered as what else it is: nothing is agreed on, so nothing gets by unseen."""
    received = world.say(front, ask("GET", "/v2/", *lines, who=""))
    assert statuses(received) in ([401], [400])
    assert b"\r\nupgrade:" not in received.lower()
