"""A record of a data type that tests change step by step."""

from __future__ import annotations

from itertools import count

from tests.core.types.replicas import actor, shown

from everwrite.core.data import versions
from everwrite.core.data.versions import EMPTY, NOTHING, Record, Version
from everwrite.core.types.changing import Changed, Writer, change
from everwrite.core.types.composed import Composed
from everwrite.core.types.operations import (
    Add,
    Operation,
)

A, B = actor(0), actor(1)
MINUTE = 60_000
NOW = 1_000_000

ADD = Add([], 1)

ops = count()


class Key:
    """A record that is changed step by step."""

    def __init__(self, record: Record = EMPTY) -> None:
        self.record = record

    def do(self, *asked: Operation, by: bytes = A, op: bytes = b"", **options: int) -> Changed:
        fields = {"time_ms": NOW, **options}
        writer = Writer(by, op or b"op%d" % next(ops), **fields)
        changed = change(self.record, list(asked), writer)
        self.record = versions.validate(changed.record)
        return changed

    def results(self, *asked: Operation) -> list[int]:
        return self.do(*asked).results

    def shown(self, time_ms: int = NOW) -> Composed | None:
        return shown(self.record, time_ms)


def plain(value: bytes | None, *, counter: int = 1, expires: int = 0) -> Record:
    return versions.put(
        EMPTY, NOTHING, Version(B, counter, value, NOW, b"plain", 0, expires, pure=bool(expires))
    )
