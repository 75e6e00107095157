"""What lets the image of Holdfast stand in for Distribution's: the words that its entry point takes."""

from __future__ import annotations

import os
from typing import Final

import click

from registry.cli_guarded import Guarded

ANONYMOUS: Final = "HOLDFAST_INSECURE_ANONYMOUS"
"""The variable that says --insecure-anonymous; our image sets it."""


class AsInImage(Guarded):
    """The entry point of Distribution 2's image also takes its own name first, and a file alone."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if len(args) > 1 and os.path.basename(args[0]) == "registry":
            args = args[1:]
        if args[0].endswith((".yml", ".yaml")):
            args = ["serve", *args]
        return super().resolve_command(ctx, args)
