"""A put of a key that is a data type, and the pieces of which such a key is made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from everwrite.core.data.labels import KIND_PIECE
from everwrite.core.data.versions import Version
from everwrite.sim.history import Operation

Path = tuple[Any, ...]


class Asked(msgspec.Struct):
    """A put of such a key, as its client asked for it."""

    operation: Operation
    changes: list[tuple[Any, ...]]
    """(verb, path, what), see rules.py; of a put over all there is none."""
    value: bytes | None = None
    """Of a put over all there is."""
    over: bool = False
    used: int = 0
    """The pieces that its context stands for."""
    places: list[int] = []
    """Its pieces, of all tries."""
    firsts: list[int] = []
    """The first piece of each try that was carried out."""
    values: list[dict[Path, int]] = []
    """For each of these tries what its counters came to."""
    sent: list[int] = []
    """What is known with each record that was sent to another machine for it."""
    elsewhere: bool = False
    """Whether its answer claims none of its pieces: what an earlier try took away was not there."""


class Standing(NamedTuple):
    """A piece as it stands in some record."""

    place: int
    version: Version
    type: int
    """As in core/types/pieces.py; -1: a tombstone."""
    path: Path
    payload: Any


def read(place: int, version: Version) -> Standing:
    """Return what a version says as a piece."""
    if version.value is None:
        return Standing(place, version, -1, (), None)
    if version.kind != KIND_PIECE:
        return Standing(place, version, 0, (), [version.kind, version.value])
    kind, path, payload = msgspec.msgpack.decode(version.value)
    return Standing(place, version, kind, tuple(path), payload)


def mask_of(places: Iterable[int]) -> int:
    """Return places as bits."""
    mask = 0
    for place in places:
        mask |= 1 << place
    return mask
