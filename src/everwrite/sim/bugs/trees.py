"""Bugs in the tree, the walk that makes it anew, and what is done with damaged copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from everwrite.core.records import OWN, Damaged
from everwrite.core.trees.quarantine import Quarantine
from everwrite.core.trees.trees import Counted, Trees
from everwrite.core.trees.walk import Walk
from everwrite.sim import beginning
from everwrite.sim import machine as machines
from everwrite.sim.beginning import TREES
from everwrite.sim.bugs.registry import Patch, area

if TYPE_CHECKING:
    from everwrite.core.node import Node
    from everwrite.sim.machine import Machine

bug = area("trees")


@bug(
    "tree-keeps-failed-write",
    "what a batch was to write counts in the tree, though the disk refused it",
    rules=("tree",),
    needs=("full_disk",),
)
def _tree_keeps_failed_write() -> list[Patch]:
    return [(Trees, "take_back", lambda self, batch: None)]


@bug(
    "scan-wins-over-write",
    "a leaf made anew has what the disk showed, not what was written since",
    rules=("tree",),
    needs=("kill",),
)
def _scan_wins_over_write() -> list[Patch]:
    def with_written(
        self: Trees, pairs: Sequence[tuple[bytes, bytes | Damaged]], end: bytes
    ) -> Counted:
        self._written.clear()
        return pairs

    return [(Trees, "_with_written", with_written)]


@bug(
    "write-behind-the-walk-is-lost",
    "what is written to a leaf that is half counted is not added to it",
    rules=("tree",),
    needs=("kill",),
)
def _write_behind_the_walk_is_lost() -> list[Patch]:
    right = Trees._change

    def change(self: Trees, leaf: int, disk_key: bytes, old: int, new: int) -> None:
        counted = self._sum
        right(self, leaf, disk_key, old, new)
        self._sum = counted

    return [(Trees, "_change", change)]


@bug(
    "written-anew-counts-nothing",
    "a damaged copy that is written anew counts nothing, as if nobody had it any more",
    rules=("tree",),
    needs=("bit_rot", "scrub_cycle_ms"),
)
def _written_anew_counts_nothing() -> list[Patch]:
    right = Walk._whole

    def whole(self: Walk, disk_key: bytes, found: bytes | Damaged) -> bytes | Damaged:
        right(self, disk_key, found)
        return found

    return [(Walk, "_whole", whole)]


@bug(
    "old-tree-is-taken-again",
    "a start takes the tree that a stop has left, and leaves it for the next one too",
    rules=("tree",),
    needs=("kill",),
)
def _old_tree_is_taken_again() -> list[Patch]:
    right = beginning.bring_trees

    def bring_trees(machine: Machine, node: Node) -> None:
        saved = machine.disk.readable(TREES)
        right(machine, node)
        if saved:
            machine.disk.write({TREES: saved}, machine.world.now)

    return [(machines, "bring_trees", bring_trees)]


@bug(
    "damaged-copy-is-dropped",
    "a copy that is found damaged is removed, as if it were not there",
    rules=("forgotten", "collected", "quorum", "silent"),
    needs=("bit_rot",),
)
def _damaged_copy_is_dropped() -> list[Patch]:
    def found(self: Quarantine, data_key: bytes) -> bool:
        self._local.records.write(OWN + data_key, None)
        return False

    return [(Quarantine, "found", found)]
