"""A new identity for a data directory whose node was removed or refused.

What the old node acknowledged may be nowhere else. So its copies stay where they are, and the new
node says that it keeps them: they are offered to the owners like those of any node that keeps what
it does not own, and go when all owners have them (docs/design/moving.md). None of them counts in a
quorum. Hints go to whom they are for.

The numbers of epochs go on where the old identity stopped.
"""

from __future__ import annotations

import logging

import msgspec

from everwrite.core.cluster.holdings import encode_held
from everwrite.core.errors import ConfigError
from everwrite.core.gossip.rounds import MEMBERS
from everwrite.core.records import HELD
from everwrite.server import holdings
from everwrite.server.settings import NAME_BYTES_MAX, ServeOptions
from everwrite.server.state import FENCED, LAYOUT, NODE, NodeState, read_known, why_fenced
from everwrite.storage.store import Store

log = logging.getLogger("everwrite")

_SUFFIX_DIGITS = 6


def nobody_here() -> ConfigError:
    """Return the error of a directory that never was a node's."""
    return ConfigError(
        "There is no node in this data directory that could rejoin.",
        hint="Leave out --rejoin-as-new: with --join a new node joins. Nothing was changed.",
    )


def is_due(store: Store, state: NodeState, options: ServeOptions) -> bool:
    """Say whether this start is to begin with a new identity. The option may stay where a
    supervisor starts the node: what has a new identity, and was not refused since, keeps it.
    """
    if not options.rejoin_as_new:
        return False
    fenced = why_fenced(store, state, read_known(store, state))
    if fenced is None and state.former:
        log.warning(
            "--rejoin-as-new is left aside: this directory rejoined as %s (%s), and was not "
            "refused since. Leave it out from now on",
            state.name,
            state.node_id.hex(),
        )
        return False
    if fenced is None:
        log.warning(
            "node %s (%s) gets a new identity, though this directory does not know that it was "
            "removed: the old one stays a member until `everwrite plan remove %s`",
            state.name,
            state.node_id.hex(),
            state.name,
        )
    return True


def new_name(state: NodeState, options: ServeOptions, node_id: bytes) -> str:
    """Return the name that is given, or the old one with a suffix that no other node has."""
    if options.name:
        return options.name
    suffix = f"-{node_id.hex()[:_SUFFIX_DIGITS]}"
    old = state.name.encode()[: NAME_BYTES_MAX - len(suffix)].decode(errors="ignore")
    return old + suffix


def begin_anew(
    store: Store, state: NodeState, options: ServeOptions, node_id: bytes, name: str
) -> NodeState:
    """Make this the directory of a new node, in one durable batch; return its state."""
    keeps = holdings.kept(store, state.cluster.partitions)
    fresh = msgspec.structs.replace(
        state,
        node_id=node_id,
        name=name,
        incarnation=0,
        zone=options.zone or (name if state.zone == state.name else state.zone),
        weight=options.weight or state.weight,
        layout=LAYOUT,
        former=[*state.former, state.node_id],
    )
    store.write(
        [
            (NODE, msgspec.msgpack.encode(fresh)),
            (HELD, encode_held(0, keeps)),
            (MEMBERS, None),
            (FENCED, None),
        ]
    )
    store.sync()
    log.warning(
        "node %s (%s) is now %s (%s); it keeps copies of %d partitions",
        state.name,
        state.node_id.hex(),
        name,
        node_id.hex(),
        keeps.bit_count(),
    )
    return fresh
