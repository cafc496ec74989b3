"""Gossip by numbers: what a cluster at rest says, and how news of a node gets around.

One run for each size and seed, in this order: a while at rest; a node ends and starts again; a new
node joins through one other; a machine falls silent. Each is watched until every node knows, and
its traffic counted for a second. News is known when a node has the entry of the new life, and a
silent machine when a node takes it for down.

A round is ``ROUND_MS``: how often a node passes its list of members on unasked. News that is
flooded needs a fraction of one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from everwrite.sim.scale.crowd import Crowd, MakePeer, NodePeer, Peer
from everwrite.sim.scale.figures import rank

ROUND_MS = 1000
SETTLE_MS = 1100
REST_MS = 2000
EVENT_MS = 1000
EVENT_MAX_MS = 20_000
DOWN_MS = 200
MANY = 300
"""From so many nodes on a cluster is watched at rest for half as long."""


class Rest(NamedTuple):
    """A row of ``gossip_rest``: traffic of a node that has nothing to tell, mean over seeds."""

    nodes: int
    messages_per_node_per_s: float
    bytes_per_node_per_s: float
    membership_messages_per_node_per_s: float
    """Of these, those that are not there to see who is up."""
    membership_bytes_per_node_per_s: float
    busiest_receiver_bytes_per_s: float


class News(NamedTuple):
    """A row of ``gossip_news``: from an event until nodes know of it, and what that costs."""

    event: str
    nodes: int
    loss: float
    seeds: int
    node_p50_ms: float
    node_p99_ms: float
    all_p50_ms: float
    all_p99_ms: float
    all_max_ms: float
    all_max_rounds: float
    membership_messages_per_node: float
    """Within a second or until all know, above those of the cluster at rest."""
    membership_bytes_per_node: float
    busiest_receiver_bytes: float


class Event(NamedTuple):
    """How one event went in one run."""

    name: str
    known_after_ms: list[int]
    """One number for each node that had to hear of it."""
    messages: float
    """About members, above those of the cluster at rest, for each node."""
    bytes: float
    busiest_bytes: int
    """All that the node got that got most."""


class Run(NamedTuple):
    """One cluster's life."""

    rest: Rest
    events: list[Event]


class Unknown(Exception):
    """News did not reach everyone in time."""


def measure_gossip(
    sizes: Sequence[int],
    seeds: Callable[[int], int],
    *,
    loss: float = 0.0,
    make: MakePeer = NodePeer,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[list[Rest], list[News]]:
    """Run ``seeds(n)`` clusters of each size."""
    rest: list[Rest] = []
    news: list[News] = []
    for nodes in sizes:
        runs = []
        for seed in range(seeds(nodes)):
            runs.append(run(nodes, seed, loss=loss, make=make))
            say(f"gossip: {nodes} nodes, seed {seed}")
        rest.append(_mean_rest([each.rest for each in runs]))
        for events in zip(*(each.events for each in runs), strict=True):
            news.append(_summed_up(nodes, loss, events))
    return rest, news


def run(nodes: int, seed: int, *, loss: float = 0.0, make: MakePeer = NodePeer) -> Run:
    """Run one cluster through its events; Unknown if news of one does not get to all."""
    crowd = Crowd(nodes, seed, loss=loss, make=make)
    crowd.run(SETTLE_MS)
    rest = at_rest(crowd, REST_MS if nodes < MANY else REST_MS // 2)
    events = [
        _event(crowd, "restart", rest, _restart),
        _event(crowd, "join", rest, _join),
        _event(crowd, "silence", rest, _silence),
    ]
    return Run(rest, events)


def at_rest(crowd: Crowd, ms: int) -> Rest:
    """Let a cluster be for a while; return what it says meanwhile."""
    nodes = len(crowd.peers)
    crowd.count_anew()
    crowd.run(ms)
    traffic, seconds = crowd.count_anew(), ms / 1000
    return Rest(
        nodes,
        traffic.messages_of.total() / nodes / seconds,
        traffic.bytes / nodes / seconds,
        about_members(traffic.messages_of) / nodes / seconds,
        about_members(traffic.bytes_of) / nodes / seconds,
        max(traffic.bytes_to) / seconds,
    )


def about_members(counts: Counter[str]) -> int:
    """Return how much of this is not there to see who is up."""
    return counts.total() - counts["Ping"] - counts["Pong"]


Knows = Callable[[Peer], bool]


def _event(
    crowd: Crowd, name: str, rest: Rest, strike: Callable[[Crowd], tuple[int, Knows]]
) -> Event:
    on, knows = strike(crowd)
    began = crowd.now
    known: dict[int, int] = {}

    def watch(index: int, peer: Peer) -> None:
        if index != on and index not in known and knows(peer):
            known[index] = crowd.now - began

    crowd.watch = watch
    crowd.count_anew()
    everyone = len(crowd.peers) - 1 - len(crowd.silent - {on})
    crowd.run(EVENT_MS)
    if not crowd.run(EVENT_MAX_MS, lambda: len(known) == everyone):
        raise Unknown(
            f"After {EVENT_MAX_MS / 1000:.0f} s only {len(known)} of {everyone} nodes know of "
            f"the {name}."
        )
    crowd.watch = None
    traffic, seconds = crowd.count_anew(), (crowd.now - began) / 1000
    nodes = len(crowd.peers)
    return Event(
        name,
        sorted(known.values()),
        about_members(traffic.messages_of) / nodes
        - rest.membership_messages_per_node_per_s * seconds,
        about_members(traffic.bytes_of) / nodes - rest.membership_bytes_per_node_per_s * seconds,
        max(traffic.bytes_to),
    )


def _restart(crowd: Crowd) -> tuple[int, Knows]:
    on = crowd.any_node()
    crowd.stop(on)
    crowd.run(DOWN_MS)
    crowd.start(on)
    me = crowd.members[on]
    return on, lambda peer: peer.incarnation_of(me.node_id) == me.incarnation


def _join(crowd: Crowd) -> tuple[int, Knows]:
    on = crowd.join(by=crowd.any_node())
    node_id = crowd.members[on].node_id
    return on, lambda peer: peer.incarnation_of(node_id) > 0


def _silence(crowd: Crowd) -> tuple[int, Knows]:
    on = crowd.any_node()
    crowd.silence(on)
    node_id = crowd.members[on].node_id
    return on, lambda peer: not peer.sees(node_id)


def _mean_rest(rows: Sequence[Rest]) -> Rest:
    return Rest(
        rows[0].nodes,
        *(sum(each[i] for each in rows) / len(rows) for i in range(1, len(Rest._fields))),
    )


def _summed_up(nodes: int, loss: float, events: Sequence[Event]) -> News:
    every = [ms for event in events for ms in event.known_after_ms]
    last = [event.known_after_ms[-1] for event in events]
    return News(
        events[0].name,
        nodes,
        loss,
        len(events),
        rank(every, 0.5),
        rank(every, 0.99),
        rank(last, 0.5),
        rank(last, 0.99),
        max(last),
        max(last) / ROUND_MS,
        sum(event.messages for event in events) / len(events),
        sum(event.bytes for event in events) / len(events),
        max(event.busiest_bytes for event in events),
    )
