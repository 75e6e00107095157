"""What a registry would see and do with a configuration, found out without writing a byte.

For who switches from another registry: it may be asked while that one runs, on a volume that is mounted
read-only, and as the user that Holdfast is going to be.
"""

from __future__ import annotations

import math
import os
import shlex
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from pydantic import BaseModel
from registry_gc.blob_listing import list_blobs
from registry_gc.fsck.examine import Examination
from registry_gc.fsck.findings import Finding, Kind
from registry_gc.report import amount
from registry_gc.spill import SHARDS

from registry.config import Loaded, Settings
from registry.drivers import look_at
from registry.listener import tls_settings
from registry.remedies import explained
from registry.rights import survey_rights
from registry.server.tls import CannotSecure, context
from storage import layout
from storage.driver import Driver
from storage.driver_errors import DriverError
from storage.examination import Observation, problem, warning, well
from storage.model import mediatype
from storage.model.manifest import stored_media_type
from storage.purge import purge

LISTED: Final = 20
HARMLESS: Final = frozenset({Kind.GHOST_TAG, Kind.DANGLING_LINK, Kind.CHILD_MISSING})
"""Clients notice nothing, or what they notice is as it was meant."""


def preview(loaded: Loaded, exposed: str | None) -> Iterator[Observation]:
    """`exposed` says why the registry would refuse to listen. Reads all links and manifests, no blob."""
    settings = loaded.settings
    yield _configuration(loaded)
    if exposed:
        yield problem("http.addr", exposed.split(". ")[0] + ".", exposed.partition(". ")[2])
    yield from _tls(settings)
    yield from _files(settings)
    try:
        driver = look_at(settings)
        rights = [*_rights(settings)]
        yield from rights
        if any(each.remedy and each.subject == "files" for each in rights):
            return
        yield from _tree(settings, driver)
    except DriverError as error:
        yield problem("storage", explained(error, settings), "Mend that, and look again.")


def _configuration(loaded: Loaded) -> Observation:
    number = len(loaded.warnings)
    if not number:
        return well("configuration", f"{loaded.source}: every key is known.")
    return warning(
        "configuration",
        f"{loaded.source}: {number} keys or values have no effect here; they are named above.",
        "docs/configuration.md has all keys. None of these stops the registry.",
    )


def _tls(settings: Settings) -> Iterator[Observation]:
    tls = tls_settings(settings)
    if tls is None:
        yield well("listening", f"Plain HTTP on {settings.http.addr}.")
        return
    try:
        context(tls)
    except CannotSecure as error:
        yield problem("certificate", str(error), "The registry would not start.")
    else:
        yield well("listening", f"TLS on {settings.http.addr}, with {tls.certificate}.")


def _files(settings: Settings) -> Iterator[Observation]:
    """Those that `auth` names. What is missing may be made at the start, which is not for a look to do."""
    if settings.auth is None:
        return
    for key, path in _paths(settings.auth, "auth"):
        if not path.exists():
            yield warning(
                key, f"{path} is not there.", "Mount it, or let the registry make it if it is to."
            )
        elif not os.access(path, os.R_OK, effective_ids=True):
            user = f"{os.geteuid()}:{os.getegid()}"
            yield problem(
                key, f"{path} may not be read by {user}.", f"chown {user} {shlex.quote(str(path))}"
            )


def _paths(section: BaseModel, name: str) -> Iterator[tuple[str, Path]]:
    for key in type(section).model_fields:
        value = getattr(section, key)
        if isinstance(value, BaseModel):
            yield from _paths(value, f"{name}.{key}")
        elif isinstance(value, Path):
            yield f"{name}.{key}", value


def _rights(settings: Settings) -> Iterator[Observation]:
    filesystem = settings.storage.filesystem
    if filesystem is None:
        return
    root = str(filesystem.rootdirectory)
    rights = survey_rights(root)
    user = f"{os.geteuid()}:{os.getegid()}"
    chown = f"Run as root: chown -R {user} {shlex.quote(root)}"
    if rights.unreadable_count:
        yield problem(
            "files",
            f"{rights.unreadable_count} files and directories may not be read by {user}: "
            f"{', '.join(rights.unreadable)}{' ...' * (rights.unreadable_count > len(rights.unreadable))}. "
            "The rest was not looked at.",
            chown,
        )
        return
    yield well(
        "reading", f"{user} may read all {rights.files} files in {rights.directories} directories."
    )
    if settings.storage.maintenance.readonly.enabled:
        return
    if rights.unwritable_count:
        yield problem(
            "writing",
            f"{rights.unwritable_count} directories may not be written by {user}: "
            f"{', '.join(rights.unwritable)}{' ...' * (rights.unwritable_count > len(rights.unwritable))}.",
            chown,
        )
    elif rights.mounted_readonly:
        yield well(
            "writing", f"{root} is mounted read-only here; by its owner, {user} could write."
        )
    else:
        yield well("writing", f"{user} may write everywhere.")


def _tree(settings: Settings, driver: Driver) -> Iterator[Observation]:
    if next(iter(driver.list(layout.ROOT)), None) is None:
        where = settings.storage.filesystem or settings.storage.bucket
        yield warning(
            "images",
            "There is no registry's tree in this storage: it would begin empty.",
            f"Right for a new one; else look at the root: {getattr(where, 'rootdirectory', '')}.",
        )
        return
    types: Counter[str] = Counter()
    findings: list[Finding] = []
    by_kind: Counter[Kind] = Counter()

    def found(finding: Finding) -> None:
        by_kind[finding.kind] += 1
        if by_kind[finding.kind] <= LISTED:
            findings.append(finding)

    examination = Examination(
        driver, None, found, lambda content: types.update([stored_media_type(content)])
    )
    examination.run()
    summary = examination.summary
    blobs, size = _blobs(driver)
    yield well(
        "images",
        f"{summary.repositories} repositories with {summary.tags} tags and {summary.manifests} manifests; "
        f"{blobs} blobs, {amount(size)}.",
    )
    for media_type, number in sorted(types.items()):
        yield well("manifests", f"{number} of type {media_type}.")
    old = sum(types[each] for each in mediatype.SCHEMA1_TYPES)
    if old:
        yield warning(
            "manifests",
            f"{old} of Docker's schema 1: kept and served as they are, but neither verified nor taken in a "
            "push, and no current client pulls them.",
            "Rebuild those images, or pull and push them with a client of their time.",
        )
    for finding in findings:
        observe = warning if finding.kind in HARMLESS else problem
        yield observe(finding.kind.text, finding.sentence, _REMEDIES[finding.kind.repairable])
    for kind, number in by_kind.items():
        if number > LISTED:
            yield warning(
                kind.text, f"And {number - LISTED} more like that.", "registry fsck lists them all."
            )
    if pending := purge(driver, age=math.inf, dry_run=True).kept:
        yield warning(
            "uploads",
            f"{pending} uploads are in progress or were given up.",
            "Those of clients that are pushing now begin anew after the switch, unless http.secret stays "
            "the same; the rest is purged after a week.",
        )


_REMEDIES: Final = {
    True: "After the switch: registry fsck --repair CONFIG.",
    False: "It is so today already; push the image again.",
}


def _blobs(driver: Driver) -> tuple[int, int]:
    number = size = 0
    with ThreadPoolExecutor(8, thread_name_prefix="preview") as pool:
        listing = list_blobs(driver, pool, 0)
        for shard in range(SHARDS):
            for blob in listing.shard(shard):
                number += 1
                size += blob.size
    return number, size
