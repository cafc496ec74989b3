"""Every engine against a dict, through random sequences of operations (Hypothesis)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.storage.stores import ALL, engine_in

from everwrite.storage.engine import Snapshot

KEYS = st.sampled_from(
    [bytes([a]) + tail for a in (0, 97, 98, 255) for tail in (b"", b"\x00", b"z")]
)
VALUES = st.none() | st.binary(max_size=40)
LIMITS = st.sampled_from([1, 2, 3, 100])


def scanned(model: dict[bytes, bytes], start: bytes, end: bytes, limit: int) -> list[object]:
    return [(key, model[key]) for key in sorted(model) if start <= key < end][:limit]


class EnginesAgree(RuleBasedStateMachine):
    """All engines do the same operations; each answer is that of the dict."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp())
        for name in ALL:
            (self.base / name).mkdir()
        self.engines = {name: engine_in(self.base / name, name) for name in ALL}
        self.model: dict[bytes, bytes] = {}
        self.snapshots: list[tuple[dict[bytes, bytes], list[Snapshot]]] = []

    @rule(batch=st.lists(st.tuples(KEYS, VALUES), max_size=8))
    def write(self, batch: list[tuple[bytes, bytes | None]]) -> None:
        for engine in self.engines.values():
            engine.write(batch)
        for key, value in batch:
            if value is None:
                self.model.pop(key, None)
            else:
                self.model[key] = value

    @rule(start=KEYS, end=KEYS)
    def delete_range(self, start: bytes, end: bytes) -> None:
        for engine in self.engines.values():
            engine.delete_range(start, end)
        self.model = {key: value for key, value in self.model.items() if not start <= key < end}

    @rule(keys=st.lists(KEYS, max_size=5))
    def get_many(self, keys: list[bytes]) -> None:
        for engine in self.engines.values():
            assert engine.get_many(keys) == [self.model.get(key) for key in keys]

    @rule(start=KEYS, end=KEYS, limit=LIMITS)
    def scan(self, start: bytes, end: bytes, limit: int) -> None:
        for engine in self.engines.values():
            assert engine.scan(start, end, limit) == scanned(self.model, start, end, limit)

    @rule()
    def sync(self) -> None:
        for engine in self.engines.values():
            engine.sync()

    @rule()
    def take_snapshot(self) -> None:
        taken = [engine.snapshot() for engine in self.engines.values()]
        self.snapshots.append((dict(self.model), taken))

    @rule()
    def close_snapshots(self) -> None:
        for _, taken in self.snapshots:
            for snapshot in taken:
                snapshot.close()
        self.snapshots = []

    @rule(name=st.sampled_from([name for name in ALL if name != "memory"]))
    def reopen(self, name: str) -> None:
        self.close_snapshots()
        self.engines[name].close()
        self.engines[name] = engine_in(self.base / name, name)

    @invariant()
    def agree(self) -> None:
        for engine in self.engines.values():
            assert engine.scan(b"", b"\xff\xff", 1000) == sorted(self.model.items())
        for model, taken in self.snapshots:
            for snapshot in taken:
                assert snapshot.scan(b"", b"\xff\xff", 1000) == sorted(model.items())
                assert snapshot.get(b"a") == model.get(b"a")

    def teardown(self) -> None:
        self.close_snapshots()
        for engine in self.engines.values():
            engine.close()
        shutil.rmtree(self.base)


TestEnginesAgree = pytest.mark.slow(EnginesAgree.TestCase)
TestEnginesAgree.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, derandomize=True, database=None
)
