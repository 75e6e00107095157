"""The `registry` command.

Exit codes: 0 done, 1 something broke, 2 the command line or the configuration is wrong, 130
interrupted. What a person must read goes to stderr, a line each; stdout holds results only.
"""

from __future__ import annotations

import os
import sys
import traceback
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import click

from registry.cli_auth import auth_group, htpasswd, keys_group, token_group
from registry.cli_config import FILE, load


class _Guarded(click.Group):
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
            _fail(error)
        return result


@click.group(
    cls=_Guarded, name="registry", context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option(
    "-v",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, _, wanted: _print_version(ctx) if wanted else None,
    help="Show the version and exit.",
)
def main() -> None:
    """A private registry of container images."""


@main.command()
@FILE
@click.option(
    "--insecure-anonymous",
    is_flag=True,
    help="Listen beyond this machine although anyone may then pull, push and delete.",
)
def serve(config: Path | None, insecure_anonymous: bool) -> None:
    """Serve images until told to stop.

    CONFIG is a config.yml as Distribution has it. Without it: $REGISTRY_CONFIGURATION_PATH,
    /etc/distribution/config.yml, /etc/docker/registry/config.yml, or else built-in defaults.
    """
    from registry.config import check_exposure

    loaded = load(config)
    exposed = check_exposure(loaded.settings, insecure_anonymous)
    if exposed:
        click.echo(f"{loaded.source}: {exposed}", err=True)
        sys.exit(2)

    from registry.wiring import serve as run  # slow to import, so nothing else waits for it

    sys.exit(run(loaded))


@main.command()
@FILE
@click.option(
    "--url", "urls", multiple=True, help="An address of the registry, or of one of its nodes."
)
@click.option(
    "--user", default="", help="Who to push a probe as; password in REGISTRY_DOCTOR_PASSWORD."
)
@click.option(
    "--ca", type=click.Path(exists=True, dir_okay=False), help="The CA of a private certificate."
)
def doctor(config: Path | None, urls: tuple[str, ...], user: str, ca: str | None) -> None:
    """Look for what is wrong with storage and nodes, and say how to mend it.

    Without --url: the storage of CONFIG, found as by `registry serve`. With one or more: what a client
    meets there; a probe of 64 bytes is pushed to holdfast-doctor/probe, through every node, and deleted.
    Exits with 1 if something is wrong; warnings do not count.
    """
    from registry.doctor import Node, examine_nodes, examine_storage
    from registry.examined import show

    if urls:
        password = os.environ.get("REGISTRY_DOCTOR_PASSWORD", "")
        nodes = [Node(url.rstrip("/"), user, password, ca) for url in urls]
        sys.exit(show(examine_nodes(nodes)))
    sys.exit(show(examine_storage(load(config).settings)))


@main.group("config")
def config_group() -> None:
    """Look at the configuration."""


@config_group.command()
@FILE
def check(config: Path | None) -> None:
    """Print the configuration in force, secrets masked; exit 2 if something is wrong with it.

    CONFIG is found as by `registry serve`.
    """
    from registry.config import check_exposure, render

    loaded = load(config)
    exposed = check_exposure(loaded.settings, insecure_anonymous=False)
    if exposed:
        click.echo(f"{loaded.source}: warning: registry serve refuses this: {exposed}", err=True)
    click.echo(render(loaded.settings), nl=False)


def _print_version(ctx: click.Context) -> None:
    click.echo(f"registry holdfast {metadata.version('holdfast')}")
    ctx.exit()


def _fail(error: Exception) -> NoReturn:
    what = " ".join(f"{type(error).__name__}: {error}".split())
    if os.environ.get("REGISTRY_LOG_LEVEL", "").strip().casefold() == "debug":
        traceback.print_exception(error)
        click.echo(f"registry: {what}", err=True)
    else:
        click.echo(f"registry: {what} (set REGISTRY_LOG_LEVEL=debug for the traceback)", err=True)
    sys.exit(1)


for command in (auth_group, htpasswd, keys_group, token_group):
    main.add_command(command)


if __name__ == "__main__":
    main()
