"""Who is so much slower than the others that its answers only hold up those who wait for them: a
gray node.

Three things are measured of each peer, each compared only with the same of the others: the round
trip of pings, how long requests take, and how long its own disk takes for a sync. Each round of
pings takes the mean of its samples into a smoothed value (three eighths of it). One is slow that is

    over   ``gray_times`` the median of all peers, and ``gray_floor_ms``; and, but for the disk,
           four times what is usual for this peer, which may just be far away
    for    ``gray_after_ms``, in three rounds at least and in this one

A sample counts for four times that limit at most, so no single one makes a peer slow; and a peer
of whose answers a third is late is as slow as one that is always late. It is good again when all
is under half of the limit for ``gray_back_ms``, and twice as long after each relapse, up to
``gray_back_max_ms``: so it does not flap.

Costs: a sample is an addition; a round sorts the values of n peers. Some 20 numbers for each peer.

Limits: a peer that is slow from the first contact on is taken for far (up to ``FAR_MS``).

Source: Huang et al., "Gray failure" (HotOS 2017); the comparison with the median of the peers is
that of IASO (ATC 2019); the growing wait is BGP's route-flap damping.
"""

from __future__ import annotations

from collections.abc import Iterable

from everwrite.core.config import NodeConfig

WEIGHT = 3 / 8
CLAMP = 4
USUAL_TIMES = 4
FAR_MS = 400.0
"""No two places on earth are farther apart: what takes longer is not excused by distance."""
CREEP = 1 / 256
"""How fast a peer's usual round trip follows one that grew, in a round of pings."""
RIDS = 127
SENT_MAX = 8
"""Pings that wait for an answer: past it the oldest is forgotten, after some four seconds."""
ROUNDS_MIN = 3
STALE_ROUNDS = 6
"""A value to which no round added for so long says nothing any more."""


class Gauge:
    """One smoothed measure, in ms."""

    __slots__ = ("at", "count", "last", "most", "smooth", "total")

    def __init__(self, most: float) -> None:
        self.most = most
        """For how much a sample counts at most."""
        self.total = 0.0
        self.count = 0
        self.last = 0.0
        """The mean of the latest round that had samples."""
        self.smooth = 0.0
        self.at = -1
        """When that round was; -1: there is no value."""

    def add(self, ms: float) -> None:
        self.total += min(ms, self.most)
        self.count += 1

    def fold(self, now: int, stale_ms: int) -> None:
        """Take in what came in this round."""
        if self.at >= 0 and now - self.at > stale_ms:
            self.at = -1
        if not self.count:
            return
        self.last = self.total / self.count
        self.total, self.count = 0.0, 0
        self.smooth = self.last if self.at < 0 else self.smooth + (self.last - self.smooth) * WEIGHT
        self.at = now

    def drop(self) -> None:
        """Forget what came in this round: it was measured while this node did not run."""
        self.total, self.count = 0.0, 0


class Pace:
    """How fast one peer is."""

    __slots__ = (
        "bad",
        "badness",
        "calm",
        "disk",
        "gauges",
        "good",
        "good_since",
        "latest",
        "pardoned",
        "relapses",
        "rid",
        "sampled",
        "sent",
        "slow_rounds",
        "slow_since",
        "took",
        "trip",
        "usual",
        "vouched",
    )

    def __init__(self, floor_ms: int) -> None:
        most = float(CLAMP * floor_ms)
        self.trip, self.took, self.disk = self.gauges = (Gauge(most), Gauge(most), Gauge(most))
        self.rid = 0
        """Number of the latest ping: 1 to 127, one byte on the wire."""
        self.sent: dict[int, int] = {}
        """When the pings went out that are not answered yet, the oldest first."""
        self.sampled = -1
        self.latest = 0
        """The latest round trip, whole."""
        self.usual = -1.0
        """The round trip that is usual for this peer; -1: not known."""
        self.vouched = False
        """A third node hears it: that this node waits for an answer says nothing of its pace."""
        self.bad = False
        self.good = False
        self.badness = 0.0
        self.calm = False
        """It is good, and so far from slow that it need not be compared."""
        self.slow_since = -1
        self.slow_rounds = 0
        """Rounds since then in which something was measured that was slow."""
        self.good_since = -1
        self.pardoned = -1
        self.relapses = 0

    def asks(self, now: int) -> int:
        """A ping goes out; return its number. Of those without an answer the latest are kept."""
        if len(self.sent) == SENT_MAX:
            del self.sent[next(iter(self.sent))]
        self.rid = rid = self.rid % RIDS + 1
        self.sent[rid] = now
        return rid

    def answered(self, rid: int, now: int) -> int:
        """A ping was answered: return how long that took (-1: it is not known). An older one that
        was not is lost: answers keep their order.
        """
        sent = self.sent.get(rid)
        if sent is None:
            return -1
        for earlier in list(self.sent):
            del self.sent[earlier]
            if earlier == rid:
                break
        self.latest = now - sent
        self.sampled = now
        self.vouched = False
        self.trip.add(self.latest)
        near = min(float(self.latest), FAR_MS)
        self.usual = near if self.usual < 0 else min(self.usual, near)
        return self.latest

    def waits_ms(self, now: int) -> int:
        """Return for how long an answer is owed."""
        return now - next(iter(self.sent.values())) if self.sent else 0

    def rest(self) -> None:
        """The peer is down: nothing is measured."""
        for gauge in self.gauges:
            gauge.drop()
            gauge.at = -1
        self.calm = self.vouched = False
        self.sent.clear()
        self.sampled = self.slow_since = self.good_since = -1


class Slowness:
    """The paces of all peers, and for how long who was slow stays out."""

    def __init__(self, config: NodeConfig) -> None:
        self._times = config.gray_times
        self._floor = config.gray_floor_ms
        self._calm = config.gray_floor_ms / 4
        self._after = config.gray_after_ms
        self._back = config.gray_back_ms
        self._back_max = config.gray_back_max_ms
        self._stale = STALE_ROUNDS * config.ping_every_ms
        self.paces: dict[bytes, Pace] = {}

    def pace(self, peer: bytes) -> Pace:
        pace = self.paces.get(peer)
        if pace is None:
            pace = self.paces[peer] = Pace(self._floor)
        return pace

    def judge(self, now: int, present: Iterable[bytes]) -> None:
        """End a round: say of each peer that is not down whether it is bad or good now."""
        paces = [self.pace(peer) for peer in present]
        for pace in paces:
            waits = 0 if pace.vouched else pace.waits_ms(now)
            if waits > self._floor and not pace.trip.count:
                pace.trip.add(waits)  # the answer will take longer still
            for gauge in pace.gauges:
                if gauge.count or gauge.at >= 0:
                    gauge.fold(now, self._stale)
                    if gauge.last >= self._calm:
                        pace.calm = False
        restless = [pace for pace in paces if not pace.calm]
        if restless:
            limits = [self._limit([pace.gauges[kind] for pace in paces]) for kind in range(3)]
            for pace in restless:
                self._judge_one(now, pace, limits)

    def _limit(self, gauges: list[Gauge]) -> float:
        """Return what nobody should be over. The lower median: of two peers the better one."""
        values = [gauge.smooth for gauge in gauges if gauge.at >= 0]
        if not values or max(values) * self._times <= self._floor:
            return float(self._floor)
        values.sort()
        return max(self._times * values[(len(values) - 1) // 2], float(self._floor))

    def _judge_one(self, now: int, pace: Pace, limits: list[float]) -> None:
        if 0 <= pace.usual < pace.trip.last <= limits[0]:
            pace.usual += (pace.trip.last - pace.usual) * CREEP
        far = USUAL_TIMES * pace.usual
        over = slow = False
        top = 0.0
        pace.bad, pace.good, pace.badness = False, pace.trip.at >= 0, 0.0
        for gauge, bound in zip(pace.gauges, limits, strict=True):
            limit = bound if gauge is pace.disk else max(bound, far)
            gauge.most = CLAMP * limit
            if gauge.at < 0:
                continue
            over = over or gauge.smooth > limit or gauge.last > limit
            slow = slow or (gauge.at == now and gauge.last > limit)
            pace.bad = pace.bad or (gauge.at == now and min(gauge.smooth, gauge.last) > limit)
            pace.good = pace.good and gauge.smooth < limit / 2
            pace.badness = max(pace.badness, gauge.smooth / limit)
            top = max(top, gauge.smooth, gauge.last)
        pace.calm = pace.good and top < self._calm
        if not over:
            pace.slow_since = -1
        elif pace.slow_since < 0:
            pace.slow_since, pace.slow_rounds = now, 0
        pace.slow_rounds += slow
        long_enough = now - pace.slow_since >= self._after and pace.slow_rounds >= ROUNDS_MIN
        pace.bad = pace.bad and long_enough
        if not pace.good:
            pace.good_since = -1
        elif pace.good_since < 0:
            pace.good_since = now

    def marked(self, peer: bytes, now: int) -> None:
        """A peer is left out from now on: count its relapses, which old ones are none of."""
        pace = self.pace(peer)
        if pace.pardoned >= 0 and now - pace.pardoned > 4 * self._back_max:
            pace.relapses = 0
        pace.relapses += 1
        pace.good_since = -1

    def may_return(self, peer: bytes, now: int) -> bool:
        """Say whether a peer that was left out was good for long enough."""
        pace = self.paces[peer]
        hold = min(self._back << min(pace.relapses - 1, 20), self._back_max)
        return pace.good_since >= 0 and now - pace.good_since >= hold

    def pardoned(self, peer: bytes, now: int) -> None:
        """A peer is left out no more."""
        pace = self.paces[peer]
        pace.pardoned = now
        pace.slow_since = -1
        pace.bad = False
