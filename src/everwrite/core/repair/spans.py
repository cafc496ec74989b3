"""Spans of a partition's leaves: how two trees find the leaves in which they differ.

A tree is not kept as a tree: the leaves are, and a sum over any ``width`` of them is a node of it.
So a descent is a few questions, each for the sums of some spans; where the sums differ the next one
asks for the sixteenth parts. One leaf of 1024 is found with 80 sums, all 1024 with 1088.

Costs: a microsecond for each 100 leaves that are summed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

FAN = 16
"""Parts of a span that differs. More: fewer questions; fewer: less is said where little differs."""
FIRST_MAX = 64
"""Sums in the first question."""
SUMS_MAX = 4096
"""Sums in one question: 36 KiB."""
_MASK = (1 << 64) - 1

Span = tuple[int, int]
"""(first, count), counted in some width."""

Range = tuple[bytes, bytes]
"""(first data key, the one behind the last)."""


def first_width(leaves: int) -> int:
    """Return the width at which a descent into so many leaves (a power of two) begins.

    >>> first_width(1024), first_width(64), first_width(1)
    (16, 1, 1)
    """
    return max(1, leaves // FIRST_MAX)


def sums_of(leaves: Sequence[int], width: int, spans: Iterable[Span]) -> list[int]:
    """Return the sum modulo 2^64 of each ``width`` leaves of these spans."""
    if width == 1:
        return [leaf for first, count in spans for leaf in leaves[first : first + count]]
    return [
        sum(leaves[at * width : (at + 1) * width]) & _MASK
        for first, count in spans
        for at in range(first, first + count)
    ]


def numbers(spans: Iterable[Span]) -> list[int]:
    """Return what these spans count, in their order."""
    return [at for first, count in spans for at in range(first, first + count)]


def spans_of(found: Sequence[int], parts: int = 1) -> list[Span]:
    """Return ascending numbers as spans, each number cut into so many parts.

    >>> spans_of([3, 4, 9]), spans_of([3, 4, 9], 16)
    ([(3, 2), (9, 1)], [(48, 32), (144, 16)])
    """
    spans: list[Span] = []
    for number in found:
        first, count = spans[-1] if spans else (0, 0)
        if spans and first + count == number * parts:
            spans[-1] = (first, count + parts)
        else:
            spans.append((number * parts, parts))
    return spans


def piece_of(spans: Sequence[Span]) -> tuple[list[Span], list[Span]]:
    """Return (what fits into one question, the rest)."""
    piece: list[Span] = []
    room = SUMS_MAX
    for at, (first, count) in enumerate(spans):
        if count > room:
            piece += [(first, room)] if room else []
            return piece, [(first + room, count - room), *spans[at + 1 :]]
        piece.append((first, count))
        room -= count
    return piece, []


def are_within(spans: Sequence[Span], width: int, leaves: int) -> bool:
    """Say whether a question can be answered: all its spans are there, and are not too many."""
    return (
        width >= 1
        and sum(max(0, count) for _, count in spans) <= SUMS_MAX
        and all(
            first >= 0 and count >= 1 and (first + count) * width <= leaves
            for first, count in spans
        )
    )


def begun_at(ranges: Iterable[Range], key: bytes) -> list[Range]:
    """Return ascending ranges in the order in which to go through them, if one begins at a key.

    >>> begun_at([(b"a", b"c"), (b"d", b"g")], b"e")
    [(b'e', b'g'), (b'a', b'c'), (b'd', b'e')]
    """
    behind: list[Range] = []
    before: list[Range] = []
    for start, end in ranges:
        if start < key:
            before.append((start, min(end, key)))
        if end > key:
            behind.append((max(start, key), end))
    return behind + before
