"""Progress bars: what was there to do, how fast it goes, and whose word counts."""

from __future__ import annotations

import io

import pytest

from everwrite.cli.bars import WINDOW_S, Bar, Bars, seats_of
from everwrite.cli.reports import Moving, Seat, Transfers
from everwrite.cli.transfers import Look, move_rows
from everwrite.cli.watch import Frame, picture


def seat(name: str, to_gain: int = 0, to_shed: int = 0) -> Seat:
    return Seat(name, name, f"{name}:7400", "in", 10, 10, 10, to_gain, to_shed)


def answer(
    name: str,
    *seats: Seat,
    bytes_in: int = 0,
    view: str = "v",
    moves: list[Moving] | None = None,
) -> Transfers:
    return Transfers(name, name, view, moves or [], list(seats), {"bytes_in": bytes_in})


def looked(bars: Bars, now_s: float, to_gain: int, bytes_in: int = 0, to_shed: int = 0) -> Bar:
    """Take in a look at one node."""
    here = seat("n1", to_gain, to_shed)
    return bars.take(now_s, [here], {"n1": answer("n1", here, bytes_in=bytes_in)})[0]


def test_the_whole_is_what_was_left_at_the_first_look() -> None:
    bars = Bars()

    first = looked(bars, 0, 40, to_shed=8)
    second = looked(bars, 1, 30, to_shed=8)

    assert (first.gained, first.to_gain, first.shed, first.to_shed) == (0, 40, 0, 8)
    assert (second.gained, second.to_gain) == (10, 40)


def test_more_work_makes_the_whole_greater_and_new_work_after_the_end_begins_anew() -> None:
    bars = Bars()

    found = [looked(bars, at, left) for at, left in enumerate([40, 30, 50, 0, 7])]

    wholes = [(bar.gained, bar.to_gain) for bar in found]
    assert wholes == [(0, 40), (10, 40), (10, 60), (60, 60), (0, 7)]
    assert [bar.busy for bar in found] == [True, True, True, False, True]


def test_rate_and_time_left_are_those_of_the_last_seconds() -> None:
    bars = Bars()

    first = looked(bars, 0, 100)
    assert (first.bytes_per_s, first.left_s) == (None, None)
    second = looked(bars, 2, 80, bytes_in=4000)
    assert (second.bytes_per_s, second.left_s) == (2000, 8)
    stalled = looked(bars, 3 + WINDOW_S, 80, bytes_in=4000)
    assert (stalled.bytes_per_s, stalled.left_s) == (None, None)


def test_a_node_that_was_started_anew_has_no_rate_of_its_earlier_life() -> None:
    bars = Bars()
    looked(bars, 0, 100, bytes_in=5000)

    again = looked(bars, 1, 100, bytes_in=10)

    assert (again.bytes_per_s, again.left_s) == (None, None)
    assert looked(bars, 2, 99, bytes_in=110).bytes_per_s == 100


def test_what_is_done_has_neither_rate_nor_time_left() -> None:
    bars = Bars()
    looked(bars, 0, 2)

    done = looked(bars, 1, 0, bytes_in=5000)

    assert (done.bytes_per_s, done.left_s, done.busy) == (None, None, False)
    assert done.line() == "n1 is done"


def test_a_node_speaks_for_itself_and_others_for_one_that_is_silent() -> None:
    asked = answer("n1", seat("n1"), seat("n2", 5), seat("n3", 9))
    n2 = answer("n2", seat("n1"), seat("n2", 3), seat("n3", 8))

    seats = seats_of(asked, {"n2": n2, "n3": None})

    assert {each.name: each.to_gain for each in seats} == {"n1": 0, "n2": 3, "n3": 9}


def test_a_node_that_has_not_heard_of_a_change_is_not_taken_for_done() -> None:
    asked = answer("n1", seat("n1"), seat("n2", 5))
    n2 = answer("n2", seat("n1"), seat("n2", 0), view="old")

    frame = framed(asked, {"n1": asked, "n2": n2})

    assert [bar.to_gain for bar in frame.bars] == [0, 5]
    assert not frame.over


def framed(asked: Transfers, answers: dict[str, Transfers | None]) -> Frame:
    seen = Look(asked, answers)
    return Frame(seen, Bars().take(0, seen.seats, seen.answers), None)


def test_it_is_over_when_all_go_by_one_placement_and_nothing_is_left() -> None:
    asked = answer("n1", seat("n1"), seat("n2"))
    settled, old = answer("n2", seat("n2")), answer("n2", seat("n2"), view="old")

    assert framed(asked, {"n1": asked, "n2": settled}).over
    assert not framed(asked, {"n1": asked, "n2": old}).over


def test_partitions_that_wait_for_the_same_are_one_row() -> None:
    moves = [
        Moving(3, "gain", "n2", "copies", 12, 4096, 80),
        *(Moving(p, "gain", "", "waits", waiting="its turn") for p in (5, 6, 7)),
        Moving(8, "shed", "", "waits", waiting="not all owners have it yet"),
        Moving(9, "offer", "", "waits", waiting="n3 is down"),
    ]

    rows = move_rows({"n1": answer("n1", moves=moves), "n2": None})

    assert rows == [
        ["n1", "3", "copies from n2", "12", "4.0 KiB", "80 ms"],
        ["n1", "3 more", "to take in: its turn", "-", "-", "-"],
        ["n1", "1 more", "to offer: n3 is down", "-", "-", "-"],
        ["n1", "1 more", "to let go: not all owners have it yet", "-", "-", "-"],
    ]


@pytest.mark.parametrize("width", [80, 160])
def test_the_picture_has_a_line_for_each_node_in_a_terminal_of_any_width(width: int) -> None:
    from rich.console import Console

    asked = answer("n1", seat("n1", 3), seat("n2", 0, 9), seat("n3"))
    moves = [Moving(p, "shed", "", "compares") for p in range(30)]
    n2 = answer("n2", seat("n2", 0, 9), moves=moves)
    screen = io.StringIO()

    frame = framed(asked, {"n1": asked, "n2": n2, "n3": None})
    Console(file=screen, width=width).print(picture(frame, width))

    lines = screen.getvalue().splitlines()
    assert lines[0] == "3 partitions to take in, 9 to let go"
    assert [line.split()[0] for line in lines[3:6]] == ["n1", "n2", "n3"]
    assert "0/3" in lines[3] and "0/9" in lines[4] and "down" in lines[5]
    assert any("and 22 more" in line for line in lines)
    assert max(map(len, lines)) <= width
