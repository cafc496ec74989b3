"""Patterns of Redis: which names they fit, in a time that no pattern makes long.

    h*l?o*[a-c]  ->  begins with "h"; then somewhere "l?o"; ends with one of a, b, c

What stands between two stars has a fixed length, and its first place behind the one before is as
good as any other. So each part is looked for once, from left to right.

Costs: linear in the name where there are no stars, or where a part has PART_MAX places at most. A
longer one is looked for by ``bytes.find``, or, if it has classes, by a step for each byte of the
name on an integer with a bit for each place of the part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cached_property

from everwrite.core.data.keys import KEY_BYTES_MAX
from everwrite.server.redis.command import REST, Steps
from everwrite.server.redis.replies import Problem

PART_MAX = 16
"""Places of a part that a regular expression looks for: it may try each of them everywhere."""
REST_WORK = 1 << 15
"""Bytes of names that are matched before others have their turn: some ten milliseconds at most."""
NAME_WORK = 32
"""What a name costs beside its bytes."""

_ALL_BYTES = bytes(range(256))


def fitting(fits: Glob, names: Iterable[bytes]) -> Steps:
    """Return those of these names that a pattern fits, in their order."""
    found: list[bytes] = []
    work = 0
    for name in names:
        work += len(name) + NAME_WORK
        if work > REST_WORK:
            work = 0
            yield REST
        if fits.fullmatch(name):
            found.append(name)
    return found


def prefix_of(pattern: bytes) -> bytes:
    r"""Return what all that a pattern fits begins with.

    >>> prefix_of(b"a:1*"), prefix_of(rb"a\*b*"), prefix_of(b"?")
    (b'a:1', b'a*b', b'')
    """
    found = bytearray()
    at = 0
    while at < len(pattern) and pattern[at : at + 1] not in b"*?[":
        if pattern[at : at + 1] == b"\\" and at + 1 < len(pattern):
            at += 1
        found += pattern[at : at + 1]
        at += 1
    return bytes(found)


class Part:
    """What stands between two stars: a place for each byte that it fits."""

    def __init__(self) -> None:
        self._places: list[bytes] = []
        """A regular expression for each."""
        self._literal: bytearray | None = bytearray()
        """The bytes, as long as each place fits only one."""

    def __len__(self) -> int:
        return len(self._places)

    def add(self, place: bytes, literal: bytes = b"") -> None:
        """Put one more place behind the others, and the byte that it fits, if that is one."""
        self._places.append(place)
        if not literal:
            self._literal = None
        elif self._literal is not None:
            self._literal += literal

    # What it needs is made when a name is long enough for it: most are not.

    @cached_property
    def _expression(self) -> re.Pattern[bytes]:
        return re.compile(b"".join(self._places), re.DOTALL)

    @cached_property
    def _bits(self) -> list[int]:
        """For each byte the places that it fits, as bits."""
        places: dict[bytes, int] = {}
        for at, place in enumerate(self._places):
            places[place] = places.get(place, 0) | 1 << at
        found = [0] * 256
        for place, bits in places.items():
            for (byte,) in re.findall(place, _ALL_BYTES, re.DOTALL):
                found[byte] |= bits
        return found

    def fits_at(self, name: bytes, at: int) -> bool:
        """Say whether it fits what stands at this place."""
        if self._literal is not None:
            return name.startswith(self._literal, at)
        return self._expression.match(name, at) is not None

    @cached_property
    def find(self) -> Callable[[bytes, int, int], int]:
        """Return what tells where it fits first between two places of a name; negative: nowhere."""
        if self._literal is not None:
            literal = bytes(self._literal)
            return lambda name, start, end: name.find(literal, start, end)
        return self._find_short if len(self) <= PART_MAX else self._find_long

    def _find_short(self, name: bytes, start: int, end: int) -> int:
        found = self._expression.search(name, start, end)
        return found.start() if found is not None else -1

    def _find_long(self, name: bytes, start: int, end: int) -> int:
        """Have for each byte all places that the part can have come to with it."""
        bits, size = self._bits, len(self)
        last, come = 1 << size - 1, 0
        for at in range(start, end):
            come = (come << 1 | 1) & bits[name[at]]
            if come & last:
                return at - size + 1
        return -1


class Glob:
    """One pattern."""

    def __init__(self, parts: list[Part]) -> None:
        self._first, *rest = parts
        self._last = rest.pop() if rest else None
        self._middle = [part for part in rest if len(part)]
        self._least = sum(map(len, parts))

    def fullmatch(self, name: bytes) -> bool:
        """Say whether it fits a name."""
        end = len(name)
        if end < self._least or not self._first.fits_at(name, 0):
            return False
        at, last = len(self._first), self._last
        if last is None:
            return at == end
        end -= len(last)
        if not last.fits_at(name, end):
            return False
        for part in self._middle:
            found = part.find(name, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True


def glob(pattern: bytes) -> Glob:
    r"""Return a pattern of Redis as what it fits.

    >>> glob(b"h[a-c^]l*o").fullmatch(b"hbl oo"), glob(rb"a\*").fullmatch(b"ab")
    (True, False)
    """
    if len(pattern) > KEY_BYTES_MAX:
        raise Problem(f"ERR a pattern has at most {KEY_BYTES_MAX} bytes here")
    parts = [Part()]
    at = 0
    while at < len(pattern):
        char = pattern[at : at + 1]
        if char == b"*":
            if len(parts) == 1 or len(parts[-1]):
                parts.append(Part())
        elif char == b"?":
            parts[-1].add(b".")
        elif char == b"[":
            piece, at = _class(pattern, at + 1)
            parts[-1].add(piece)
        else:
            if char == b"\\" and at + 1 < len(pattern):
                at += 1
                char = pattern[at : at + 1]
            parts[-1].add(re.escape(char), char)
        at += 1
    return Glob(parts)


def _class(pattern: bytes, at: int) -> tuple[bytes, int]:
    """Return a set of characters as a regular expression, and where it ends."""
    not_these = pattern[at : at + 1] == b"^"
    at += not_these
    ranges: list[bytes] = []
    while at < len(pattern) and pattern[at : at + 1] != b"]":
        if pattern[at : at + 1] == b"\\" and at + 1 < len(pattern):
            at += 1
            ranges.append(b"\\x%02x" % pattern[at])
        elif pattern[at + 1 : at + 2] == b"-" and at + 2 < len(pattern):
            low, high = sorted((pattern[at], pattern[at + 2]))
            ranges.append(b"\\x%02x-\\x%02x" % (low, high))
            at += 2
        else:
            ranges.append(b"\\x%02x" % pattern[at])
        at += 1
    if not ranges:
        return b"." if not_these else b"(?!)", at
    return b"[%b%b]" % (b"^" if not_these else b"", b"".join(ranges)), at
