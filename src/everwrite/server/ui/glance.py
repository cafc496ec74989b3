"""The verb by which a dashboard sees a node: its status, and what else a page draws each second.

glance  what ``status`` says; where it answers HTTP; whom it is told not to hear; how long requests
        took, as tallies since its start; what moves

Whoever asks again takes differences: the node keeps nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from everwrite.core.cluster.plans import name_of
from everwrite.core.tally import Tally
from everwrite.server.sockets import address_of

if TYPE_CHECKING:
    from everwrite.server.runtime import Runtime

Answer = dict[str, Any]

MOVES_TOLD_MAX = 32
"""Moves in one glance: more lines nobody reads while they change each second."""


def glance(runtime: Runtime, status: Callable[[Answer], Answer]) -> Answer:
    """Return what a page draws of this node."""
    local, measures = runtime.node.local, runtime.node.local.measures
    moves = sorted(runtime.node.moves.progress(), key=lambda move: bool(move.waiting))
    return {
        **status({}),
        "http": http_of(runtime),
        "blocked": _blocked(runtime),
        "took": {
            "put_ms": sparse(measures.took["put"]),
            "get_ms": sparse(measures.took["get"]),
            "turn_us": sparse(runtime.driver.turns),
        },
        "failed": sum(tally.count for tally in measures.failed.values()),
        "sloppy": measures.fallback_puts + measures.fallback_gets,
        "siblings": sum(measures.get_siblings[2:]),
        "moves_count": len(moves),
        "moves": [
            {
                "partition": move.partition,
                "kind": move.kind,
                "peer": name_of(local.members, move.peer) if move.peer else "",
                "phase": move.phase,
                "keys": move.keys,
                "bytes": move.bytes,
                "waiting": move.waiting,
            }
            for move in moves[:MOVES_TOLD_MAX]
        ],
    }


def sparse(tally: Tally) -> list[list[int]]:
    """Return a tally's buckets in which anything was counted, as [bucket, count]."""
    return [[at, count] for at, count in enumerate(tally.counts) if count]


def http_of(runtime: Runtime) -> str | None:
    """Return where others reach this node's pages; None: it has none."""
    if runtime.http is None:
        return None
    return f"http://{address_of(runtime.node.local.members.me.host, runtime.http.port)}"


def _blocked(runtime: Runtime) -> list[str]:
    """Return the nodes from or to which this one drops frames on purpose."""
    driver, members = runtime.driver, runtime.node.local.members
    places = driver.deaf_to | driver.mute_to
    return sorted(name_of(members, place) for place in places if isinstance(place, bytes))
