"""From a data directory to a node: identity, cluster, lease of epochs, members, hints.

What a node keeps of itself, under ``STATE`` keys:

    node       who it is, which cluster it belongs to, how often it was started (its incarnation)
    members    the other nodes it knows
    lease      the first epoch number that no run of this node has leased

The lease of this run's block is on the disk before the first dot is minted (core/data/epochs.py).
"""

from __future__ import annotations

import logging
import secrets
import time
from hashlib import blake2b

import msgspec

from everwrite.core.cluster.members import MemberTable, decode_members
from everwrite.core.config import ClusterConfig, NodeConfig
from everwrite.core.data.epochs import EPOCH_BLOCK, SALT_BITS, Epochs
from everwrite.core.errors import ConfigError, StorageError
from everwrite.core.gossip.rounds import MEMBERS
from everwrite.core.messages import Member
from everwrite.core.node import Node
from everwrite.core.records import HINT, OWN, STATE
from everwrite.core.request.write import LEASE
from everwrite.server.settings import ServeOptions, split_address
from everwrite.storage.manifest import RESTORE, lost_data, node_of, record_node
from everwrite.storage.store import Store, Unreadable

log = logging.getLogger("everwrite")

NODE = STATE + b"node"
SCAN_PAGE = 1000
SALT_BYTES = 32


class NodeState(msgspec.Struct, array_like=True):
    """What stands under ``NODE``."""

    node_id: bytes
    name: str
    incarnation: int
    cluster: ClusterConfig
    zone: str = ""
    weight: float = 0.0


def read_state(store: Store) -> NodeState | None:
    """Return who this data directory's node is; None if it is new. A new node must never take the
    place of one whose data is lost: it would found a cluster of its own under the old name.
    """
    data = _state(store, NODE)
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


def new_cluster(options: ServeOptions) -> ClusterConfig:
    """Return the settings of a cluster that this node founds."""
    return ClusterConfig(
        cluster_id=secrets.token_bytes(16),
        salt=secrets.token_bytes(SALT_BYTES),
        name=options.cluster_name,
        partitions=options.partitions,
        replicas=options.replicas,
    )


def first_state(options: ServeOptions, node_id: bytes, cluster: ClusterConfig) -> NodeState:
    """Return the state of a node that starts for the first time."""
    name = options.name or options.default_name or f"node-{node_id.hex()[:6]}"
    return NodeState(node_id, name, 0, cluster, options.zone or name, options.weight or 1.0)


def read_others(store: Store) -> list[Member]:
    """Return the members that this data directory's node knows; itself may be among them."""
    known = _state(store, MEMBERS)
    return decode_members(known) if known else []


def _settle(store: Store, state: NodeState, options: ServeOptions) -> None:
    """Take the name, zone and weight that are given, or keep the stored ones.

    Zone and weight say which data a node owns, and data does not move yet. So they are fixed once
    there may be some: here, or on other members.
    """
    fixed = _holds_data(store) or any(
        other.node_id != state.node_id for other in read_others(store)
    )
    for what in ("name", "zone", "weight"):
        stored, given = getattr(state, what), getattr(options, what)
        if not given or given == stored:
            continue
        if stored and fixed:
            raise ConfigError(
                f"This node was started with {what} = {stored!r}, and its cluster may hold data: "
                f"it cannot become {given!r}.",
                hint=f"Leave out --{what}, or give the stored one. Nothing was changed; changing "
                "it comes with a later version.",
            )
        setattr(state, what, given)
    state.zone = state.zone or state.name  # of a directory that an earlier version made
    state.weight = state.weight or 1.0


def _holds_data(store: Store) -> bool:
    return bool(store.scan(OWN, _after(OWN), 1) or store.scan(HINT, _after(HINT), 1))


def context_key(secret: bytes, cluster: ClusterConfig) -> bytes:
    """Return the key that signs contexts. Its salt is given to nodes only, never to clients; where
    there is a secret, the salt alone does not help.
    """
    key = blake2b(secret).digest() if secret else b"everwrite"
    return blake2b(b"context" + cluster.cluster_id + cluster.salt, key=key, digest_size=32).digest()


def start_node(store: Store, state: NodeState, options: ServeOptions, port: int) -> Node:
    """Return the node of this store, ready for its first message; its lease and state are
    durable. ConfigError, with nothing changed, for options that do not fit what is stored.
    """
    _settle(store, state, options)
    others = read_others(store)
    state.incarnation += 1
    leased_to = _state(store, LEASE)
    first = int.from_bytes(leased_to, "big") if leased_to else 1
    store.write(
        [
            (NODE, msgspec.msgpack.encode(state)),
            (LEASE, (first + EPOCH_BLOCK).to_bytes(8, "big")),
        ]
    )
    store.sync()
    if store.directory is not None:
        record_node(store.directory, state.node_id, state.cluster.cluster_id)
    epochs = Epochs(state.node_id, first, secrets.randbits(SALT_BITS))
    host = options.host
    if options.advertise:
        host, port = split_address(options.advertise, port)
    me = Member(
        state.node_id,
        state.name,
        host,
        port,
        state.zone,
        state.weight,
        state.incarnation,
        1,
    )
    node = Node(
        NodeConfig(fsync=options.fsync),
        state.cluster,
        MemberTable(me, others),
        epochs,
        context_key(options.secret, state.cluster),
        time.monotonic_ns() // 1_000_000,
        store.durable,
    )
    node.local.has_data = _holds_data(store)
    _restore_hints(store, node)
    return node


def _restore_hints(store: Store, node: Node) -> None:
    """Tell the node of every hint on the disk."""
    start = HINT
    while page := store.scan(start, _after(HINT), SCAN_PAGE):
        for key, payload in page:
            if isinstance(payload, Unreadable):
                log.error("unreadable hint key=%s: %s", key[1:].hex(), payload.reason)
                node.local.counters.unreadable += 1
                node.hints.restore_unreadable(key[1:])
            else:
                node.hints.restore(key[1:], payload)
            node.local.has_data = True
        start = page[-1][0] + b"\0"


def _state(store: Store, key: bytes) -> bytes | None:
    found = store.get(key)
    if isinstance(found, Unreadable):
        raise StorageError(
            f"The node's own state {key[1:].decode()!r} cannot be read ({found.reason}).",
            hint=f"Nothing was changed. {RESTORE}",
        )
    return found


def _after(prefix: bytes) -> bytes:
    """Return the first key after all that start with this one-byte prefix."""
    return bytes((prefix[0] + 1,))
