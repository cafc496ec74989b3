"""Publish and subscribe over the cluster: a publication goes to all nodes that have subscribers,
and to each at most once.

    publisher -> Publish -> this node -> Spread   -> each node that has said Wanted -> its clients
              <- Published         <-    Reached  <- and this one, if it has some

A node tells all others whether it has any subscribers (``Wanted``), not to which channels: a
subscription costs no message then, but for the first of a node. Whoever subscribes is told so once
all nodes that are up have noted that this one wants publications: what is published after that,
wherever, comes to him. After the last has gone a node goes on to want them for LINGER_MS, so that
clients that come and go make no traffic. A peer that has said nothing yet is taken to want them.

Nothing is kept and nothing is sent again. Publications to one node have rising numbers, and what
comes with a number that is not higher is dropped: so whatever links and reconnections do, a
subscriber hears a publication once or not at all, and those of one publisher in their order. The
numbers begin at ``Local.stamp``, which a later start begins above.

The shell hands publications to the clients of its node, and says then how many have it
(``handed_on``): so Published tells who was reached, and the window of a stream says how far the
other end is behind. A window that is full drops what is published. A node that does not answer in
ANSWER_MS is late: no publisher waits for it until it has answered again.

Costs: for a publication two messages to each node that has subscribers, and a row of the table of
requests; at rest nothing.

Source: Redis' own promise, at most once and nothing kept. Differs: Redis Cluster sends each
publication to all nodes, and tells how many clients of one node it reached.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import msgspec

from everwrite.core.data.keys import KEY_BYTES_MAX, VALUE_BYTES_MAX
from everwrite.core.errors import TooLarge
from everwrite.core.failures import failure_of
from everwrite.core.local import Local, Request
from everwrite.core.messages.channels import (
    Listen,
    Listening,
    Noted,
    Publish,
    Published,
    Reached,
    Spread,
    Wanted,
)
from everwrite.core.outbox import Place, node_at
from everwrite.core.request.limits import too_busy

CHANNEL_BYTES_MAX = KEY_BYTES_MAX
WINDOW_MAX = 1024
"""Publications to one node that it has not answered: what is published then it does not get."""
WINDOW_BYTES_MAX = 8 << 20
ENTRY_BYTES = 64
"""What one of them costs beside its bytes."""
FORGET_MS = 5_000
"""An answer that has not come for so long does not come: a broken line has taken it."""
ANSWER_MS = 200
"""A publisher waits for the other nodes for so long."""
LISTEN_MS = 1_000
"""A subscriber waits for so long until all know of him; by then who is silent is nearly down."""
LISTENING_MAX = 10_000
AGAIN_MS = 250
"""A peer that does not note what it was told is told again."""
LINGER_MS = 10_000


class Counted(msgspec.Struct):
    """What happened since the start, for metrics."""

    published: int = 0
    """By clients of this node."""
    sent: int = 0
    """To other nodes."""
    came: int = 0
    """From other nodes."""
    full: int = 0
    """Not sent to a node, since its window was full."""
    repeated: int = 0
    """Dropped on arrival: they came twice, or behind a later one."""
    unanswered: int = 0
    """Nodes of which a publisher was not told how many they reached."""


class Sent(NamedTuple):
    """One publication that was not answered yet."""

    number: int
    size: int
    at: int
    request: Publishing


class Stream:
    """What goes to one node, in its order."""

    __slots__ = ("_forget_ms", "_sent", "bytes", "late", "number")

    def __init__(self, number: int, forget_ms: int | None = FORGET_MS) -> None:
        self._forget_ms = forget_ms
        """None: each is answered, however late."""
        self.number = number
        """The last that was given."""
        self._sent: deque[Sent] = deque()
        self.bytes = 0
        """What those have that are not answered."""
        self.late = False
        """Whether the other end has left a publisher waiting, and not answered since."""

    def __len__(self) -> int:
        return len(self._sent)

    def has_room(self, size: int, now: int) -> bool:
        """Say whether one more publication of this size may go."""
        sent = self._sent
        if self._forget_ms is not None:
            while sent and now - sent[0].at > self._forget_ms:
                self.bytes -= sent.popleft().size
        return not sent or (len(sent) < WINDOW_MAX and self.bytes + size <= WINDOW_BYTES_MAX)

    def add(self, size: int, now: int, request: Publishing) -> int:
        """Let one more go; return its number."""
        self.number += 1
        self.bytes += size
        self._sent.append(Sent(self.number, size, now, request))
        return self.number

    def answered(self, place: bytes, number: int, count: int) -> None:
        """The other end has handed on so far; what it skipped has not come to it."""
        self.late = False
        sent = self._sent
        while sent and sent[0].number <= number:
            first = sent.popleft()
            self.bytes -= first.size
            first.request.reached(place, count if first.number == number else 0)

    def clear(self) -> None:
        """The other end went down."""
        self._sent.clear()
        self.bytes = 0
        self.late = False


class Peer:
    """Another node that understands these messages."""

    __slots__ = ("noted", "said", "stream", "taken", "wanted")

    def __init__(self, number: int) -> None:
        self.stream = Stream(number)
        self.wanted = True
        """Whether it has subscribers, or may have."""
        self.said = -1
        """The generation of what it said last,"""
        self.noted = -1
        """and the last of this node's that it has noted."""
        self.taken = -1
        """The number of the last publication that came from it."""


class Publishing(Request):
    """One publication, until all who were sent it have said whom it reached."""

    __slots__ = ("_channels", "_client", "_count", "_rid", "_waits", "row")

    does = "publishes"

    def __init__(self, channels: Channels, client: Place, rid: int) -> None:
        self._channels = channels
        self._client = client
        self._rid = rid
        self._count = 0
        self._waits: dict[bytes, None] = {}
        """Nodes whose answer is due."""
        self.row = 0

    def wait_for(self, place: bytes) -> None:
        self._waits[place] = None

    @property
    def waits(self) -> bool:
        return bool(self._waits)

    def reached(self, place: bytes, count: int) -> None:
        """A node has handed it to so many."""
        if place in self._waits:
            del self._waits[place]
            self._count += count
            self._end_if_done()

    def lost(self, peer: bytes) -> None:
        if peer in self._waits:
            self._channels.counted.unanswered += 1
            self.reached(peer, 0)

    def wake(self) -> None:
        """Wait for no peer any more; this node itself always answers."""
        late = [place for place in self._waits if place != self._channels.me]
        for place in late:
            del self._waits[place]
            self._channels.is_late(place)
        self._end_if_done()

    def _end_if_done(self) -> None:
        if not self._waits:
            self._channels.over(self.row, self._client, Published(self._rid, self._count))


class Channels:
    """See the module."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self.me = local.me
        self.counted = Counted()
        self.wants = False
        """Whether there are subscribers here, or were a moment ago."""
        self._generation = local.stamp
        self._end_ms = -1
        """When this node wants no more; -1: that is not to be."""
        self._peers: dict[bytes, Peer] = {}
        self._own = Stream(local.stamp, forget_ms=None)
        self._listening: deque[tuple[Place, int, int]] = deque()
        """Who waits until all know that this node has subscribers, and until when at most."""
        self._again_ms = local.now
        self.from_clients: dict[type, Any] = {Publish: self.publish, Listen: self.listen}
        self.from_nodes: dict[type, Any] = {
            Wanted: self._wanted,
            Noted: self._noted,
            Spread: self._spread,
            Reached: self._reached,
        }

    # -- peers -------------------------------------------------------------------------------------

    def met(self, peer: bytes, *, speaks: bool) -> None:
        """A connection to a peer was made: does it understand these messages?"""
        if not speaks:
            self.forget(peer)
        elif peer not in self._peers:
            self._peers[peer] = Peer(self._local.stamp)

    def came(self, peer: bytes) -> None:
        """A peer is there that was down: neither side knows what the other one wants."""
        known = self._peers.get(peer)
        if known is not None:
            known.wanted, known.noted = True, -1
            self._tell(peer)

    def lost(self, peer: bytes) -> None:
        """A peer went down; its publishers were told (``Publishing.lost``)."""
        known = self._peers.get(peer)
        if known is not None:
            known.stream.clear()
            self._look_who_listens()

    def forget(self, peer: bytes) -> None:
        """A member was removed, or is of an older version now."""
        self._peers.pop(peer, None)

    def _is_up(self, peer: bytes) -> bool:
        known = self._local.liveness.peers.get(peer)
        return known is not None and not known.down

    def _tell(self, peer: bytes) -> None:
        self._local.out.send(peer, Wanted(self._generation, self.wants))

    def _unaware(self) -> list[bytes]:
        """Return the peers that are up and have not noted what this node wants."""
        mine = self._generation
        return [
            peer for peer, known in self._peers.items() if known.noted < mine and self._is_up(peer)
        ]

    # -- subscribers -------------------------------------------------------------------------------

    def listen(self, source: Place, message: Listen) -> None:
        """Somebody is about to subscribe here, or says so: he has to come (``occupied``)."""
        if self._end_ms >= 0 or not self.wants:
            self._end_ms = self._local.now + LINGER_MS
            self._want(wants=True)
        if len(self._listening) >= LISTENING_MAX:
            self._local.out.send(source, failure_of(message.rid, too_busy(self._local)))
            return
        self._listening.append((source, message.rid, self._local.now + LISTEN_MS))
        self._look_who_listens()

    def occupied(self, there: bool) -> None:
        """Say whether this node has subscribers."""
        if there:
            self._end_ms = -1
            self._want(wants=True)
        elif self.wants and self._end_ms < 0:
            self._end_ms = self._local.now + LINGER_MS

    def _want(self, *, wants: bool) -> None:
        """Tell all others, if it is news."""
        if wants == self.wants:
            return
        self.wants = wants
        self._generation = max(self._generation + 1, self._local.stamp)
        for peer in self._peers:
            if self._is_up(peer):
                self._tell(peer)

    def _look_who_listens(self) -> None:
        if self._listening and not self._unaware():
            while self._listening:
                self._listens()

    def _listens(self) -> None:
        """The first who waits need not any more."""
        source, rid, _ = self._listening.popleft()
        self._local.out.send(source, Listening(rid))

    # -- publishers --------------------------------------------------------------------------------

    @property
    def audience(self) -> int:
        """To how many nodes a publication goes."""
        return self.wants + sum(known.wanted for known in self._peers.values())

    def publish(self, source: Place, message: Publish) -> None:
        """Bring a publication to all who want it."""
        local = self._local
        size = len(message.channel) + len(message.payload)
        if len(message.channel) > CHANNEL_BYTES_MAX or len(message.payload) > VALUE_BYTES_MAX:
            too_large = TooLarge(
                f"A publication of {size} bytes is not possible.",
                hint=f"Use a channel of up to {CHANNEL_BYTES_MAX} bytes, "
                f"and a payload of up to {VALUE_BYTES_MAX}.",
            )
            local.out.send(source, failure_of(message.rid, too_large))
            return
        if len(local.requests) - local.background >= local.config.in_flight_max:
            local.out.send(source, failure_of(message.rid, too_busy(local)))
            return
        self.counted.published += 1
        size += ENTRY_BYTES
        publishing = Publishing(self, source, message.rid)
        for peer, known in self._peers.items():
            if known.wanted and self._is_up(peer):
                spread = self._next(known.stream, message, size, publishing)
                if spread is not None:
                    self.counted.sent += 1
                    local.out.send(peer, spread)
                    if not known.stream.late:
                        publishing.wait_for(peer)
        if self.wants and (spread := self._next(self._own, message, size, publishing)) is not None:
            publishing.wait_for(self.me)
            local.out.heard.append((self.me, spread))
        if publishing.waits:
            publishing.row = local.open_request(publishing, local.now + ANSWER_MS)
        else:
            local.out.send(source, Published(message.rid, 0))

    def _next(
        self, stream: Stream, message: Publish, size: int, publishing: Publishing
    ) -> Spread | None:
        """Return a publication as it goes to one node; None if it is too far behind."""
        now = self._local.now
        if not stream.has_room(size, now):
            self.counted.full += 1
            return None
        number = stream.add(size, now, publishing)
        return Spread(number, message.channel, message.payload, message.sharded)

    def handed_on(self, source: bytes, number: int, count: int) -> None:
        """The shell has handed a publication to so many subscribers of this node."""
        if source == self.me:
            self._own.answered(self.me, number, count)
        else:
            self._local.out.send(source, Reached(number, count))

    def over(self, row: int, client: Place, published: Published) -> None:
        """All have answered who are waited for."""
        del self._local.requests[row]
        self._local.out.send(client, published)

    def is_late(self, peer: bytes) -> None:
        """A peer has let a publisher wait for too long."""
        self.counted.unanswered += 1
        known = self._peers.get(peer)
        if known is not None:
            known.stream.late = True

    # -- what other nodes say ----------------------------------------------------------------------

    def _known(self, source: Place) -> Peer:
        """Return whoever has sent such a message: so it understands them."""
        known = self._peers.get(node_at(source))
        if known is None:
            known = self._peers[node_at(source)] = Peer(self._local.stamp)
        return known

    def _wanted(self, source: Place, message: Wanted) -> None:
        known = self._known(source)
        if message.generation >= known.said:
            known.said, known.wanted = message.generation, message.wanted
        self._local.out.send(source, Noted(message.generation))

    def _noted(self, source: Place, message: Noted) -> None:
        known = self._known(source)
        known.noted = max(known.noted, message.generation)
        self._look_who_listens()

    def _spread(self, source: Place, message: Spread) -> None:
        known = self._known(source)
        if message.number <= known.taken:
            self.counted.repeated += 1
            return
        known.taken = message.number
        self.counted.came += 1
        if self.wants:
            self._local.out.heard.append((node_at(source), message))
            return
        self._local.out.send(source, Reached(message.number, 0))
        self._tell(node_at(source))

    def _reached(self, source: Place, message: Reached) -> None:
        self._known(source).stream.answered(node_at(source), message.number, message.count)

    # -- time --------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Tell again who has not noted it, end what is overdue."""
        now = self._local.now
        if 0 <= self._end_ms <= now:
            self._end_ms = -1
            self._want(wants=False)
        if now >= self._again_ms:
            self._again_ms = now + AGAIN_MS
            for peer in self._unaware():
                self._tell(peer)
        while self._listening and self._listening[0][2] <= now:
            self._listens()

    def next_wake_ms(self) -> int | None:
        """Return when ``wake`` has something to do; None: not before something happens."""
        due = [self._again_ms] if self._unaware() else []
        if self._end_ms >= 0:
            due.append(self._end_ms)
        if self._listening:
            due.append(self._listening[0][2])
        return min(due, default=None)
