"""What a node belongs to and holds when it begins a run.

    new, without --join     it founds a cluster: rules itself in, and serves every partition
    new, with --join        nobody has ruled on it; it serves nothing
    started before          what is on its disk; it serves nothing if its disk does not say what

Nothing is written here; ``boot.start_node`` makes it durable before the first message.
"""

from __future__ import annotations

import msgspec

from everwrite.core.cluster.holdings import decode_held
from everwrite.core.cluster.members import Known, founding
from everwrite.core.messages.members import IN, Member, Ruling
from everwrite.core.records import HELD, OWN
from everwrite.server.logs import log_of
from everwrite.server.state import NodeState, after, ruling_of
from everwrite.storage.store import Store, Unreadable

log = log_of()

_RING_BITS = 16
"""The first two bytes of a data key say which partition it is in, see core/cluster/placement.py."""


Held = tuple[int, int]
"""(serves, keeps): two bitmaps, see core/cluster/holdings.py."""


def begin(
    store: Store, state: NodeState, known: Known, me: Member, *, joins: bool
) -> tuple[list[Ruling], Held]:
    """Return the rulings that this run begins with, and what its node serves and keeps."""
    if state.begun:
        others = [entry for entry in known.entries if entry.node_id != me.node_id]
        return _ruled_alone(known, me, others), _read(store, state)
    if joins:
        return [], (0, 0)
    everything = (1 << state.cluster.partitions) - 1
    return founding([me]), (everything, everything)


def kept(store: Store, partitions: int) -> int:
    """Return the partitions of which there are copies on the disk: one look for each of them."""
    shift = _RING_BITS - (partitions.bit_length() - 1)
    found = 0
    start = OWN
    while page := store.scan(start, after(OWN), 1):
        partition = int.from_bytes(page[0][0][1:3], "big") >> shift
        found |= 1 << partition
        if partition + 1 >= partitions:
            break
        start = OWN + ((partition + 1) << shift).to_bytes(2, "big")
    return found


def _read(store: Store, state: NodeState) -> Held:
    data = store.get(HELD)
    if data is not None and not isinstance(data, Unreadable):
        try:
            return decode_held(data)
        except msgspec.MsgspecError as error:
            why = str(error)
    else:
        why = data.reason if data is not None else "nothing is there"
    keeps = kept(store, state.cluster.partitions)
    log.error(
        "holdings unreadable",
        partitions=keeps.bit_count(),
        why=f"What this node serves cannot be read ({why}): its copies count again, partition by "
        "partition, once it has compared them.",
    )
    return 0, keeps


def _ruled_alone(known: Known, me: Member, others: list[Member]) -> list[Ruling]:
    """Return the rulings; the one on a node that knows nobody else is as it says it is now."""
    mine = ruling_of(known, me.node_id)
    if others or mine is None or mine.standing != IN or len(known.rulings) > 1:
        return known.rulings
    said = (me.name, me.zone, me.weight)
    if said == (mine.name, mine.zone, mine.weight):
        return known.rulings
    name, zone, weight = said
    return [Ruling(me.node_id, name, IN, zone, weight, mine.stamp + 1, mine.plan)]
