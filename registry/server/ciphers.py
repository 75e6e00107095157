"""Names of TLS cipher suites: those of Go, which Distribution's configuration uses, and OpenSSL's.

Only TLS 1.2 lets its suites be chosen. The three of TLS 1.3 are always offered, as in Go; naming them is
right and changes nothing, unless only they are named: then there is nothing left for TLS 1.2.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from typing import Final

DEFAULT: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
"""Forward secrecy and authenticated encryption, which every client of the last ten years has."""

TLS13: Final = frozenset(
    ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
)

_PROVES_SERVER: Final = re.compile(r" Au=(?:RSA|ECDSA) ")

_OF_GO: Final = {
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}


def openssl_name(name: str) -> str | None:
    """OpenSSL's name of one suite of TLS 1.2 that proves who the server is and encrypts with 128 bits or
    more; None for a suite of TLS 1.3. Raises ValueError, with a sentence without its full stop.
    """
    if name in TLS13:
        return None
    wanted = _OF_GO.get(name, name)
    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        probe.set_ciphers(wanted)
    except (ssl.SSLError, ValueError):
        found = []
    else:
        found = [suite for suite in probe.get_ciphers() if suite["name"] == wanted]
    if not found:
        raise ValueError(
            f"{name!r} is not a cipher suite that is offered here; write the name of one that is, in "
            "Go's or OpenSSL's spelling, such as TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
        )
    suite = found[0]
    if suite["strength_bits"] < 128 or not _PROVES_SERVER.search(suite["description"]):
        raise ValueError(f"{name!r} does not keep this server's secrets; leave it out")
    return wanted


def openssl_names(names: Iterable[str]) -> tuple[str, ...]:
    """What TLS 1.2 may use; empty if nothing is left for it. Raises ValueError."""
    chosen = tuple(names)
    if not chosen:
        return DEFAULT
    return tuple(known for known in map(openssl_name, chosen) if known is not None)
