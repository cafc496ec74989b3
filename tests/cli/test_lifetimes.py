"""How long a value is to live, as people write and read it (cli/lifetimes.py)."""

from __future__ import annotations

import contextlib

import click
import pytest
from tests.cli.commands import everwrite

from everwrite.cli.exits import Exit
from everwrite.cli.lifetimes import Patience, end_for_json, end_sentence, read_lifetime
from everwrite.client import Found
from everwrite.core.errors import RequestError
from everwrite.core.messages.requests import Quality
from everwrite.server.http.options import options_of

NO_NODE = ["--url", "127.0.0.1:1", "--timeout", "0.1"]


def found(expires_ms: int, time_ms: int = 0) -> Found:
    return Found([b"v"], b"", Quality(2, 0, 2), None, expires_ms, time_ms)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("45s", 45.0),
        ("1.5s", 1.5),
        ("30m", 1800.0),
        ("12h", 43_200.0),
        ("7d", 604_800.0),
        ("2w", 1_209_600.0),
        ("1500ms", 1.5),
        ("1h30m", 5400.0),
        (" 30M ", 1800.0),
        ("3650d", 315_360_000.0),
        (None, None),
    ],
)
def test_a_time_to_live_is_a_number_with_a_unit(text: str | None, seconds: float | None) -> None:
    assert read_lifetime(None, None, text) == seconds  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("30", "30m"),
        ("0.5", "has no unit"),
        ("", "like 45s, 30m"),
        ("soon", "like 45s, 30m"),
        ("-5s", "like 45s, 30m"),
        ("30m 5", "like 45s, 30m"),
        ("30 m", "like 45s, 30m"),
        ("5y", "like 45s, 30m"),
        ("٣s", "like 45s, 30m"),
        ("0s", "from 1s to 3650d"),
        ("0.5s", "from 1s to 3650d"),
        ("3651d", "from 1s to 3650d"),
        ("9" * 400 + "d", "from 1s to 3650d"),
    ],
)
def test_any_other_is_refused_before_a_node_is_asked(text: str, says: str) -> None:
    for command in (["put", "b", "k", "v", "--ttl", text], ["touch", "b", "k", "--", text]):
        options, *rest = command[:3], *command[3:]
        ended = everwrite(*options, *NO_NODE, *rest)

        assert (ended.code, ended.out) == (Exit.USAGE, "")
        assert says in ended.err


def test_a_time_that_can_be_is_no_usage_error() -> None:
    assert everwrite("touch", "b", "k", "1h30m", *NO_NODE).code == Exit.UNREACHABLE
    assert everwrite("put", "b", "k", "v", "--ttl", "7d", *NO_NODE).code == Exit.UNREACHABLE


def test_an_end_is_told_in_utc_and_from_the_clusters_clock() -> None:
    assert end_sentence(found(1_700_000_000_000)) == "ends at 2023-11-14 22:13:20 UTC"
    assert end_sentence(found(1_700_000_000_000, 1_699_999_940_000)) == (
        "ends at 2023-11-14 22:13:20 UTC, in 60.0 s"
    )


def test_an_end_in_json_is_rfc_3339_or_null() -> None:
    assert end_for_json(found(1_700_000_000_001).expires) == "2023-11-14T22:13:20.001Z"
    assert end_for_json(found(0).expires) is None


TIMES = ["45s", "1.5s", "30m", "12h", "7d", "2w", "1h30m", "1500ms", "1m1ms", "3650d"]
NO_TIMES = ["", "soon", "-5s", "30 m", "5y", "1h 30m", "٣s", "0.5s", "3651d", "1h30"]


@pytest.mark.parametrize("text", [*TIMES, *NO_TIMES])
def test_http_takes_the_times_that_the_command_line_takes(text: str) -> None:
    with contextlib.suppress(RequestError):
        over_http = options_of({"ttl": text}).ttl_ms
        assert text in TIMES
        assert read_lifetime(None, None, text) == over_http / 1000  # type: ignore[arg-type]
        return
    assert text in NO_TIMES
    with pytest.raises(click.BadParameter):
        read_lifetime(None, None, text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "seconds"), [("5", 5.0), ("0.5", 0.5), (".5", 0.5), ("250ms", 0.25), ("1m", 60.0)]
)
def test_a_patience_is_seconds_or_has_a_unit_here_and_over_http(text: str, seconds: float) -> None:
    assert Patience(0.001, 60)(None, None, text) == seconds  # type: ignore[arg-type]
    if not text.startswith("."):
        assert options_of({"timeout": text}).timeout_ms == seconds * 1000


@pytest.mark.parametrize("text", ["0", "61", "61s", "-1", "nan", "inf", "1e3", "", "2 s", "2m"])
def test_a_patience_that_cannot_be_is_a_usage_error(text: str) -> None:
    ended = everwrite("get", "b", "k", "--url", "127.0.0.1:1", "--timeout", text)

    assert ended.code == Exit.USAGE
    assert "--timeout" in ended.err
