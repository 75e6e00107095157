"""When a certificate ends, which ssl itself tells of a peer's certificate only."""

from __future__ import annotations

import logging
from pathlib import Path

from cryptography import x509

logger = logging.getLogger("holdfast.server")


def expires(certificate: str) -> float:
    """Of the first certificate of a PEM file, which is the one that is served; seconds since the epoch.

    0 if that cannot be told, which a warning says. Blocks; never raises.
    """
    try:
        served = x509.load_pem_x509_certificates(Path(certificate).read_bytes())[0]
    except (OSError, ValueError) as error:
        logger.warning(
            "When the certificate %s ends cannot be told, so no alert will: %s. Look with: "
            "openssl x509 -noout -enddate -in %s",
            *(certificate, error, certificate),
        )
        return 0.0
    return served.not_valid_after_utc.timestamp()
