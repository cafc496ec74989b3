"""What stands behind the question mark: numbers of nodes, times, forms; each checked once, here.

An unknown or doubled parameter is refused: a misspelt ``w`` must not become the default one.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal
from urllib.parse import parse_qsl

import msgspec

from everwrite.core.data.base64url import decode64
from everwrite.core.errors import BadContext, RequestError
from everwrite.core.request.limits import TTL_MAX_MS, TTL_MIN_MS

TIMEOUT_MAX_MS = 60_000
"""As for every client (``NodeConfig.request_timeout_max_ms``)."""
LIMIT_MAX = 1_000_000
QUERY_BYTES_MAX = 8192

Level = Literal["", "one", "quorum", "all", "session"]
LEVELS = ("one", "quorum", "all", "session")
RESOLVES = ("lww", "union")
UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}

_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,6})?"
_PART = re.compile(rf"({_NUMBER})(ms|[smhdw])")
_TIME = re.compile(rf"{_NUMBER}|(?:{_NUMBER}(?:ms|[smhdw])){{1,6}}")
"""As the command line takes it (cli/lifetimes.py); a number without a unit is seconds."""

COPIES = frozenset({"n", "timeout", "strict", "consistency", "key_encoding", "trace"})
READS = COPIES | {"r", "format", "resolve", "dot"}
WRITES = COPIES | {"w", "dw"}
PUTS = WRITES | {"ttl"}
TRACED = READS | PUTS
EXPLAINS = frozenset({"n", "r", "key_encoding"})
LISTS = frozenset({"r", "timeout", "prefix", "after", "limit", "key_encoding", "trace"})
BATCHES = frozenset({"trace"})
NOTHING: frozenset[str] = frozenset()


class Options(msgspec.Struct, frozen=True):
    """The parameters of one request; 0 and empty: not given."""

    n: int = 0
    r: int = 0
    w: int = 0
    dw: int = -1
    timeout_ms: int = 0
    strict: bool = False
    level: Level = ""
    envelope: bool = False
    resolve: str = ""
    dot: str = ""
    ttl_ms: int = 0
    base64: bool = False
    trace: bool = False
    prefix: str = ""
    after: str = ""
    limit: int = 0


@lru_cache(maxsize=1024)
def parse(query: bytes, allowed: frozenset[str]) -> Options:
    """Return the parameters in a query; RequestError for what cannot be."""
    if not query:
        return Options()
    if len(query) > QUERY_BYTES_MAX:
        raise RequestError(f"The query has over {QUERY_BYTES_MAX} bytes.", hint="Leave some out.")
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=64
        )
    except ValueError as error:
        raise RequestError(
            f"The query cannot be read: {error}.", hint="Percent-encode it as UTF-8."
        ) from error
    given = dict(pairs)
    for name in given:
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            raise RequestError(
                f"There is no parameter {name[:64]!r} here.", hint=f"Possible: {known}."
            )
    if len(given) < len(pairs):
        raise RequestError("A parameter is given twice.", hint="Give each once.")
    return options_of(given)


def options_of(given: dict[str, str]) -> Options:
    """Return the parameters of these texts; RequestError for what cannot be."""
    options = Options(
        n=_number(given, "n", 1, 255),
        r=_number(given, "r", 1, 255),
        w=_number(given, "w", 1, 255),
        dw=_number(given, "dw", 0, 255, otherwise=-1),
        timeout_ms=_time(given, "timeout", 1, TIMEOUT_MAX_MS),
        strict=_one_of(given, "strict", ("true", "false")) == "true",
        level=_one_of(given, "consistency", LEVELS),  # type: ignore[arg-type]
        envelope=_one_of(given, "format", ("raw", "envelope")) == "envelope",
        resolve=_one_of(given, "resolve", RESOLVES),
        dot=given.get("dot", ""),
        ttl_ms=_time(given, "ttl", TTL_MIN_MS, TTL_MAX_MS),
        trace=_one_of(given, "trace", ("0", "1")) == "1",
        base64=_one_of(given, "key_encoding", ("percent", "base64url")) == "base64url",
        prefix=given.get("prefix", ""),
        after=given.get("after", ""),
        limit=_number(given, "limit", 1, LIMIT_MAX),
    )
    session = options.level == "session"  # it may read more copies than its word asks for
    if options.level and (options.w or (options.r and not session)):
        raise RequestError(
            "consistency and r or w are two words for the same.", hint="Give one of them."
        )
    return options


def _number(given: dict[str, str], name: str, least: int, most: int, otherwise: int = 0) -> int:
    text = given.get(name)
    if text is None:
        return otherwise
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else least - 1
    if not least <= number <= most:
        raise RequestError(
            f"{name} = {text[:64]!r} is not possible.", hint=f"Use a number, {least} to {most}."
        )
    return number


def _time(given: dict[str, str], name: str, least_ms: int, most_ms: int) -> int:
    text = given.get(name)
    if text is None:
        return 0
    ms = -1.0
    if _TIME.fullmatch(text):
        parts = _PART.findall(text) or [(text, "s")]
        ms = sum(float(number) * UNITS_MS[unit] for number, unit in parts)
    if not least_ms <= ms <= most_ms:
        raise RequestError(
            f"{name} = {text[:64]!r} is not possible.",
            hint=f"Use a time like 250ms, 2s, 1h30m or 7d, from {_said(least_ms)} to "
            f"{_said(most_ms)}; a number is seconds.",
        )
    return round(ms)


def _said(ms: int) -> str:
    """Return a time as it may be given.

    >>> _said(1), _said(1000), _said(60_000), _said(315_360_000_000)
    ('1ms', '1s', '1m', '3650d')
    """
    unit = next(unit for unit in ("d", "h", "m", "s", "ms") if ms % UNITS_MS[unit] == 0)
    return f"{ms // UNITS_MS[unit]}{unit}"


def _one_of(given: dict[str, str], name: str, values: tuple[str, ...]) -> str:
    text = given.get(name, "")
    if text and text not in values:
        raise RequestError(
            f"{name} = {text[:64]!r} is not possible.", hint=f"Use one of: {', '.join(values)}."
        )
    return text


def context_in(text: bytes | None) -> bytes:
    """Return the context that a header or a field brings; BadContext if it is none."""
    if not text:
        return b""
    try:
        return decode64(text)
    except ValueError as error:
        raise BadContext(
            "The Causal-Context is no base64url.",
            hint="Give back the header of a read or a write as it is.",
        ) from error
