"""The `_state` of an upload's Location: what the client must bring back, signed.

The form is Distribution's, base64url(HMAC-SHA256(key, json) || json) with its four fields, so an upload
that was begun there with the same `http.secret` is finished here, and the other way round. Ours adds
the hash algorithm, the digest of the bytes so far and what a remote storage needs to go on, which
Distribution passes over. It is JSON under a signature; nothing in it is believed before that is checked.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json

from storage.model.digest import CANONICAL, HEX_LENGTHS, Digest
from storage.model.errors import DigestInvalid, UploadInvalid
from storage.model.reference import RepositoryName
from storage.upload_session import Progress

_SIGNATURE = 32
_LIMIT = 4096


class UploadTokens:
    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def issue(self, name: RepositoryName, progress: Progress) -> str:
        content = {
            "Name": str(name),
            "UUID": progress.upload_id,
            "Offset": progress.offset,
            "StartedAt": progress.started,
            "Algorithm": progress.algorithm,
        }
        if progress.digest is not None:
            content["Digest"] = str(progress.digest)
        if progress.state:
            content["State"] = progress.state
        if progress.hash_state:
            content["Hash"] = base64.b64encode(progress.hash_state).decode("ascii")
        message = json.dumps(content, separators=(",", ":")).encode("ascii")
        return base64.urlsafe_b64encode(self._sign(message) + message).decode("ascii")

    def verify(self, token: str | None, name: RepositoryName, upload_id: str) -> Progress:
        """Raises UploadInvalid unless the token was issued for this upload of this repository."""
        if not token or len(token) > _LIMIT:
            raise _invalid()
        try:
            raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            raise _invalid() from None
        signature, message = raw[:_SIGNATURE], raw[_SIGNATURE:]
        if not hmac.compare_digest(signature, self._sign(message)):
            raise _invalid()
        return _progress(message, name, upload_id)

    def _sign(self, message: bytes) -> bytes:
        return hmac.new(self._secret, message, hashlib.sha256).digest()


def _progress(message: bytes, name: RepositoryName, upload_id: str) -> Progress:
    try:
        content = json.loads(message)
        if (content["Name"], content["UUID"]) != (str(name), upload_id):
            raise _invalid()
        offset, algorithm = content["Offset"], content.get("Algorithm", CANONICAL)
        digest = content.get("Digest")
        if type(offset) is not int or offset < 0 or algorithm not in HEX_LENGTHS:
            raise _invalid()
        return Progress(
            upload_id,
            offset,
            algorithm,
            None if digest is None else Digest.parse(digest),
            str(content.get("StartedAt", "")),
            str(content.get("State", "")),
            base64.b64decode(content.get("Hash", ""), validate=True),
        )
    except (ValueError, KeyError, TypeError, AttributeError, DigestInvalid):
        raise _invalid() from None


def _invalid() -> UploadInvalid:
    return UploadInvalid(
        "The upload's URL is not one that this registry gave out for it. Use the Location of the "
        "answer before, unchanged. (Behind a load balancer every node needs the same http.secret or "
        "the same storage.)"
    )
