"""The judge of what grows: every table of a node within its cap, every clock and context within
what was really minted.

    bounds      requests of clients, parked messages, hints, flights and the cache keep to their
                caps, and the totals that a node goes by are what its tables hold; every request
                waits for a time at which it ends; a tick leaves nothing in the outbox
    silent      what the disk did not give whole is counted
    lists       what ends, and what is a tombstone, stands in the lists of these on the disk
    hint        the index of hints says what stands on the disk: none is dropped silently
    metadata    a clock, or a context, names no dot that was not minted, and no more actors than
                have minted on that key; a node goes on under the epoch that it has; no put of a
                client leaves more siblings than there may be

The tables are looked at after every sixteenth tick of a machine, the metadata at each record and
answer. What may stand over a cap: requests that looked around or were taken over, which leave the
table for a moment and come back to it (never more than the cap once more, and those parked).

Costs: a pass over the tables of one node, which are small here, for each sixteenth tick.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from functools import lru_cache
from typing import TYPE_CHECKING

from everwrite.core.config import NodeConfig
from everwrite.core.copies import TOMBSTONES, slot_key
from everwrite.core.data import context, versions
from everwrite.core.data.context import CONTEXT_BYTES_MAX
from everwrite.core.data.epochs import SALT_BITS
from everwrite.core.data.versions import Record, Version
from everwrite.core.expiry.expiry import Expiry
from everwrite.core.records import HINT, OWN, weight
from everwrite.core.repair.turns import Round
from everwrite.core.tombstones.collect import Page
from everwrite.sim.disk import Rotten
from everwrite.sim.leaves import judge_leaves, judge_whole
from everwrite.sim.paced import judge_pace
from everwrite.sim.truth import KeyLedger, Source, Violation, owners_in

if TYPE_CHECKING:
    from everwrite.core.node import Node
    from everwrite.sim.machine import Machine

EVERY = 16
"""Ticks from one look at the tables to the next."""

AGAIN = (Round, Page, Expiry)
"""Requests that a node makes again and again, at rest too: of a peer for its roots, of its own disk
for its list of tombstones and that of what ends. There are few at a time: see ``_again``."""


# -- tables ----------------------------------------------------------------------------------------


def judge_tables(machine: Machine) -> None:
    """Raise Violation for a table that is over its cap, or a total that is wrong."""
    node = machine.node
    if node is None:
        return
    for what in (*_requests(node), *_again(node), *_parked(node), *_hints(node), *_cache(node)):
        raise Violation("bounds", f"{machine.me.name} {what}")
    judge_hint_index(machine)
    judge_lists(machine)
    judge_leaves(machine)
    judge_pace(machine)
    _judge_loudness(machine, node)


def _judge_loudness(machine: Machine, node: Node) -> None:
    if node.local.counters.unreadable < machine.unread:
        raise Violation(
            "silent",
            f"{machine.me.name} has met {machine.unread} copies that its disk did not give whole, "
            f"and counts {node.local.counters.unreadable}",
        )


def _requests(node: Node) -> list[str]:
    local, config = node.local, node.local.config
    wrong = []
    theirs = sum(type(getattr(row, "_source", None)) is int for row in local.requests.values())
    most = 2 * config.in_flight_max + config.parked_max
    if theirs > most:
        wrong.append(
            f"has {theirs} requests of clients open; in_flight_max is {config.in_flight_max}, and "
            f"those that come back to the table make it {most} at most"
        )
    awaited = {rid for rids in local._due.values() for rid in rids}
    if endless := [rid for rid in local.requests if rid not in awaited]:
        wrong.append(f"has {len(endless)} requests open that wait for no time at which they end")
    if local.held_bytes < 0 or (local.held_bytes and not local.requests):
        wrong.append(f"counts {local.held_bytes} bytes held by {len(local.requests)} requests")
    if local.out:
        wrong.append("ended a tick and has not emptied its outbox")
    return wrong


def _again(node: Node) -> list[str]:
    """A node reads one part of its list of tombstones at a time, goes through what ends once, and
    asks a peer for the root of a partition when the last question for it has ended.
    """
    requests = node.local.requests.values()
    wrong = []
    for kind, what in ((Page, "parts of its list of tombstones"), (Expiry, "walks of what ends")):
        if (count := sum(isinstance(request, kind) for request in requests)) > 1:
            wrong.append(f"has {count} {what} under way; there is one at a time")
    rounds = [request for request in requests if isinstance(request, Round)]
    asked = Counter((each._peer, partition) for each in rounds for partition in each._partitions)
    if twice := [pair for pair, count in asked.items() if count > 1]:
        wrong.append(f"has asked again for {len(twice)} roots for which it is still waiting")
    if not all(each._partitions for each in rounds):
        wrong.append("has a question open that asks for no root at all")
    return wrong


def _parked(node: Node) -> list[str]:
    records, config = node.local.records, node.local.config
    waiting = [parked for messages in records._parked.values() for parked in messages]
    wrong = []
    if len(waiting) > config.parked_max:
        wrong.append(f"has {len(waiting)} messages parked; parked_max is {config.parked_max}")
    held = sum(weight(message) for _, message, _ in waiting)
    if (records.parked_count, records.parked_bytes) != (len(waiting), held):
        wrong.append(
            f"counts {records.parked_count} messages parked with {records.parked_bytes} bytes, and "
            f"has {len(waiting)} with {held}"
        )
    return wrong


def _hints(node: Node) -> list[str]:
    hints, config = node.hints, node.local.config
    wrong = []
    # After a batch that was not written the disk may have more than was noted meanwhile.
    # What stood there at a start is kept, however much.
    flow = hints.kept.flow
    most = max(config.hints_max, flow.restored + hints.early) + hints.turned + flow.recounted
    if hints.notes > most and not node.local.counters.writes_failed:
        wrong.append(f"keeps {hints.notes} hints; hints_max is {config.hints_max}")
    found = flow.restored + flow.recounted + hints.early + hints.turned
    doubted = node.local.counters.writes_failed  # what stood there before is counted again
    if hints.kept.bytes > config.hints_bytes_max and not (found or doubted):
        size = f"{hints.kept.bytes} bytes of hints"
        wrong.append(f"keeps {size}; hints_bytes_max is {config.hints_bytes_max}")
    by_key = sum(len(owners) for owners in hints.owners_of.values())
    by_owner = sum(len(keys) for keys in hints.waiting.values())
    if not hints.notes == by_key == by_owner:
        wrong.append(f"counts {hints.notes} hints; by key they are {by_key}, by owner {by_owner}")
    if flow.left != hints.notes:
        wrong.append(f"keeps {hints.notes} hints; by what came and went they are {flow.left}")
    for flying in hints.deliveries.flying().values():
        if len(flying) > config.hint_batch:
            wrong.append(
                f"has {len(flying)} hints on their way to one owner; hint_batch is "
                f"{config.hint_batch}"
            )
    return wrong


def _cache(node: Node) -> list[str]:
    records = node.local.records
    if records._size > records._cap:
        return [f"keeps {records._size} bytes in a cache of {records._cap} after it turned over"]
    return []


def judge_hint_index(machine: Machine) -> None:
    """What a node thinks it keeps for others is what stands on its disk: a hint that is in one and
    not in the other is never delivered, or was dropped.
    """
    node = machine.node
    if node is None:
        return
    hints, visible = node.hints, machine.disk.visible
    stored = {key[1:] for key in visible if key[:1] == HINT}
    for data_key in sorted(stored.union(hints.owners_of)):
        held = visible.get(HINT + data_key)
        if data_key in hints.uncertain or isinstance(held, Rotten):
            continue
        if hints.counting is not None and hints.counting.may_come(data_key):
            continue
        on_disk = sorted(owners_in(held)) if held is not None else []
        noted = sorted(hints.owners_of.get(data_key, ()))
        if on_disk != noted:
            raise Violation(
                "hint",
                f"{machine.me.name} has a hint for {len(on_disk)} owners of one key on its disk, "
                f"and its index says {len(noted)}",
            )
        size = len(HINT) + len(data_key) + len(held) if held is not None else 0
        if size != hints.kept.sizes.get(data_key, 0):
            raise Violation(
                "hint",
                f"{machine.me.name} has a hint of {size} bytes on its disk, and counts "
                f"{hints.kept.sizes.get(data_key, 0)}",
            )


def judge_lists(machine: Machine) -> None:
    """Every own copy stands in the lists in which it belongs: else it is never retired, or never
    collected.
    """
    node, visible = machine.node, machine.disk.visible
    if node is None:
        return
    for disk_key, held in visible.items():
        if disk_key[:1] != OWN or isinstance(held, Rotten):
            continue
        end, tombstone = _listed(held[8:])
        if not end and not tombstone:
            continue
        data_key, slot_ms = disk_key[1:], node.local.config.expiry_slot_ms
        if end and slot_key(end - end % slot_ms) + data_key not in visible:
            what = f"ends at {end} and is in no list of what ends"
        elif tombstone and TOMBSTONES + data_key not in visible:
            what = "is a tombstone and is in no list of them"
        else:
            continue
        raise Violation("lists", f"{machine.me.name} has a copy that {what}")


@lru_cache(maxsize=10_000)
def _listed(record: bytes) -> tuple[int, bool]:
    """Return when something of a record ends next, and whether nothing but tombstones is left."""
    decoded = versions.decode(record)
    return versions.next_end(decoded), versions.is_tombstone(decoded)


def unfinished(node: Node, before: Container[int]) -> int:
    """Return how many requests of a node are open that must end before it is at rest: all but those
    that it makes again and again; and of these, those that are among the ones ``before``.
    """
    requests = node.local.requests.items()
    return sum(rid in before or not isinstance(request, AGAIN) for rid, request in requests)


def judge_emptied(machine: Machine, before: Container[int]) -> None:
    """At rest every table is back to where it began; no request is open that was among these."""
    node = machine.node
    if node is None:
        return
    local, hints = node.local, node.hints
    left = {
        "requests": unfinished(node, before),
        "bytes held": local.held_bytes,
        "messages parked": local.records.parked_count,
        "bytes parked": local.records.parked_bytes,
        "damaged copies at hand": len(local.records._damaged),
        "hints": hints.notes + len(hints.owners_of) + len(hints.waiting),
        "hints on their way": sum(map(len, hints.deliveries.flying().values())),
        "hints in doubt": len(hints.uncertain),
    }
    for what, count in left.items():
        if count:
            raise Violation(
                "bounds", f"{machine.me.name} has nothing to do, and still counts {count} {what}"
            )
    judge_tables(machine)
    judge_whole(machine)


# -- metadata --------------------------------------------------------------------------------------


def judge_clock(key: KeyLedger, clock: versions.Clock, who: str) -> None:
    """A clock names only what was minted, so it has no more entries than actors have minted."""
    for actor, counter in clock.items():
        minted = len(key.chains.get(actor, ()))
        if counter > minted:
            raise Violation(
                "metadata",
                f"{who} knows {key.name} up to the dot {actor.hex()}:{counter}, and that actor has "
                f"minted {minted} there",
            )


def judge_context(key: KeyLedger, token: bytes, who: str) -> None:
    """A context is no longer than the documented most, and names what was minted."""
    if len(token) > CONTEXT_BYTES_MAX:
        raise Violation(
            "metadata",
            f"the context that {who} got for {key.name} has {len(token)} bytes; the most is "
            f"{CONTEXT_BYTES_MAX}",
        )
    if not token:
        return
    seen = context.peek(token)
    who = f"the context that {who} got"
    judge_clock(key, seen.clock, who)
    for actor, counter in seen.dots:
        judge_clock(key, {actor: counter}, who)


def judge_siblings(key: KeyLedger, source: Source, record: Record, most: int) -> None:
    """A put may not leave more siblings than there may be; merges may, and so may what they bring
    in the same batch. So all that is new in this record must have been minted for it just now.
    """
    if versions.plain_in(record.siblings) <= most:
        return
    had = versions.decode(source.had).clock if source.had else {}
    fresh = [each for each in record.siblings if not versions.covers(had, each.actor, each.counter)]
    if fresh and not key.named_by([(each.actor, each.counter) for each in fresh]):
        raise Violation(
            "metadata",
            f"node {source.machine + 1} took a put that leaves {len(record.siblings)} siblings of "
            f"{key.name}; siblings_max is {most}",
        )


def judge_epoch(machine: Machine, source: Source, version: Version) -> None:
    """A node that holds what it minted of a key goes on under that epoch: a new one for each put
    would let the clock grow with every write. Of a tombstone that is not sure: it may have been
    collected in the same batch.
    """
    held, node = machine.disk.visible.get(source.disk_key), machine.node
    if node is None or not isinstance(held, bytes) or source.disk_key[:1] != OWN:
        return
    kept = int.from_bytes(held[:8], "big")
    salt = kept & ((1 << SALT_BITS) - 1)
    if not kept or salt != node.local.epochs.salt or node.local.counters.writes_failed:
        return
    alive = any(each.value is not None for each in versions.decode(held[8:]).siblings)
    if held[:8] != version.actor[8:] and alive:
        raise Violation(
            "metadata",
            f"{machine.me.name} mints {version.op.decode()} under a new epoch, though it has one "
            "in this life under which all that it minted of the key stands",
        )


def siblings_max(knobs: dict[str, int]) -> int:
    """Return how many siblings a put may leave in a cluster with these knobs."""
    return knobs.get("siblings_max", NodeConfig().siblings_max)
