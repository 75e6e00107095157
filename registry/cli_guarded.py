"""How a command of ours ends when something happens that it did not expect: one line, and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any, NoReturn

import click


class Guarded(click.Group):
    """Turns what a command did not expect into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # a reader that went away shows here, not at the interpreter's end
        except KeyboardInterrupt:
            sys.exit(130)
        except BrokenPipeError:
            # the interpreter flushes stdout once more when it ends, and must find it writable
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except Exception as error:  # noqa: BLE001 - the last frame before the shell
            _fail(self.name or "registry", error)
        return result


def _fail(command: str, error: Exception) -> NoReturn:
    what = " ".join(f"{type(error).__name__}: {error}".split())
    if os.environ.get("REGISTRY_LOG_LEVEL", "").strip().casefold() == "debug":
        traceback.print_exception(error)
        click.echo(f"{command}: {what}", err=True)
    else:
        click.echo(f"{command}: {what} (set REGISTRY_LOG_LEVEL=debug for the traceback)", err=True)
    sys.exit(1)
