"""A network that can be broken: one door in front of each node, through which all must go.

The nodes advertise their doors, so peers and clients dial them, and what comes in is passed on to
the node behind. The first frame of a connection says who dials (``Hello.name``, and a ``node_id``
if it is a node), so faults are per *directed* pair: both connections between two nodes carry frames
both ways, and a fault of n1 > n2 strikes what n1 sends on either.

The proxy passes whole frames (4 bytes of length and a payload), and never looks into one behind the
handshake. What it can do to a directed pair (``Faults``):

    delay_s, jitter_s   each frame arrives later; never before the one that was sent before it
    loss                a frame is gone, the connection stays
    duplicate           a frame comes twice
    bytes_per_s         a slow line
    held                nothing arrives, the connection stays open; what was sent arrives after
                        (what TCP does over a cable that was out), or never if the connection dies
    blocked             nothing arrives, ever: as ``loss`` 1, and no handshake comes through either
    cut                 whoever dials that way is refused, and what was dialled that way is reset

and to connections of clients, at once: ``reset`` and ``tear`` (closed in the middle of a frame).

Loss and duplicates come after the handshake only, whose frames a node would take for an attack; a
client's frames are neither lost nor doubled, since TCP does neither, but held, delayed and torn.

Every decision comes from a generator of the seed and the pair; ``struck`` counts what really
happened. Costs: about 20 us per frame.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Iterable
from types import TracebackType
from typing import Self, cast

import msgspec

from everwrite.core.messages.greeting import Hello
from everwrite.core.wire import decode_payload

HOST = "127.0.0.1"
CLIENT = "client"
DIAL_S = 2.0
KEPT_BYTES_MAX = 4 << 20
"""What a direction keeps of frames that are held or late, before it stops reading from the sender:
a window that is full, as in TCP."""

Pair = tuple[str, str]
"""Sender and receiver, by name."""


class Faults(msgspec.Struct):
    """What befalls the frames of one directed pair; see the module."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    bytes_per_s: float = 0.0
    held: bool = False
    blocked: bool = False
    cut: bool = False


_CALM = Faults()


class Proxy:
    """All doors; ``async with``, then ``open`` one for each node."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._faults: dict[Pair, Faults] = {}
        self._chances: dict[Pair, random.Random] = {}
        self._servers: list[asyncio.Server] = []
        self.relays: dict[Relay, None] = {}
        self.dialling: set[asyncio.Task[None]] = set()
        self.struck: Counter[str] = Counter()
        """What really happened, by kind."""
        self.struck_at: Counter[tuple[str, Pair]] = Counter()
        """The same by kind and directed pair."""
        self.frames = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self._servers:
            server.close()
        for relay in list(self.relays):
            relay.end()
        for task in self.dialling:
            task.cancel()
        await asyncio.gather(*self.dialling, return_exceptions=True)

    async def open(self, name: str, port: int) -> int:
        """Open a door to the node of this name, which listens on a port; return the door's port."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Relay(self, name, port).front, HOST, 0)
        self._servers.append(server)
        number: int = server.sockets[0].getsockname()[1]
        return number

    # -- faults ------------------------------------------------------------------------------------

    def faults(self, sender: str, receiver: str) -> Faults:
        """Return what befalls this directed pair now."""
        return self._faults.get((sender, receiver), _CALM)

    def set(self, pairs: Iterable[Pair], **changes: float) -> None:
        """Change what befalls these directed pairs from now on."""
        for pair in pairs:
            before = self._faults.get(pair, _CALM)
            self._faults[pair] = msgspec.structs.replace(before, **changes)
        for relay in list(self.relays):
            relay.look()

    def heal(self) -> None:
        """Let all frames pass from now on, those that were held first."""
        self._faults.clear()
        for relay in list(self.relays):
            relay.look()

    def reset(self, sender: str, receiver: str) -> int:
        """Break what one has dialled to the other, by a reset; return how many connections."""
        return self._end(sender, receiver, torn=False)

    def tear(self, sender: str, receiver: str) -> int:
        """Break what one has dialled to the other, each in the middle of its next frame."""
        return self._end(sender, receiver, torn=True)

    def _end(self, sender: str, receiver: str, *, torn: bool) -> int:
        mine = [relay for relay in self.relays if (relay.who, relay.name) == (sender, receiver)]
        for relay in mine:
            if torn:
                relay.torn = True
            else:
                relay.end()
                self.note("reset", (sender, receiver))
        return len(mine)

    def note(self, kind: str, pair: Pair) -> None:
        """Count a fault that happened."""
        self.struck[kind] += 1
        self.struck_at[kind, pair] += 1

    def chance(self, sender: str, receiver: str) -> random.Random:
        """Return the generator of a directed pair."""
        pair = (sender, receiver)
        if pair not in self._chances:
            self._chances[pair] = random.Random(f"{self._seed}:{sender}>{receiver}")
        return self._chances[pair]


class Relay:
    """One connection through a door: the dialler's end in front, the node's end behind."""

    def __init__(self, proxy: Proxy, name: str, port: int) -> None:
        self.proxy = proxy
        self.name = name
        """The node behind the door."""
        self.who = ""
        """Who dialled; empty until its first frame says so."""
        self._port = port
        self.torn = False
        """The next frame is to be the last, and half of it."""
        self.front = End(self)
        self.back = End(self)
        self.to_node = Way(self, self.front, self.back, handshake=2)
        self.to_dialler = Way(self, self.back, self.front, handshake=1)
        self.front.way, self.back.way = self.to_node, self.to_dialler
        self._over = False

    def ready(self, end: End) -> None:
        """One end is there; what came to the one in front before the other was waits for it."""
        if end is self.front:
            self.proxy.relays[self] = None
            task = asyncio.get_running_loop().create_task(self._dial())
            self.proxy.dialling.add(task)
            task.add_done_callback(self._dialled)
        else:
            self.to_node.pump()

    async def _dial(self) -> None:
        try:
            async with asyncio.timeout(DIAL_S):
                await asyncio.get_running_loop().create_connection(
                    lambda: self.back, HOST, self._port
                )
        except OSError:  # TimeoutError is one
            self.end()
            return
        if self._over:
            self.end()

    def _dialled(self, task: asyncio.Task[None]) -> None:
        self.proxy.dialling.discard(task)
        if not task.cancelled():
            task.result()

    def introduce(self, frame: bytes) -> None:
        """Learn from its first frame who dials; whoever sends no Hello is a client, too."""
        first = decode_payload(frame[4:])[:1]
        known = first and isinstance(first[0], Hello) and first[0].node_id
        self.who = first[0].name if known and isinstance(first[0], Hello) else CLIENT
        self.to_node.pair = (self.who, self.name)
        self.to_dialler.pair = (self.name, self.who)
        self.look()

    def look(self) -> None:
        """Act on faults that have changed."""
        if self.who and self.proxy.faults(self.who, self.name).cut:
            self.proxy.note("cut", (self.who, self.name))
            self.end()
            return
        self.to_node.pump()
        self.to_dialler.pump()
        for end in (self.front, self.back):
            if end.gone and not end.way.closed:
                self.close()

    def lost(self, end: End) -> None:
        """One end is gone; the other hears it now, or, over a way that is closed, later."""
        if end.way.closed and not self._over:
            self.proxy.note("half-open", end.way.pair)
        else:
            self.close()

    def end(self) -> None:
        """Reset both ends; what was held or late is gone."""
        self._over = True
        self.proxy.relays.pop(self, None)
        self.to_node.forget()
        self.to_dialler.forget()
        for end in (self.front, self.back):
            if end.transport is not None:
                end.transport.abort()

    def close(self) -> None:
        """Close both ends behind what was sent so far."""
        self._over = True
        self.proxy.relays.pop(self, None)
        self.to_node.forget()
        self.to_dialler.forget()
        for end in (self.front, self.back):
            if end.transport is not None:
                end.transport.close()


class End(asyncio.Protocol):
    """One of the two sockets of a relay."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.way: Way
        """What comes in here goes this way."""
        self.transport: asyncio.Transport | None = None
        self.gone = False
        self.full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface, not the base class
        self.transport = cast(asyncio.Transport, transport)
        self._relay.ready(self)

    def data_received(self, data: bytes) -> None:
        self.way.feed(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport, self.gone = None, True
        self._relay.lost(self)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        for way in (self._relay.to_node, self._relay.to_dialler):
            way.pump()


class Way:
    """One direction of a relay: frames in order, each with the time from which it may arrive."""

    def __init__(self, relay: Relay, source: End, target: End, handshake: int) -> None:
        self._relay = relay
        self._proxy = relay.proxy
        self._source = source
        self._target = target
        self._handshake = handshake
        """Frames of the handshake that are still to come."""
        self.pair: Pair = ("", "")
        self._part = bytearray()
        self._kept: deque[tuple[float, bytes]] = deque()
        self._kept_bytes = 0
        self._last = 0.0
        self._held = False
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def closed(self) -> bool:
        """Whether nothing arrives this way now, not even the end of the connection."""
        faults = self._proxy.faults(*self.pair)
        return faults.held or faults.blocked

    def feed(self, data: bytes) -> None:
        """Take bytes of the sender, and pass on the frames that are complete."""
        if self._target.gone:
            return
        self._part += data
        at = 0
        while len(self._part) - at >= 4:
            end = at + 4 + int.from_bytes(self._part[at : at + 4], "big")
            if len(self._part) < end:
                break
            self._frame(bytes(self._part[at:end]))
            at = end
        del self._part[:at]
        self.pump()

    def forget(self) -> None:
        """Drop what is kept."""
        self._kept.clear()
        self._kept_bytes = 0
        if self._timer is not None:
            self._timer.cancel()

    def _frame(self, frame: bytes) -> None:
        relay, note = self._relay, self._proxy.note
        if not relay.who:
            relay.introduce(frame)
        self._proxy.frames += 1
        faults = self._proxy.faults(*self.pair)
        if faults.blocked:
            note("blocked", self.pair)
            return
        greeting = self._handshake > 0
        self._handshake -= greeting
        between_nodes = CLIENT not in self.pair
        times = 1
        if (faults.loss or faults.duplicate) and between_nodes and not greeting:
            chance = self._proxy.chance(*self.pair)
            if chance.random() < faults.loss:
                note("loss", self.pair)
                return
            if chance.random() < faults.duplicate:
                note("duplicate", self.pair)
                times = 2
        now = self._loop.time()
        due = max(now, self._last)
        if faults.delay_s or faults.jitter_s:
            note("delay", self.pair)
            late = faults.delay_s + faults.jitter_s * self._proxy.chance(*self.pair).random()
            due = max(due, now + late)
        if faults.bytes_per_s:
            note("throttle", self.pair)
            due += len(frame) / faults.bytes_per_s
        self._last = due
        for _ in range(times):
            self._kept.append((due, frame))
            self._kept_bytes += len(frame)

    def pump(self) -> None:
        """Send on all that may arrive by now; for the rest, come back when it may."""
        target = self._target.transport
        if target is None:
            self._pace()
            return
        held = self._proxy.faults(*self.pair).held
        if held and self._kept and not self._held:
            self._proxy.note("held", self.pair)
        self._held = held and bool(self._kept)
        now = self._loop.time()
        while self._kept and not held and not self._target.full and self._kept[0][0] <= now:
            _, frame = self._kept.popleft()
            self._kept_bytes -= len(frame)
            if self._relay.torn:
                target.write(frame[: len(frame) // 2])
                self._proxy.note("tear", self.pair)
                self._relay.close()
                return
            target.write(frame)
        self._pace()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._kept and not held and not self._target.full:
            self._timer = self._loop.call_at(self._kept[0][0], self.pump)

    def _pace(self) -> None:
        """Read from the sender only while there is room for what it sends."""
        source = self._source.transport
        crowded = self._kept_bytes > KEPT_BYTES_MAX or self._target.full
        if source is None or crowded == self._paused:
            return
        self._paused = crowded
        if crowded:
            source.pause_reading()
        else:
            source.resume_reading()
