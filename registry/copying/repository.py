"""One repository: layer links, manifests, the history of its tags, and its tags last of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from registry.copying.blobs import Blobs
from registry.copying.crew import Crew, said_of
from registry.copying.manifests import Manifests, in_turn
from registry.copying.report import Report
from registry.copying.times import keep_time
from registry.copying.trees import Contents
from storage import layout, links, pushed
from storage.collection import entries
from storage.driver import Driver
from storage.driver_errors import DriverError
from storage.model.digest import Digest
from storage.model.errors import ManifestUnknown, RegistryError
from storage.model.reference import RepositoryName, Tag
from storage.presence import keep
from storage.pushed import Pushed
from storage.repository import Store
from storage.tags import Tags

N = TypeVar("N")


@dataclass(frozen=True, slots=True)
class _Tagging:
    """What the tags of one repository need, and what became of them."""

    manifests: Manifests
    there: Contents
    here: Contents
    before: Pushed
    """When they were pushed, where the source has no times of its own."""
    times: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Of those that are at the target, by name: what they name, and when they were pushed."""
    named: set[Digest] = field(default_factory=set)
    """Lost manifests that a tag was told of."""


class RepositoryCopy:
    """Repositories, one by one, in one pass. Thread-safe."""

    def __init__(
        self,
        source: Driver,
        target: Driver,
        store: Store,
        blobs: Blobs,
        crew: Crew,
        report: Report,
        *,
        overwrite: bool,
        delete: bool,
    ) -> None:
        """`store` is over the target."""
        self._source = source
        self._target = target
        self._store = store
        self._blobs = blobs
        self._crew = crew
        self._report = report
        self._overwrite = overwrite
        self._delete = delete

    def copy(self, there: Contents, here: Contents) -> None:
        """`there` is what the source has, `here` the target. What fails is a problem, not an error."""
        self._see(there)
        manifests = Manifests(
            self._source,
            self._target,
            self._store.guard,
            self._blobs,
            self._crew,
            self._report,
            there,
            here,
        )
        if there.exists and not here.exists:
            self._crew.patiently(lambda: self._store.enter(there.name))
        self._crew.each(manifests.bring_layer, there.layers - here.layers)
        manifests.bring_all(there.revisions - here.revisions, self._crew.each)
        whole = not manifests.lost
        oldest_first = sorted(there.tags, key=lambda tag: (there.tags[tag], tag.value))
        before = self._crew.patiently(lambda: pushed.load(self._source, there.name))
        tagging = _Tagging(manifests, there, here, before)
        self._crew.each(lambda tag: self._tag(tagging, tag), oldest_first)
        for digest in manifests.lost.keys() - tagging.named:
            self._report.problem(f"{there.name}@{digest} is left out: {manifests.lost[digest]}.")
        self._note_times(there, tagging.times)
        self._finish(there, here, whole=whole)
        self._extra(there, here)

    def count(self, there: Contents, here: Contents) -> None:
        """What copy() would have to do, as far as names tell it. Only reads."""
        self._see(there)
        self._report.count(
            copied_manifests=len(there.revisions - here.revisions),
            copied_links=len(there.layers - here.layers),
            copied_records=len(self._new_pulls(there, here)) + self._completes(there, here),
        )

        def compare(tag: Tag) -> None:
            key = layout.tag_current(there.name, tag)
            wanted = links.read(self._source, key)
            if wanted not in there.revisions:
                self._report.count(nowhere=1)
            elif tag not in here.tags or links.read(self._target, key) != wanted:
                past = len(there.history_of(tag) - here.history_of(tag))
                self._report.count(copied_tags=1, copied_links=past)

        self._crew.each(lambda tag: self._crew.patiently(lambda: compare(tag)), there.tags)
        self._extra(there, here)

    def _see(self, there: Contents) -> None:
        self._report.count(
            repositories=there.exists, manifests=len(there.revisions), tags=len(there.tags)
        )

    def _tag(self, tagging: _Tagging, tag: Tag) -> None:
        name = f"{tagging.there.name}:{tag}"
        try:
            self._crew.patiently(lambda: self._set(tagging, tag))
        except (DriverError, RegistryError) as error:
            self._report.problem(f"{name} could not be copied: {said_of(error)}.")

    def _set(self, tagging: _Tagging, tag: Tag) -> None:
        manifests, there, here = tagging.manifests, tagging.there, tagging.here
        key = layout.tag_current(there.name, tag)
        content = links.content(self._source, key)
        if content is None:
            return  # deleted since it was listed
        digest = links.parse(content, key)
        if digest is None:
            self._report.problem(
                f"{there.name}:{tag} is left out: its link at the source is damaged. Push it again, or "
                "delete it."
            )
            return
        time = tagging.before.time_of(tag, digest, there.tags[tag])
        held = links.read(self._target, key) if tag in here.tags else None
        if held == digest:
            tagging.times[str(tag)] = (str(digest), time)
            return
        if held is not None and not self._overwrite and not self._named_before(there, tag, held):
            self._report.problem(
                f"{there.name}:{tag} is left as it is: at the target it names {held}, which it never named "
                "at the source, so it was pushed there. --overwrite takes the source's."
            )
            return
        manifests.bring_all([digest], in_turn)  # one that was pushed since the list
        if digest in manifests.lost:
            tagging.named.add(digest)
            if manifests.is_linked(digest):
                self._report.problem(
                    f"{there.name}:{tag} is left out: it needs {digest}, and {manifests.lost[digest]}."
                )
            else:
                self._report.count(nowhere=1)
            return
        for past in sorted(there.history_of(tag) - here.history_of(tag), key=str):
            self._target.write(layout.tag_index(there.name, tag, past), links.encode(past))
            self._report.count(copied_links=1)
        self._point(there, tag, digest, time)
        tagging.times[str(tag)] = (str(digest), time)
        self._report.count(copied_tags=1)

    def _point(self, there: Contents, tag: Tag, digest: Digest, time: float) -> None:
        """As a push does it, for the collector at the target to see."""
        reliance = self._store.guard.rely(
            [entries.manifest(there.name, digest), entries.blob(digest)]
        )
        self._target.stat(layout.revision(there.name, digest))
        Tags(self._target, there.name).set(tag, digest)
        reliance.confirm()
        keep_time(self._target, layout.tag_current(there.name, tag), time)

    def _note_times(self, there: Contents, times: dict[str, tuple[str, float]]) -> None:
        """Where the target has no times but its own."""
        if not self._target.remote or not times:
            return
        try:
            known = self._crew.patiently(lambda: pushed.load(self._target, there.name)).times
            merged = {**known, **times}
            if merged != known:
                self._crew.patiently(lambda: pushed.note(self._target, there.name, merged))
        except DriverError as error:
            self._report.problem(
                f"When the tags of {there.name} were pushed could not be noted: {said_of(error)}."
            )

    def _named_before(self, there: Contents, tag: Tag, digest: Digest) -> bool:
        key = layout.tag_index(there.name, tag, digest)
        return digest in there.history_of(tag) or links.read(self._source, key) is not None

    def _finish(self, there: Contents, here: Contents, *, whole: bool) -> None:
        """What is ours beside the tags, and a repository that has no manifest any more."""
        self._crew.each(
            lambda tag: self._write(layout.pulled(there.name, tag), there.pulled[tag]),
            self._new_pulls(there, here),
        )
        if whole and self._completes(there, here):
            self._write(layout.referrers_complete(there.name), None)
        if there.exists and not there.revisions and not here.exists:
            self._crew.patiently(lambda: self._keep_empty(there.name))

    def _keep_empty(self, name: RepositoryName) -> None:
        """An object where storage has no directories, else the directories that a deletion leaves."""
        if self._target.remote:
            keep(self._target, name)
            return
        passing = f"{layout.revisions(name)}/holdfast"
        self._target.write(passing, b"")
        self._target.delete(passing)

    def _completes(self, there: Contents, here: Contents) -> bool:
        """Whether every manifest here was brought by a copy, with its entry: nobody has to look again."""
        ours = there.referrers_complete or not here.revisions
        return bool(
            ours
            and there.revisions
            and here.revisions <= there.revisions
            and not here.referrers_complete
        )

    def _new_pulls(self, there: Contents, here: Contents) -> list[Tag]:
        """Where times cannot be kept, one that is there is as good as the source's, or later."""
        return [
            tag
            for tag, time in there.pulled.items()
            if tag not in here.pulled or (not self._target.remote and time > here.pulled[tag] + 1)
        ]

    def _write(self, key: str, modified: float | None) -> None:
        try:
            self._crew.patiently(lambda: self._target.write(key, b""))
            keep_time(self._target, key, modified)
            self._report.count(copied_records=1)
        except DriverError as error:
            self._report.problem(f"{key} could not be copied: {said_of(error)}.")

    def _extra(self, there: Contents, here: Contents) -> None:
        tags = sorted(here.tags.keys() - there.tags.keys(), key=str)
        manifests = sorted(here.revisions - there.revisions, key=str)
        names = [f"{here.name}:{tag}" for tag in tags] + [f"{here.name}@{d}" for d in manifests]
        for name in names:
            self._report.only_at_target(name)
        if self._delete and not self._report.dry_run:
            repository = self._store.repository(here.name)
            self._remove(tags, repository.tags.delete)
            self._remove(manifests, repository.manifests.delete)

    def _remove(self, names: Iterable[N], delete: Callable[[N], None]) -> None:
        """As a client would delete them, with a record by which registry-gc restore brings them back."""
        for name in names:
            try:
                self._crew.patiently(partial(delete, name))
                self._report.count(removed=1)
            except ManifestUnknown:
                continue  # it went with the one before it
            except RegistryError as error:
                self._report.problem(
                    f"{name} could not be removed at the target: {said_of(error)}."
                )
