"""The judge of retries: a put that was carried out is not minted a second time.

A coordinator may mint a retried put again only where it could not know better: when nobody who has
the first copy answered in time. So a second dot for one put is a violation

    * where the coordinator's own copy, on top of which it was minted, held the put already
    * where it asked the others, nothing made it give up early, and of those that it asked so many
      had held the put since before the retry came that any quorum of answers must have named it

Everything else (silence, a lost peer, a copy that could not be read) is the documented limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from everwrite.core.data import versions
from everwrite.core.data.versions import EMPTY, Dot, Record
from everwrite.core.probes import sometimes
from everwrite.core.records import HINT, OWN
from everwrite.sim.disk import Rotten
from everwrite.sim.tries import FIRST_TRY
from everwrite.sim.truth import KeyLedger, Source, Violation, record_in

if TYPE_CHECKING:
    from everwrite.sim.machine import Machine
    from everwrite.sim.world import World


def judge_second_mint(
    world: World, key: KeyLedger, place: int, source: Source, made: Record
) -> None:
    """Raise Violation if a machine had no reason to mint this put again; ``made`` is the record
    that it made.
    """
    index = source.machine
    operation = key.operations[place]
    machine = world.machines[index]
    if world.options.changing:  # a copy that was kept for others may be gone since it was asked for
        return
    base = versions.decode(source.had) if source.had else EMPTY
    # A copy that is not there any more was superseded earlier in the same tick.
    held = set(_dots(base, operation.id)) & set(_dots(made, operation.id))
    if held:
        raise Violation(
            "retry",
            f"{operation.describe()}: node {index + 1} mints it again, though its own copy of "
            f"{key.name} holds it",
        )
    sometimes("a put is minted a second time")
    node, options = machine.node, world.options
    retry = machine.tries.retries.get(operation.id.encode())
    if node is None or retry is None or retry is FIRST_TRY or len(key.dots[place]) > 2:
        return
    arrived, asked = retry
    targets = node.local.routes.route(key.data_key, operation.n).targets
    if machine.lost_at >= arrived or asked != targets:
        return
    waited_ms = (world.now - arrived) * machine.clock_ppm // 1_000_000_000
    if waited_ms + 1 >= node.local.config.spare_after_ms:
        return
    others = [target for target, _ in targets if target != machine.me.node_id]
    need = min(len(others), (operation.n or options.copies) // 2 + 1)
    holders = 0
    for other in others:
        there = world.machines[world.index_of(other)]
        since = world.ledger.since.get((key.data_key, there.index, place), arrived)
        holders += since < arrived and _names(there, key, operation.id, arrived)
    if holders > len(others) - need:
        raise Violation(
            "retry",
            f"{operation.describe()}: node {index + 1} mints it again within {waited_ms} ms, "
            f"though {holders} of the {len(others)} nodes that it asked had it",
        )


def _names(machine: Machine, key: KeyLedger, operation_id: str, asked: int) -> bool:
    """Say whether a machine that was asked for its copies of a key surely named this write."""
    own, hint = OWN + key.data_key, HINT + key.data_key
    disk = machine.disk
    # A disk that takes no writes is not what its node's cache says in the midst of a tick.
    if max(disk.errors_until, disk.full_until) >= asked:
        return False
    if own in disk.rotted or hint in disk.rotted:
        return False
    if machine.parks_few:  # it may have been too busy to look
        return False
    joined = versions.merge(_record(machine, own), _record(machine, hint))
    return bool(_dots(joined, operation_id))


def _record(machine: Machine, disk_key: bytes) -> Record:
    held = machine.disk.visible.get(disk_key)
    if held is None or isinstance(held, Rotten):
        return EMPTY
    return versions.decode(record_in(disk_key[:1], held))


def _dots(record: Record, operation_id: str) -> list[Dot]:
    """Return the dots under which a write is among a record's siblings."""
    op = operation_id.encode()
    return [(each.actor, each.counter) for each in record.siblings if each.op == op]
