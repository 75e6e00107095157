"""Commands that look at what was collected, and put it back: their work, without their options."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import click
from registry_gc.explaining import explain as explain_digest
from registry_gc.explaining import sentences
from registry_gc.options import Options
from registry_gc.outcome import CollectionStopped
from registry_gc.restoring import Restorer
from registry_gc.retention.applying import judge
from registry_gc.retention.sizes import exclusive, needed
from registry_gc.retention.table import table

from registry.config import Settings
from storage import layout, links
from storage.collection import journal
from storage.collection.clock import Clock
from storage.collection.guard import Guard
from storage.collection.journal import Recorded
from storage.driver import Driver
from storage.driver_errors import ObjectNotFound
from storage.model.digest import HEX_LENGTHS, Digest
from storage.model.errors import RegistryError
from storage.model.reference import RepositoryName, Tag
from storage.repository import Store


@dataclass(frozen=True, slots=True)
class Target:
    """`REPO`, `REPO:TAG`, `REPO@DIGEST`, or a digest alone."""

    repository: RepositoryName | None
    tag: Tag | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Raises RegistryError."""
        algorithm = text.partition(":")[0]
        if algorithm in HEX_LENGTHS:
            return cls(None, None, Digest.parse(text))
        name, marked, digest = text.partition("@")
        if marked:
            return cls(RepositoryName(name), None, Digest.parse(digest))
        name, marked, tag = text.partition(":")
        return cls(RepositoryName(name), Tag(tag) if marked else None)

    def covers(self, each: Recorded) -> bool:
        removal = each.removal
        return (
            removal.repository == self.repository
            and self.tag in (None, removal.tag)
            and self.digest in (None, removal.digest)
        )


def restore(settings: Settings, driver: Driver, target: Target | None, run: str | None) -> int:
    """Exit code 0 if everything that was asked for is there now."""
    records = sorted(journal.recorded(driver), key=lambda each: each.time, reverse=True)
    wanted = [
        each.removal
        for each in records
        if (run is None or each.removal.run == run) and (target is None or target.covers(each))
    ]
    if not wanted:
        click.echo("The journal has no such removal: see `registry-gc runs`.", err=True)
        return 1
    results = _restorer(settings, driver, records).restore(wanted)
    for result in results:
        click.echo(result.sentence, err=not result.done)
    return 0 if all(result.done for result in results) else 1


def rollback(settings: Settings, driver: Driver, name: RepositoryName, tag: Tag, to: Digest) -> int:
    records = [*journal.recorded(driver)]
    try:
        _restorer(settings, driver, records).put(name, to, tag)
    except RegistryError as error:
        click.echo(f"{name}:{tag} was not changed: {error.message}", err=True)
        return 1
    click.echo(f"{name}:{tag} names {to} now.")
    return 0


def runs(driver: Driver) -> int:
    """What can be restored, by what removed it."""
    found: dict[str, list[Recorded]] = {}
    for each in journal.recorded(driver):
        found.setdefault(each.removal.run, []).append(each)
    for run, records in sorted(found.items(), key=lambda item: max(each.time for each in item[1])):
        tags = sum(each.removal.tag is not None for each in records)
        last = _when(max(each.time for each in records))
        click.echo(
            f"{run or 'by request':30}  {last}  {tags} tags, {len(records) - tags} manifests removed"
        )
    return 0


def history(driver: Driver, name: RepositoryName, tag: Tag) -> int:
    """What a tag has named, newest first."""
    current = links.read(driver, layout.tag_current(name, tag))
    found = sorted(_indexed(driver, name, tag), key=lambda item: item[0], reverse=True)
    if not found:
        click.echo(f"{name}:{tag} has no history: there is no such tag.", err=True)
        return 1
    for when, digest in found:
        there = links.read(driver, layout.revision(name, digest)) is not None
        note = "current" if digest == current else "" if there else "removed"
        click.echo(f"{_when(when)}  {digest}  {note}".rstrip())
    return 0


def explain(driver: Driver, target: Target, options: Options) -> int:
    digest = target.digest
    if digest is None and target.repository is not None and target.tag is not None:
        digest = links.read(driver, layout.tag_current(target.repository, target.tag))
        if digest is None:
            click.echo(f"There is no tag {target.repository}:{target.tag}.", err=True)
            return 1
    if digest is None:
        click.echo("Name a digest, or REPO:TAG.", err=True)
        return 2
    try:
        found = explain_digest(driver, digest, options)
    except CollectionStopped as error:
        click.echo(str(error), err=True)
        return 1
    for line in sentences(found, options, time.time()):
        click.echo(line)
    return 0


def retention(settings: Settings, driver: Driver) -> int:
    """What the rules make of every tag. Removes nothing: a run does."""
    now, policy, judged_by = time.time(), settings.retention.build(), set()
    with ThreadPoolExecutor(settings.gc.threads if driver.remote else 4) as pool:
        for judged in judge(driver, policy, pool, now):
            judged_by.add(judged.rule)
            tags = [each.facts for each in judged.decisions]
            needs = {
                facts.tag: found
                for facts, found in zip(
                    tags, pool.map(lambda facts: needed(driver, facts.digest), tags), strict=True
                )
            }
            for line in table(judged, exclusive(needs), now):
                click.echo(line)
    if not judged_by:
        click.echo("No repository has a retention rule with a clause, so every tag is kept.")
    for number, rule in enumerate(policy.rules, 1):
        if rule not in judged_by and not rule.keeps_everything:
            patterns = ", ".join(pattern.source for pattern in rule.repositories)
            click.echo(
                f"Rule {number}, for {patterns or 'nothing'}, is that of no repository: none has such a "
                "name, or an earlier rule has it.",
                err=True,
            )
    return 0


def _restorer(settings: Settings, driver: Driver, records: Iterable[Recorded]) -> Restorer:
    clock = Clock()
    guard = Guard(driver, settings.gc.timing.build(), clock)
    return Restorer(Store(driver, guard=guard), records, clock)


def _indexed(driver: Driver, name: RepositoryName, tag: Tag) -> Iterator[tuple[float, Digest]]:
    for info in driver.walk(f"{layout.tag_directory(name, tag)}/index"):
        *_, algorithm, encoded, _link = info.key.split("/")
        try:
            digest = Digest(algorithm, encoded)
            yield driver.stat(layout.tag_index(name, tag, digest)).modified, digest
        except (RegistryError, ObjectNotFound):
            continue


def _when(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
