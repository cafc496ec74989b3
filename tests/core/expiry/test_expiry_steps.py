"""The purge under load: nodes stand at one horizon for long enough to be compared."""

from __future__ import annotations

from typing import Any, cast

import pytest
from tests.core.expiry.test_expiry import SLOT_MS, horizons, purge, world_of
from tests.core.trees.test_walk import tree_is_right
from tests.core.world import KEY

from everwrite.core.data.keys import data_key
from everwrite.core.expiry.expiry import PAGE, UNSURE
from everwrite.core.pace.pace import Pace
from everwrite.core.records import OWN


class SlowPurge:
    """A pace that grants slices of the purge for 64 records each 230 ms, and all else at once."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._free_ms = 0
        self._granted = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pace, name)

    def wait_ms(self, kind: str, now: int) -> int:
        if kind != "purge":
            return 0
        if now < self._free_ms:
            return self._free_ms - now
        self._granted += PAGE
        if self._granted >= 64:
            self._granted, self._free_ms = 0, now + 230
        return 0


def test_a_copy_that_was_purged_since_it_was_read_goes_with_all_that_lists_it() -> None:
    world = world_of()
    a, *_ = world.order()
    local = world.nodes[a].local
    world.put(a, b"v")
    world.put(a, b"w", ttl_ms=2_000, context=world.get(a).context)
    read = world.disk[a][OWN + KEY][8:]
    purge(world, 2_000)
    local.records.forget([OWN + KEY])
    assert world.disk[a][OWN + KEY][8:] != read

    local.copies.drop(KEY, read)
    world.until(lambda: not world.disk[a])
    world.until(lambda: tree_is_right(world, a))


@pytest.mark.parametrize("slow", [1, 3])
def test_a_purge_that_takes_most_of_a_slot_goes_in_larger_steps_and_lets_nodes_compare(
    slow: int,
) -> None:
    world = world_of(repair_round_ms=500)
    for node in list(world.nodes.values())[:slow]:
        node.local.pace = cast(Pace, SlowPurge(node.local.pace))
    for number in range(11_000):
        key = data_key(b"s", b"%d" % number)
        world.put(world.ids[0], b"v", key=key, ttl_ms=9_000 + 5 * number, w=1)

    longest = length = 0
    before = UNSURE
    while any(world.disk.values()):
        world.advance(100)
        at = set.union(*(horizons(world, node) for node in world.ids))
        now = at.pop() if len(at) == 1 else UNSURE
        length = length + 100 if now == before != UNSURE else 0
        before = now
        longest = max(longest, length if world.disk[world.ids[0]] else 0)
    assert longest > 2 * SLOT_MS
    world.advance(80 * SLOT_MS)
    assert {node.expiry._steps for node in world.nodes.values()} == {1}
