"""The log: one event a line, with its node, its request and its fields, for people or programs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
from structlog.contextvars import clear_contextvars
from tests.client.fake_node import in_loop
from tests.server.nodes import Nodes

from everwrite.server.logs import JsonLines, TextLines, log_of, serve_request


@pytest.fixture(autouse=True)
def nobody_asks() -> Iterator[None]:
    clear_contextvars()
    yield
    clear_contextvars()


def line_of(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    (record,) = caplog.records
    return record


def test_a_line_has_its_event_its_node_its_fields_and_a_sentence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = log_of("n1", b"\x01" * 8)

    log.warning("clock wrong", off_ms=12, by="two words", why="It goes by 100 % of the others.")

    record = line_of(caplog)
    said = "clock wrong node=n1 off_ms=12 by='two words': It goes by 100 % of the others."
    assert record.getMessage() == said
    assert TextLines().format(record).endswith(f"WARNING {said}")
    found = json.loads(JsonLines().format(record))
    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "warning",
        "event": "clock wrong",
        "node": "n1",
        "node_id": "01" * 8,
        "off_ms": 12,
        "by": "two words",
        "why": "It goes by 100 % of the others.",
    }


def test_what_a_peer_says_of_itself_stays_in_its_line(caplog: pytest.LogCaptureFixture) -> None:
    evil = "n2\x1b[2J\nERROR all is lost"
    log_of("n1").warning("connection refused", peer=evil, why=ValueError(evil))

    record = line_of(caplog)
    assert record.getMessage().isprintable()
    assert "\n" not in JsonLines().format(record)
    assert json.loads(JsonLines().format(record))["peer"] == evil


def test_what_is_logged_for_a_request_has_its_id(caplog: pytest.LogCaptureFixture) -> None:
    serve_request("r-1")
    log_of("n1").error("request failed")

    assert json.loads(JsonLines().format(line_of(caplog)))["request_id"] == "r-1"


def test_a_traceback_is_one_line_of_json(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("boom")
    except ValueError as error:
        log_of("n1").critical("the node cannot go on", why=error, exc_info=error)

    line = JsonLines().format(line_of(caplog))
    assert "\n" not in line
    assert "ValueError: boom" in json.loads(line)["traceback"]


def test_lines_of_other_libraries_are_json_too(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("elsewhere").warning("%d things", 3)

    forms = JsonLines(), TextLines()
    for form in forms:
        form.node = "n1"
    found = json.loads(forms[0].format(line_of(caplog)))

    assert (found["event"], found["logger"], found["node"]) == ("3 things", "elsewhere", "n1")
    assert forms[1].format(line_of(caplog)).endswith("WARNING 3 things node=n1")


def test_what_is_below_the_level_costs_nothing_and_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR, logger="everwrite")
    log_of("n1").info("peer lost")

    assert caplog.records == []


@in_loop
async def test_each_line_of_a_running_node_names_it() -> None:
    lines: list[dict[str, object]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(JsonLines().format(record)))

    logger, keep = logging.getLogger("everwrite"), Keep()
    before = logger.level
    logger.addHandler(keep)
    logger.setLevel(logging.INFO)
    try:
        async with Nodes(http_port=0) as nodes:
            await nodes.grow("n1", "n2")
            await nodes.stop("n2")
    finally:
        logger.removeHandler(keep)
        logger.setLevel(before)

    assert lines
    assert all(line.get("node") for line in lines), lines
