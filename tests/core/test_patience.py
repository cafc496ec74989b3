"""Who waits for somebody late: so many, so large, and the oldest makes room for the next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from everwrite.core.patience import PART, Patience

COUNT_MAX, BYTES_MAX = 5, 100


class Put:
    """One that waits; it says into ``gone`` that it gave up."""

    def __init__(self, rid: int, gone: list[int]) -> None:
        self._rid, self._gone = rid, gone

    def give_up_waiting(self) -> None:
        self._gone.append(self._rid)


@given(st.lists(st.one_of(st.integers(1, 120), st.just(-1))))
def test_no_more_give_up_than_must_and_always_the_oldest(steps: list[int]) -> None:
    """Each step is one that begins to wait and holds so much, or (-1) the oldest that is over."""
    patience = Patience(PART * COUNT_MAX, PART * BYTES_MAX)
    gone: list[int] = []
    waiting: dict[int, int] = {}
    for rid, held in enumerate(steps):
        if held < 0:
            over = next(iter(waiting), 0)
            patience.end(over)
            waiting.pop(over, None)
            continue
        waiting[rid] = held
        due = []
        while len(waiting) > COUNT_MAX or sum(waiting.values()) > BYTES_MAX:
            oldest = next(iter(waiting))
            del waiting[oldest]
            due.append(oldest)
        gone.clear()

        may_wait = patience.wait(rid, Put(rid, gone), held)

        assert may_wait is (rid in waiting)
        assert gone == [each for each in due if each != rid]
        assert len(patience) == len(waiting)


def test_who_waits_already_keeps_its_place() -> None:
    patience, gone = Patience(PART * 2, PART * BYTES_MAX), list[int]()
    first, second = Put(1, gone), Put(2, gone)
    for rid, put in ((1, first), (2, second), (1, first)):
        assert patience.wait(rid, put, 1)

    assert patience.wait(3, Put(3, gone), 1)

    assert gone == [1]
