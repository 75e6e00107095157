"""Tags of one repository: names that move.

`current/link` is what a tag names; `index/<digest>/link` remembers all it ever named. Setting writes
the index first and `current` last, deleting takes `current` first, so a crash in between never leaves a
tag that names nothing. A tag without `current`, or whose manifest is gone, is absent everywhere, in
lists too. Changes of one tag take effect one after the other (driver.swap), so compare-and-set holds
among any number of nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

from storage import layout, links
from storage.collection import journal
from storage.collection.journal import Removal
from storage.driver import ANYTHING, Anything, Driver
from storage.driver_errors import Conflict
from storage.expectation import Expectation, described, holds
from storage.model.digest import Digest
from storage.model.errors import ManifestUnknown, PreconditionFailed, Unavailable
from storage.model.reference import RepositoryName, Tag
from storage.presence import keep
from storage.tag_lists import TagLists, scan
from storage.tag_pages import page
from storage.translation import translated

ATTEMPTS = 100


def unknown(tag: Tag) -> ManifestUnknown:
    return ManifestUnknown(
        f"The repository has no tag {str(tag)!r}. See tags/list for those it has.",
        {"tag": str(tag)},
    )


class Tags:
    def __init__(self, driver: Driver, name: RepositoryName, lists: TagLists | None = None) -> None:
        """With `lists`, list() looks again only at what may have changed."""
        self._lists = lists
        self._driver = driver
        self._name = name

    def current(self, tag: Tag) -> Digest | None:
        """What the tag names, whether or not that manifest still exists."""
        return links.read(self._driver, layout.tag_current(self._name, tag))

    def require(self, tag: Tag, expected: Expectation) -> None:
        """Raises PreconditionFailed if the tag is not what a compare-and-set expects."""
        if not isinstance(expected, Anything) and not holds(expected, actual := self.current(tag)):
            raise _moved(tag, expected, actual)

    def set_all(
        self, tags: Sequence[Tag], digest: Digest, expected: Expectation = ANYTHING
    ) -> None:
        """Set one after the other, each only if that one is as expected.

        No storage changes several tags in one step. The caller has asked for all of them by require(),
        so only one that moved since then can stop this half-way: PreconditionFailed then names those
        that were set before it. After any other error it is not known which were; the same push again
        is right without `expected`, and with it the tags must be looked at.
        """
        for number, tag in enumerate(tags):
            try:
                self.set(tag, digest, expected)
            except PreconditionFailed as error:
                if number:
                    raise _halfway(error, tags[:number]) from error
                raise

    def set(self, tag: Tag, digest: Digest, expected: Expectation = ANYTHING) -> None:
        """Raises PreconditionFailed; then the tag is as it was. The manifest must exist already."""
        links.write(self._driver, layout.tag_index(self._name, tag, digest), digest)
        key = layout.tag_current(self._name, tag)
        if isinstance(expected, Anything):
            self._driver.swap(key, links.encode(digest), expected=ANYTHING)
            return
        for _ in range(ATTEMPTS):
            held = links.content(self._driver, key)
            actual = links.parse(held, key) if held is not None else None
            if not holds(expected, actual):
                raise _moved(tag, expected, actual)
            try:
                self._driver.swap(key, links.encode(digest), expected=held)
            except Conflict:
                continue  # it moved since it was read; whether it may move again, its new value tells
            return
        raise Unavailable(
            f"The tag {str(tag)!r} is changed by so many at once that this push never had its turn. "
            "Push again in a few seconds."
        )

    @translated
    def delete(self, tag: Tag) -> None:
        """Raises ManifestUnknown if there is no such tag."""
        key = layout.tag_current(self._name, tag)
        content = links.content(self._driver, key)
        existed = content is not None
        if content is not None:
            self._record(tag, links.parse(content, key))
            self._driver.swap(key, None, expected=ANYTHING)
        elif self._left(tag):
            existed = True  # a deletion that was cut short is told to go on, and now succeeds
        self._tidy(tag)
        if not existed:
            raise unknown(tag)
        keep(self._driver, self._name)

    def expire(self, tag: Tag, digest: Digest, run: str) -> bool:
        """Delete a tag for its age, in the name of a run; False if it does not name `digest` any more."""
        key = layout.tag_current(self._name, tag)
        content = links.content(self._driver, key)
        if content is None or links.parse(content, key) != digest:
            return False
        journal.record(self._driver, [Removal(self._name, digest, tag, run)])
        try:
            self._driver.swap(key, None, expected=content)
        except Conflict:
            return False
        self._tidy(tag)
        return True

    def delete_pointing_to(self, digest: Digest) -> None:
        """Delete every tag that names `digest`; one that moves meanwhile is left alone."""
        for tag in scan(self._driver, self._name).tags:
            key = layout.tag_current(self._name, tag)
            content = links.content(self._driver, key)
            if content is None or links.parse(content, key) != digest:
                continue
            self._record(tag, digest)
            try:
                self._driver.swap(key, None, expected=content)
            except Conflict:
                continue
            self._tidy(tag)

    @translated
    def list(self, *, after: str = "", limit: int | None = None) -> tuple[list[Tag], bool]:
        """Tags in byte order after `after`, at most `limit`, and whether there are more."""
        if self._driver.remote:
            return page(self._driver, layout.tags(self._name), after=after, limit=limit)
        lists = self._lists
        listed = (
            scan(self._driver, self._name) if lists is None else lists.of(self._driver, self._name)
        )
        exists: dict[str, bool] = {}
        return listed.page(lambda names: self._tags_among(names, exists), after=after, limit=limit)

    def _tags_among(self, names: Sequence[str], exists: dict[str, bool]) -> Sequence[str]:
        """`exists` is what is known of manifests already, by their digits, and learns of these."""
        place = layout.tags(self._name)
        named = links.read_below(self._driver, place, names, layout.TAG_CURRENT)
        new = {each.hex: each.algorithm for each in named.values() if each.hex not in exists}
        for algorithm in {*new.values()}:
            directory = f"{layout.revisions(self._name)}/{algorithm}"
            asked = [digits for digits, its in new.items() if its == algorithm]
            there = links.read_below(self._driver, directory, asked)
            exists.update((digits, digits in there) for digits in asked)
        return [name for name, digest in named.items() if exists[digest.hex]]

    def _record(self, tag: Tag, digest: Digest | None) -> None:
        if digest is not None:
            journal.record(self._driver, [Removal(self._name, digest, tag)])

    def _left(self, tag: Tag) -> bool:
        """Whether there is a history of the tag."""
        index = self._driver.list(f"{layout.tag_directory(self._name, tag)}/index")
        return next(iter(index), None) is not None

    def _tidy(self, tag: Tag) -> None:
        """The history goes with the tag; an empty directory would be a tag to Distribution."""
        directory = layout.tag_directory(self._name, tag)
        self._driver.delete_tree(f"{directory}/index")
        self._driver.delete_many([layout.pulled(self._name, tag)])
        self._driver.prune(directory)


def _moved(tag: Tag, expected: Expectation, actual: Digest | None) -> PreconditionFailed:
    held, wanted = described(actual), described(expected)
    return PreconditionFailed(
        f"The tag {str(tag)!r} is {held}, and was to be changed only if {wanted}. Nothing was "
        "changed; look at the tag again, then decide.",
        {"tag": str(tag), "expected": wanted, "actual": held},
    )


def _halfway(error: PreconditionFailed, done: Sequence[Tag]) -> PreconditionFailed:
    detail = {**error.detail, "set": [str(tag) for tag in done]}
    return PreconditionFailed(
        f"The tag {str(detail['tag'])!r} moved while several were set: it is {detail['actual']} and "
        f"was not changed. Those set before it stay: {', '.join(map(str, done))}. Look at the rest "
        "again, then decide.",
        detail,
    )
