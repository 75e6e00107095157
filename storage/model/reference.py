"""Repository names and tags (distribution-spec "Pulling manifests", distribution/reference)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from storage.model.errors import NameInvalid, TagInvalid

NAME_LIMIT = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class RepositoryName:
    value: str

    def __post_init__(self) -> None:
        if len(self.value) > NAME_LIMIT or not _NAME.fullmatch(self.value):
            raise NameInvalid(
                f"A repository name is at most {NAME_LIMIT} characters: lower-case letters and "
                "digits, with '.', '_', '__' or '-' between them, and '/' between components.",
                {"name": self.value[: NAME_LIMIT + 1]},
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises NameInvalid."""
        return cls(text)

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, order=True)
class Tag:
    value: str

    def __post_init__(self) -> None:
        if not _TAG.fullmatch(self.value):
            raise TagInvalid(
                "A tag is 1 to 128 letters, digits, '_', '.' or '-', and begins with none of the "
                "last two.",
                {"tag": self.value[:129]},
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises TagInvalid."""
        return cls(text)

    def __str__(self) -> str:
        return self.value
