"""The `registry-gc` command, and those of `registry` that belong to it.

Exit codes: 0 done, 1 something broke and nothing is lost, 2 the command line or the configuration is
wrong, 3 a brake: something looks wrong, so nothing was condemned, 75 another run is at work, 130
interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from registry.cli_config import FILE, load_settings, storage
from registry.cli_guarded import Guarded
from registry.config.durations import parse_duration
from storage.model.digest import Digest
from storage.model.errors import RegistryError

F = TypeVar("F", bound=Callable[..., Any])

CONFIG = click.option(
    "-c", "--config", type=click.Path(path_type=Path), help="The registry's config.yml."
)


class _Duration(click.ParamType):  # type: ignore[type-arg] # not generic in older ones
    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _DigestType(click.ParamType):  # type: ignore[type-arg] # as above
    name = "digest"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Digest:
        if isinstance(value, Digest):
            return value
        try:
            return Digest.parse(value)
        except RegistryError as error:
            self.fail(error.message, param, ctx)


class _WithDefault(Guarded):
    """`registry-gc config.yml` is `registry-gc collect config.yml`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in {"-h", "--help"}):
            args = ["collect", *args]
        return super().parse_args(ctx, args)


def _collecting(command: F) -> F:
    """The options of a run."""
    for option in reversed(
        [
            click.option(
                "-d", "--dry-run", is_flag=True, help="Say what would be done; write nothing."
            ),
            click.option(
                "-m",
                "--delete-untagged",
                is_flag=True,
                help="Manifests that no tag reaches go as well, once they are old enough.",
            ),
            click.option("-q", "--quiet", is_flag=True, help="Print nothing if all is well."),
            click.option(
                "--now",
                is_flag=True,
                help="Remove garbage in this run, without the days in which it could be restored.",
            ),
            click.option(
                "--offline",
                is_flag=True,
                help="No registry is running on this storage: remove at once.",
            ),
            click.option("--force", is_flag=True, help="Overrule the brakes."),
            click.option(
                "--wait", is_flag=True, help="If another run is at work, wait for its end."
            ),
            click.option(
                "--min-age",
                type=_Duration(),
                help="Keep what is younger, instead of gc.minimumage.",
            ),
            click.option(
                "--max-duration",
                type=_Duration(),
                help="Stop cleanly then; the next run goes on where this one stopped, if it is given the "
                "same options.",
            ),
            click.option(
                "--ignore",
                type=_DigestType(),
                multiple=True,
                help="A manifest that cannot be read, and needs nothing.",
            ),
            click.option(
                "--output",
                type=click.Choice(["text", "json"]),
                default="text",
                help="How to report.",
            ),
            click.option(
                "--textfile",
                type=click.Path(path_type=Path, dir_okay=False),
                help="Write metrics there, for node_exporter's textfile collector.",
            ),
            click.option(
                "--every",
                type=_Duration(),
                help="Run again and again, so often; for containers, which have no cron.",
            ),
            click.option(
                "--check-store",
                is_flag=True,
                help="Only try whether this storage keeps what collecting beside pushes rests on.",
            ),
        ]
    ):
        command = option(command)
    return command


@click.group(
    cls=_WithDefault, name="registry-gc", context_settings={"help_option_names": ["-h", "--help"]}
)
def main() -> None:
    """Give back the room that nobody needs, while the registry runs.

    Without a command: collect. CONFIG is the registry's own, found as by `registry serve`.
    """


def _collect(config: Path | None, **options: Any) -> None:
    """Remove what no manifest needs, next to live pushes; safe to run at any time, from cron.

    Garbage is condemned by one run, and removed by a later one, gc.undo (7 days) after: until then
    what was deleted can be restored.
    """
    if options["offline"] and options["now"]:
        raise click.UsageError("--offline removes at once already; leave --now out.")
    settings = load_settings(config)
    from registry import collecting, recurring

    interval = options["every"]
    if interval is not None and interval < recurring.SHORTEST:
        raise click.UsageError("--every takes at least 1s; once a day, 24h, is right for most.")
    wanted = collecting.Wanted(
        dry_run=options["dry_run"],
        offline=options["offline"],
        now=options["now"],
        delete_untagged=options["delete_untagged"],
        force=options["force"],
        wait=options["wait"],
        quiet=options["quiet"],
        minimum_age=options["min_age"],
        max_duration=options["max_duration"],
        ignore=options["ignore"],
        as_json=options["output"] == "json",
        textfile=options["textfile"],
    )

    def once() -> int:
        if options["check_store"]:  # of one that is new, as a rule
            with storage(settings) as driver:
                return collecting.check(driver)
        with storage(settings, readonly=options["dry_run"], existing=True) as driver:
            return collecting.run(settings, driver, wanted)

    if interval is not None:
        recurring.run_every(interval, once)
    sys.exit(once())


collect = main.command("collect")(FILE(_collecting(_collect)))
garbage_collect = click.command("garbage-collect")(FILE(_collecting(_collect)))


class _TargetType(click.ParamType):  # type: ignore[type-arg] # as above
    name = "target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from registry.undoing import Target

        if isinstance(value, Target):
            return value
        try:
            return Target.parse(value)
        except RegistryError as error:
            self.fail(error.message, param, ctx)


@main.command()
@FILE
@click.option("--dry-run", is_flag=True, help="For the sake of clearness: this never removes.")
def retention(config: Path | None, dry_run: bool) -> None:
    """Show what the retention rules make of every tag, and by which clause. Removes nothing.

    Tags that are shown as removed go with the next run of `registry-gc`.
    """
    del dry_run
    settings = load_settings(config)
    from registry import undoing

    with storage(settings, readonly=True) as driver:
        code = undoing.retention(settings, driver)
    sys.exit(code)


@main.command()
@click.argument("target", type=_TargetType(), required=False)
@click.option("--run", help="Everything that this run removed; `registry-gc runs` lists them.")
@CONFIG
def restore(target: Any, run: str | None, config: Path | None) -> None:
    """Put back removed tags and manifests: of a repository, REPO:TAG, REPO@DIGEST, or of a run.

    Possible for gc.undo (7 days). A tag that names something else by now is left alone; see `registry
    rollback`.
    """
    if (target is None) == (run is None):
        raise click.UsageError("Name either what to restore, or a run with --run.")
    settings = load_settings(config)
    from registry import undoing

    with storage(settings, existing=True) as driver:
        code = undoing.restore(settings, driver, target, run)
    sys.exit(code)


@main.command()
@CONFIG
def runs(config: Path | None) -> None:
    """List what was removed and can be restored, by run; "by request" is what clients deleted."""
    settings = load_settings(config)
    from registry import undoing

    with storage(settings, readonly=True) as driver:
        code = undoing.runs(driver)
    sys.exit(code)


@main.command()
@click.argument("target", type=_TargetType(), metavar="REPO:TAG")
@CONFIG
def history(target: Any, config: Path | None) -> None:
    """List what a tag has named, newest first."""
    if target.repository is None or target.tag is None:
        raise click.UsageError("Name a tag, as REPO:TAG.")
    settings = load_settings(config)
    from registry import undoing

    with storage(settings, readonly=True) as driver:
        code = undoing.history(driver, target.repository, target.tag)
    sys.exit(code)


@main.command()
@click.argument("target", type=_TargetType(), metavar="DIGEST|REPO:TAG")
@CONFIG
def explain(target: Any, config: Path | None) -> None:
    """Say why something is kept, or since when it is condemned, when it goes and what that frees."""
    settings = load_settings(config)
    from registry import collecting, undoing

    with storage(settings, readonly=True) as driver:
        options = collecting.make_options(settings, collecting.Wanted(dry_run=True))
        code = undoing.explain(driver, target, options)
    sys.exit(code)


@click.command()
@click.argument("target", type=_TargetType(), metavar="REPO:TAG")
@click.argument("digest", type=_DigestType())
@CONFIG
def rollback(target: Any, digest: Digest, config: Path | None) -> None:
    """Point a tag back to a manifest that it named before; `registry-gc history` lists them."""
    if target.repository is None or target.tag is None:
        raise click.UsageError("Name a tag, as REPO:TAG.")
    settings = load_settings(config)
    from registry import undoing

    with storage(settings, existing=True) as driver:
        code = undoing.rollback(settings, driver, target.repository, target.tag, digest)
    sys.exit(code)
