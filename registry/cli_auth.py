"""The commands about users, tokens and keys. They work on files and storage; no server need run."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry.cli_config import FILE, load_settings, stop, storage

if TYPE_CHECKING:
    from registry.config import Settings
    from registry.config.auth import Builtin

DAY = 86400
_ACTIONS = click.Choice(["pull", "push", "delete", "catalog"])


@click.group("auth")
def auth_group() -> None:
    """Who may do what, and why."""


@auth_group.command()
@click.argument("user")
@click.argument("repository")
@click.argument("action", type=_ACTIONS)
@FILE
@click.option(
    "--group", "groups", multiple=True, help="A group the user is to be in besides their own."
)
@click.option(
    "--claim",
    "claims",
    multiple=True,
    metavar="NAME=VALUE",
    help="What a CI job's identity token says, such as ref=refs/heads/main.",
)
def explain(
    user: str,
    repository: str,
    action: str,
    config: Path | None,
    groups: tuple[str, ...],
    claims: tuple[str, ...],
) -> None:
    """Say whether USER may do ACTION on REPOSITORY, and which rule says so.

    USER is a name, robot:NAME, anonymous, or a CI job as the audit calls it, such as
    github:my-org/app. Exits with 1 if they may not.
    """
    import asyncio

    from auth.model import CATALOG
    from auth.model import repository as access_to
    from registry.authentication import CannotAuthenticate, decisions

    said = [(name, value) for name, equals, value in (c.partition("=") for c in claims) if equals]
    if len(said) != len(claims):
        raise click.BadParameter("A claim is written NAME=VALUE.", param_hint="--claim")
    settings = load_settings(config)
    try:
        policy, identity = asyncio.run(decisions(settings.auth, user, groups, said))
    except CannotAuthenticate as error:
        stop(str(error), 2)
    wanted = CATALOG if action == "catalog" else access_to(repository, action)
    decision = policy.decide(identity, wanted)
    click.echo(f"{'yes' if decision.allowed else 'no'}: {decision.rule}")
    for line in policy.explain(identity, wanted):
        click.echo(f"  {line}")
    sys.exit(0 if decision.allowed else 1)


@click.group("token")
def token_group() -> None:
    """Tokens of robots and users: passwords that expire and can be taken back."""


@token_group.command("create")
@click.argument("name")
@FILE
@click.option("--personal", is_flag=True, help="NAME is a user, and the token stands for them.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    help="Such as repository:team/**:pull; several may be given.",
)
@click.option("--days", type=click.IntRange(1, 3650), default=90, show_default=True)
def create_token(
    name: str, config: Path | None, personal: bool, scopes: tuple[str, ...], days: int
) -> None:
    """Make a token for the robot NAME, and print it: it is shown this once and kept nowhere.

    It is the password of `docker login`, with any user name. What it may do the policy says.
    """
    from auth.robots import RobotTokens
    from registry.authentication import CannotAuthenticate, sealing_key
    from registry.revocations import MadeTokens

    settings, section = _builtin(config)
    try:
        tokens = RobotTokens([sealing_key(section.directory)])
        text, credential = tokens.create(
            "personal" if personal else "robot", name, lifetime=days * DAY, scopes=scopes
        )
    except (CannotAuthenticate, ValueError) as error:
        stop(str(error))
    with storage(settings) as driver:
        MadeTokens(driver).add(credential)
    click.echo(f"id {credential.id}, until {_day(credential.expires)}", err=True)
    click.echo(text)


@token_group.command("list")
@FILE
def list_tokens(config: Path | None) -> None:
    """List the tokens that have not expired, and those that were taken back."""
    from registry.revocations import MadeTokens, StoredRevocations

    settings, _ = _builtin(config)
    with storage(settings) as driver:
        revoked = {each.id for each in StoredRevocations(driver).listed()}
        made = MadeTokens(driver).listed()
    rows = [("ID", "KIND", "NAME", "MADE", "UNTIL", "SCOPES", "")]
    rows += [
        (
            each.id,
            each.kind,
            each.name,
            _day(each.issued),
            _day(each.expires),
            each.scopes or "all that the policy allows",
            "revoked" if each.id in revoked else "",
        )
        for each in made
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


@token_group.command()
@click.argument("id")
@FILE
@click.option("--note", default="", help="Why, for whoever asks later.")
def revoke(id: str, config: Path | None, note: str) -> None:  # noqa: A002 - the argument's name
    """Take back the token ID (see `registry token list`). Every node knows within 30 seconds."""
    from auth.revocations import Revocation
    from registry.revocations import MadeTokens, StoredRevocations

    settings, _ = _builtin(config)
    with storage(settings) as driver:
        known = {each.id: each.expires for each in MadeTokens(driver).listed()}
        if id not in known:
            stop(f"There is no token {id!r} that has not expired. See `registry token list`.")
        StoredRevocations(driver).add(Revocation(id, known[id], note))
    click.echo(f"{id} is revoked.")


@click.group("keys")
def keys_group() -> None:
    """The keys that the built-in token server signs with."""


@keys_group.command()
@FILE
def rotate(config: Path | None) -> None:
    """Make a new signing key. Nodes sign with it once each had time to see it; older keys still verify."""
    from auth.jwk import KeysUnavailable
    from auth.keys import KeyRing

    _, section = _builtin(config)
    try:
        kid = KeyRing(str(section.directory)).rotate()
    except KeysUnavailable as error:
        stop(error.reason)
    click.echo(f"The new key is {kid}.")


@keys_group.command()
@FILE
@click.option("--days", type=click.IntRange(1), default=7, show_default=True)
def prune(config: Path | None, days: int) -> None:
    """Remove keys that were replaced DAYS ago: tokens that they signed have long expired."""
    from auth.jwk import KeysUnavailable
    from auth.keys import KeyRing

    _, section = _builtin(config)
    try:
        removed = KeyRing(str(section.directory)).prune(days * DAY)
    except KeysUnavailable as error:
        stop(error.reason)
    for name in removed:
        click.echo(name)


@keys_group.command()
@FILE
def certificates(config: Path | None) -> None:
    """Print the keys as certificates in PEM, for a Distribution registry that is to take our tokens.

    It is its `auth.token.rootcertbundle`. Print it again after each rotation; older keys are still in it.
    """
    from auth.jwk import KeysUnavailable
    from auth.keys import KeyRing

    _, section = _builtin(config)
    ring = KeyRing(str(section.directory))
    try:
        bundle = ring.certificates().decode("ascii")
    except KeysUnavailable as error:
        stop(error.reason)
    if not bundle:
        stop(
            "None of the keys has a certificate. `registry keys rotate` makes one that has; nodes sign "
            "with it after a minute."
        )
    click.echo(bundle, nl=False)


@click.command()
@click.argument("user")
@click.option("--cost", type=click.IntRange(8, 16), default=10, show_default=True)
def htpasswd(user: str, cost: int) -> None:
    """Ask for a password and print the line for an htpasswd file, or the hash for a file of users."""
    from auth.making import htpasswd_line

    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    try:
        click.echo(htpasswd_line(user, password, cost))
    except ValueError as error:
        stop(str(error), 2)


def _builtin(config: Path | None) -> tuple[Settings, Builtin]:
    settings = load_settings(config)
    if settings.auth is None or settings.auth.builtin is None:
        stop("The configuration has no auth.builtin; tokens and keys are of that mode only.", 2)
    return settings, settings.auth.builtin


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
