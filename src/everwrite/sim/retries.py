"""The judge of retries: a put that was carried out is not minted a second time.

A coordinator may mint a retried put again only where it could not know better: when nobody who has
the first copy answered in time. So a second dot for one put is a violation

    * where the coordinator's own copy, the one that it writes now, held the put already
    * where it asked the others, nothing made it give up early, and of those that it asked so many
      had held the put since before the retry came that any quorum of answers must have named it

Everything else (silence, a lost peer, a copy that could not be read) is the documented limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from everwrite.core.data import versions
from everwrite.core.records import HINT, OWN
from everwrite.sim.disk import Rotten
from everwrite.sim.ledger import KeyLedger, Violation, record_in
from everwrite.sim.machine import FIRST_TRY

if TYPE_CHECKING:
    from everwrite.sim.machine import Machine
    from everwrite.sim.world import World

HINDRANCES = ("read_errors", "bit_rot")
"""Faults after which a replica that has the put may rightly not name it."""

CAPS = ("parked_max", "hints_max", "in_flight_max")
"""Knobs that make a replica refuse for want of room."""


def judge_second_mint(
    world: World, key: KeyLedger, place: int, index: int, disk_key: bytes
) -> None:
    """Raise Violation if this machine had no reason to mint this put again."""
    operation = key.operations[place]
    machine = world.machines[index]
    if _holds(machine, disk_key, operation.id):
        raise Violation(
            "retry",
            f"{operation.describe()}: node {index + 1} mints it again, though its own copy of "
            f"{key.name} holds it",
        )
    node, options = machine.node, world.options
    arrived = machine.retries.get(operation.id.encode())
    if node is None or arrived is None or arrived == FIRST_TRY or machine.lost_at >= arrived:
        return
    if any(name in options.faults for name in HINDRANCES) or any(
        name in options.knobs for name in CAPS
    ):
        return
    waited_ms = (world.now - arrived) * machine.clock_ppm // 1_000_000_000
    if waited_ms + 1 >= node.local.config.spare_after_ms:
        return
    route = node.local.routes.route(key.data_key, operation.n)
    others = [target for target, _ in route.targets if target != machine.me.node_id]
    need = min(len(others), (operation.n or options.copies) // 2 + 1)
    holders = 0
    for other in others:
        there = world.machines[world.index_of(other)]
        since = world.ledger.since.get((key.data_key, there.index, place), arrived)
        held = any(_holds(there, prefix + key.data_key, operation.id) for prefix in (OWN, HINT))
        holders += since < arrived and held
    if holders > len(others) - need:
        raise Violation(
            "retry",
            f"{operation.describe()}: node {index + 1} mints it again within {waited_ms} ms, "
            f"though {holders} of the {len(others)} nodes that it asked had it",
        )


def _holds(machine: Machine, disk_key: bytes, operation_id: str) -> bool:
    """Say whether a machine's copy has a write among its siblings."""
    held = machine.disk.visible.get(disk_key)
    if held is None or isinstance(held, Rotten):
        return False
    record = versions.decode(record_in(disk_key[:1], held))
    return any(version.op == operation_id.encode() for version in record.siblings)
