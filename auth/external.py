"""The settings of the `token` mode, and the authorizer that they describe."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from auth import fetching
from auth.audit import Audit, unheard
from auth.bearer import Challenge, TokenAuthorizer
from auth.certificates import CertificateKeys
from auth.jwk import ASYMMETRIC, KeySource
from auth.keysets import CombinedKeys, FileKeys, RemoteKeys
from auth.tokens import LEEWAY, LONGEST, Verifier


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Distribution's `auth.token`, and what is ours."""

    service: str
    issuer: str
    realm: str = ""
    """The URL of the token server; may be left out with autoredirect."""
    rootcertbundle: str = ""
    """A file of certificates in PEM."""
    jwks: str = ""
    """A file, or an https URL."""
    jwks_ca: str = ""
    """A file of the authorities that vouch for the URL's server, instead of the system's."""
    signingalgorithms: tuple[str, ...] = ASYMMETRIC
    autoredirect: bool = False
    """Derive the realm from the address that the client used."""
    autoredirectpath: str = "/auth/token"
    leeway: int = LEEWAY
    """Seconds that clocks may differ."""
    longest: int = LONGEST
    """Seconds; a token that is valid for longer is refused."""


def token_authorizer(
    settings: TokenSettings, keys: KeySource, audit: Audit = unheard
) -> TokenAuthorizer:
    """`keys` are those of key_source(). Raises ValueError with a sentence for what cannot be."""
    challenge = Challenge(
        settings.service,
        settings.realm,
        settings.autoredirectpath if settings.autoredirect else "",
    )
    verifier = Verifier(
        keys,
        settings.issuer,
        (settings.service,),
        settings.signingalgorithms,
        leeway=settings.leeway,
        longest=settings.longest,
    )
    return TokenAuthorizer(verifier, challenge, audit=audit)


def key_source(settings: TokenSettings) -> KeySource:
    """Reads the files, and asks no server yet.

    Raises ValueError with a sentence if there are none, and watched.Unusable for a file.
    """
    sources: list[KeySource] = []
    if settings.rootcertbundle:
        sources.append(CertificateKeys(settings.rootcertbundle))
    if "://" in settings.jwks:
        fetch = partial(fetching.fetch, cafile=settings.jwks_ca or None)
        sources.append(RemoteKeys(settings.jwks, fetch=fetch))
    elif settings.jwks:
        sources.append(FileKeys(settings.jwks))
    if not sources:
        raise ValueError(
            "auth.token needs the keys of the token server; name a rootcertbundle or a jwks."
        )
    return sources[0] if len(sources) == 1 else CombinedKeys(sources)
