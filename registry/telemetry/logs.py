"""Logging set-up: every logger of the process, ours and the libraries', writes lines to stdout.

structlog is what our code calls, the standard library's logging is what carries records, and one
formatter (`lines.py`) renders all of them, so that nothing gets past its escaping and scrubbing.
A line is handed to the kernel in one write: workers share the pipe, and lines do not mix up to the
size that a pipe keeps whole (PIPE_BUF, 4 KiB).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Final, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from registry.telemetry.lines import FIELDS, FORMATTERS, LineFormatter

LEVELS: Final = {
    "panic": logging.CRITICAL,
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
}
"""Distribution's level names."""

# Libraries that say a line per request of theirs, or headers at debug.
_CHATTY: Final = ("asyncio", "boto3", "botocore", "httpcore", "httpx", "s3transfer", "urllib3")
_STDOUT: Final = 1
_TO_LOGGING: Final = ("exc_info", "stack_info", "stacklevel")


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose keyword arguments become fields: `log.info("swept", blobs=3)`."""
    return cast(FilteringBoundLogger, structlog.get_logger(name))


def configure(*, level: str, formatter: str, fields: Mapping[str, str]) -> None:
    """Set up logging for this process; may be called again, and in each worker.

    `fields` are added to every line. Raises ValueError with a sentence for an unknown level or
    formatter.
    """
    threshold = LEVELS.get(level.lower())
    if threshold is None:
        raise ValueError(f"The log level {level!r} is unknown; use error, warn, info or debug.")
    if formatter not in FORMATTERS:
        raise ValueError(f"The log formatter {formatter!r} is unknown; use text, json or logstash.")

    handler = _Stdout(LineFormatter(formatter, fields))
    root = logging.getLogger()
    for old in root.handlers[:]:
        # Others' handlers stay: they observe, as pytest's do.
        if isinstance(old, _Stdout) or type(old) is logging.StreamHandler:
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(threshold)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # Access lines are ours (registry.middleware); uvicorn's would hold upload tokens.
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
    logging.captureWarnings(True)
    _configure_structlog(threshold)


def _configure_structlog(threshold: int) -> None:
    structlog.configure(
        processors=[_hand_over],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # a logger used early must follow a later configure()
    )


def _hand_over(_logger: WrappedLogger, _method: str, event: EventDict) -> Any:
    """Turn structlog's event into the arguments of the standard library's logger."""
    extra: dict[str, object] = {name: event.pop(name) for name in _TO_LOGGING if name in event}
    message = event.pop("event", "")
    return (message,), {"extra": {FIELDS: event}, **extra}


def log_request(logger: logging.Logger, level: int, fields: Mapping[str, object]) -> None:
    """`logger.log(level, "request", ...)` for the one line that every request costs.

    The line is made without a record, and goes out with those of the other requests that end in the
    same turn of the event loop.
    """
    if not logger.isEnabledFor(level):
        return
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Stdout):
            handler.write_soon(logger.name, level, fields)
            return
    logger.log(level, "request", extra={FIELDS: fields})


class _Stdout(logging.Handler):
    """Writes to descriptor 1, whatever has been put in place of `sys.stdout`."""

    _failing = False

    def __init__(self, formatter: LineFormatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._lines = formatter
        self._pending: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write([*self._taken(), self.format(record)])
        except Exception:  # noqa: BLE001 - nothing that is logged may break what logs it
            self.handleError(record)

    def write_soon(self, logger: str, level: int, fields: Mapping[str, object]) -> None:
        """Write at the end of this turn of the event loop, which is the caller's."""
        name = logging.getLevelName(level).lower()
        line = self._lines.render(time.time(), name, "request", logger, fields)
        self.acquire()  # a thread that logs takes what is pending along
        self._pending.append(line)
        first = len(self._pending) == 1
        self.release()
        if first:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self.acquire()
        try:
            self._write(self._taken())
        except OSError:
            self._complain()
        finally:
            self.release()

    def _taken(self) -> list[str]:
        pending, self._pending = self._pending, []
        return pending

    def _write(self, lines: list[str]) -> None:
        rest = "".join([f"{line}\n" for line in lines]).encode("ascii", "backslashreplace")
        while rest:
            rest = rest[os.write(_STDOUT, rest) :]
        self._failing = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        self._complain()

    def _complain(self) -> None:
        """Say on stderr why lines are lost, once until one is written again; never the line itself."""
        if self._failing:
            return
        self._failing = True
        kind, error, _ = sys.exc_info()
        reason = error.strerror if isinstance(error, OSError) else getattr(kind, "__name__", "")
        try:
            os.write(2, f"Log lines cannot be written to stdout: {reason}.\n".encode())
        except OSError:
            pass  # nobody is left to be told


# Before configure(), and in tests, our loggers are ordinary loggers of the standard library.
_configure_structlog(logging.NOTSET)
