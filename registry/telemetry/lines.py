"""One log record, one line: JSON, or `key=value` text.

Whatever a value holds, it cannot end its line, begin another or reach a terminal: lines are printable
ASCII, everything else is escaped. A traceback is a field in JSON; in text it follows its record, each
of its lines behind an indent that no record begins with.

    json       time, level, msg, logger, then the fields
    logstash   the same under @timestamp, level, message, logger_name, with @version "1"
    text       the names of json

These are the names of Distribution's formatters, so that what reads its logs reads ours.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, cast

from structlog.contextvars import get_contextvars

from registry.telemetry.scrub import LIMIT, as_text, clean, scrub, without_secrets

FIELDS: Final = "fields"
"""The attribute of a log record (`extra={FIELDS: {...}}`) that holds its structured fields."""

FORMATTERS: Final = ("text", "json", "logstash")

_LARGEST: Final = 2**63
_INDENT: Final = "    | "
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_UNSAFE_IN_KEY = re.compile(r"[^A-Za-z0-9_.@-]")
_PLAIN = re.compile(r"[A-Za-z0-9_./:@+%,?&~\[\]-]+", re.ASCII)
_NAMES: Final = {
    "json": ("time", "level", "msg", "logger"),
    "text": ("time", "level", "msg", "logger"),
    "logstash": ("@timestamp", "level", "message", "logger_name"),
}

_encode = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode


class LineFormatter(logging.Formatter):
    """Renders records of structlog and of the standard library alike. Never raises."""

    def __init__(self, formatter: str, fields: Mapping[str, str]) -> None:
        super().__init__()
        self._text = formatter == "text"
        self._names = _NAMES[formatter]
        self._constant: dict[str, object] = {"@version": "1"} if formatter == "logstash" else {}
        self._reserved = frozenset((*self._names, *self._constant, "traceback", "stack"))
        self._constant |= {self._key(name): clean(name, value) for name, value in fields.items()}
        self._value = _quoted_value if self._text else _encoded_value
        self._template = lru_cache(maxsize=64)(self._make_template)

    def format(self, record: logging.LogRecord) -> str:
        fields = {**get_contextvars(), **getattr(record, FIELDS, {})}
        level, message = record.levelname.lower(), scrub(_message(record))
        line = self._line(record.created, level, message, scrub(record.name), fields)
        if not record.exc_info and not record.stack_info:
            return _pairs(line) if self._text else _encode(line)
        return self._with_trace(record, line)

    def render(
        self, created: float, level: str, message: str, logger: str, fields: Mapping[str, object]
    ) -> str:
        """The line of a record that was never made one; `fields` is all that it has.

        The same that format() would make, at a third of the cost where the same names come again.
        `message` and `logger` are the program's own words.
        """
        template = self._template(level, message, logger, tuple(fields))
        if template is not None:
            return template % (timestamp(created), *map(self._value, fields.values()))
        line = self._line(created, level, message, logger, fields)
        return _pairs(line) if self._text else _encode(line)

    def _make_template(
        self, level: str, message: str, logger: str, names: tuple[str, ...]
    ) -> str | None:
        """The line with `%s` for the time and for each value; None if it depends on more than those."""
        keys = [self._key(name) for name in names]
        if len({*keys, *self._constant}) < len(keys) + len(self._constant):
            return None  # one value takes the place of another
        if any(clean(name, "") for name in names):
            return None  # the name of a secret, whose value is not shown
        time_name, *_ = self._names
        fixed = self._line(0, level, message, logger, {})
        del fixed[time_name]
        if self._text:
            shown = _pairs(fixed).replace("%", "%%")
            return f"{time_name}=%s {shown}" + "".join([f" {key}=%s" for key in keys])
        shown = _encode(fixed)[1:-1].replace("%", "%%")
        values = "".join([f',"{key}":%s' for key in keys])
        return f'{{"{time_name}":"%s",{shown}{values}}}'

    def _line(
        self, created: float, level: str, message: str, logger: str, fields: Mapping[str, object]
    ) -> dict[str, object]:
        names = self._names
        line: dict[str, object] = {
            names[0]: timestamp(created),
            names[1]: level,
            names[2]: message,
            names[3]: logger,
            **self._constant,
        }
        for name, value in fields.items():
            line[self._key(name)] = clean(name, value)
        return line

    def _with_trace(self, record: logging.LogRecord, line: dict[str, object]) -> str:
        traces = {
            "traceback": _trace(self.formatException(record.exc_info)) if record.exc_info else "",
            "stack": _trace(record.stack_info) if record.stack_info else "",
        }
        if not self._text:
            return _encode(line | {name: text for name, text in traces.items() if text})
        below = [row for text in traces.values() for row in text.splitlines()]
        return "\n".join(
            [_pairs(line), *(_INDENT + _UNPRINTABLE.sub(_escape, row) for row in below)]
        )

    def _key(self, name: str) -> str:
        key = _safe_key(name)
        return f"fields.{key}" if key in self._reserved else key


def timestamp(seconds: float) -> str:
    """RFC 3339, UTC, milliseconds."""
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1000):03d}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


@lru_cache(maxsize=512)
def _safe_key(name: str) -> str:
    return _UNSAFE_IN_KEY.sub("_", as_text(name))[:64] or "_"


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - a message that does not fit its arguments is still a message
        return f"{as_text(record.msg)} {as_text(record.args)}"


def _trace(text: str) -> str:
    """The end is what names the error, so the beginning is what goes."""
    left_out = len(text) - LIMIT
    text = without_secrets(text[-4 * LIMIT :])
    return text if left_out <= 0 else f"({left_out} characters left out)\n{text[-LIMIT:]}"


def _pairs(line: Mapping[str, object]) -> str:
    return " ".join([f"{name}={_quote(value)}" for name, value in line.items()])


def _quote(value: object) -> str:
    text = value if isinstance(value, str) else _encode(value)
    return text if _PLAIN.fullmatch(text) else _encode(text)


def _quick(show: Callable[[object], str]) -> Callable[[object], str]:
    """`show(clean("", value))`, with what is often asked remembered and numbers not asked about."""
    remembered = lru_cache(maxsize=1024)(lambda text: show(scrub(text)))

    def shown(value: object) -> str:
        kind = type(value)
        if kind is str:
            text = cast(str, value)
            # A word costs less than remembering it, and request ids never come again.
            return (
                remembered(text) if len(text) <= 256 and not text.isalnum() else show(scrub(text))
            )
        if kind is int or kind is float:
            number = cast(float, value)
            if -_LARGEST < number < _LARGEST:  # false for what is not a number, too
                return repr(number)
        return show(clean("", value))

    return shown


_quoted_value = _quick(_quote)
_encoded_value = _quick(_encode)


def _escape(match: re.Match[str]) -> str:
    return (
        "    " if match[0] == "\t" else match[0].encode("unicode_escape", "replace").decode("ascii")
    )
