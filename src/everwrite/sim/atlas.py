"""The fault atlas: which disks may be lost now without breaking what was never promised.

The promise (P2) is that an acknowledged write survives any W-1 permanent losses before repair and
N-1 after it. So a fault that destroys safe copies may strike only while every write that is
acknowledged as durable, or under way, has another safe copy; then any loss at all is a bug.

A copy counts if it is safe and still stands (a hint that is being struck out does not), and, for a
hint, if it is kept for somebody else than the machine that loses its copy: an ack of that machine
may be on its way to strike it out.

Source: TigerBeetle's ClusterFaultAtlas.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from everwrite.core.probes import sometimes
from everwrite.core.records import HINT, OWN
from everwrite.sim.disk import COPIES, ROTTEN, Disk, Held, Rotten
from everwrite.sim.ledger import Ledger
from everwrite.sim.truth import KeyLedger, owners_in, record_in


def may_lose(
    ledger: Ledger,
    disks: Sequence[Disk],
    index: int,
    keys: Iterable[bytes],
    left: dict[bytes, Held],
    *,
    spare_all: bool = False,
) -> bool:
    """Say whether this machine may lose its copies under these disk keys, but for what is left
    there then. ``spare_all``: only what others have too, promised or not.
    """
    disk = disks[index]
    for disk_key in keys:
        if disk_key[:1] not in COPIES:
            continue
        key = ledger.keys[disk_key[1:]]
        lost = _known(key, disk_key, disk.safe.get(disk_key))
        lost |= _known(key, disk_key, disk.visible.get(disk_key))
        if not spare_all and not _damaged(disks, disk_key):
            lost &= ledger.protected(key)
        lost &= ~_known(key, disk_key, left.get(disk_key))
        if lost and lost & ~_elsewhere(ledger, disks, index, key):
            sometimes("a fault is held back that would destroy a last copy")
            return False
    return True


def _damaged(disks: Sequence[Disk], disk_key: bytes) -> bool:
    """Say whether a copy is damaged: then another must stay, or nobody could ever read the key."""
    return any(disk.visible.get(disk_key) is ROTTEN for disk in disks)


def _elsewhere(ledger: Ledger, disks: Sequence[Disk], index: int, key: KeyLedger) -> int:
    """Return the writes of a key that other machines surely keep."""
    kept = 0
    me = ledger.node_ids[index]
    for other in disks:
        if other.index == index:
            continue
        for prefix in (OWN, HINT):
            disk_key = prefix + key.data_key
            safe, visible = other.safe.get(disk_key), other.visible.get(disk_key)
            if safe is None or visible is None:
                continue
            if prefix == HINT and not (_for_others(safe, me) and _for_others(visible, me)):
                continue
            kept |= _known(key, disk_key, safe) & _known(key, disk_key, visible)
    return kept


def _for_others(held: Held, me: bytes) -> bool:
    return not isinstance(held, Rotten) and any(owner != me for owner in owners_in(held))


def _known(key: KeyLedger, disk_key: bytes, held: Held | None) -> int:
    if held is None or isinstance(held, Rotten):
        return 0
    return key.known_of.get(record_in(disk_key[:1], held), 0)
