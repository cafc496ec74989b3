"""From a data directory to a node: identity, cluster, lease of epochs, members, hints.

The start of this run is on the disk before its first message, and with it the lease of its block
of epochs (core/data/epochs.py), its members and what it holds. So what another node has heard of a
start is never taken back by a crash.
"""

from __future__ import annotations

import secrets
import time
from hashlib import blake2b

import msgspec

from everwrite.core.cluster.holdings import encode_held, packed
from everwrite.core.cluster.members import Known, MemberTable, encode_known
from everwrite.core.config import STAMP_BITS, STARTS_MAX, ClusterConfig, NodeConfig
from everwrite.core.data.epochs import EPOCH_BLOCK, SALT_BITS, Epochs
from everwrite.core.errors import ConfigError
from everwrite.core.gossip.rounds import MEMBERS
from everwrite.core.handshake import LIFE_BYTES
from everwrite.core.messages.members import Member
from everwrite.core.node import Node
from everwrite.core.records import CONFIRMED, FLOORS, HELD
from everwrite.core.request.making import LEASE
from everwrite.server import holdings
from everwrite.server.logs import log_of
from everwrite.server.settings import ServeOptions, split_address
from everwrite.server.state import (
    NODE,
    NodeState,
    holds_data,
    read,
    read_known,
    ruling_of,
    why_fenced,
)
from everwrite.server.trees import TREES, restore_trees, saved_trees
from everwrite.storage.manifest import record_node
from everwrite.storage.store import Store

log = log_of()

SALT_BYTES = 32
CLUSTER_NAME = "everwrite"
PARTITIONS = 256
REPLICAS = 3


def new_cluster(options: ServeOptions) -> ClusterConfig:
    """Return the settings of a cluster that this node founds."""
    return ClusterConfig(
        cluster_id=secrets.token_bytes(16),
        salt=secrets.token_bytes(SALT_BYTES),
        name=options.cluster_name or CLUSTER_NAME,
        partitions=PARTITIONS if options.partitions is None else options.partitions,
        replicas=REPLICAS if options.replicas is None else options.replicas,
    )


def first_state(options: ServeOptions, node_id: bytes, cluster: ClusterConfig) -> NodeState:
    """Return the state of a node that starts for the first time."""
    name = options.name or options.default_name or f"node-{node_id.hex()[:6]}"
    return NodeState(node_id, name, 0, cluster, options.zone or name, options.weight or 1.0)


def context_key(secret: bytes, cluster: ClusterConfig) -> bytes:
    """Return the key that signs contexts. Its salt is given to nodes only, never to clients; where
    there is a secret, the salt alone does not help.
    """
    key = blake2b(secret).digest() if secret else b"everwrite"
    return blake2b(b"context" + cluster.cluster_id + cluster.salt, key=key, digest_size=32).digest()


def start_node(store: Store, state: NodeState, options: ServeOptions, port: int) -> Node:
    """Return the node of this store, ready for its first message; its state is durable.

    With nothing changed: ConfigError for options that do not fit what is stored; Fenced if the
    cluster has refused this node for good.
    """
    known = read_known(store)
    fenced = why_fenced(store, state, known)
    if fenced is not None:
        raise fenced
    _check_cluster(state.cluster, options)
    incarnation = _next_incarnation(store, state)
    _settle(store, state, known, options)
    leased_to = read(store, LEASE)
    first = int.from_bytes(leased_to, "big") if leased_to else 1
    state.incarnation = incarnation
    me = _entry(state, options, port)
    rulings, (serves, keeps) = holdings.begin(store, state, known, me, joins=bool(options.join))
    state.begun = 1
    _settle_stage(state, known, options)
    me = msgspec.structs.replace(me, serves=packed(serves), keeps=packed(keeps))
    table = MemberTable(me, known.entries, rulings, known.draft)
    trees = saved_trees(store)
    store.write(
        [
            (NODE, msgspec.msgpack.encode(state)),
            (MEMBERS, encode_known(table)),
            (HELD, encode_held(serves, keeps)),
            (LEASE, (first + EPOCH_BLOCK).to_bytes(8, "big")),
            (TREES, None),
        ]
    )
    store.sync()
    if store.directory is not None:
        record_node(store.directory, state.node_id, state.cluster.cluster_id)
    node = Node(
        NodeConfig(fsync=options.fsync, pace=options.pace),
        state.cluster,
        table,
        Epochs(state.node_id, first, secrets.randbits(SALT_BITS)),
        context_key(options.secret, state.cluster),
        time.monotonic_ns() // 1_000_000,
        store.durable,
        time.time_ns() // 1_000_000,
    )
    node.rounds.wants_in = not state.staged and table.standing(me.node_id) is None
    node.confirmations.restore(read(store, FLOORS) or b"", read(store, CONFIRMED) or b"")
    node.hints.count()
    restore_trees(store, node, trees)
    return node


def _next_incarnation(store: Store, state: NodeState) -> int:
    """Return the number of this start; ConfigError if there is none left."""
    # In directories of earlier builds the count of the floor went by the lease of epochs, which may
    # be ahead. Copies that this start sends must be above it, or nobody takes them (Local.stamp).
    floor = int.from_bytes(read(store, CONFIRMED) or b"", "big")
    number = 1 + max(state.incarnation, floor >> STAMP_BITS)
    if not 0 < number <= STARTS_MAX:
        raise ConfigError(
            f"The data directory of node {state.name!r} says that this is its start number "
            f"{number}: there are {STARTS_MAX} at most, so what it says was damaged. Nothing was "
            "changed.",
            hint="Put back a copy of it; or offer its data to the cluster under a new identity: "
            "`everwrite serve --rejoin-as-new --join HOST:PORT`.",
        )
    return number


def _check_cluster(cluster: ClusterConfig, options: ServeOptions) -> None:
    """Raise ConfigError for settings of the whole cluster that it does not have."""
    for what, given in (
        ("partitions", options.partitions),
        ("replicas", options.replicas),
        ("cluster_name", options.cluster_name),
    ):
        there = getattr(cluster, what.removeprefix("cluster_"))
        if given not in (None, "", there):
            raise ConfigError(
                f"This node's cluster was made with {what} = {there!r}: that is fixed, and cannot "
                f"become {given!r}.",
                hint=f"Leave out --{what.replace('_', '-')}. Nothing was changed.",
            )


def _entry(state: NodeState, options: ServeOptions, port: int) -> Member:
    """Return what this start of the node says of itself."""
    host = options.host
    if options.advertise:
        host, port = split_address(options.advertise, port)
    return Member(
        state.node_id,
        state.name,
        host,
        port,
        state.zone,
        state.weight,
        state.incarnation,
        1,
        secrets.token_bytes(LIFE_BYTES),
    )


def _settle_stage(state: NodeState, known: Known, options: ServeOptions) -> None:
    """Take down that the node is to wait for an operator. A later start that does not say so takes
    nothing back, or a forgotten flag would move data; the operator's word ends it.
    """
    waits = ruling_of(known, state.node_id) is None
    if state.staged and waits and not options.stage:
        log.info(
            "waits for an operator",
            node=state.name,
            why=f"An earlier --stage said so. To let it in: everwrite plan join {state.name}",
        )
    state.staged = waits and (state.staged or options.stage)


def _settle(store: Store, state: NodeState, known: Known, options: ServeOptions) -> None:
    """Take the name, zone and weight that are given, or keep the stored ones.

    The name stays once others may know it. Zone and weight are what the node asks for until there
    is a ruling on it; from then on they are the operator's to change, since they move data.
    """
    ids = {entry.node_id for entry in known.entries}
    ids |= {ruling.node_id for ruling in known.rulings}
    others = bool(ids - {state.node_id})
    if options.name and options.name != state.name:
        if state.name and (others or holds_data(store)):
            raise ConfigError(
                f"This node was started with name = {state.name!r}, and others may know it: it "
                f"cannot become {options.name!r}.",
                hint="Leave out --name, or give the stored one. Nothing was changed.",
            )
        state.name = options.name
    ruling = ruling_of(known, state.node_id)
    if ruling is not None:
        state.zone, state.weight = ruling.zone, ruling.weight
    fixed = others and ruling is not None
    for what in ("zone", "weight"):
        stored, given = getattr(state, what), getattr(options, what)
        if not given or given == stored:
            continue
        if stored and fixed:
            log.warning(
                "option left aside",
                node=state.name,
                why=f"{what} = {stored!r} is kept, not {given!r}: it decides which data this node "
                f"owns. To change it, use `everwrite plan {what}`.",
            )
            continue
        setattr(state, what, given)
