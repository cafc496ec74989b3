"""What a data directory says of its own node, under ``STATE`` keys.

    node       who it is, which cluster it belongs to, how often it was started (its incarnation)
    members    what it knows of the cluster: entries, rulings, the draft of a plan
    held       which partitions it serves, and which it keeps copies of
    lease      the first epoch number that no run of this node has leased
    left       it has left in good order, and holds nothing; only there if it did
    fenced     why its cluster refused it for good; only there if it did

The mark ``fenced`` outlasts restarts. Each of them raises the incarnation: without the mark an old
copy that is started again and again would come in as the newest of all.
"""

from __future__ import annotations

import msgspec

from everwrite.core.cluster.members import Known, decode_known
from everwrite.core.config import ClusterConfig
from everwrite.core.errors import Fenced, StorageError
from everwrite.core.gossip.rounds import MEMBERS
from everwrite.core.messages.members import REMOVED, Ruling
from everwrite.core.records import HINT, OWN, STATE
from everwrite.server.fences import REJOIN, left, removed
from everwrite.storage.manifest import RESTORE, lost_data, node_of
from everwrite.storage.store import Store, Unreadable

NODE = STATE + b"node"
FENCED = STATE + b"fenced"
LEFT = STATE + b"left"


class NodeState(msgspec.Struct, array_like=True):
    """What stands under ``NODE``."""

    node_id: bytes
    name: str
    incarnation: int
    cluster: ClusterConfig
    zone: str = ""
    weight: float = 0.0
    begun: int = 0
    """1 once a run of this node has said on the disk what it belongs to and holds."""
    former: list[bytes] = []
    """Identities that this directory had before, the oldest first."""
    staged: bool = False
    """Whether it was started to wait for an operator's word (``--stage``), which has not come."""


def read_state(store: Store) -> NodeState | None:
    """Return who this data directory's node is; None if it is new. A new node must never take the
    place of one whose data is lost: it would found a cluster of its own under the old name.
    """
    data = read(store, NODE)
    if data is None:
        if store.directory is not None and (node_id := node_of(store.directory)):
            raise lost_data(store.directory, f"the state of node {node_id}")
        return None
    try:
        return msgspec.msgpack.decode(data, type=NodeState)
    except msgspec.MsgspecError as error:
        raise StorageError(
            f"What this data directory says of its own node cannot be read ({error}).",
            hint=f"Nothing was changed. {RESTORE}",
        ) from error


def read_known(store: Store) -> Known:
    """Return what this data directory knows of its cluster; its own node may be among it."""
    data = read(store, MEMBERS)
    if data is None:
        return Known([])
    return decode_known(data)


def ruling_of(known: Known, node_id: bytes) -> Ruling | None:
    """Return what was decided about this node."""
    return next((ruling for ruling in known.rulings if ruling.node_id == node_id), None)


def why_fenced(store: Store, state: NodeState, known: Known) -> Fenced | None:
    """Return why this directory's node may not run any more, None if it may."""
    ruling = ruling_of(known, state.node_id)
    if ruling is not None and ruling.standing == REMOVED:
        gone = left if read(store, LEFT) is not None else removed
        return gone(state.name, state.node_id)
    mark = read(store, FENCED)
    if mark is None:
        return None
    return Fenced(
        f"This directory's node was refused: {mark.decode(errors='replace')}", hint=REJOIN
    )


def fence_mark(error: Fenced) -> tuple[bytes, bytes]:
    """Return what is to stand on the disk of a node that its cluster refused."""
    return FENCED, error.message.encode()


def holds_data(store: Store) -> bool:
    """Say whether there is any copy on this disk, its own or one for others."""
    return bool(store.scan(OWN, after(OWN), 1) or store.scan(HINT, after(HINT), 1))


def read(store: Store, key: bytes) -> bytes | None:
    """Return a part of the node's own state; StorageError if it cannot be read."""
    found = store.get(key)
    if isinstance(found, Unreadable):
        raise StorageError(
            f"The node's own state {key[1:].decode()!r} cannot be read ({found.reason}).",
            hint=f"Nothing was changed. {RESTORE}",
        )
    return found


def after(prefix: bytes) -> bytes:
    """Return the first key after all that start with this one-byte prefix."""
    return bytes((prefix[0] + 1,))
