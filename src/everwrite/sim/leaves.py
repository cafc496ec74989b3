"""The judge of the tree: a leaf that counts as right is what the disk has, at every moment.

    tree        a right leaf is not the sum over the copies on the disk; or a scrub found one that
                is not; or, at rest, a leaf is still wrong

A damaged copy adds nothing once it was found; until then nobody can know of it, so a leaf with one
is left out.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from everwrite.core.records import OWN
from everwrite.sim.disk import Rotten
from everwrite.sim.truth import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from everwrite.core.trees.trees import Trees
    from everwrite.sim.machine import Machine


def judge_leaves(machine: Machine) -> None:
    """Raise Violation for a right leaf that is not what the disk has."""
    node = machine.node
    if node is None:
        return
    trees = node.local.trees
    sums: dict[int, int] = {}
    unsure = set()
    for key, held in machine.disk.visible.items():
        if key[:1] != OWN:
            continue
        leaf = trees.leaf_of(key[1:])
        if isinstance(held, Rotten):
            unsure.add(leaf)
        else:
            sums[leaf] = (sums.get(leaf, 0) + trees.entry(key[1:], held[8:])) % (1 << 64)
    for leaf in _others(trees, sums):
        if trees.is_right(leaf) and leaf not in unsure:
            raise Violation(
                "tree",
                f"{machine.me.name} takes leaf {leaf} of its tree for right, and its disk has "
                "another sum",
            )
    if trees.mismatches:
        raise Violation("tree", f"the scrub of {machine.me.name} found a leaf that was not right")


def _others(trees: Trees, sums: dict[int, int]) -> Iterator[int]:
    """Yield the leaves that have not these sums; one that is not named has nothing in it. Most
    leaves are empty and right, in Trees of a quarter of a million: whole partitions are compared.
    """
    named: dict[int, list[int]] = {}
    for leaf in sums:
        named.setdefault(trees.partition_of(leaf), []).append(leaf)
    for partition in range(trees.partition_of(trees.size)):
        numbers = trees.leaves_of(partition)
        told, due = trees.leaves(partition), array("Q", bytes(8 * len(numbers)))
        for leaf in named.get(partition, ()):
            due[leaf - numbers.start] = sums[leaf]
        if told != due:
            yield from (leaf for at, leaf in enumerate(numbers) if told[at] != due[at])


def judge_whole(machine: Machine) -> None:
    """At rest no leaf is wrong."""
    node = machine.node
    if node is not None and node.local.trees.wrong:
        raise Violation(
            "tree", f"{machine.me.name} still has {node.local.trees.wrong} wrong leaves"
        )
