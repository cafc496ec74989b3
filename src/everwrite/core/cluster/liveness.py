"""Who seems up, in the eyes of this node alone. It decides whom to skip now, and never who owns
what (Dynamo 4.8.3).

    up     requests may be sent to it
    slow   it answers, but so much later than the others that it is passed over (slowness.py)
    down   its connection broke, or it was silent for longer than the patience with it

The patience is ``down_after_ms``, and more with a peer that is far or often silent for long: a
quarter more than its longest silence of late (a peak that decays within a minute), or two rounds of
pings and twice its latest round trip; at most twice ``down_after_ms``. Silence counts only while
this node itself ran (``stood``). A peer is up again at its next frame, unless it is out for being
slow.

Costs: ``heard`` is called for every frame: two dictionary look-ups (0.2 us). A few numbers for each
peer.

Source: phi (Hayashibara 2004) in its aim; a peak in the place of its window of samples, since what
matters is the longest silence that is no failure. Lifeguard's local health.
"""

from __future__ import annotations

PATIENCE_TIMES = 2
"""The longest patience, in ``down_after_ms``: past it a peer is down whatever speaks for it."""
DECAY = 1 / 64
"""Of the peak, in a round of pings."""
FALLS_MAX = 3
"""A peer that falls silent so often in a row is a flapping one, and treated like a slow one."""


class Peer:
    """What this node heard of one peer. Times are ms of this node's clock, -1: never."""

    __slots__ = (
        "base",
        "broke",
        "down",
        "excused",
        "falls",
        "fell",
        "heard",
        "longest",
        "patience",
        "peak",
        "probed",
        "probed_at",
        "vouched",
    )

    def __init__(self, patience: int) -> None:
        self.heard = -1
        self.down = True
        self.broke = True
        """It is down since it has no connection, and not for its silence."""
        self.longest = 0
        """The longest silence in this round."""
        self.peak = 0.0
        self.patience = patience
        self.falls = 0
        self.fell = -1
        # Which silence something belongs to is told by when it began: ``heard`` as it was then. So
        # ``heard`` itself has nothing to clear.
        self.excused = -1
        self.base = -1
        """From when on the silence counts that began at ``excused``."""
        self.probed = -1
        self.probed_at = -1
        self.vouched = -1

    def since(self) -> int:
        """Return from when on its present silence counts."""
        return self.base if self.excused == self.heard else self.heard


class Liveness:
    """When each peer was heard; ``up`` is the answer to "may I send to it?"."""

    def __init__(self, down_after_ms: int) -> None:
        self._down_after_ms = down_after_ms
        self._patience_max = PATIENCE_TIMES * down_after_ms
        self.peers: dict[bytes, Peer] = {}
        """All members but this node, and whoever else was heard; the detector prunes it."""
        self.up: set[bytes] = set()
        self.slow: set[bytes] = set()
        """Out of ``up`` for being slow, or for flapping; some may be down besides."""

    def heard(self, peer: bytes, now: int) -> bool:
        """Take note of a frame; return whether the peer was out of ``up`` and is in it now."""
        known = self.peers.get(peer)
        if known is None:
            known = self.know(peer)
        gap = now - known.heard
        if gap > known.longest:  # noqa: PLR1730 - a call of max() would cost as much as all the rest
            known.longest = gap
        known.heard = now
        return False if peer in self.up else self._back(peer, known)

    def know(self, peer: bytes) -> Peer:
        """Return what is known of a peer; of a new one: nothing."""
        known = self.peers.get(peer)
        if known is None:
            known = self.peers[peer] = Peer(self._down_after_ms)
        return known

    def _back(self, peer: bytes, known: Peer) -> bool:
        if known.down:
            known.down = False
            if known.broke or known.longest > 2 * self._patience_max:
                known.longest = 0  # an outage, which says nothing of its usual silences
            known.broke = False
        if peer in self.slow:
            return False
        self.up.add(peer)
        return True

    def lost(self, peer: bytes) -> bool:
        """Take note of a broken connection; return whether the peer was up until now."""
        known = self.know(peer)
        known.down = known.broke = True
        was_up = peer in self.up
        self.up.discard(peer)
        return was_up

    def fall(self, peer: bytes, now: int) -> bool:
        """Take a peer for down since it is silent; return whether it was up until now."""
        known = self.peers[peer]
        known.down = True
        in_a_row = known.fell >= 0 and now - known.fell < 20 * self._down_after_ms
        known.falls = known.falls + 1 if in_a_row else 1
        known.fell = now
        was_up = peer in self.up
        self.up.discard(peer)
        return was_up

    def flaps(self, peer: bytes) -> bool:
        """Say whether a peer fell silent again and again, soon after it was back."""
        return self.peers[peer].falls >= FALLS_MAX

    def leave_out(self, peer: bytes) -> bool:
        """Take a peer for slow; return whether it was up until now."""
        self.slow.add(peer)
        was_up = peer in self.up
        self.up.discard(peer)
        return was_up

    def take_in(self, peer: bytes) -> None:
        """Take a peer for slow no more: it is up at its next frame."""
        self.slow.discard(peer)
        self.peers[peer].falls = 0

    def forget(self, peer: bytes) -> bool:
        """Forget a peer; return whether it was up until now."""
        was_up = peer in self.up
        self.up.discard(peer)
        self.slow.discard(peer)
        self.peers.pop(peer, None)
        return was_up

    # -- patience ----------------------------------------------------------------------------------

    def learn(self, known: Peer, answers_ms: int) -> None:
        """End a round: take in the longest silence in it, and how long the peer may let this node
        wait, from its last frame before a ping to its answer.
        """
        silence = min(known.longest, self._patience_max)
        known.longest = 0
        if silence >= known.peak:
            known.peak = float(silence)
        else:
            known.peak += (silence - known.peak) * DECAY
        usual = max(known.peak * 1.25, answers_ms)
        known.patience = int(min(max(usual, self._down_after_ms), self._patience_max))

    def patience(self, known: Peer) -> int:
        """Return for how long the present silence of a peer is borne."""
        return self._patience_max if known.vouched == known.heard else known.patience

    def stood(self, now: int, stood_ms: int) -> None:
        """This node did not run for a time: nobody's silence was silence meanwhile. All get a fresh
        patience, once in each silence; what this node stands after that is left out of the count.
        """
        for known in self.peers.values():
            if known.heard < 0:
                continue
            if known.excused == known.heard:
                known.base += stood_ms
            else:
                known.excused, known.base = known.heard, now
            known.longest = 0

    # -- questions ---------------------------------------------------------------------------------

    def silent_ms(self, peer: bytes, now: int) -> int:
        """Return how long nothing was heard of a peer; -1 if nothing ever was."""
        known = self.peers.get(peer)
        return -1 if known is None or known.heard < 0 else now - known.heard

    def state(self, peer: bytes) -> str:
        """Return "up", "slow" or "down"."""
        if peer in self.up:
            return "up"
        known = self.peers.get(peer)
        return "down" if known is None or known.down else "slow"
