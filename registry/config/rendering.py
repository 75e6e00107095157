"""The effective configuration as YAML that can be read back, its secrets masked."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import yaml

from registry.config.errors import KeyPath
from registry.config.masking import MASK, is_secret, mask_urls
from registry.config.settings import Settings


def render(settings: Settings) -> str:
    """Every value in force, set or by default; what is not there is left out.

    Pure ASCII. Secrets are masked by the name of their key, and in URLs.
    """
    shown = _masked(settings.model_dump(), ())
    shown["version"] = float(settings.version)  # so that it stands without quotes
    return yaml.safe_dump(shown, sort_keys=False, default_flow_style=False, width=100)


def _masked(value: Any, path: KeyPath, *, secret: bool = False) -> Any:
    """Without what is None; a section that is empty by that only stays if its presence matters."""
    match value:
        case dict():
            shown = {}
            for key, item in value.items():
                below = (*path, key)
                if item is None or (item == {} and path != ("storage",)):
                    continue
                shown[key] = _masked(item, below, secret=secret or is_secret(below))
            return shown
        case list():
            return [_masked(item, (*path, str(n)), secret=secret) for n, item in enumerate(value)]
        case bool() | int() | float():
            return value
        case PurePath():
            return str(value)
        case _:
            return MASK if secret and value else mask_urls(str(value))
