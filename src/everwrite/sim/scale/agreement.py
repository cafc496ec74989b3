"""Agreement by numbers: how many rounds until all nodes know the same after a change.

A crowd at rest knows the same; one change is made; all agree again when the digests of all that
each node knows are equal, and what changed is among it. Each change has a crowd of its own:

    ruling    one random node rules on another: a weight
    entry     one random node changes its own entry: what it serves
    restart   a process ends and starts again 0.2 s later, as a new life
    boot      all processes end and start again at once
    join      a new node knows the address of one other, and rules itself in
    removal   a random node that is up is ruled out by another, and ends itself as it hears of it
    heal      the crowd was cut in half for ``CUT_MS``, and both ruled on the same two nodes, each
              otherwise; each removed one node of the other, to which that gave more weight; and a
              node of each changed its entry. Counted since the heal

A round is ``gossip_every_ms``: each node asks one random peer whether it knows the same. News is
also passed on at once, so most nodes hear of it within a few messages' time, and the rounds are for
those whom it missed.

Source: Dynamo 4.8.1; Demers et al. 1987 (rumours and anti-entropy: O(log n) rounds).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from everwrite.core.messages.members import IN, REMOVED
from everwrite.sim.scale.crowd import Crowd, MakePeer, Peer, some_partitions
from everwrite.sim.scale.figures import rank
from everwrite.sim.scale.peers import CONFIG, LIVENESS, NodePeer

ROUND_MS = CONFIG.gossip_every_ms
SETTLE_MS = ROUND_MS + 100
AFTER_MS = 200
DOWN_MS = 200
CUT_MS = 2 * ROUND_MS
ROUNDS_MAX = 100


class Agreement(NamedTuple):
    """A row of ``gossip_agreement``: one change, over all runs."""

    change: str
    nodes: int
    loss: float
    runs: int
    rounds_p50: float
    rounds_p99: float
    rounds_max: float
    rounds_bound: float
    """3 log2(n) + 3, for the p99."""
    within: str
    membership_messages_per_node: float
    """Until all agree and ``AFTER_MS`` longer, mean of nodes and runs."""
    membership_bytes_per_node: float
    busiest_receiver_bytes: float


class Outcome(NamedTuple):
    """How one change went in one run."""

    after_ms: int
    messages: float
    bytes: float
    busiest_bytes: int


class Disagreement(Exception):
    """Nodes did not come to know the same."""


Changed = Callable[[Peer], bool]
"""Says whether a node knows what changed."""


def bound(nodes: int) -> float:
    """Return the rounds within which all must agree."""
    return 3 * math.log2(nodes) + 3


def measure_agreement(
    sizes: Sequence[int],
    runs: Callable[[int, str], int],
    *,
    loss: float = 0.0,
    make: MakePeer = NodePeer,
    say: Callable[[str], None] = lambda _: None,
) -> list[Agreement]:
    """Make each change in ``runs(n, change)`` crowds of each size; with 0 it is left out."""
    rows = []
    for nodes in sizes:
        for change in CHANGES:
            count = runs(nodes, change)
            if not count:
                continue
            outcomes = [agree(nodes, seed, change, loss=loss, make=make) for seed in range(count)]
            rows.append(_summed_up(change, nodes, loss, outcomes))
            say(f"agreement: {nodes} nodes, {change}, loss {loss:g}, {len(outcomes)} runs")
    return rows


def agree(
    nodes: int, seed: int, change: str, *, loss: float = 0.0, make: MakePeer = NodePeer
) -> Outcome:
    """Make one change; Disagreement if it does not get to all."""
    crowd = Crowd(nodes, seed, loss=loss, pings=False, make=make)
    crowd.run(1 + crowd.rng.randrange(SETTLE_MS))
    watch = _Watch(crowd)
    changed = CHANGES[change](crowd)
    began = crowd.now
    crowd.count_anew()
    for index in crowd.running():
        watch.look(index, crowd.peer(index))
    if not watch.all_know(changed) and not crowd.run(
        ROUNDS_MAX * ROUND_MS, lambda: watch.all_know(changed)
    ):
        raise Disagreement(
            f"After {ROUNDS_MAX} rounds the {len(crowd.running())} nodes know "
            f"{watch.kinds()} different things of the {change}."
        )
    after = crowd.now - began
    crowd.run(AFTER_MS)
    traffic, count = crowd.count_anew(), len(crowd.peers)
    return Outcome(
        after,
        about_members(traffic.messages_of) / count,
        about_members(traffic.bytes_of) / count,
        max(traffic.bytes_to),
    )


def about_members(counts: Counter[str]) -> int:
    """Return how much of this is not there to see who is up."""
    return sum(count for kind, count in counts.items() if kind not in LIVENESS)


class _Watch:
    """Counts how many different digests there are."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._of: dict[int, bytes] = {}
        self._counts: Counter[bytes] = Counter()
        crowd.watch = self.look

    def look(self, index: int, peer: Peer) -> None:
        known = peer.knows()
        before = self._of.get(index)
        if known != before:
            self._forget(before)
            self._of[index] = known
            self._counts[known] += 1

    def all_know(self, changed: Changed) -> bool:
        """Say whether all that run know the same, and what changed."""
        crowd = self._crowd
        if len(self._of) > len(crowd.peers) - crowd.peers.count(None):
            for index in [i for i in self._of if crowd.peers[i] is None]:
                self._forget(self._of.pop(index))
        return len(self._counts) == 1 and all(changed(crowd.peer(i)) for i in crowd.running())

    def kinds(self) -> int:
        return len(self._counts)

    def _forget(self, known: bytes | None) -> None:
        if known is not None:
            self._counts[known] -= 1
            if not self._counts[known]:
                del self._counts[known]


# -- changes ---------------------------------------------------------------------------------------


def _ruling(crowd: Crowd) -> Changed:
    on = crowd.members[crowd.any_node()].node_id
    _decide(crowd, crowd.any_node(), (on, IN, 2.0))
    return lambda peer: _weighs(peer, on, 2.0)


def _entry(crowd: Crowd) -> Changed:
    by = crowd.any_node()
    before = crowd.peer(by).knows()
    _change(crowd, by)
    return lambda peer: peer.knows() != before


def _restart(crowd: Crowd) -> Changed:
    on = crowd.any_node()
    crowd.stop(on)
    crowd.run(DOWN_MS)
    crowd.start(on)
    me = crowd.members[on]
    return lambda peer: peer.incarnation_of(me.node_id) == me.incarnation


def _boot(crowd: Crowd) -> Changed:
    everyone = crowd.running()
    for on in everyone:
        crowd.stop(on)
    crowd.run(DOWN_MS)
    for on in everyone:
        crowd.start(on)
    lives = {me.node_id: me.incarnation for me in crowd.members}
    return lambda peer: all(peer.incarnation_of(each) == life for each, life in lives.items())


def _join(crowd: Crowd) -> Changed:
    node_id = crowd.members[crowd.join(by=crowd.any_node())].node_id
    return lambda peer: peer.incarnation_of(node_id) > 0 and peer.ruling_on(node_id) is not None


def _removal(crowd: Crowd) -> Changed:
    on, by = crowd.rng.sample(crowd.running(), 2)
    node_id = crowd.members[on].node_id
    _decide(crowd, by, (node_id, REMOVED, 1.0))
    return lambda peer: _is_out(peer, node_id)


def _heal(crowd: Crowd) -> Changed:
    here, there = crowd.cut()
    ones, others = crowd.rng.sample(here, 2), crowd.rng.sample(there, 2)
    up, down = crowd.members[ones[0]].node_id, crowd.members[others[0]].node_id
    out_here, out_there = crowd.members[ones[1]].node_id, crowd.members[others[1]].node_id
    crowd.run(DOWN_MS)
    # Each side rules on two nodes of which the other side says something else, and removes one that
    # it cannot reach, which the other side wants to weigh more.
    for by, weight, out, kept in (
        (ones[0], 2.0, out_there, out_here),
        (others[0], 0.5, out_here, out_there),
    ):
        _decide(
            crowd,
            by,
            (up, IN, weight),
            (down, IN, weight),
            (out, REMOVED, 1.0),
            (kept, IN, 2.0),
        )
        _change(crowd, by)
    crowd.run(CUT_MS)
    crowd.mend()
    return lambda peer: _is_out(peer, out_here) and _is_out(peer, out_there)


def _decide(crowd: Crowd, by: int, *orders: tuple[bytes, int, float]) -> None:
    crowd.peer(by).decide(orders)
    crowd.act(by)


def _change(crowd: Crowd, by: int) -> None:
    crowd.peer(by).change(some_partitions(crowd.rng, len(crowd.peers)))
    crowd.act(by)


def _weighs(peer: Peer, node_id: bytes, weight: float) -> bool:
    ruling = peer.ruling_on(node_id)
    return ruling is not None and ruling.weight == weight


def _is_out(peer: Peer, node_id: bytes) -> bool:
    ruling = peer.ruling_on(node_id)
    return ruling is not None and ruling.standing == REMOVED


CHANGES: dict[str, Callable[[Crowd], Changed]] = {
    "ruling": _ruling,
    "entry": _entry,
    "restart": _restart,
    "boot": _boot,
    "join": _join,
    "removal": _removal,
    "heal": _heal,
}


def _summed_up(change: str, nodes: int, loss: float, outcomes: Sequence[Outcome]) -> Agreement:
    rounds = [each.after_ms / ROUND_MS for each in outcomes]
    p99 = rank(rounds, 0.99)
    return Agreement(
        change,
        nodes,
        loss,
        len(outcomes),
        rank(rounds, 0.5),
        p99,
        max(rounds),
        bound(nodes),
        "yes" if p99 <= bound(nodes) else "no",
        sum(each.messages for each in outcomes) / len(outcomes),
        sum(each.bytes for each in outcomes) / len(outcomes),
        max(each.busiest_bytes for each in outcomes),
    )
