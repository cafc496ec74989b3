"""Worlds for the tests of the judges, and what is done to them by hand."""

from __future__ import annotations

import pytest

from everwrite.core.data import versions
from everwrite.core.data.versions import Record, Version
from everwrite.core.records import OWN
from everwrite.sim.bounds import judge_tables
from everwrite.sim.history import Operation
from everwrite.sim.options import draw
from everwrite.sim.truth import NO_KNOWLEDGE, Violation
from everwrite.sim.world import World

CALM = next(
    seed
    for seed in range(1000)
    if not draw(seed).faults
    and draw(seed).nodes >= 5
    and draw(seed).copies == 3
    and not draw(seed).wide_puts
)
"""A seed without faults, of a cluster in which some nodes own none of a key."""


def broken(world: World, rule: str, words: str) -> None:
    """Say that the judge of the tables finds this, and nothing before."""
    with pytest.raises(Violation, match=words) as violation:
        judge_tables(world.machines[0])
    assert violation.value.rule == rule


def write(world: World, record: Record, *, before: Record | None = None, key: int = 0) -> None:
    """Let a disk take a record that the first machine made."""
    data_key = world.keys[key].data_key
    had = bytes(8) + versions.encode(before) if before is not None else None
    world.ledger.wrote(0, OWN + data_key, bytes(8) + versions.encode(record), had)


def minted(world: World, name: str, actor: bytes, counter: int, *, key: int = 0) -> Version:
    """Return the version of a blind put that a client has asked for."""
    ledger = world.keys[key]
    if name not in ledger.causality.place:
        operation = Operation(name, "c", "put", ledger.name, 0)
        world.ledger.invoked(ledger, operation, NO_KNOWLEDGE)
    return Version(actor, counter, b"value", 0, name.encode())


def actor_of(world: World, epoch: int, machine: int = 0) -> bytes:
    return world.machines[machine].me.node_id + epoch.to_bytes(8, "big")
