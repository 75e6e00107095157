"""Recognising whoever shows a name and a password, whatever the password is.

It may be that of an account, a robot's or a personal access token, or the identity token of a CI job
(as the user `oidc`). Failures are throttled and audited here, so that no way in can forget to.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

from auth import oidc
from auth.accounts import NAME_LIMIT, Account, Accounts
from auth.audit import Audit, Event, What, unheard
from auth.model import Access, Identity, Throttled
from auth.oidc import OidcIssuers
from auth.policy import ROBOT_PREFIX
from auth.revocations import RevocationList
from auth.robots import CredentialInvalid, RobotTokens, looks_like_one
from auth.throttle import Throttle
from auth.tokens import TokenInvalid
from auth.watched import Clock

PASSWORD_LIMIT: Final = 16 * 1024
"""Characters; identity tokens are the longest. Nothing is done with what is longer."""

REMEMBERED: Final = 60.0

_REMEMBERED_LIMIT: Final = 10_000
_WRONG: Final = "The user name or the password is wrong."


class LoginFailed(Exception):
    """`reason` is a sentence that the client may read; it does not tell which names exist."""

    def __init__(self, reason: str = _WRONG) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Login(Identity):
    """An identity with what has to be known of it later, when it is asked for again."""

    limits: tuple[Access, ...] = ()
    """Scopes with patterns that narrow what the policy gives; empty for no limit."""
    credential: str = ""
    """The id of a robot's or personal token."""
    stamp: str = ""
    """Of the account whose password was given."""
    expires: float = float("inf")
    """When what was shown ends by itself, in seconds since the epoch."""
    by_token: bool = False
    """Whether one of our short-lived tokens was shown: then `granted` bounds what may be done."""


ANONYMOUS: Final = Login()


class Logins:
    """Belongs to one event loop."""

    def __init__(
        self,
        accounts: Accounts | None,
        *,
        robots: RobotTokens | None = None,
        revocations: RevocationList | None = None,
        issuers: OidcIssuers | None = None,
        throttle: Throttle | None = None,
        audit: Audit = unheard,
        clock: Clock = time.time,
    ) -> None:
        """Robots' tokens cannot be taken back without `revocations`. Raises ValueError for that."""
        if robots is not None and revocations is None:
            raise ValueError("Robots need a list of revocations.")
        self._accounts = accounts
        self._robots = robots
        self._revocations = revocations
        self._issuers = issuers
        self._throttle = throttle or Throttle()
        self._audit = audit
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._running: dict[bytes, asyncio.Task[Login]] = {}
        self._recent: OrderedDict[bytes, tuple[float, Login]] = OrderedDict()

    async def login(self, name: str, password: str, client: str) -> Login:
        """Raises LoginFailed, Throttled or Undecided. No name and no password is nobody in particular.

        The same credentials from the same address at the same time are one attempt, and those that
        were right a moment ago are none.
        """
        if not name and not password:
            return ANONYMOUS
        if len(name) > NAME_LIMIT or len(password) > PASSWORD_LIMIT:
            self._refuse_at_once(client)
        key = self._fingerprint(name, password)
        known = await self._remembered(key, name, password)
        if known is not None:
            return known
        key += client.encode("utf-8", "surrogateescape")
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self._attempt(name, password, client), name="login")
            self._running[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    async def standing(self, login: Login) -> Login:
        """The same identity as it stands now. Raises LoginFailed if it does not any more, Undecided.

        Cheap: for every request with a token that was given out before.
        """
        if await self.revoked(login):
            raise LoginFailed("The token was revoked; ask for another one.")
        if login.method == "oidc" and (
            self._issuers is None or not self._issuers.trusts(login.name.partition(":")[0])
        ):
            raise LoginFailed("The job's issuer is not trusted any more.")
        if login.method in {"anonymous", "robot", "oidc"}:
            return login
        if self._accounts is None:
            return login
        if login.method == "certificate":
            await self._accounts.refreshed()
            if self._accounts.disables(login.name):
                raise LoginFailed("The account is disabled.")
            return _with_groups(login, self._accounts.groups_of(login.name))
        account = await self._accounts.find(login.name)
        if account is None or login.stamp not in {"", account.stamp}:
            raise LoginFailed("The account has changed since; log in again.")
        return _with_groups(login, account.groups)

    async def version(self) -> object:
        """Another one whenever standing() may say something else, but for what is revoked."""
        if self._accounts is None:
            return None
        await self._accounts.refreshed()
        return self._accounts.version

    async def revoked(self, login: Login) -> bool:
        """Raises Undecided."""
        return (
            bool(login.credential)
            and self._revocations is not None
            and await self._revocations.revoked(login.credential)
        )

    async def certificate(self, name: str) -> Login:
        """The bearer of a client certificate that TLS has verified. Raises LoginFailed."""
        if len(name) > NAME_LIMIT or ":" in name or not name.isprintable():
            raise LoginFailed("The certificate's common name cannot be the name of a user.")
        return await self.standing(Login(name, "certificate"))

    async def _remembered(self, key: bytes, name: str, password: str) -> Login | None:
        recent = self._recent.get(key)
        if recent is not None:
            if self._clock() < recent[0]:
                return await self.standing(recent[1])
            del self._recent[key]
        if self._accounts is None:
            return None
        account = await self._accounts.remembered(name, password)
        return None if account is None else _of(account)

    async def _attempt(self, name: str, password: str, client: str) -> Login:
        token = self._is_token(name, password)
        try:
            # A token says whose it is; the name beside it is anybody's, and must not be held against them.
            attempt = self._throttle.attempt("" if token else name, client)
        except Throttled as throttled:
            self._audit(Event(What.THROTTLED, name, "password", client, detail=throttled.reason))
            raise
        try:
            login = await self._recognised(name, password)
        except LoginFailed as failed:
            method = "token" if token else "password"
            self._audit(Event(What.LOGIN_FAILED, name, method, client, detail=failed.reason))
            raise
        except BaseException:  # no answer was found: neither a failure nor a success
            self._throttle.withdrawn(attempt)
            raise
        self._throttle.succeeded(attempt)
        self._audit(Event(What.LOGIN, login.name, login.method, client, detail=login.credential))
        if token:
            self._remember(self._fingerprint(name, password), login)
        return login

    async def _recognised(self, name: str, password: str) -> Login:
        if self._robots is not None and looks_like_one(password):
            return await self._by_robot_token(self._robots, password)
        if self._issuers is not None and _is_identity_token(name, password):
            try:
                job = await self._issuers.verify(password)
            except TokenInvalid as invalid:
                raise LoginFailed(invalid.reason) from invalid
            return Login(job.name, "oidc", job.groups, expires=job.expires)
        if self._accounts is None:
            raise LoginFailed
        account = await self._accounts.check(name, password)
        if account is None:
            raise LoginFailed
        return _of(account)

    async def _by_robot_token(self, robots: RobotTokens, password: str) -> Login:
        try:
            credential = robots.verify(password)
        except CredentialInvalid as invalid:
            raise LoginFailed(invalid.reason) from invalid
        robot = credential.kind == "robot"
        return await self.standing(
            Login(
                ROBOT_PREFIX + credential.name if robot else credential.name,
                "robot" if robot else "token",
                limits=credential.limits,
                credential=credential.id,
                expires=credential.expires,
            )
        )

    def _is_token(self, name: str, password: str) -> bool:
        if self._robots is not None and looks_like_one(password):
            return True
        return self._issuers is not None and _is_identity_token(name, password)

    def _remember(self, key: bytes, login: Login) -> None:
        self._recent[key] = (min(login.expires, self._clock() + REMEMBERED), login)
        while len(self._recent) > _REMEMBERED_LIMIT:
            self._recent.popitem(last=False)

    def _refuse_at_once(self, client: str) -> None:
        """Without looking at it further, and counted."""
        self._throttle.attempt("", client)
        self._audit(Event(What.LOGIN_FAILED, "", "password", client, detail="It was too long."))
        raise LoginFailed

    def _ended(self, key: bytes, task: asyncio.Task[Login]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # taken note of, also if everybody who waited has gone

    def _fingerprint(self, name: str, password: str) -> bytes:
        parts = [text.encode("utf-8", "surrogateescape") for text in (name, password)]
        message = len(parts[0]).to_bytes(4, "big") + b"".join(parts)
        return hmac.new(self._key, message, hashlib.sha256).digest()


def basic_credentials(authorization: str | None) -> tuple[str, str] | None:
    """Name and password of an Authorization header (RFC 7617), or None if it is of another scheme.

    Raises LoginFailed if it cannot be read.
    """
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        raw = base64.b64decode(encoded.strip(" ").encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        raise LoginFailed("The Authorization header is not base64 of name:password.") from None
    name, colon, password = raw.partition(b":")
    try:
        user = name.decode("utf-8")
    except UnicodeDecodeError:
        raise LoginFailed("The user name is not UTF-8.") from None
    if not colon or not (user.isprintable() or not user):
        raise LoginFailed("The Authorization header is not base64 of name:password.")
    return user, password.decode("utf-8", "surrogateescape")


def _is_identity_token(name: str, password: str) -> bool:
    return name == oidc.USER and password.count(".") == 2 and password.startswith("eyJ")


def _of(account: Account) -> Login:
    return Login(account.name, "htpasswd", account.groups, stamp=account.stamp)


def _with_groups(login: Login, groups: frozenset[str]) -> Login:
    return login if groups == login.groups else replace(login, groups=groups)
