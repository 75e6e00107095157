"""The `registry` command.

Exit codes: 0 done, 1 something broke, 2 the command line or the configuration is wrong, 130
interrupted. What a person must read goes to stderr, a line each; stdout holds results only.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
from click.core import ParameterSource

from registry.cli_auth import auth_group, htpasswd, keys_group, token_group
from registry.cli_collector import garbage_collect, rollback
from registry.cli_config import FILE, load
from registry.cli_copy import copy_storage
from registry.cli_fsck import fsck
from registry.cli_health import health
from registry.cli_image import ANONYMOUS, AsInImage


@click.group(
    cls=AsInImage, name="registry", context_settings={"help_option_names": ["-h", "--help"]}
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
    envvar=ANONYMOUS,
    help=f"Listen beyond this machine although anyone may then pull, push and delete (or {ANONYMOUS}).",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Say what it would see and do with this configuration and storage; write nothing.",
)
@click.pass_context
def serve(ctx: click.Context, config: Path | None, insecure_anonymous: bool, dry_run: bool) -> None:
    """Serve images until told to stop.

    CONFIG is a config.yml as Distribution has it. Without it: $REGISTRY_CONFIGURATION_PATH,
    /etc/distribution/config.yml, /etc/docker/registry/config.yml, or else built-in defaults.
    With --dry-run it ends with 1 if something would not work.
    """
    from registry.config import check_exposure

    loaded = load(config)
    exposed = check_exposure(loaded.settings, insecure_anonymous=False)
    if dry_run:
        from registry.examined import show
        from registry.preview import preview

        sys.exit(show(preview(loaded, None if insecure_anonymous else exposed)))
    if exposed and not insecure_anonymous:
        click.echo(f"{loaded.source}: {exposed}", err=True)
        sys.exit(2)
    # Who typed the option knows; who set no variable may not know that an image does.
    if exposed and ctx.get_parameter_source("insecure_anonymous") is ParameterSource.ENVIRONMENT:
        why = exposed.split(". ")[0]
        click.echo(f"{loaded.source}: warning: {why}; {ANONYMOUS} allows it.", err=True)

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
    from importlib import metadata

    click.echo(f"registry holdfast {metadata.version('holdfast')}")
    ctx.exit()


for command in (
    *(auth_group, copy_storage, fsck, garbage_collect, health, htpasswd),
    *(keys_group, rollback, token_group),
):
    main.add_command(command)


if __name__ == "__main__":
    main()
