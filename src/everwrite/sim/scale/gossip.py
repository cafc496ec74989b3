"""Gossip by numbers: what a cluster at rest says, and how a machine that falls silent is noticed.

One run for each size and seed, with pings: a while at rest, in which nobody has anything to tell;
then one machine falls silent, and is watched until every other takes it for down. How changes get
around is measured in agreement.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from everwrite.sim.scale.agreement import ROUND_MS, about_members
from everwrite.sim.scale.crowd import Crowd, MakePeer, Peer
from everwrite.sim.scale.figures import rank
from everwrite.sim.scale.peers import NodePeer

SETTLE_MS = ROUND_MS + 100
REST_ROUNDS = 4
EVENT_MAX_MS = 20_000
MANY = 300
"""From so many nodes on a cluster is watched for a quarter of the time, and nobody falls silent."""
REST_BOUND = 2048
"""Bytes about members that a node at rest may say in a round, at a hundred nodes."""


class Rest(NamedTuple):
    """A row of ``gossip_rest``: traffic of a node that has nothing to tell, mean over seeds."""

    nodes: int
    seeds: int
    membership_messages_per_node_per_round: float
    membership_bytes_per_node_per_round: float
    membership_bytes_bound: float
    ping_messages_per_node_per_round: float
    ping_bytes_per_node_per_round: float
    busiest_receiver_bytes_per_round: float
    """Of both kinds."""


class Silence(NamedTuple):
    """A row of ``gossip_silence``: from the silence of a machine until it is taken for down."""

    nodes: int
    seeds: int
    node_p50_ms: float
    node_p99_ms: float
    all_p50_ms: float
    all_max_ms: float


class Unnoticed(Exception):
    """A silent machine was not taken for down by everyone in time."""


def measure_gossip(
    sizes: Sequence[int],
    seeds: Callable[[int], int],
    *,
    make: MakePeer = NodePeer,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[list[Rest], list[Silence]]:
    """Run ``seeds(n)`` clusters of each size."""
    rest: list[Rest] = []
    silence: list[Silence] = []
    for nodes in sizes:
        rows: list[Rest] = []
        noticed: list[list[int]] = []
        for seed in range(seeds(nodes)):
            crowd = Crowd(nodes, seed, make=make)
            crowd.run(SETTLE_MS)
            rows.append(at_rest(crowd, REST_ROUNDS if nodes < MANY else 1))
            if nodes < MANY:
                noticed.append(silenced(crowd))
            say(f"gossip: {nodes} nodes, seed {seed}")
        rest.append(_mean(rows))
        if noticed:
            silence.append(_summed_up(nodes, noticed))
    return rest, silence


def at_rest(crowd: Crowd, rounds: int) -> Rest:
    """Let a cluster be for some rounds; return what it says meanwhile."""
    nodes = len(crowd.peers)
    crowd.count_anew()
    crowd.run(rounds * ROUND_MS)
    traffic, per = crowd.count_anew(), nodes * rounds
    told, told_bytes = about_members(traffic.messages_of), about_members(traffic.bytes_of)
    return Rest(
        nodes,
        1,
        told / per,
        told_bytes / per,
        REST_BOUND,
        (traffic.messages_of.total() - told) / per,
        (traffic.bytes_of.total() - told_bytes) / per,
        max(traffic.bytes_to) / rounds,
    )


def silenced(crowd: Crowd) -> list[int]:
    """Cut a machine off; return after how many ms each other took it for down, in order."""
    on = crowd.any_node()
    crowd.silence(on)
    node_id, began = crowd.members[on].node_id, crowd.now
    known: dict[int, int] = {}

    def watch(index: int, peer: Peer) -> None:
        if index not in known and not peer.sees(node_id):
            known[index] = crowd.now - began

    crowd.watch = watch
    everyone = len(crowd.running())
    if not crowd.run(EVENT_MAX_MS, lambda: len(known) == everyone):
        raise Unnoticed(
            f"After {EVENT_MAX_MS / 1000:.0f} s only {len(known)} of {everyone} nodes take the "
            "silent one for down."
        )
    crowd.watch = None
    return sorted(known.values())


def _mean(rows: Sequence[Rest]) -> Rest:
    means = [sum(each[i] for each in rows) / len(rows) for i in range(2, len(Rest._fields))]
    return Rest(rows[0].nodes, len(rows), *means)


def _summed_up(nodes: int, noticed: Sequence[Sequence[int]]) -> Silence:
    every = [ms for each in noticed for ms in each]
    last = [each[-1] for each in noticed]
    return Silence(
        nodes, len(noticed), rank(every, 0.5), rank(every, 0.99), rank(last, 0.5), max(last)
    )
