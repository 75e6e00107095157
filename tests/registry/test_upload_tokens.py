"""The signed progress of an upload: nothing in it can be changed, moved or made up."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.upload_tokens import UploadTokens
from storage.model.digest import Digest
from storage.model.errors import UploadInvalid
from storage.model.reference import RepositoryName
from storage.upload_session import Progress

SECRET = b"secret"
NAME = RepositoryName("team/app")
UPLOAD = "0c337451-7bba-44a7-907d-2be42e7fb013"
TOKENS = UploadTokens(SECRET)
STARTED = "2026-08-18T09:10:11Z"


def sign(content: Any, secret: bytes = SECRET) -> str:
    message = content if isinstance(content, bytes) else json.dumps(content).encode()
    signature = hmac.new(secret, message, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(signature + message).decode()


@pytest.mark.parametrize(
    "progress",
    [
        Progress(UPLOAD),
        Progress(UPLOAD, 5, "sha512", None, STARTED),
        Progress(UPLOAD, 2**40, "sha256", Digest.of(b"x"), STARTED),
        Progress(UPLOAD, 1, "sha512", Digest.of(b"x", "sha512"), STARTED),
    ],
)
def test_what_was_issued_comes_back(progress: Progress) -> None:
    token = TOKENS.issue(NAME, progress)
    assert TOKENS.verify(token, NAME, UPLOAD) == progress
    assert UploadTokens(SECRET).verify(token, NAME, UPLOAD) == progress


def test_a_token_is_good_in_a_url_as_it_is() -> None:
    token = TOKENS.issue(NAME, Progress(UPLOAD, 5, "sha512", Digest.of(b"?>~", "sha512"), STARTED))
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=")


def test_the_form_is_that_of_distribution() -> None:
    raw = base64.urlsafe_b64decode(TOKENS.issue(NAME, Progress(UPLOAD, 7, started=STARTED)))
    signature, message = raw[:32], raw[32:]
    assert signature == hmac.new(SECRET, message, hashlib.sha256).digest()
    content = json.loads(message)
    assert content["Name"] == "team/app"
    assert content["UUID"] == UPLOAD
    assert content["Offset"] == 7
    assert content["StartedAt"] == STARTED


def test_a_token_of_distribution_is_taken() -> None:
    token = sign({"Name": "team/app", "UUID": UPLOAD, "Offset": 7, "StartedAt": STARTED})
    assert TOKENS.verify(token, NAME, UPLOAD) == Progress(UPLOAD, 7, started=STARTED)


@pytest.mark.parametrize(
    ("name", "upload_id"),
    [("team/other", UPLOAD), ("team", UPLOAD), ("team/app", UPLOAD[:-1] + "4")],
)
def test_a_token_is_for_one_upload_of_one_repository(name: str, upload_id: str) -> None:
    token = TOKENS.issue(NAME, Progress(UPLOAD))
    with pytest.raises(UploadInvalid):
        TOKENS.verify(token, RepositoryName(name), upload_id)


GOOD = {"Name": "team/app", "UUID": UPLOAD, "Offset": 0, "StartedAt": ""}


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        "x",
        "é",
        "%",
        "A" * 5000,
        sign(GOOD, b"another secret"),
        sign(GOOD)[:-8],
        sign(GOOD) + "AAAA",
        base64.urlsafe_b64encode(b"\0" * 32 + json.dumps(GOOD).encode()).decode(),
        base64.urlsafe_b64encode(b"short").decode(),
    ],
)
def test_forgeries(token: str | None) -> None:
    with pytest.raises(UploadInvalid):
        TOKENS.verify(token, NAME, UPLOAD)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"\x80\x04K\x01.",
        [],
        "text",
        None,
        {},
        {**GOOD, "Offset": -1},
        {**GOOD, "Offset": "0"},
        {**GOOD, "Offset": True},
        {**GOOD, "Offset": 1.0},
        {**GOOD, "Offset": None},
        {**GOOD, "Algorithm": "md5"},
        {**GOOD, "Algorithm": []},
        {**GOOD, "Digest": "md5:x"},
        {**GOOD, "Digest": 5},
        {**GOOD, "Digest": {}},
        {"Name": "team/app", "UUID": UPLOAD},
    ],
)
def test_even_signed_nonsense_is_refused(content: Any) -> None:
    with pytest.raises(UploadInvalid):
        TOKENS.verify(sign(content), NAME, UPLOAD)


@settings(deadline=None)
@given(st.data())
def test_every_changed_bit_is_noticed(data: st.DataObject) -> None:
    raw = bytearray(
        base64.urlsafe_b64decode(TOKENS.issue(NAME, Progress(UPLOAD, 9, started=STARTED)))
    )
    position = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[position // 8] ^= 1 << position % 8
    with pytest.raises(UploadInvalid):
        TOKENS.verify(base64.urlsafe_b64encode(raw).decode(), NAME, UPLOAD)
