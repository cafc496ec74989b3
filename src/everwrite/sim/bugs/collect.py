"""Bugs by which tombstones go too soon, and what was deleted comes back.

Those that need one thing to happen in one moment are in tests/core/tombstones/test_collect_bugs.py.
"""

from __future__ import annotations

from everwrite.core.messages.tombstones import Reap
from everwrite.core.records import OWN, Damaged, Missing
from everwrite.core.tombstones.collect import Batch, Collect
from everwrite.sim.bugs.registry import Patch, area

bug = area("tombstones")

BACK = ("collected", "resurrection", "forgotten", "lost", "frontier", "context", "agreement")
NEEDS = ("store_life_ms",)


def _reap(self: Collect, keys: list[bytes]) -> None:
    """Let the owners remove what this node has of these keys, whatever the others say."""
    local, placement = self.local, self.local.routes.placement
    for key in keys:
        payload = local.records.look(OWN + key)
        if isinstance(payload, Damaged | Missing) or payload is None:
            continue
        item = (key, local.fingerprint(payload[8:]))
        for owner in placement.owners(placement.partition_of(key)):
            local.out.send(owner, Reap(0, [], [item]))


@bug("collects-by-a-timer", "a tombstone goes when it is old, and nobody is asked", rules=BACK)
def _collects_by_a_timer() -> list[Patch]:
    right = Collect.paged

    def paged(self: Collect, keys: list[bytes], *, more: bool) -> None:
        _reap(self, [key for key in keys if self.leads(key)])
        right(self, keys, more=more)

    return [(Collect, "paged", paged)]


@bug(
    "collects-at-once",
    "a tombstone goes when all have confirmed it once, and what is on its way comes after it",
    rules=BACK,
    needs=NEEDS,
)
def _collects_at_once() -> list[Patch]:
    def hold(self: Collect, batch: Batch) -> None:
        _reap(self, list(batch.prints))

    return [(Collect, "hold", hold)]
