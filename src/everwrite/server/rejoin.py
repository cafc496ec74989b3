"""A new identity for a data directory whose node was removed or refused.

What the old node acknowledged may be nowhere else. So its copies stay where they are, and the new
node says that it keeps them: they are offered to the owners like those of any node that keeps what
it does not own, and go when all owners have them (docs/design/moving.md). None of them counts in a
quorum. Hints go to whom they are for.

But not where tombstones were collected since: who was removed is not asked about them, so its disk
may have what they deleted, and nothing is left that could tell. Then all its copies are put aside.

The numbers of epochs go on where the old identity stopped.
"""

from __future__ import annotations

import msgspec

from everwrite.core.cluster.holdings import encode_held
from everwrite.core.copies import ENDS, TOMBSTONES
from everwrite.core.errors import ConfigError, DeniedError
from everwrite.core.gossip.rounds import MEMBERS
from everwrite.core.records import CONFIRMED, FLOORS, HELD, HINT, OWN
from everwrite.core.tombstones.confirm import Floors, decode_floors, encode_floors
from everwrite.server import holdings
from everwrite.server.logs import log_of
from everwrite.server.settings import NAME_BYTES_MAX, ServeOptions
from everwrite.server.state import (
    FENCED,
    LEFT,
    NODE,
    NodeState,
    after,
    read,
    read_known,
    why_fenced,
)
from everwrite.server.trees import TREES
from everwrite.storage.store import Store, Unreadable

log = log_of()

_SUFFIX_DIGITS = 6

ASIDE = b"a"
"""What disk keys of copies begin with that were put aside, before their own prefix."""
_PAGE = 500


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
    fenced = why_fenced(store, state, read_known(store))
    if fenced is None and state.former:
        log.warning(
            "option left aside",
            node=state.name,
            why=f"--rejoin-as-new is left aside: this directory rejoined as {state.name} "
            f"({state.node_id.hex()}), and was not refused since. Leave it out from now on.",
        )
        return False
    return True


def refusal(error: DeniedError) -> DeniedError:
    """Return why the cluster does not take this directory in; nothing was done to it so far."""
    hint = f"{error.hint} Nothing was changed.".strip()
    return type(error)(error.message, hint=hint)


def warn_of_former(store: Store, state: NodeState) -> None:
    """Say that a node of which nobody has told its directory that it was removed has a new
    identity; only once the cluster takes it in, or the advice would harm a member.
    """
    if why_fenced(store, state, read_known(store)) is None:
        log.warning(
            "new identity",
            node=state.name,
            former=state.node_id.hex(),
            why="This directory does not know that its node was removed: the old one stays a "
            f"member until `everwrite plan remove {state.name}`.",
        )


def new_name(state: NodeState, options: ServeOptions, node_id: bytes) -> str:
    """Return the name that is given, or the old one with a suffix that no other node has."""
    if options.name:
        return options.name
    suffix = f"-{node_id.hex()[:_SUFFIX_DIGITS]}"
    old = state.name.encode()[: NAME_BYTES_MAX - len(suffix)].decode(errors="ignore")
    return old + suffix


def begin_anew(
    store: Store,
    state: NodeState,
    options: ServeOptions,
    node_id: bytes,
    name: str,
    generation: int,
) -> NodeState:
    """Make this the directory of a new node, in one durable batch; return its state.
    ``generation`` is that of the newest collection of tombstones in the cluster.
    """
    known = decode_floors(read(store, FLOORS) or b"")
    if generation > known.attended:
        put_aside(store)
    newest, attended = max(known.generation, generation), max(known.attended, generation)
    keeps = holdings.kept(store, state.cluster.partitions)
    fresh = msgspec.structs.replace(
        state,
        node_id=node_id,
        name=name,
        incarnation=0,
        zone=options.zone or (name if state.zone == state.name else state.zone),
        weight=options.weight or state.weight,
        begun=1,
        former=[*state.former, state.node_id],
    )
    store.write(
        [
            (NODE, msgspec.msgpack.encode(fresh)),
            (HELD, encode_held(0, keeps)),
            (MEMBERS, None),
            (FENCED, None),
            (LEFT, None),
            (FLOORS, encode_floors(Floors(newest, known.floors, attended))),
            (CONFIRMED, None),
            (TREES, None),
        ]
    )
    store.sync()
    log.warning(
        "rejoined",
        node=name,
        node_id=node_id.hex(),
        former_name=state.name,
        former=state.node_id.hex(),
        partitions=keeps.bit_count(),
        why="It has a new identity, and keeps copies of so many partitions.",
    )
    return fresh


def put_aside(store: Store) -> None:
    """Put every copy where no node will ever look: tombstones were collected since this directory
    was a member's, so nobody can say which of its values were deleted. They stay in the directory,
    and what is damaged stays as it is, byte for byte.
    """
    aside = damaged = 0
    for prefix in (OWN, HINT):
        start = prefix
        while page := store.scan(start, after(prefix), _PAGE):
            batch: list[tuple[bytes, bytes | None]] = []
            for key, payload in page:
                if isinstance(payload, Unreadable):
                    damaged += _put_aside_sealed(store, key)
                    continue
                batch += [(ASIDE + key, payload), (key, None)]
                aside += 1
            store.write(batch)
            # Not from the prefix again: an engine goes through all that was deleted to get there.
            start = page[-1][0] + b"\0"
    for prefix in (TOMBSTONES, ENDS):
        store.delete_range(prefix, after(prefix))
    log.warning(
        "copies put aside",
        copies=aside,
        damaged=damaged,
        why="Tombstones were collected since this directory was a member's: what was deleted could "
        f"come back with its {aside} copies (and {damaged} damaged ones), and none of them is "
        f"offered. They stay in the directory, under {ASIDE.decode()!r}, and no node reads them.",
    )


def _put_aside_sealed(store: Store, key: bytes) -> bool:
    """Move a value that its checksum does not fit, and its checksum with it: so it stays for who
    can make something of it, and is as little taken for a good one as before.
    """
    sealed = store.engine.get(key)
    if sealed is None:
        return False
    store.engine.write([(ASIDE + key, sealed), (key, None)])
    return True
