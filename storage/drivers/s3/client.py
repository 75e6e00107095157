"""The boto3 client, and where its credentials come from."""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit, urlunsplit

import boto3
import botocore.session
import urllib3
from botocore.config import Config
from botocore.utils import parse_timestamp

from storage.drivers.s3.settings import S3Settings

if TYPE_CHECKING:
    from botocore.awsrequest import AWSRequest
    from types_boto3_s3.client import S3Client

_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", re.ASCII)
_ADDRESS = re.compile(r"[0-9.]+|.*:.*", re.ASCII)


def make_client(settings: S3Settings, session: boto3.Session | None = None) -> S3Client:
    """A client of the store, with the credentials of the session, if one is given.

    Neither this nor the use of a client opens a connection before the first request. A request that
    gets no answer ends by itself: after `readtimeout` without a byte, `attempts` times; and once more at
    most where it first goes the short way (`direct.py`).
    """
    if settings.skipverify:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return (session or make_session(settings)).client(
        "s3",
        region_name=settings.region or "us-east-1",
        endpoint_url=settings.endpoint,
        use_ssl=settings.secure,
        verify=False if settings.skipverify else settings.cabundle or None,
        config=_config(settings),
    )


def make_session(settings: S3Settings) -> boto3.Session:
    """Where credentials come from."""
    core = botocore.session.get_session()
    parsers = core.get_component("response_parser_factory")
    parsers.set_parser_defaults(timestamp_parser=parse_time)
    return boto3.Session(
        botocore_session=core,
        aws_access_key_id=settings.accesskey or None,
        aws_secret_access_key=settings.secretkey or None,
        profile_name=settings.profile or None,
    )


def make_signer(settings: S3Settings, session: boto3.Session) -> S3Client:
    """A client for URLs that lead to `redirectendpoint`: only scheme and host are others."""
    client = make_client(settings, session)
    if settings.redirect_endpoint is not None:
        there = urlsplit(settings.redirect_endpoint)

        def lead_there(request: AWSRequest, **_: object) -> None:
            url = urlsplit(str(request.url))
            request.url = urlunsplit(url._replace(scheme=there.scheme, netloc=there.netloc))

        client.meta.events.register("before-sign.s3", lead_there)
    return client


def parse_time(value: str | float) -> datetime:
    """A time in the forms that stores write, or in another that botocore knows.

    botocore's way costs three times as much as all the rest of a listing, where every object has a time.
    """
    try:
        if isinstance(value, str) and value[10:11] == "T":
            return datetime.fromisoformat(value)
        if isinstance(value, str) and value[3:4] == ",":
            return parsedate_to_datetime(value)
    except ValueError:
        pass
    return parse_timestamp(value)  # type: ignore[arg-type] # which takes numbers, too


def _config(settings: S3Settings) -> Config:
    """Checksums and signed payloads are left to TLS and to the digest that every blob is verified by:

    stores older than S3's trailing checksums refuse a body that has them, and a signed body is read
    twice. Over plain HTTP botocore signs bodies all the same.
    """
    return Config(
        signature_version="s3v4",
        s3={
            "addressing_style": _addressing(settings),
            "payload_signing_enabled": False,
            "use_accelerate_endpoint": settings.accelerate,
        },
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "total_max_attempts": settings.attempts},
        connect_timeout=settings.connecttimeout,
        read_timeout=settings.readtimeout,
        max_pool_connections=settings.connections,
        tcp_keepalive=True,
        use_dualstack_endpoint=settings.usedualstack or None,
        use_fips_endpoint=settings.usefipsendpoint or None,
        user_agent_extra=settings.useragent or None,
    )


def _addressing(settings: S3Settings) -> Literal["path", "virtual"]:
    """Never botocore's "auto": it presigns for Amazon's global address, which redirects elsewhere.

    A bucket whose name is no single label of a host name cannot stand before one, nor before an address.
    """
    path = settings.forcepathstyle
    if path is None:
        path = bool(settings.regionendpoint)
    host = urlsplit(settings.endpoint or "").hostname or ""
    labelled = _LABEL.fullmatch(settings.bucket) and not _ADDRESS.fullmatch(host)
    return "path" if path or not labelled else "virtual"
