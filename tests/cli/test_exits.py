"""A table that lacks a node, or tells of one that is at its cap, ends with exit code 3."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.cli.commands import everwrite
from tests.cli.test_reports import status

from everwrite.cli import inspect, transfers
from everwrite.cli.exits import Exit
from everwrite.cli.reports import Hints, Seat, Status, Transfers


def told(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, answer: Any) -> None:
    async def tell(*_: object) -> Any:
        return answer

    monkeypatch.setattr(module, name, tell)


@pytest.mark.parametrize("form", [[], ["-o", "json"]])
@pytest.mark.parametrize(
    ("other", "full", "code"),
    [
        (status("n2"), False, Exit.OK),
        (None, False, Exit.DEGRADED),
        (status("n2"), True, Exit.DEGRADED),
    ],
)
def test_hints_that_cannot_all_be_told_or_taken_are_degraded(
    monkeypatch: pytest.MonkeyPatch, form: list[str], other: Status | None, full: bool, code: Exit
) -> None:
    asked = msgspec.structs.replace(status("n1"), hints=Hints(0, full=full))
    told(monkeypatch, inspect, "_gather", (asked, {"n2": other}))

    assert everwrite("hints", *form).code == code


@pytest.mark.parametrize("form", [[], ["-o", "json"]])
@pytest.mark.parametrize(("answers", "code"), [(True, Exit.OK), (False, Exit.DEGRADED)])
def test_transfers_of_a_silent_node_are_degraded(
    monkeypatch: pytest.MonkeyPatch, form: list[str], answers: bool, code: Exit
) -> None:
    said = Transfers("1", "n1", "v", [], [Seat("1", "n1", "n1:1"), Seat("2", "n2", "n2:1")])
    look = transfers.Look(said, {"n1": said, "n2": said if answers else None})
    told(monkeypatch, transfers, "_look", look)

    assert everwrite("transfers", *form).code == code
