"""Bugs by which a dot may come to stand for two writes (riak_kv issue 679 and its kin)."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from everwrite.core.data.epochs import Epochs
from everwrite.core.data.versions import Record, Seen, Version
from everwrite.core.hints.hints import NO_EPOCH
from everwrite.core.messages.requests import Put
from everwrite.core.request.making import Making
from everwrite.sim.bugs.registry import Patch, area

bug = area("dots")


@bug(
    "reuse-counters",
    "a node counts on after a restart under the epoch that it finds",
    rules=("dot",),
)
def _reuse_counters() -> list[Patch]:
    return [(Epochs, "continues", lambda self, own_epoch: own_epoch != 0)]


@bug("epochs-start-over", "the lease is not kept, and no salt is drawn", rules=("dot",))
def _epochs_start_over() -> list[Patch]:
    made = Epochs.__init__

    def start(self: Epochs, node_id: bytes, leased_from: int, salt: int, block: int) -> None:
        made(self, node_id, 1, 0, block)

    return [(Epochs, "__init__", start)]


@bug(
    "epochs-unsalted",
    "epochs are told apart by the lease on the disk alone, which a backup brings back",
    rules=("dot",),
    needs=("old_disk",),
)
def _epochs_unsalted() -> list[Patch]:
    made = Epochs.__init__

    def start(self: Epochs, node_id: bytes, leased_from: int, salt: int, block: int) -> None:
        made(self, node_id, leased_from, 0, block)

    return [(Epochs, "__init__", start)]


@bug(
    "epoch-outlives-copy",
    "a node that lost its copy of a key goes on under the epoch of that copy",
    rules=("dot",),
)
def _epoch_outlives_copy() -> list[Patch]:
    right = Making._mint
    last: WeakKeyDictionary[Making, dict[bytes, bytes]] = WeakKeyDictionary()

    def mint(
        self: Making, base: Record, epoch: bytes, put: Put, seen: Seen
    ) -> tuple[Version, bytes]:
        known = last.setdefault(self, {})
        if epoch == NO_EPOCH:
            epoch = known.get(put.key, epoch)
        version, epoch = right(self, base, epoch, put, seen)
        known[put.key] = epoch
        return version, epoch

    return [(Making, "_mint", mint)]


@bug(
    "epoch-outlives-failed-write",
    "an epoch is continued after a batch that was not written",
    rules=("dot",),
    needs=("full_disk",),
)
def _epoch_outlives_failed_write() -> list[Patch]:
    return [(Epochs, "abandon", lambda self: None)]


@bug(
    "lease-used-early",
    "epochs of the next block are handed out before its lease is durable",
    rules=("lease",),
)
def _lease_used_early() -> list[Patch]:
    right = Making._lease

    def lease(self: Making) -> None:
        epochs = self._local.epochs
        leased_to = epochs.next_lease()
        right(self)
        epochs.extend(leased_to)

    return [(Making, "_lease", lease)]


@bug(
    "requests-start-over",
    "requests are numbered from 1 again after a restart",
    rules=("quorum", "hint", "coverage"),
)
def _requests_start_over() -> list[Patch]:
    return [(Epochs, "salt", 0)]
