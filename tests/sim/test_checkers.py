"""The judges of a history: what they must find, and what they must not."""

from __future__ import annotations

import time

import pytest
from tests.sim.histories import delete, get, put

from everwrite.sim.checkers import Allowed, assumed, check_history
from everwrite.sim.history import Operation, dump, load


def rules(*history: Operation, allowed: Allowed | None = None) -> list[str]:
    """Return the rules that a history breaks."""
    breaches = check_history(history, allowed or assumed(history), replicas=3)
    return [breach.rule for breach in breaches]


# -- lost ------------------------------------------------------------------------------------------


def test_an_acknowledged_put_that_is_not_found_in_the_end_is_lost() -> None:
    assert rules(put("a"), put("b"), get("b")) == ["lost"]


def test_a_put_is_not_lost_if_a_later_writer_had_seen_it() -> None:
    assert rules(put("a"), put("b", "a"), put("c", "b"), get("c")) == []


def test_a_put_is_not_lost_if_a_delete_had_seen_it() -> None:
    assert rules(put("a"), delete("d", "a"), get()) == []


def test_a_put_is_not_lost_through_a_delete_that_was_never_carried_out() -> None:
    history = put("a"), delete("d", "a", outcome="unknown"), get()

    assert rules(*history) == []
    assert rules(*history, allowed=Allowed(executed=set())) == ["lost"]


def test_a_put_of_unknown_outcome_may_be_found_or_not() -> None:
    assert rules(put("a", outcome="unknown"), get("a")) == []
    assert rules(put("a", outcome="unknown"), get()) == []


def test_a_put_that_was_safe_on_no_disk_may_be_lost() -> None:
    assert rules(put("a"), get(), allowed=Allowed(lost={"a"})) == []


# -- siblings --------------------------------------------------------------------------------------


def test_two_writes_that_knew_nothing_of_each_other_are_siblings() -> None:
    assert rules(put("a"), put("b"), get("a", "b")) == []


def test_a_sibling_that_the_other_one_knew_is_false() -> None:
    assert rules(put("a"), put("b", "a"), get("a", "b"), get("b")) == ["false sibling"]


def test_a_sibling_known_through_another_write_is_false_too() -> None:
    history = put("a"), put("b", "a"), put("c", "b"), get("a", "c"), get("c")

    assert rules(*history) == ["false sibling"]


def test_a_put_that_was_carried_out_twice_may_outlive_what_knew_it() -> None:
    history = put("a", tries=2), put("b", "a"), get("a", "b")

    assert rules(*history) == []


def test_a_put_may_stand_twice_that_was_tried_again_or_whose_end_nobody_knows() -> None:
    assert rules(put("a", tries=2), put("b", "a"), get("a", "b"), get("a", "b")) == []
    assert rules(put("a", outcome="unknown"), put("b", "a"), get("a", "b"), get("a", "b")) == []


def test_what_an_acknowledged_delete_had_seen_does_not_come_back() -> None:
    assert rules(put("a"), delete("d", "a"), get("a")) == ["resurrection"]


# -- phantoms --------------------------------------------------------------------------------------


def test_a_read_finds_nothing_that_nobody_wrote() -> None:
    assert set(rules(get("ghost"))) == {"phantom"}


def test_a_read_finds_nothing_that_was_refused() -> None:
    assert set(rules(put("a", outcome="fail"), get("a"))) == {"phantom"}


def test_a_read_finds_nothing_from_the_future() -> None:
    early = get("a")

    assert rules(early, put("a"), get("a")) == ["phantom"]


# -- quorums and sessions --------------------------------------------------------------------------


def test_a_strict_read_finds_what_a_strict_write_to_an_overlapping_quorum_had_finished() -> None:
    history = put("a", strict=True), get(strict=True), get("a")

    assert rules(*history) == ["overlap"]


@pytest.mark.parametrize("change", [{"q": 1}, {"n": 5}, {"strict": False}])
def test_a_read_that_need_not_overlap_may_be_stale(change: dict[str, object]) -> None:
    assert rules(put("a", strict=True), get(**{"strict": True, **change}), get("a")) == []


def test_a_read_may_miss_a_write_that_was_still_under_way() -> None:
    slow = put("a", strict=True)
    early = get(strict=True)
    slow.completed = early.invoked + 1

    assert rules(slow, early, get("a")) == []


def test_a_session_finds_what_it_had_seen() -> None:
    assert rules(put("a"), get(seen=["a"]), get("a")) == ["session"]
    assert rules(put("a"), put("b", "a"), get("b", seen=["a"])) == []


def test_a_session_may_find_a_delete_in_place_of_what_it_had_seen() -> None:
    assert rules(put("a"), delete("d", "a"), get(seen=["a"])) == []


# -- puts that end ---------------------------------------------------------------------------------


def test_a_put_is_found_until_it_may_have_ended() -> None:
    late, soon = put("a"), get()

    assert rules(late, soon, allowed=Allowed(ends={"a": (soon.completed + 1, 10**9)})) == ["lost"]
    assert rules(late, soon, allowed=Allowed(ends={"a": (soon.completed, 10**9)})) == []


def test_no_read_finds_a_put_that_had_ended_before() -> None:
    ended, read = put("a"), get("a")

    assert rules(ended, read, allowed=Allowed(ends={"a": (0, read.invoked - 1)})) == ["ended"]
    assert rules(ended, read, allowed=Allowed(ends={"a": (0, read.invoked)})) == []


def test_what_a_put_superseded_does_not_come_back_when_it_ends() -> None:
    first, second = put("a"), put("b", "a")
    ended = Allowed(ends={"b": (second.completed, second.completed + 1)})

    assert rules(first, second, get("a"), allowed=ended) == ["resurrection"]
    assert rules(first, second, get(), allowed=ended) == []


def test_a_session_need_not_find_what_has_ended() -> None:
    history = put("a"), get(seen=["a"]), get()

    assert rules(*history, allowed=Allowed(ends={"a": (0, 10**9)})) == []


def test_when_a_put_ends_is_known_to_its_client_within_the_error_of_the_clocks() -> None:
    ended = put("a", ttl_ms=3000)
    alive, gone = get("a"), get("a")
    gone.invoked, gone.completed = ended.completed + 5_000_001, ended.completed + 5_000_002

    assert rules(ended, alive) == []
    assert rules(ended, gone) == ["ended"]


def test_a_touch_lets_a_put_be_found_for_longer() -> None:
    ended = put("a", ttl_ms=3000)
    touched = Operation("t", "c", "touch", "cart", ended.completed, ttl_ms=9000, outcome="ok")
    touched.completed = ended.completed + 1
    late = get("a")
    late.invoked, late.completed = ended.completed + 5_000_001, ended.completed + 5_000_002

    assert rules(ended, touched, late) == []


# -- the history itself ----------------------------------------------------------------------------


def test_a_history_comes_back_from_its_lines_as_it_was() -> None:
    history = [put("a"), delete("d", "a", outcome="unknown", error="no answer"), get("a")]

    assert list(load(dump(history))) == history


def test_an_operation_says_in_one_line_what_became_of_it() -> None:
    line = put("a", "x", outcome="unknown", error="no answer in time").describe()

    assert "put a on cart" in line and "unknown" in line and "no answer in time" in line
    assert "seen x" in line


@pytest.mark.slow
def test_a_long_history_is_judged_in_seconds() -> None:
    history = []
    for key in range(500):
        last: list[str] = []
        for number in range(100):
            write = put(f"{key}.{number}", *last)
            read = get(write.id)
            write.key = read.key = f"cart{key}"
            history += [write, read]
            last = [write.id]

    began = time.process_time()
    assert rules(*history) == []
    assert time.process_time() - began < 30
