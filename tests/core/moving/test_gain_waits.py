"""A gain that has to wait: for its turn, or for a disk that takes a few records at a time."""

from __future__ import annotations

from itertools import islice

import pytest
from tests.core.moving.towns import owners_have, partition, settled_town
from tests.core.world import World

from everwrite.core.data.keys import data_key
from everwrite.core.pace.pace import Pace


def join_and_settle(world: World) -> set[str]:
    """Let a node join; return for what reasons its gains were given up on the way."""
    node = world.join()
    whys: set[str] = set()

    def look() -> None:
        whys.update(each.waiting for each in world.nodes[node].moves.progress() if each.waiting)

    world.watch = look
    world.settle(240_000)
    return whys


def test_a_wait_for_the_pace_is_no_silence_of_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 9143 of the simulator: each try waited for what the one before had used."""
    world = settled_town(3, move_retry_ms=300)
    granted: dict[Pace, int] = {}

    def wait_ms(self: Pace, kind: str, now: int) -> int:
        wait = granted.get(self, now) - now if kind == "moves" else 0
        if wait <= 0 and kind == "moves":
            granted[self] = now + 400
        return max(0, wait)

    monkeypatch.setattr(Pace, "wait_ms", wait_ms)

    assert join_and_settle(world) <= {"its turn"}
    owners_have(world)


def test_fewer_records_at_a_time_are_tried_before_a_gain_is_given_up() -> None:
    """Seed 853106384 of the simulator: every try began with as many as were too many."""
    world = settled_town(3, parked_max=3, cache_bytes=1, move_every_ms=120, move_retry_ms=300)
    names = (data_key(b"more", b"%d" % name) for name in range(9999))
    for number in range(16):
        for key in islice((key for key in names if partition(world, key) == number), 15):
            world.put(world.ids[0], b"v", key=key)

    assert join_and_settle(world) <= {"its turn"}
    owners_have(world)
