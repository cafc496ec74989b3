"""Who knew what: the writes of one key, and for each of them all writes that it was made in
knowledge of.

This is the truth that clocks must agree with, held in another form: plain sets, kept as the bits
of Python integers. It comes from what clients saw, never from a clock.

    past(w) = for each id in seen(w): that id and its past
    cover(R) = for each id in R: that id and its past
    frontier(R) = what is in R, and in no other's past: what a store that knows R must show

Costs: one bit per write of the key for each of its writes; a cover is a handful of ORs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def indices(mask: int) -> Iterator[int]:
    """Yield the places of the bits that are set, lowest first."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


class Causality:
    """The writes of one key in the order in which they were first asked for."""

    __slots__ = ("deletes", "ids", "past", "place")

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.place: dict[str, int] = {}
        self.past: list[int] = []
        self.deletes = 0

    def add(self, write_id: str, past: int, *, delete: bool) -> int:
        """Take a write that was made in knowledge of ``past`` (closed); return its place."""
        place = len(self.ids)
        self.ids.append(write_id)
        self.place[write_id] = place
        self.past.append(past)
        if delete:
            self.deletes |= 1 << place
        return place

    def mask(self, ids: Iterable[str]) -> int:
        """Return these ids as bits; KeyError for one that nobody wrote."""
        mask = 0
        for write_id in ids:
            mask |= 1 << self.place[write_id]
        return mask

    def pasts(self, mask: int) -> int:
        """Return all that is in the past of any of these."""
        past = 0
        for place in indices(mask):
            past |= self.past[place]
        return past

    def cover(self, mask: int) -> int:
        """Return these and all that is in their past."""
        return mask | self.pasts(mask)

    def frontier(self, mask: int) -> int:
        """Return those of these that are in no other's past."""
        return mask & ~self.pasts(mask)

    def names(self, mask: int) -> str:
        """Return these ids for a person to read."""
        return " ".join(self.ids[place] for place in indices(mask)) or "nothing"
