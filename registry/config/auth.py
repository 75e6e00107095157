"""The section `auth`: who may use the registry. Distribution's keys, and `builtin`, which is ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, Field

from registry.config.section import CHOICE, Section
from registry.config.values import BaseUrl, File, Switch, Text, Timeout, Unused, UrlPath

TOKEN_PATH: Final = "/auth/token"  # noqa: S105 - a path
JWKS_PATH: Final = "/auth/jwks"


def _a_minute(seconds: float) -> float:
    if seconds < 60:
        raise ValueError("must be at least 1m: clients take it that a token lasts as long")
    if seconds > 24 * 3600:
        raise ValueError("must be at most 24h: a token cannot be taken back, only waited out")
    return seconds


class Htpasswd(Section):
    realm: Text = ""
    path: File | None = None
    policy: File | None = None
    anonymous: Switch = False


class Token(Section):
    realm: BaseUrl = ""
    service: Text = ""
    issuer: Text = ""
    rootcertbundle: File | None = None
    jwks: Text = ""
    jwksca: File | None = None
    autoredirect: Switch = False
    autoredirectpath: UrlPath = TOKEN_PATH
    signingalgorithms: list[Text] = Field(default_factory=list)


class Issuer(Section):
    """An issuer of identity tokens (OpenID Connect) that jobs log in with."""

    closed: ClassVar[bool] = True

    name: Text = ""
    issuer: BaseUrl = ""
    audiences: list[Text] = Field(default_factory=list)
    require: dict[str, list[Text]] = Field(default_factory=dict)
    username: Text = "{sub}"
    groups: Text = ""
    claims: list[Text] = Field(default_factory=list)
    cafile: File | None = None
    keysurl: BaseUrl = ""


class Builtin(Section):
    closed: ClassVar[bool] = True

    keys: File | None = None
    service: Text = "holdfast"
    issuer: Text = "holdfast"
    realm: BaseUrl = ""
    htpasswd: File | None = None
    users: File | None = None
    policy: File | None = None
    anonymous: Switch = False
    certificates: Switch = False
    lifetime: Annotated[Timeout, AfterValidator(_a_minute)] = 300.0
    issuers: list[Issuer] = Field(default_factory=list)

    @property
    def directory(self) -> Path:
        """The keys', which no configuration that was checked is without."""
        return self.keys or Path()


class Silly(Section):
    realm: Text = ""
    service: Text = ""


class Auth(Section):
    scalar_sets: ClassVar[str | None] = CHOICE
    closed: ClassVar[bool] = True

    none: Unused = None
    htpasswd: Htpasswd | None = None
    token: Token | None = None
    builtin: Builtin | None = None
    silly: Silly | None = None


NEEDED: Final[Mapping[str, Mapping[str, str]]] = {
    "htpasswd": {
        "realm": "is missing; it is what clients show when they ask for a password",
        "path": "is missing; name the file that `htpasswd -B` or `registry htpasswd` wrote",
    },
    "token": {
        "service": "is missing; it is the name of this registry that tokens are made for",
        "issuer": "is missing; it is what tokens name as their issuer",
    },
    "builtin": {
        "keys": "is missing; name a directory for the signing keys that all nodes share, and nobody "
        "else can read",
    },
    "silly": {
        "realm": "is missing",
        "service": "is missing",
    },
}


def missing(kind: str, section: Mapping[str, Any]) -> dict[str, str]:
    """What a section of this kind lacks: a sentence by key."""
    found = {key: text for key, text in NEEDED.get(kind, {}).items() if not section.get(key)}
    if kind == "token":
        if not section.get("realm") and not section.get("autoredirect"):
            found["realm"] = "is missing; name the URL of the token server"
        if not section.get("rootcertbundle") and not section.get("jwks"):
            found["rootcertbundle"] = "is missing, and so is jwks; name the token server's keys"
    if kind == "builtin" and not any(section.get(k) for k in ("htpasswd", "users", "issuers")):
        found["users"] = "is missing; name a file of users, or an htpasswd file, or list issuers"
    return found
