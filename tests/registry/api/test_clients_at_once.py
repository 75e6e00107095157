"""What tests of many clients at once rely on."""

from __future__ import annotations

import contextlib

from tests.support.registry import Registry, together


def test_no_two_threads_share_connections() -> None:
    with contextlib.closing(Registry("http://localhost")) as registry:
        clients = together(20, lambda _: registry.http)
        assert len(set(map(id, clients))) == 20
        assert registry.http is registry.http
