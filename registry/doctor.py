"""The mistakes that people make around a registry, looked for from where it runs and from outside.

From outside: what a client behind the balancer meets. A probe of a few bytes is pushed through one node
and finished through another, read back through each, and taken out again where deleting is allowed.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import re
import secrets
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

from registry.config import Settings
from registry.drivers import make_driver, s3_settings
from storage import layout
from storage.driver import DriverError
from storage.drivers import examining
from storage.examination import Observation, Verdict, problem, warning, well

_TIMEOUT: Final = 20.0
_SKEW: Final = 30.0
_REPOSITORY: Final = "holdfast-doctor/probe"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.empty.v1+json"


def examine_storage(settings: Settings) -> Iterator[Observation]:
    """The storage of a configuration, by trying what the registry does with it."""
    if settings.storage.maintenance.readonly.enabled:
        yield _only_read(settings)
        return
    filesystem = settings.storage.filesystem
    s3 = s3_settings(settings)
    if s3 is not None:
        from storage.drivers.s3 import examining as s3_examining  # boto3 takes half a second

        yield from s3_examining.examine(s3, layout.TEMPORARY)
    elif filesystem is not None:
        root = Path(filesystem.rootdirectory)
        yield from examining.examine(root, root / layout.TEMPORARY)
    else:
        yield warning(
            "storage",
            "It is in the memory of one process: a restart loses everything.",
            "Configure storage.filesystem or storage.s3.",
        )


def _only_read(settings: Settings) -> Observation:
    try:
        make_driver(settings, readonly=True).close()
    except DriverError as error:
        return problem(
            "storage",
            f"It cannot be read: {error}",
            "Mount it, or correct what the error names; nothing was written.",
        )
    return well("storage", "It can be read. The registry is read-only, so nothing else was tried.")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        return next((v for k, v in self.headers.items() if k.lower() == name), "")


@dataclass(slots=True)
class Node:
    """One address of the registry, asked as a client would; redirects are not followed by itself."""

    url: str
    user: str = ""
    password: str = ""
    cafile: str | None = None
    _token: str = field(default="", init=False)

    def ask(self, method: str, path: str, body: bytes | None = None, *, kind: str = "") -> Answer:
        """`path` may be absolute, as a Location may. Raises OSError if nobody answers."""
        url = urllib.parse.urljoin(f"{self.url}/", path)
        answer = self._send(method, url, body, kind)
        challenge = answer.header("www-authenticate")
        if answer.status == 401 and challenge.lower().startswith("bearer ") and not self._token:
            self._token = self._fetch_token(challenge)
            if self._token:
                answer = self._send(method, url, body, kind)
            self._token = ""
        return answer

    def _send(self, method: str, url: str, body: bytes | None, kind: str) -> Answer:
        headers = {"User-Agent": "holdfast-doctor"}
        if kind:
            headers["Content-Type"] = kind
        if urllib.parse.urlsplit(url).netloc == urllib.parse.urlsplit(self.url).netloc:
            if self._token:
                headers["Authorization"] = f"Bearer {self._token}"
            elif self.user:
                headers["Authorization"] = _basic(self.user, self.password)
        request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310
        try:
            with _opener(self.cafile).open(request, timeout=_TIMEOUT) as answer:
                return Answer(answer.status, dict(answer.headers.items()), answer.read(1 << 20))
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers.items()), error.read(1 << 20))
        except http.client.HTTPException as error:
            raise OSError(f"it does not speak HTTP ({error!r})") from error

    def _fetch_token(self, challenge: str) -> str:
        fields = dict(re.findall(r'([a-z]+)="([^"]*)"', challenge))
        query = {name: fields[name] for name in ("service", "scope") if name in fields}
        url = f"{fields.get('realm', '')}?{urllib.parse.urlencode(query)}"
        headers = {"Authorization": _basic(self.user, self.password)} if self.user else {}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310
        try:
            with _opener(self.cafile).open(request, timeout=_TIMEOUT) as answer:
                content = json.loads(answer.read(1 << 20))
        except (urllib.error.URLError, ValueError):
            return ""
        return str(content.get("token") or content.get("access_token") or "")


def examine_nodes(nodes: Sequence[Node]) -> Iterator[Observation]:
    """What clients meet at each address, and whether the addresses are one registry."""
    living: list[Node] = []
    for node in nodes:
        found = list(_greet(node))
        yield from found
        if all(observation.verdict is not Verdict.PROBLEM for observation in found):
            living.append(node)
    for number, node in enumerate(living):
        yield from _push(node, living[(number + 1) % len(living)], living)


def _greet(node: Node) -> Iterator[Observation]:
    try:
        answer = node.ask("GET", "v2/")
    except OSError as error:
        yield problem(
            node.url,
            f"It does not answer: {getattr(error, 'reason', error)}.",
            "Check address, firewall and certificate; --ca names the CA of a private one.",
        )
        return
    if answer.status == 401:
        yield problem(
            node.url,
            "It refuses these credentials.",
            "Give --user, and the password in REGISTRY_DOCTOR_PASSWORD, of one who may push to "
            f"{_REPOSITORY}.",
        )
        return
    if answer.status != 200 or not answer.header("docker-distribution-api-version"):
        yield problem(
            node.url,
            f"GET /v2/ is answered {answer.status}, and not by a registry.",
            "Let the balancer pass /v2/ to the registry unchanged.",
        )
        return
    yield well(node.url, "It answers as a registry.")
    try:
        skew = time.time() - parsedate_to_datetime(answer.header("date")).timestamp()
    except ValueError:
        return
    if abs(skew) > _SKEW:
        yield problem(
            node.url,
            f"Its clock differs from this machine's by {skew:.0f} seconds.",
            "Run an NTP client on both: tokens and presigned URLs go by the clock.",
        )


def _push(node: Node, other: Node, all_nodes: Sequence[Node]) -> Iterator[Observation]:
    """Begin at one node, go on at the other and the one, finish at the other, read at all."""
    way = node.url if node is other else f"{node.url} and {other.url}"
    content = secrets.token_bytes(64)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    try:
        for reader in all_nodes:  # so that who remembers an absence is found out
            reader.ask("HEAD", f"v2/{_REPOSITORY}/blobs/{digest}")
        step = node.ask("POST", f"v2/{_REPOSITORY}/blobs/uploads/", b"")
        if step.status != 202:
            yield _cannot_push(node, step)
            return
        yield from _location(node, step.header("location"))
        for taker, piece in ((other, content[:32]), (node, content[32:])):
            step = taker.ask("PATCH", _path(step), piece, kind="application/octet-stream")
            if step.status != 202:
                yield _broken(way, "PATCH", step)
                return
        step = other.ask("PUT", f"{_path(step)}&digest={urllib.parse.quote(digest)}", b"")
        if step.status != 201:
            yield _broken(way, "PUT", step)
            return
        yield well(way, "An upload begun at one is continued and finished at the other.")
        for reader in all_nodes:
            yield from _pull(reader, digest, content)
        yield from _tag(node, other, all_nodes, digest, len(content))
    except OSError as error:
        yield problem(
            way, f"The connection broke: {error}.", "Look into the logs of node and balancer."
        )
    finally:
        _take_out(node, digest)


def _tag(
    node: Node, other: Node, all_nodes: Sequence[Node], digest: str, size: int
) -> Iterator[Observation]:
    """A tag that is moved is seen moved at all; only where it can be taken out again."""
    path = f"v2/{_REPOSITORY}/manifests/doctor-{secrets.token_hex(4)}"
    if node.ask("DELETE", path).status != 404:
        return  # 405 or 403: it would stay for ever
    config = {"mediaType": _CONFIG, "digest": digest, "size": size}
    manifests = [
        json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": config,
                "layers": [],
                "annotations": {"holdfast.doctor": moment},
            }
        ).encode()
        for moment in ("before", "after")
    ]
    try:
        for writer, manifest in zip((node, other), manifests, strict=True):
            put = writer.ask("PUT", path, manifest, kind=_MANIFEST)
            if put.status != 201:
                yield _broken(writer.url, "PUT of a manifest", put)
                return
            for reader in all_nodes:
                if reader.ask("GET", path).body != manifest:
                    yield problem(
                        reader.url,
                        f"A tag that was just set through {writer.url} is not seen as it is.",
                        "It has caches that break close-to-open: see the mount options in docs/nodes.md. "
                        "With storage.cache.tagttl it is as configured.",
                    )
                    return
        yield well(other.url, "A tag that it moves is seen moved at once.")
    finally:
        for manifest in manifests:
            name = hashlib.sha256(manifest).hexdigest()
            node.ask("DELETE", f"v2/{_REPOSITORY}/manifests/sha256:{name}")


def _take_out(node: Node, digest: str) -> None:
    """Where deleting is not allowed the probe stays, for the collector: 64 bytes."""
    try:
        node.ask("DELETE", f"v2/{_REPOSITORY}/blobs/{digest}")
    except OSError:
        return


def _cannot_push(node: Node, answer: Answer) -> Observation:
    return problem(
        node.url,
        f"A push to {_REPOSITORY} is refused with {answer.status}: {_message(answer)}",
        "Give the credentials of one who may push there, or see the registry's log.",
    )


def _broken(way: str, method: str, answer: Answer) -> Observation:
    return problem(
        way,
        f"{method} of an upload begun at the one is refused at the other with {answer.status}: "
        f"{_message(answer)}",
        "Both need the same storage (bucket and rootdirectory, or mount), and the same http.secret "
        "if one has any.",
    )


def _location(node: Node, location: str) -> Iterator[Observation]:
    """An absolute Location sends the client where it says: that must be where it came from."""
    given, wanted = urllib.parse.urlsplit(location), urllib.parse.urlsplit(node.url)
    if given.netloc and (given.scheme, given.netloc) != (wanted.scheme, wanted.netloc):
        yield problem(
            node.url,
            f"It sends clients on to {given.scheme}://{given.netloc}.",
            "Set http.relativeurls: true, or http.host to the address that clients use; or list the "
            "balancer in http.trustedproxies and let it send X-Forwarded-Proto and Host.",
        )
    else:
        yield well(node.url, "It sends clients on to the address that they came to.")


def _pull(node: Node, digest: str, content: bytes) -> Iterator[Observation]:
    answer = node.ask("GET", f"v2/{_REPOSITORY}/blobs/{digest}")
    if answer.status in (302, 303, 307):
        url = answer.header("location")
        host = urllib.parse.urlsplit(url).netloc
        try:
            answer = Node(url, cafile=node.cafile).ask("GET", url)
        except OSError as error:
            yield problem(
                node.url,
                f"Pulls are sent to {host}, which cannot be reached from here: {error}.",
                "Set storage.s3.redirectendpoint to an address that clients reach, or switch "
                "redirects off: storage.redirect.disable, or disablefor with this network.",
            )
            return
    if answer.status == 404:
        yield problem(
            node.url,
            "It does not see what was just pushed.",
            "It has another storage, or caches that it is not there: compare bucket, rootdirectory "
            "and mount options.",
        )
    elif answer.body != content:
        yield problem(
            node.url,
            f"A pull of the probe is answered {answer.status} with other content.",
            "Something between here and the registry changes bodies; look at the balancer.",
        )
    else:
        yield well(node.url, "It gives what was pushed.")


def _path(answer: Answer) -> str:
    """The Location without its host: the next request may go to another node."""
    parts = urllib.parse.urlsplit(answer.header("location"))
    return urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))


def _message(answer: Answer) -> str:
    try:
        return str(json.loads(answer.body)["errors"][0]["message"])
    except (ValueError, KeyError, IndexError, TypeError):
        return repr(answer.body[:200])


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def _opener(cafile: str | None) -> urllib.request.OpenerDirector:
    context = ssl.create_default_context(cafile=cafile or os.environ.get("SSL_CERT_FILE"))
    return urllib.request.build_opener(_Stay, urllib.request.HTTPSHandler(context=context))
