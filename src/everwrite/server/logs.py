"""What a node writes to its log: one event a line, with a name, its node, and fields.

    log = log_of(name, node_id)
    log.warning("clock wrong", off_ms=12, why="This node goes by the others' time.")

    2026-11-29 12:00:00,123 WARNING clock wrong node=n1 off_ms=12: This node goes by ...      text
    {"time": ..., "level": "warning", "event": "clock wrong", "node": "n1", "off_ms": 12 ...} json

Events go through structlog into the logger "everwrite" of the standard library, as a message with
the fields beside it: so whoever embeds a node handles its lines as all others, and a test reads
them. What is logged while an HTTP request is served has its ``request_id`` too.

No key is in a line but where a copy of it is damaged, as hex; no value and no secret ever is.

Costs: 15 us for a line. Nothing is logged for a request that goes well.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import structlog
from structlog.contextvars import bind_contextvars, merge_contextvars
from structlog.stdlib import BoundLogger, filter_by_level

from everwrite.server.settings import LogFormat

NAME = "everwrite"
_FIELDS = "everwrite_fields"
_encode = msgspec.json.Encoder(enc_hook=str).encode


def log_of(node: str = "", node_id: bytes = b"") -> BoundLogger:
    """Return the log of a node; of nobody in particular without a name."""
    bound: dict[str, str] = {"node": node} if node else {}
    if node_id:
        bound["node_id"] = node_id.hex()
    made = structlog.wrap_logger(
        logging.getLogger(NAME),
        processors=[filter_by_level, merge_contextvars, _to_record],
        wrapper_class=BoundLogger,
        cache_logger_on_first_use=True,
    )
    return cast(BoundLogger, made.bind(**bound))


def serve_request(request_id: str) -> None:
    """Name the request that this task serves in all that it logs from now on."""
    bind_contextvars(request_id=request_id)


def begin_logging(form: LogFormat) -> Lines:
    """Write the log of this process to its standard error; once, where the process is ours.
    Return its form, which may be told whose process it is.
    """
    handler = logging.StreamHandler(sys.stderr)
    lines: Lines = JsonLines() if form == "json" else TextLines()
    handler.setFormatter(lines)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    return lines


class Lines(logging.Formatter):
    """A form of lines."""

    node = ""
    """Named in lines of other libraries, once it is known."""


class TextLines(Lines):
    """A line for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        line = super().formatMessage(record)
        return f"{line} node={self.node}" if self.node and not hasattr(record, _FIELDS) else line


class JsonLines(Lines):
    """A line for programs: one JSON object, whoever logged it."""

    def format(self, record: logging.LogRecord) -> str:
        fields: Mapping[str, Any] | None = getattr(record, _FIELDS, None)
        if fields is None:
            named = {"node": self.node} if self.node else {}
            fields = {"event": record.getMessage(), **named}
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **fields,
        }
        if record.name != NAME:
            line["logger"] = record.name
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _encode(line).decode()


def _to_record(
    _: Any, __: str, fields: MutableMapping[str, Any]
) -> tuple[tuple[str], dict[str, Any]]:
    """Return an event as the arguments of a call of the standard library's logger."""
    first = {name: fields[name] for name in ("node", "request_id") if name in fields}
    told = {**first, **fields}
    exc_info = told.pop("exc_info", None)
    event, why = told.pop("event"), told.pop("why", "")
    node_id = told.pop("node_id", None)  # in a line for people the name says it
    words = [str(event), *(f"{name}={_short(value)}" for name, value in told.items())]
    message = " ".join(words) + (f": {_printable(str(why))}" if why else "")
    ordered = {"event": event, **told, **({"why": str(why)} if why else {})}
    if node_id:
        ordered["node_id"] = node_id
    return (message,), {"extra": {_FIELDS: ordered}, "exc_info": exc_info}


def _short(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and text and not {" ", "="} & set(text) else repr(text)


def _printable(text: str) -> str:
    """Return a text that stays one line, and moves no cursor: a peer may have written it."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
