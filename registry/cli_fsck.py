"""`registry fsck`: whether all that is stored is what it is called, and mending what can be mended.

Exit codes: 0 sound, or all repaired; 1 damage is left, or the storage failed; 2 the command line or the
configuration is wrong.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from registry.cli_config import FILE, load_settings, storage


@click.command()
@FILE
@click.option("--repair", is_flag=True, help="Mend what can be mended from what is there.")
@click.option(
    "--scrub", is_flag=True, help="Also read every blob and compare it with its name. Takes long."
)
@click.option(
    "--rate", type=click.FloatRange(min=0), default=0.0, help="MB/s that --scrub reads at most."
)
@click.option(
    "--output", type=click.Choice(["text", "json"]), default="text", help="How to report."
)
def fsck(config: Path | None, repair: bool, scrub: bool, rate: float, output: str) -> None:
    """Look whether every name leads to content, and all content is what it is called.

    Safe next to a running registry, with --repair as well. A scrub that was stopped goes on where it was.
    """
    settings = load_settings(config)
    from registry_gc.fsck.examine import Examination
    from registry_gc.fsck.findings import Finding
    from registry_gc.fsck.repair import Repairs
    from registry_gc.fsck.scrub import Pace
    from registry_gc.fsck.scrub import scrub as scrub_blobs

    from storage.collection.guard import Guard
    from storage.purge import purge

    def report(finding: Finding) -> None:
        if output == "json":
            click.echo(json.dumps({**asdict(finding), "kind": finding.kind.text}))
        else:
            click.echo(f"{finding.kind.text}: {finding.sentence}{' Repaired.' * finding.repaired}")

    looks = not (repair or scrub)  # a scrub notes how far it came
    with storage(settings, readonly=looks, existing=True) as driver:
        repairs = Repairs(driver, Guard(driver, settings.gc.timing.build())) if repair else None
        examination = Examination(driver, repairs, report)
        examination.run()
        summary = examination.summary
        if scrub:
            scrub_blobs(driver, repairs, report, summary, Pace(rate * 1e6))
        abandoned = purge(driver, age=settings.gc.uploads, dry_run=True).removed
    if output == "json":
        told = {"summary": asdict(summary), "left": summary.left, "abandoned_uploads": abandoned}
        click.echo(json.dumps(told))
    else:
        read = f"; {summary.scrubbed} blobs read" if scrub else ""
        click.echo(
            f"{summary.repositories} repositories, {summary.manifests} manifests, {summary.tags} tags"
            f"{read}: {summary.found} problems, {summary.repaired} repaired, {summary.left} left."
        )
        if summary.cut_short:
            click.echo(
                f"{summary.cut_short} tags were being pushed or deleted when that ended in the middle; "
                f"they count as absent{', and are removed' if repair else ''}."
            )
        if abandoned:
            click.echo(f"{abandoned} uploads got no byte for long; `registry-gc` removes them.")
    sys.exit(1 if summary.left else 0)
