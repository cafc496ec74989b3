"""Which partitions are compared with whom, and when: docs/design/exchange.md.

Each ``repair_every_ms`` one peer is asked for many partitions at once whether its roots are the
same. Where they are not, the two exchange what differs (exchange.py). Once a round is through, all
is quiet until the next one begins: a cluster at rest says a few hundred bytes each second or less.

    compared with a peer:   what both own and both serve, and where both trees are whole
    rounds:                 by peer; whoever was asked least lately is next; one that came back
                            has its hints first, and then the next turn
    exchanges:              ``repairs_max`` go through keys at a time, a few more look which leaves
                            differ; one for each partition

Both sides take note that they are the same, so it is asked once for each pair of nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from everwrite.core.cluster.holdings import bits, partitions_in
from everwrite.core.expiry.expiry import UNSURE, Expiry
from everwrite.core.local import Local
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import BUSY, NOT_HERE, SAME, UNREADABLE
from everwrite.core.messages.trees import (
    DIFFERENT,
    NOT_WHOLE,
    OTHER_HORIZON,
    OTHER_SHAPE,
    Differing,
    Entries,
    Rooted,
    Roots,
    Summed,
    Sums,
)
from everwrite.core.outbox import Place
from everwrite.core.repair.answer import ROOTS_MAX, Answers
from everwrite.core.repair.exchange import Exchange
from everwrite.core.repair.met import Met, RepairCounters, weight
from everwrite.core.repair.orders import LOOK_MS, Order, Orders, Pair
from everwrite.core.repair.turns import Peer, Round

TIMELESS = -2
"""The horizon of all partitions on a node to which the time was not sure for TIMELESS_ROUNDS."""
TIMELESS_ROUNDS = 3
SETTLING_TIMES = 8
"""Exchanges under way, to those of them that go through keys: most wait for a difference to last.
"""
WAITING_MAX = 256
"""Partitions found different that wait for their turn; the next round finds the others again."""

WHY = {
    BUSY: "the peer is busy with it",
    NOT_HERE: "the peer does not serve it",
    NOT_WHOLE: "the peer's tree is being made anew",
    OTHER_SHAPE: "the peer's trees are of another format",
    OTHER_HORIZON: "the peer has retired other expired versions",
    UNREADABLE: "the peer's disk cannot be read",
}
OURS = {
    NOT_HERE: "not both own and serve it",
    NOT_WHOLE: "its own tree is being made anew",
    OTHER_HORIZON: "expired versions are being retired",
}


class Repairs:
    """The comparisons of one node."""

    def __init__(self, local: Local, expiry: Expiry) -> None:
        self._local = local
        self.trees = local.trees
        self.expiry = expiry
        self.horizon = expiry.horizon
        """How far the expired versions of a partition were retired; negative: it is under way."""
        self.counters = RepairCounters()
        self.answers = Answers(local, self)
        self._peers: dict[bytes, Peer] = {}
        self._met: dict[Pair, Met] = {}
        self._asked: set[Pair] = set()
        """Those whose roots are asked for now."""
        self._waiting: dict[Pair, int | None] = {}
        """Those that differ and wait for their turn, the next one first; the only leaf, if so."""
        self.running: dict[int, Exchange] = {}
        """By partition."""
        self._stopped_at: dict[Pair, bytes] = {}
        """Of those that wait: where the exchange before stopped for want of time."""
        self._not_before: dict[Pair, int] = {}
        self._orders = Orders(local.epochs.salt)
        # Nodes that start together do not all ask at once.
        spread = int.from_bytes(local.me[:4], "big") % local.config.repair_every_ms
        self._ask_ms = local.now + spread
        self._look_ms = local.now
        self._sure_ms = local.now
        """When the time was sure last."""
        self.handlers: dict[type, Callable[[Place, Any], None]] = {
            Roots: self.answers.roots,
            Sums: self.answers.sums,
            Entries: self.answers.entries,
            Rooted: self._replied,
            Summed: self._replied,
            Differing: self._replied,
        }

    # -- when --------------------------------------------------------------------------------------

    def wake(self) -> None:
        local = self._local
        if local.now < self.next_wake_ms():
            return
        if local.clock.sure:
            self._sure_ms = local.now
        if local.now >= self._look_ms:
            self._look_ms = local.now + LOOK_MS
            self._ask_for_orders()
            self._start()
        if local.now >= self._ask_ms and not local.pace.wait_ms("repair", local.now):
            self._ask_ms = local.now + local.config.repair_every_ms
            self._share()
            self._ask_next()

    def next_wake_ms(self) -> int:
        if self._orders or self._waiting:
            return min(self._ask_ms, self._look_ms)
        return self._ask_ms

    def came(self, peer: bytes) -> None:
        """A peer that was down is up: compare with it soon."""
        state = self._peers.get(peer)
        if state is not None:
            state.at = 0
            state.due_ms = self._local.now + self._local.config.repair_back_ms

    def _share(self) -> None:
        """See which partitions are shared with whom."""
        local = self._local
        mine = local.routes.owned & local.serves
        for member in local.members.others():
            node = member.node_id
            shared = mine & bits(member.serves) & local.routes.owned_by(node)
            state = self._peers.get(node)
            if state is None:
                if not shared:
                    continue
                state = self._peers[node] = Peer()
            if shared != state.shared:
                state.shared, state.partitions, state.at = shared, partitions_in(shared), 0
                state.agreed_ms = {p: at for p, at in state.agreed_ms.items() if shared >> p & 1}
        self._not_before = {pair: at for pair, at in self._not_before.items() if at > local.now}
        gone = [node for node, state in self._peers.items() if not state.shared]
        for node in gone:
            del self._peers[node]
        if len(self._met) > sum(len(state.partitions) for state in self._peers.values()):
            for pair in [pair for pair in self._met if not self._shares(pair)]:
                del self._met[pair]

    def _shares(self, pair: Pair) -> bool:
        state = self._peers.get(pair[1])
        return state is not None and bool(state.shared >> pair[0] & 1)

    def _ask_next(self) -> None:
        """Ask the peer whose turn it is for its next roots."""
        local = self._local
        up = local.liveness.up
        due = [
            (state.asked_ms, node)
            for node, state in self._peers.items()
            if node in up and (state.at or state.due_ms <= local.now)
        ]
        if not due:
            return
        _, node = min(due)
        state = self._peers[node]
        if not state.at:
            state.due_ms = local.now + local.config.repair_round_ms
        state.asked_ms = local.now
        most = max(1, min(ROOTS_MAX, local.routes.placement.partitions // 4))
        chosen: list[int] = []
        lately = local.now - local.config.repair_round_ms // 2
        while state.at < len(state.partitions) and len(chosen) < most:
            partition = state.partitions[state.at]
            state.at += 1
            if not 0 <= lately < state.agreed_ms.get(partition, -1) and self._may_ask(
                (partition, node)
            ):
                chosen.append(partition)
        if state.at >= len(state.partitions):
            state.at = 0
        self._ask(node, chosen)

    def _may_ask(self, pair: Pair) -> bool:
        return not (
            pair in self._asked
            or pair in self._waiting
            or pair[0] in self.running
            or self._not_before.get(pair, 0) > self._local.now
            or self.unfit(*pair)
        )

    def _ask(self, node: bytes, partitions: list[int]) -> None:
        if partitions:
            self.counters.asked += 1
            self._asked.update((partition, node) for partition in partitions)
            Round(self._local, self, node, partitions).begin()

    def forget(self, node: bytes, partitions: Iterable[int]) -> None:
        """These were answered, or will not be."""
        self._asked.difference_update((partition, node) for partition in partitions)

    def roots_of(self, rid: int, partitions: Sequence[int], doubts: list[int]) -> Roots:
        trees = self.trees
        roots = [(each, self.horizon_of(each), trees.root(each)) for each in partitions]
        return Roots(rid, trees.shape, roots, doubts, self.expiry.step)

    # -- what is not compared ----------------------------------------------------------------------

    def unfit(self, partition: int, peer: bytes, horizon: int | None = None) -> str:
        """Say why a partition is not to be compared with a peer now; empty: it is."""
        status = self.unfit_for(partition, peer, horizon)
        return OURS.get(status, "") if status else ""

    def unfit_for(self, partition: int, peer: bytes, horizon: int | None = None) -> int:
        """Return the same as the status to answer; 0: it is fit."""
        local = self._local
        if not 0 <= partition < local.routes.placement.partitions:
            return NOT_HERE
        serving, _, _ = local.routes.serving(partition)
        if local.me not in serving or peer not in serving:
            return NOT_HERE
        if not self.trees.whole(partition):
            return NOT_WHOLE
        mine = self.horizon_of(partition)
        if mine == UNSURE or (horizon is not None and mine != horizon):
            return OTHER_HORIZON
        return 0

    def horizon_of(self, partition: int) -> int:
        """Return the horizon at which a partition is compared; UNSURE: it is not."""
        horizon = self.horizon(partition)
        if horizon >= 0:
            return horizon
        return TIMELESS if self._timeless else UNSURE

    @property
    def _timeless(self) -> bool:
        """Whether nobody could say for long what time it is. Then no version is retired, and owners
        must come to agree all the same: two that are both at a loss compare what they have. What
        one of them had retired before, it may get back, and hides it as any other.
        """
        local = self._local
        return local.now - self._sure_ms > TIMELESS_ROUNDS * local.config.repair_round_ms

    def why(self, status: int) -> str:
        """Say in words why a peer did not answer."""
        return WHY.get(status, "the peer's answer is not understood")

    # -- what a peer answers -----------------------------------------------------------------------

    def _replied(self, source: Place, reply: Rooted | Summed | Differing) -> None:
        request = self._local.requests.get(reply.rid)
        if isinstance(request, Exchange | Round):
            request.replied(source, reply)

    def rooted(self, peer: bytes, partitions: list[int], verdicts: list[int]) -> None:
        """A peer has compared these roots with its own."""
        self.counters.compared += len(verdicts)
        for partition, verdict in zip(partitions, verdicts, strict=False):
            pair = partition, peer
            if verdict == SAME:
                self.agree(pair)
            elif verdict == DIFFERENT:
                self.counters.differed += 1
                self._queue(pair)
            else:
                self._put_off(pair, self.why(verdict))
        self._start()

    def agree(self, pair: Pair) -> None:
        partition, peer = pair
        state = self._peers.get(peer)
        if state is not None and state.shared >> partition & 1:
            state.agreed_ms[partition] = self._local.now
        self._not_before.pop(pair, None)
        met = self._met.get(pair)
        if met is not None:
            met.why = ""
        self._orders.same(pair)

    def _queue(self, pair: Pair, leaf: int | None = None) -> None:
        if pair not in self._waiting and len(self._waiting) < WAITING_MAX:
            self._waiting[pair] = leaf

    def _put_off(self, pair: Pair, why: str) -> None:
        config = self._local.config
        wait_ms = config.repair_settle_ms if why == WHY[BUSY] else config.repair_retry_ms
        self._not_before[pair] = self._local.now + wait_ms
        self._met.setdefault(pair, Met()).why = why
        self._orders.failed(pair, why)

    # -- exchanges ---------------------------------------------------------------------------------

    def _start(self) -> None:
        """Begin as many exchanges as there is room for."""
        local = self._local
        for pair in list(self._waiting):
            if len(self.running) >= SETTLING_TIMES * local.config.repairs_max:
                return
            partition, peer = pair
            if partition in self.running or self.answers.is_lent(partition):
                continue
            leaf = self._waiting.pop(pair)
            after = self._stopped_at.pop(pair, b"")
            why = self.unfit(partition, peer)
            if not why and peer not in local.liveness.up:
                why = "the peer is down"
            if why:
                self._put_off(pair, why)
                continue
            self.counters.exchanges += 1
            exchange = Exchange(local, self, partition, peer, leaf, after)
            self.running[partition] = exchange
            exchange.begin()

    def may_read(self) -> bool:
        """Say whether one more exchange may go through keys."""
        reading = sum(exchange.reads for exchange in self.running.values())
        return reading < self._local.config.repairs_max

    def exchanged(self, exchange: Exchange, *, same: bool, more: bool) -> None:
        """An exchange has come to its end."""
        pair = exchange.partition, exchange.peer
        self._over(exchange)
        if exchange.leaf is not None:
            keys = exchange.keys_in + exchange.keys_out
            self._orders.through(pair, exchange.leaf, keys, exchange.bytes)
        if more:
            self._stopped_at[pair] = exchange.stopped_at
            self._queue(pair)
        elif same or not exchange.leaves_found:
            # What differed only for a moment was on its way.
            self.agree(pair)
        self._start()

    def ended(self, exchange: Exchange, why: str) -> None:
        """An exchange was broken off; another one will go on."""
        self._over(exchange)
        if why != WHY[BUSY]:
            self.counters.broken_off += 1
        self._put_off((exchange.partition, exchange.peer), why)

    def _over(self, exchange: Exchange) -> None:
        del self.running[exchange.partition]
        pair = exchange.partition, exchange.peer
        self.counters.leaves += exchange.leaves_found
        if exchange.leaves_found:
            met = self._met.setdefault(pair, Met())
            met.exchanges += 1
            met.leaves += exchange.leaves_found
            met.keys_in += exchange.keys_in
            met.keys_out += exchange.keys_out
            met.bytes += exchange.bytes
            keys = exchange.keys_in + exchange.keys_out
            self._orders.moved(pair, keys, exchange.bytes)

    # -- what is counted ---------------------------------------------------------------------------

    def tell(self, peer: bytes, message: Message) -> int:
        """Send a message of an exchange; return its bytes, without the records in it."""
        size = weight(message)
        self.counters.said += size
        self._local.out.send(peer, message)
        return size

    def doubt(self, leaves: list[int]) -> None:
        """These leaves differ, and none of their keys: make them anew."""
        for leaf in leaves:
            self.counters.doubted += 1
            self.trees.doubt(leaf)

    # -- for people --------------------------------------------------------------------------------

    def order(self, partitions: Iterable[int], leaf: int | None = None) -> Order | None:
        """Compare these partitions with all their other owners now; None: too many orders."""
        local = self._local
        self._share()
        mine = local.routes.owned & local.serves
        pairs = [
            (partition, node)
            for partition in partitions
            if mine >> partition & 1
            for node in local.routes.placement.owners(partition)
            if node != local.me
        ]
        self._look_ms = local.now
        return self._orders.give(pairs, leaf, local.now)

    def ordered(self, number: int) -> Order | None:
        """Return an order, to see how far it is; None if it is not known any more."""
        return self._orders.look(number, self._local.now)

    def _ask_for_orders(self) -> None:
        """Ask for what was ordered and is not compared yet."""
        local = self._local
        asked: dict[bytes, list[int]] = {}
        most = max(1, min(ROOTS_MAX, local.routes.placement.partitions // 4))
        for order in self._orders.open(local.now):
            for pair in order.some():
                partition, node = pair
                why = self.unfit(partition, node)
                if node not in local.liveness.up:
                    why = "the peer is down"
                if why:
                    order.left[pair] = why
                elif self._may_ask(pair):
                    if order.leaf is not None:
                        self._queue(pair, order.leaf)
                    elif len(asked.setdefault(node, [])) < most:
                        asked[node].append(partition)
        for node, chosen in asked.items():
            self._ask(node, sorted(set(chosen)))

    def agreement(self) -> tuple[int, int, int]:
        """Return how many pairs are compared, how many never agreed, and the time at which those
        that did had all done so; now if there are none.
        """
        self._share()
        count, never, oldest = 0, 0, self._local.now
        for state in self._peers.values():
            agreed = [state.agreed_ms.get(partition, -1) for partition in state.partitions]
            count += len(agreed)
            never += agreed.count(-1)
            oldest = min([oldest, *(at for at in agreed if at >= 0)])
        return count, never, oldest

    def rows(self) -> list[tuple[int, bytes, int, Met, str]]:
        """Return (partition, peer, when they agreed last or -1, what was met, phase) of all pairs
        that are compared.
        """
        self._share()
        found = []
        for node, state in sorted(self._peers.items()):
            for partition in state.partitions:
                pair = partition, node
                running = self.running.get(partition)
                phase = running.phase if running is not None and running.peer == node else ""
                if not phase and pair in self._waiting:
                    phase = "waits for its turn"
                agreed = state.agreed_ms.get(partition, -1)
                found.append((partition, node, agreed, self._met.get(pair, Met()), phase))
        return found
