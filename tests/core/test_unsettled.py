"""Increments in doubt: each for so long, and no more than there is room for."""

from __future__ import annotations

import pytest

from everwrite.core import unsettled
from everwrite.core.unsettled import DOUBT_MS, Unsettled


def in_doubt(doubts: Unsettled) -> list[bytes]:
    return [op for op in (b"a", b"b", b"c", b"d") if op in doubts]


def test_an_increment_is_in_doubt_until_its_put_is_acknowledged_or_its_time_is_over() -> None:
    doubts = Unsettled()
    doubts.add([b"a", b"b"], 0)
    doubts.add([b"c"], 10)

    doubts.settle([b"a", b"never there"])
    assert in_doubt(doubts) == [b"b", b"c"]
    doubts.forget(DOUBT_MS - 1)
    assert in_doubt(doubts) == [b"b", b"c"]
    doubts.forget(DOUBT_MS)
    assert in_doubt(doubts) == [b"c"]
    assert doubts.dropped == 0


def test_an_increment_that_is_minted_again_is_in_doubt_from_then_on() -> None:
    doubts = Unsettled()
    doubts.add([b"a", b"b"], 0)
    doubts.add([b"a"], 10)

    doubts.forget(DOUBT_MS)
    assert in_doubt(doubts) == [b"a"]


def test_of_too_many_the_oldest_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsettled, "UNSETTLED_MAX", 2)
    doubts = Unsettled()
    doubts.add([b"a", b"b"], 0)
    assert doubts.dropped == 0

    doubts.add([b"c", b"d"], 1)
    assert in_doubt(doubts) == [b"c", b"d"]
    assert doubts.dropped == 2
