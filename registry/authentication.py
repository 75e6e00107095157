"""From the section `auth` to an authorizer, and to the token server if the registry is its own.

Everything that the section names is read here, so that a file that is missing or wrong is a sentence at
the start. What is made belongs to one worker, because sessions of log-ins and their throttle do.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auth.accounts import Accounts, Combined, Passwords
from auth.anonymous import AllowAll
from auth.audit import Audit
from auth.authorizers import BasicAuthorizer, BuiltinAuthorizer
from auth.bearer import Challenge
from auth.builtin import TokenServer
from auth.external import TokenSettings, key_source, token_authorizer
from auth.htpasswd import HtpasswdFile
from auth.jwk import ASYMMETRIC
from auth.keyfiles import SEAL, give_to_owner
from auth.keys import KeyRing
from auth.login import Logins
from auth.model import Authorizer, Identity
from auth.oidc import OidcIssuers, TrustedIssuer
from auth.policy import ROBOT_PREFIX, Policy, claim, everything
from auth.policy_file import PolicyFile
from auth.refresh import RefreshTokens
from auth.revocations import RevocationList, Revocations
from auth.rights import Rights
from auth.robots import RobotTokens
from auth.silly import Silly
from auth.tokens import Verifier
from auth.users import UsersFile
from auth.watched import Unusable
from registry.config.auth import TOKEN_PATH, Auth, Builtin, Htpasswd, Issuer, Token

LOOK: Final = 2.0
"""Seconds between two looks at the files that nobody asks for."""


class CannotAuthenticate(Exception):
    """One or more sentences for whoever starts the registry."""


async def _nothing() -> None:
    """There is nothing to look at."""


@dataclass(frozen=True, slots=True)
class Authentication:
    authorizer: Authorizer
    tokens: TokenServer | None = None
    keys: KeyRing | None = None
    problems: Callable[[], Sequence[str]] = tuple
    """What is wrong with files that were changed since, a sentence each; the last good ones count."""
    look: Callable[[], Awaitable[None]] = _nothing
    """Looks whether the files have changed, as every request does; it never raises."""

    async def keep_looking(self) -> None:
        """So that a file that breaks is known before the first request after it."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK)


def authentication(
    section: Auth | None, revocations: Revocations, audit: Audit, *, prefix: str = ""
) -> Authentication:
    """`prefix` is the path below which clients find the registry. Raises CannotAuthenticate."""
    try:
        if section is not None and section.htpasswd is not None:
            return _htpasswd(section.htpasswd, audit)
        if section is not None and section.token is not None:
            return _token(section.token, audit)
        if section is not None and section.builtin is not None:
            return _builtin(section.builtin, revocations, audit, prefix)
        if section is not None and section.silly is not None:
            return Authentication(Silly(section.silly.realm, section.silly.service))
    except Unusable as error:
        raise CannotAuthenticate(str(error)) from error
    except ValueError as error:
        raise CannotAuthenticate(f"The section auth cannot be used: {error}") from error
    return Authentication(AllowAll())


async def decisions(
    section: Auth | None,
    user: str,
    groups: Sequence[str],
    claims: Sequence[tuple[str, str]] = (),
) -> tuple[Policy, Identity]:
    """The policy in force, and who `user` is to it: a name as the audit has it, or `anonymous`.

    `claims` are those of a job, with their values. Raises CannotAuthenticate, also where a policy
    decides nothing.
    """
    mode = None if section is None else section.builtin or section.htpasswd
    if mode is None:
        raise CannotAuthenticate(
            "There is no policy: only auth.builtin and auth.htpasswd go by one. In the mode `token` "
            "the token server decides, and without auth everybody may do everything."
        )
    try:
        policy = _policy(mode.policy, mode.anonymous)
        accounts = _accounts(mode) if isinstance(mode, Builtin) else None
    except (Unusable, ValueError) as error:
        raise CannotAuthenticate(str(error)) from error
    policy = policy.policy if isinstance(policy, PolicyFile) else policy
    if user == "anonymous":
        return policy, Identity()
    if user.startswith(ROBOT_PREFIX):
        return policy, Identity(user, "robot", frozenset(groups))
    if ":" in user:
        return policy, _job(mode, user, groups, claims)
    own = frozenset[str]() if accounts is None else accounts.groups_of(user)
    return policy, Identity(user, "htpasswd", own | frozenset(groups))


def _job(
    mode: Builtin | Htpasswd,
    name: str,
    groups: Sequence[str],
    claims: Sequence[tuple[str, str]],
) -> Identity:
    issuer = name.partition(":")[0]
    known = [each.name for each in mode.issuers] if isinstance(mode, Builtin) else []
    if issuer not in known:
        raise CannotAuthenticate(
            f"{name!r} would be a job of the issuer {issuer!r}, which auth.builtin.issuers does not "
            f"have; it has {', '.join(known) or 'none'}. No user has a colon in the name."
        )
    told = {claim(issuer, *each) for each in claims} | {f"{issuer}:{each}" for each in groups}
    return Identity(name, "oidc", frozenset(told))


def _htpasswd(section: Htpasswd, audit: Audit) -> Authentication:
    accounts = HtpasswdFile(_path(section.path), Passwords())
    rights = Rights(_policy(section.policy, section.anonymous))
    authorizer = BasicAuthorizer(
        Logins(accounts, audit=audit), rights, realm=section.realm, audit=audit
    )

    async def look() -> None:
        await rights.refreshed()
        await accounts.refreshed()

    def problems() -> Sequence[str]:
        return _said(accounts.problem, rights.problem)

    return Authentication(authorizer, problems=problems, look=look)


def _token(section: Token, audit: Audit) -> Authentication:
    settings = TokenSettings(
        service=section.service,
        issuer=section.issuer,
        realm=section.realm,
        rootcertbundle=_path(section.rootcertbundle),
        jwks=section.jwks,
        jwks_ca=_path(section.jwksca),
        signingalgorithms=tuple(section.signingalgorithms) or ASYMMETRIC,
        autoredirect=section.autoredirect,
        autoredirectpath=section.autoredirectpath,
    )
    keys = key_source(settings)
    authorizer = token_authorizer(settings, keys, audit)
    return Authentication(authorizer, problems=lambda: _said(keys.problem))


def _builtin(
    section: Builtin, revocations: Revocations, audit: Audit, prefix: str
) -> Authentication:
    rights = Rights(_policy(section.policy, section.anonymous))
    accounts = _accounts(section)
    issuers = OidcIssuers([_issuer(issuer) for issuer in section.issuers])
    seals = [sealing_key(section.directory)]
    logins = Logins(
        accounts,
        robots=RobotTokens(seals),
        revocations=RevocationList(revocations),
        issuers=issuers,
        audit=audit,
    )
    keys = KeyRing(str(section.directory))
    server = TokenServer(
        logins,
        rights,
        keys,
        issuer=section.issuer,
        service=section.service,
        refresh_tokens=RefreshTokens(seals),
        lifetime=int(section.lifetime),
        chain=True,
        certificates=section.certificates,
        audit=audit,
    )
    authorizer = BuiltinAuthorizer(
        logins,
        rights,
        Verifier(keys, section.issuer, (section.service,)),
        Challenge(section.service, section.realm, "" if section.realm else prefix + TOKEN_PATH),
        certificates=section.certificates,
        audit=audit,
    )

    async def look() -> None:
        await rights.refreshed()
        if accounts is not None:
            await accounts.refreshed()
        await asyncio.to_thread(keys.look)

    def problems() -> Sequence[str]:
        of_accounts = None if accounts is None else accounts.problem
        return _said(of_accounts, rights.problem, issuers.problem, keys.problem)

    return Authentication(authorizer, server, keys, problems, look)


def _accounts(section: Builtin) -> Accounts | None:
    passwords = Passwords()
    parts: list[Accounts] = []
    if section.htpasswd is not None:
        parts.append(HtpasswdFile(str(section.htpasswd), passwords))
    if section.users is not None:
        parts.append(UsersFile(str(section.users), passwords))
    return Combined(parts) if len(parts) > 1 else next(iter(parts), None)


def _policy(path: Path | None, anonymous: bool) -> Policy | PolicyFile:
    if path is None:
        return everything(anonymous_pull=anonymous)
    if anonymous:
        raise ValueError("anonymous is for registries without a policy file; say it in there")
    return PolicyFile(str(path))


def _issuer(section: Issuer) -> TrustedIssuer:
    return TrustedIssuer(
        name=section.name,
        issuer=section.issuer,
        audiences=tuple(section.audiences),
        require={claim: tuple(values) for claim, values in section.require.items()},
        username=section.username,
        groups=section.groups,
        claims=tuple(section.claims),
        cafile=_path(section.cafile) or None,
        keys_url=section.keysurl,
    )


def sealing_key(directory: Path) -> bytes:
    """The key that is kept there, made on first use by whoever is first. Raises CannotAuthenticate."""
    path = directory / SEAL
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        key = bytes.fromhex(path.read_text("ascii").strip())
    except OSError as error:
        raise CannotAuthenticate(
            f"{error.filename or path} cannot be read or made: {error.strerror}. Let the registry's "
            "user own auth.builtin.keys, on every node."
        ) from error
    except ValueError:
        key = b""
    if len(key) < 32:
        raise CannotAuthenticate(
            f"{path} does not hold a key. Restore it from another node or the backup; or remove it, "
            "and every robot's token ends."
        )
    return key


def _make(path: Path) -> None:
    temporary = path.with_name(f"{SEAL}-{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            give_to_owner(descriptor, str(path.parent))
            file.write(f"{secrets.token_hex(32)}\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return  # another was first, and everybody takes that one
    finally:
        temporary.unlink()


def _path(path: Path | None) -> str:
    return "" if path is None else str(path)


def _said(*problems: str | None) -> tuple[str, ...]:
    return tuple(problem for problem in problems if problem)
