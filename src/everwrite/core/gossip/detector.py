"""The failure detector: pings, probes through third nodes, and who is passed over (Dynamo 4.8.3).

Each ``ping_every_ms`` whoever said nothing meanwhile is pinged, and whoever's round trip was not
measured for three rounds. What is found is local and never changes membership (P6):

    a dead process     its connection breaks: down at once
    a silent one       down after ``down_after_ms``, or when the patience with it ends (liveness.py)
    a cut link         before that, three others are asked for it (SWIM). If it answers one of them,
                       the trouble is between us, or mine: it gets twice ``down_after_ms``, once
    a gray node        out of ``up`` after some 4 s, back when it was well for a while (slowness.py)
    a pause here       nobody's silence counts for the time in which this node did not run

Those that are out for being slow, with those that are down, are fewer than half of the members: so
slowness alone never takes a quorum away, and who is slow is taken in again when others die.

Costs, for n peers: at rest a node sends 1.4 n messages of 9 bytes each second, pings and their
answers. A frame costs 0.3 us, a round 3 to 9 us for each peer.
"""

from __future__ import annotations

import xxhash

from everwrite.core.cluster.liveness import Peer
from everwrite.core.cluster.slowness import Pace, Slowness
from everwrite.core.local import Local
from everwrite.core.messages.members import Ping, Pong, Probe, Probed
from everwrite.core.outbox import Place
from everwrite.core.probes import sometimes

PROBES = 3
"""Third nodes that are asked for a silent peer (SWIM, memberlist)."""
ASKERS_MAX = 16
"""Nodes that one peer is pinged for; past it they are told nothing, and have asked others too."""
TIMED_EVERY = 3
"""Rounds after which a peer is pinged though it is heard: its round trip is to be known."""


class Detector:
    """See the module."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._liveness = local.liveness
        self._slowness = Slowness(local.config)
        self._every = local.config.ping_every_ms
        self._stall_ms = max(20, self._every // 4)
        """A wake-up that comes later than this was late since this node did not run."""
        self._quiet_ms = self._every + self._every // 8
        """Silence after which a peer is pinged: what it answered to the last round is none."""
        self._calm_ms = min(self._quiet_ms, 3 * local.config.down_after_ms // 4 - self._every)
        """Silence under which no patience ends in this round."""
        self._stood_until = local.now
        self._due = local.now
        self._round_ms = local.now
        self._watched: list[bytes] = []
        """Whose patience may end before the next round."""
        self._askers: dict[bytes, tuple[int, list[bytes]]] = {}
        """Since when and for whom a peer is pinged."""
        self._draws = 0
        self._heard = local.liveness.heard
        self.pings = self.falls = 0
        """Questions to peers that were up or silent, and how often one was out of ``up``."""

    # -- what is heard -----------------------------------------------------------------------------

    def heard(self, peer: bytes) -> bool:
        """A frame of a peer came, or its connection was made; return whether it was out of ``up``
        and is in it now.
        """
        local = self._local
        if not self._heard(peer, local.now):
            return False
        local.routes.forget()
        return True

    def lost(self, peer: bytes) -> bool:
        """The last connection of a peer broke; return whether it was up until now."""
        was_up = self._liveness.lost(peer)
        pace = self._slowness.pace(peer)
        pace.rest()
        if peer not in self._liveness.slow:
            pace.usual = -1.0  # it may come back in another place
        self._askers.pop(peer, None)
        self.falls += was_up
        if was_up:
            self._local.routes.forget()
        self._keep_enough()
        return was_up

    def ping(self, source: Place, message: Ping) -> None:
        """A peer asks whether this node is there."""
        local = self._local
        wall_ms = local.clock.wall_ms(local.now)
        local.out.send(source, Pong(message.rid, local.disk_ms, wall_ms))

    def pong(self, source: Place, message: Pong) -> None:
        """A peer answered: how long did it take? And who else wants to know?"""
        pace = self._slowness.paces.get(source) if isinstance(source, bytes) else None
        if pace is None or not isinstance(source, bytes):
            return
        trip_ms = pace.answered(message.rid, self._local.now)
        if message.time_ms and trip_ms >= 0:
            self._local.clock.said(source, self._local.now, message.time_ms, trip_ms)
        if message.disk_ms >= 0:
            pace.disk.add(message.disk_ms)
        if source in self._askers:
            for asker in self._askers.pop(source)[1]:
                self._local.out.send(asker, Probed(source, 0))

    def probe(self, source: Place, message: Probe) -> None:
        """Another node does not hear a peer: ping it, and pass the answer on."""
        local, peer = self._local, message.peer
        known = self._liveness.peers.get(peer)
        if not isinstance(source, bytes):
            return
        if known is None or known.down:
            local.out.send(source, Probed(peer, self.silent_ms(peer)))
            return
        if peer not in self._askers:
            self._askers[peer] = (local.now, [])
            self._ping(peer)
        askers = self._askers[peer][1]
        if source not in askers and len(askers) < ASKERS_MAX:
            askers.append(source)

    def probed(self, source: Place, message: Probed) -> None:
        """A third node says whether it hears a peer. Only a sign of life since the question counts:
        what it heard before, this node may have heard too.
        """
        known = self._liveness.peers.get(message.peer)
        if known is None or known.down or known.probed != known.heard:
            return
        if 0 <= message.silent_ms <= self._local.now - known.probed_at:
            known.vouched = known.heard
            self._slowness.pace(message.peer).vouched = True
            sometimes("a peer that is silent here is heard by a third")

    def took(self, peer: bytes, ms: int) -> None:
        """A peer took so long to answer a request."""
        pace = self._slowness.paces.get(peer)
        if pace is not None and self._local.now - ms >= self._stood_until:
            pace.took.add(ms)

    def ask_time(self, peer: bytes) -> None:
        """Ping a peer that was heard, for what time it is."""
        self._ping(peer)

    def forget(self, peer: bytes) -> None:
        """A member was removed."""
        self._slowness.paces.pop(peer, None)
        self._askers.pop(peer, None)
        if self._liveness.forget(peer):
            self._local.routes.forget()

    # -- questions ---------------------------------------------------------------------------------

    def silent_ms(self, peer: bytes) -> int:
        """Return how long nothing was heard of a peer; -1 if nothing ever was."""
        return self._liveness.silent_ms(peer, self._local.now)

    def state(self, peer: bytes) -> str:
        """Return "up", "slow" or "down"."""
        return self._liveness.state(peer)

    def rtt_ms(self, peer: bytes) -> int:
        """Return the smoothed round trip of pings; -1 if none was measured lately."""
        pace = self._slowness.paces.get(peer)
        return -1 if pace is None or pace.trip.at < 0 else round(pace.trip.smooth)

    def next_wake_ms(self) -> int:
        """Return when ``wake`` has something to do."""
        return self._due

    # -- time --------------------------------------------------------------------------------------

    def wake(self) -> list[bytes]:
        """Send what is due; return who was up and is not any more, in the order of their ids."""
        local, liveness = self._local, self._liveness
        now = local.now
        if now < self._due:
            return []
        late = now - self._due
        if late > self._stall_ms:
            self._stood(now, late)
        gone: set[bytes] = set()
        if now >= self._round_ms:
            self._round_ms = now + self._every
            gone.update(self._round(now))
        gone.update(self._watch(now))
        self.falls += len(gone)
        if gone:
            local.routes.forget()
        if liveness.slow:
            self._keep_enough()
        return sorted(gone)

    def _stood(self, now: int, stood_ms: int) -> None:
        """This node did not run: what it did not hear meanwhile says nothing of others."""
        self._stood_until = now
        self._liveness.stood(now, stood_ms)
        for pace in self._slowness.paces.values():
            pace.sent.clear()
            for gauge in pace.gauges:
                gauge.drop()

    def _round(self, now: int) -> list[bytes]:
        """Ping, take in what was measured, and see who is slow; return whom that put out."""
        liveness = self._liveness
        self._meet()
        for peer in [p for p, asked in self._askers.items() if now - asked[0] > 2 * self._every]:
            del self._askers[peer]
        self._slowness.judge(now, (p for p, known in liveness.peers.items() if not known.down))
        put_out = self._judge_slow(now)
        self._watched.clear()
        for peer, known in liveness.peers.items():
            if known.down:
                self._local.out.send(peer, Ping(0))
                continue
            pace = self._slowness.pace(peer)
            silent_ms = now - known.heard
            if silent_ms > self._quiet_ms or self._is_unmeasured(now, peer, pace):
                self._ping(peer)
            liveness.learn(known, 2 * (self._quiet_ms + pace.latest))
            if silent_ms > self._calm_ms:
                self._watched.append(peer)
        return put_out

    def _meet(self) -> None:
        """Know all members, and nobody else who is down."""
        members, liveness = self._local.members, self._liveness
        others = members.others()
        for member in others:
            liveness.know(member.node_id)
        if len(liveness.peers) > len(others):
            strangers = [
                peer for peer, known in liveness.peers.items() if known.down and peer not in members
            ]
            for peer in strangers:
                self.forget(peer)

    def _is_unmeasured(self, now: int, peer: bytes, pace: Pace) -> bool:
        """Say whether a peer is to be pinged though it is heard, for its round trip."""
        closely = pace.sent or pace.slow_since >= 0 or peer in self._liveness.slow
        return bool(closely) or now - pace.sampled >= TIMED_EVERY * self._every

    def _ping(self, peer: bytes) -> None:
        """Ping a peer that is not down."""
        self.pings += 1
        self._local.out.send(peer, Ping(self._slowness.pace(peer).asks(self._local.now)))

    # -- silence -----------------------------------------------------------------------------------

    def _lead(self, known: Peer) -> int:
        """Return how long before the patience ends others are asked: it was pinged before that, at
        a silence of twice ``ping_every_ms`` at most.
        """
        return min(self._every // 2, known.patience // 4)

    def _watch(self, now: int) -> list[bytes]:
        """See whose patience has ended, and for whom others are to be asked; return who was up and
        is down now.
        """
        liveness = self._liveness
        self._due = self._round_ms
        fallen: list[bytes] = []
        for peer in self._watched:
            known = liveness.peers.get(peer)
            if known is None or known.down:
                continue
            since = known.since()
            end = since + liveness.patience(known)
            ask = since + known.patience - self._lead(known)
            if now > end:
                sometimes("a peer is taken for down since it was silent")
                self._slowness.pace(peer).rest()
                if liveness.fall(peer, now):
                    fallen.append(peer)
                if liveness.flaps(peer) and peer not in liveness.slow:
                    self._leave_out(peer, now)
                continue
            if now >= ask:
                if known.probed != known.heard:
                    self._probe(peer, known, now)
                self._due = min(self._due, end + 1)
            else:
                self._due = min(self._due, ask)
        return fallen

    def _probe(self, peer: bytes, known: Peer, now: int) -> None:
        """Ask a few others for a peer, each time others."""
        known.probed, known.probed_at = known.heard, now
        others = self._local.members.others()
        up = self._liveness.up
        self._draws += 1
        drawn = xxhash.xxh3_64_intdigest(self._local.me + self._draws.to_bytes(8, "big"))
        asked = 0
        for step in range(len(others)):
            other = others[(drawn + step) % len(others)].node_id
            if other != peer and other in up:
                self._local.out.send(other, Probe(peer))
                asked += 1
                if asked == PROBES:
                    break
        self._ping(peer)

    # -- slowness ----------------------------------------------------------------------------------

    def _judge_slow(self, now: int) -> list[bytes]:
        """Let those back who were well for long enough; return who is left out from now on: the
        slowest first, as far as there is room.
        """
        liveness, slowness = self._liveness, self._slowness
        for peer in sorted(liveness.slow):
            if not liveness.peers[peer].down and slowness.may_return(peer, now):
                self._take_in(peer)
        bad = [peer for peer in liveness.up if slowness.pace(peer).bad]
        if not bad:
            return []
        bad.sort(key=lambda peer: (-slowness.pace(peer).badness, peer))
        room = self._room()
        put_out = [peer for peer in bad[: max(room, 0)] if self._leave_out(peer, now)]
        if put_out:
            sometimes("a peer is passed over since it is slow")
        return put_out

    def _room(self) -> int:
        """Return how many more may be left out for being slow; less than 0: so many too many.

        With those that are down they are fewer than half of the members.
        """
        liveness = self._liveness
        out = sum(known.down or p in liveness.slow for p, known in liveness.peers.items())
        return (len(self._local.members) - 1) // 2 - out

    def _leave_out(self, peer: bytes, now: int) -> bool:
        self._slowness.marked(peer, now)
        return self._liveness.leave_out(peer)

    def _take_in(self, peer: bytes) -> None:
        """A peer is up again at its next frame; so it is asked for one."""
        self._slowness.pardoned(peer, self._local.now)
        self._liveness.take_in(peer)
        self._ping(peer)

    def _keep_enough(self) -> None:
        """Take slow peers in again when too many others are down: better slow than none."""
        liveness, slowness = self._liveness, self._slowness
        present = [peer for peer in liveness.slow if not liveness.peers[peer].down]
        excess = -self._room() if present else 0
        if excess <= 0:
            return
        present.sort(key=lambda peer: (slowness.pace(peer).badness, peer))
        for peer in present[:excess]:
            slowness.pace(peer).relapses -= 1  # it was not well, so it is no relapse if it is again
            self._take_in(peer)
