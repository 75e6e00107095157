"""Loading from text, away from the configuration files of the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest

from registry.config import ConfigError, Loaded, load, source

MINIMAL = "version: 0.1\nstorage: inmemory\n"


class Load(Protocol):
    def __call__(self, text: str | None = MINIMAL, **environ: str) -> Loaded: ...


class Problems(Protocol):
    def __call__(self, text: str | None = MINIMAL, **environ: str) -> tuple[str, ...]: ...


@pytest.fixture(autouse=True)
def _no_default_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = (tmp_path / "absent" / "3.yml", tmp_path / "absent" / "2.yml")
    monkeypatch.setattr(source, "DEFAULT_PATHS", absent)


@pytest.fixture
def load_text(tmp_path: Path) -> Load:
    """Loads a file with this text, or no file, under these variables."""

    def loader(text: str | None = MINIMAL, **environ: str) -> Loaded:
        if text is None:
            return load(None, environ)
        path = tmp_path / "config.yml"
        path.write_text(text, encoding="utf-8")
        return load(path, environ)

    return loader


@pytest.fixture
def problems_of(load_text: Load) -> Problems:
    """What is wrong with a text; nothing is a failure."""

    def problems(text: str | None = MINIMAL, **environ: str) -> tuple[str, ...]:
        with pytest.raises(ConfigError) as caught:
            load_text(text, **environ)
        assert all("\n" not in line and line.endswith(".") for line in caught.value.problems)
        return caught.value.problems

    return problems
