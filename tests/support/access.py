"""What a Holdfast server wrote in its log about the requests it answered."""

from __future__ import annotations

import json
from typing import Any

from tests.support.clients import wait_for
from tests.support.servers import Server

Line = dict[str, Any]


def lines(server: Server) -> list[Line]:
    """Every whole record of the log, in its order."""
    whole = server.output().rpartition("\n")[0].splitlines()
    return [json.loads(line) for line in whole if line.startswith("{")]


def requests(server: Server, *, repository: str | None = None) -> list[Line]:
    """The access lines, or those of one repository. Lines of two workers may change places."""
    return [
        line
        for line in lines(server)
        if line["logger"] == "holdfast.access" and repository in (None, line["repository"])
    ]


def requests_until(server: Server, repository: str, method: str, path: str) -> list[Line]:
    """Those of a repository, once there is one with this method and this path."""

    def arrived() -> bool:
        found = requests(server, repository=repository)
        return any((line["method"], line["path"]) == (method, path) for line in found)

    wait_for(arrived, f"{method} {path} is in the log")
    return requests(server, repository=repository)


def warnings(server: Server) -> list[str]:
    """What it wrote as a warning or an error: for one, what its storage answered when it said 503."""
    return [line["msg"] for line in lines(server) if line["level"] in {"warning", "error"}]


def failures(server: Server) -> list[Line]:
    """Errors in the log, and answers that say the server is at fault.

    Not those of /readyz, which says 503 until the storage has been tried.
    """
    return [
        line
        for line in lines(server)
        if line["level"] == "error"
        or "traceback" in line
        or (line.get("status", 0) >= 500 and line["route"] != "readyz")
    ]
