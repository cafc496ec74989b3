"""Fences: which process of a node is the one that counts, and what the others are told.

An identity's *start* is (incarnation, life): the incarnation goes up with each start of a data
directory, the life is drawn anew. So of two processes that call themselves the same node

    the incarnations differ    the lower one is an older copy of the directory, or a process whose
                               place another has taken: it is refused; but while the lower one is
                               heard the higher one has to wait, and takes no requests: it may be
                               a copy of a directory that is in use
    only the lives differ      two copies of one directory run: the second that is heard is refused

And a disk that has gone back in time under the newest incarnation is known by what its node has
confirmed of tombstones (core/tombstones/collect.py): the others know better, and it is refused.

Whoever is refused as ``Fenced``, by a node that has proved that it knows the secret, stops.

Source: Dynamo 4.8.1 leaves it open. scylla 5164 (an incarnation made of the wall clock refused a
node after 400 days); CASSANDRA-21035 (removed nodes that came back).
"""

from __future__ import annotations

from everwrite.core.errors import Fenced, StillThere

Start = tuple[int, bytes]
"""(incarnation, life)."""

REJOIN = (
    "To offer its data to the cluster under a new identity, start it once with "
    "`everwrite serve --rejoin-as-new --join HOST:PORT`."
)


def fits(start: Start, known: Start | None) -> bool:
    """Say whether a start may take the place of the one that is known: it is the same, or later."""
    return known is None or start == known or start[0] > known[0]


def removed(name: str, node_id: bytes) -> Fenced:
    """Return what a node hears that an operator has removed."""
    return Fenced(
        f"Node {_named(name, node_id)} was removed from its cluster for good. Nothing of its data "
        "was touched.",
        hint=REJOIN,
    )


def left(name: str, node_id: bytes) -> Fenced:
    """Return why a node does not start again that has left its cluster in good order."""
    return Fenced(
        f"Node {_named(name, node_id)} has left its cluster, and all that it held is with the "
        "others. Nothing was changed.",
        hint="Its directory can be deleted; a new node starts in one of its own. To use this one: "
        "`everwrite serve --rejoin-as-new --join HOST:PORT`.",
    )


def refused(name: str, node_id: bytes, start: Start, known: Start) -> Fenced:
    """Return what the start of a node hears that may not take the place of the one known."""
    if start[0] < known[0]:
        return Fenced(
            f"Node {_named(name, node_id)} came as its start number {start[0]}, and number "
            f"{known[0]} is known: this is an older copy of the data directory, or a process that "
            "was replaced. Nothing of its data was touched.",
            hint=f"Leave the newer one running. {REJOIN}",
        )
    return Fenced(
        f"Two processes run as node {_named(name, node_id)}, both as its start number {start[0]}: "
        "one has a copied data directory. Nothing of its data was touched.",
        hint=f"Give each node a data directory of its own; never copy one. {REJOIN}",
    )


def went_back(name: str, node_id: bytes) -> Fenced:
    """Return what a node hears whose disk is older than what it has told the others."""
    return Fenced(
        f"Node {_named(name, node_id)} has said that nothing is left on its disk of some keys that "
        "were deleted, and this disk does not know of it: a backup or a snapshot was put back. "
        "Its old values would come back with it. Nothing of its data was touched.",
        hint=f"Find the newer data directory and start that one. {REJOIN}",
    )


def still_there(name: str, node_id: bytes) -> StillThere:
    """Return what a start hears while an earlier one runs: after a crash, for a moment only."""
    return StillThere(
        f"Node {_named(name, node_id)} still runs as an earlier start, and is heard.",
        hint="After a crash this passes within seconds. If it does not, two processes run with one "
        f"identity, and this one has a copied data directory: stop it. {REJOIN}",
    )


def two_of_me(name: str, node_id: bytes) -> Fenced:
    """Return why a node stops that has heard of another process with its identity."""
    return Fenced(
        f"Another process runs as node {_named(name, node_id)}: one of the two has a copied data "
        "directory. This one has stopped; nothing of its data was touched.",
        hint="Find the other one and stop it, then start the one that is to stay. Give each node a "
        "data directory of its own; never copy one.",
    )


def _named(name: str, node_id: bytes) -> str:
    return f"{name[:64]!r} ({node_id.hex()})"
