"""Where publications come to the connections of this node, and where they go from.

The hub is one more client of the driver, beside place.py: so no publisher takes the room that those
who read and write have there, and of the core's (in_flight_max) IN_CORE_MAX at most. What is
published, here or elsewhere, comes back from the core (``_heard``), waits in one line, and is
handed to its subscribers for TURN_NS in each turn of the loop; only then is whoever published it
answered. A publisher is slowed down by those whom he reaches, and nobody else is.

A subscriber that does not read is cut off at UNREAD_PUSHED_MAX, as by Redis'
client-output-buffer-limit.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

from structlog.stdlib import BoundLogger

from everwrite.core.errors import EverwriteError, InvariantError, Overloaded
from everwrite.core.failures import error_of, failure_of
from everwrite.core.messages.channels import Listen, Publish, Spread
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Failure
from everwrite.server.answering import answering
from everwrite.server.driver import Driver
from everwrite.server.fronts import stopping
from everwrite.server.redis.place import Call
from everwrite.server.redis.replies import RESP2, RESP3, pushed
from everwrite.server.redis.subscriptions import CHANNEL, PATTERN, SHARD, Subscriptions

if TYPE_CHECKING:
    from everwrite.server.redis.connection import RedisConnection
    from everwrite.server.redis.session import Session

TURN_NS = 2_000_000
"""For so long publications are begun and handed on in a turn of the loop: half of what is given to
what clients ask (driver.py)."""
STEPS = 16
"""Of these without a look at the time: each some microseconds."""
LINE_BYTES_MAX = 64 << 20
"""Publications of other nodes that wait here: more are dropped. What one of them may have sent has
its own cap (core/channels.py)."""
WAITING_MAX = 16_384
"""What is asked for and not answered; more is refused."""
IN_CORE_MAX = 256
"""Publications that are with the core at once,"""
IN_CORE_BYTES_MAX = 8 << 20
"""and what they have, once for each node that they go to (though one always may). The window of a
node that keeps up (core/channels.py) never fills: publishers are slowed down instead."""
RELIEF_BYTES = 64 << 20
"""After so much was handed on it is looked at who leaves it unread."""
UNREAD_PUSHED_MAX = 8 << 20
"""What a subscriber has not read: over this it is cut off. A publication has 1 MiB at most."""

_WORDS = (b"message", b"pmessage", b"smessage")


class Hub:
    """See the module."""

    def __init__(self, driver: Driver, log: BoundLogger) -> None:
        self._driver = driver
        self._log = log
        self.channels = driver.node.channels
        self.subscriptions: Subscriptions[RedisConnection] = Subscriptions()
        self.delivered = self.cut_off = self.crowded = 0
        """For metrics; the last: publications that came from others and had no room here."""
        self._rid = 0
        self.relieve: Callable[[], None] = lambda: None
        """Cuts off those who leave most unread, while all together leave too much."""
        self._handed_bytes = 0
        self._waiting: dict[int, Call] = {}
        """Who asked."""
        self._in_core: dict[int, int] = {}
        """Publications that are with the core: what they have, for all nodes that they go to."""
        self._in_core_bytes = 0
        self._queued: deque[Publish | Listen] = deque()
        """What is not with the core yet."""
        self._line: deque[tuple[bytes, Spread]] = deque()
        """What is to be handed on,"""
        self._line_bytes = 0
        self._first: Generator[None, None, int] | None = None
        """and the first of it, as far as it has come."""
        self._running = self._closed = False
        self._place = driver.attach(self)
        driver.heard = self._heard

    # -- commands ----------------------------------------------------------------------------------

    def next_rid(self) -> int:
        """Return the number for the next message."""
        self._rid += 1
        return self._rid

    def ask(self, message: Publish | Listen, call: Call) -> None:
        """Hand in a message; the call hears the reply, never before this returns."""
        if self._closed:
            raise stopping("none")
        if len(self._waiting) >= WAITING_MAX:
            raise Overloaded(
                f"{WAITING_MAX} clients publish or subscribe, and no more are taken.",
                hint="Nothing was done. Try again in a moment.",
                retry_after_ms=200,
            )
        self._waiting[message.rid] = call
        self._queued.append(message)
        self._soon()

    def connection_of(self, session: Session) -> RedisConnection | None:
        """Return the connection of a client, if it is still there."""
        return session.front.connections.get(session.number)

    def with_room(
        self, session: Session, kind: int, names: Sequence[bytes]
    ) -> RedisConnection | None:
        """Return the connection of a client that may subscribe to these; a Problem if it may not,
        None if it is gone.
        """
        connection = self.connection_of(session)
        if connection is not None:
            self.subscriptions.check(connection, kind, names)
        return connection

    def subscribe(self, connection: RedisConnection, kind: int, name: bytes) -> int:
        """Add a subscription that has room; return the number that is told."""
        self.subscriptions.add(connection, kind, name)
        self.channels.occupied(True)
        return self._counted(connection, kind)

    def unsubscribe(self, connection: RedisConnection, kind: int, name: bytes) -> int:
        """Take a subscription away; return the number that is told."""
        self.subscriptions.remove(connection, kind, name)
        return self._counted(connection, kind)

    def drop(self, connection: RedisConnection) -> None:
        """A connection is gone, or begins anew."""
        self.subscriptions.drop(connection)
        connection.session.subscribed = 0
        self.look()

    def _counted(self, connection: RedisConnection, kind: int) -> int:
        connection.session.subscribed = self.subscriptions.own(connection)
        self.look()
        return self.subscriptions.told(connection, kind)

    def look(self) -> None:
        """Tell the core whether anybody is here; from time to time, too, for who said that he would
        come may not have.
        """
        self.channels.occupied(bool(self.subscriptions))

    # -- the core ----------------------------------------------------------------------------------

    def send(self, messages: list[Message]) -> None:
        """Take replies of the core."""
        for message in messages:
            rid: int = message.rid  # type: ignore[attr-defined]
            self._in_core_bytes -= self._in_core.pop(rid, 0)
            call = self._waiting.pop(rid, None)
            if call is not None:
                self._tell(call, error_of(message) if type(message) is Failure else message)
        if self._queued:
            self._soon()

    def _tell(self, call: Call, reply: Message | EverwriteError) -> None:
        try:  # what goes wrong is one connection's, and others are still to be told
            with answering(self._log, "reply"):
                call.heard(-1, reply)
        except InvariantError as error:  # a bug of ours, whatever was asked
            self._driver.broken(error)
        except EverwriteError:
            return  # it is logged

    def _heard(self, heard: Sequence[tuple[bytes, Spread]]) -> None:
        for source, spread in heard:
            size = len(spread.channel) + len(spread.payload)
            crowded = self._line_bytes + size > LINE_BYTES_MAX and source != self.channels.me
            if crowded or self._closed:
                self.crowded += 1
                self.channels.handed_on(source, spread.number, 0)
                continue
            self._line_bytes += size
            self._line.append((source, spread))
        self._soon()

    def _soon(self) -> None:
        if not self._running:
            self._running = True
            self._driver.loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Begin and hand on what there is, for a moment of this thread's own time."""
        self._running = False
        if self._closed:
            return
        end = time.thread_time_ns() + TURN_NS
        in_time = True
        try:
            while self._has_room and in_time:
                self._begin(self._queued.popleft())
                in_time = time.thread_time_ns() < end
            while self._line and in_time:
                self._hand_on()
                in_time = time.thread_time_ns() < end
        except BaseException as error:
            self._driver.broken(error)
            raise
        if self._has_room or self._line:
            self._soon()

    @property
    def _has_room(self) -> bool:
        """Whether there is something to begin, and room for it."""
        count, size = len(self._in_core), self._in_core_bytes
        return bool(self._queued) and count < IN_CORE_MAX and size < IN_CORE_BYTES_MAX

    def _begin(self, message: Publish | Listen) -> None:
        if type(message) is Publish:
            size = len(message.channel) + len(message.payload)
            self._in_core[message.rid] = cost = size * self.channels.audience
            self._in_core_bytes += cost
        try:
            with answering(self._log, type(message).__name__):
                self._driver.arrived(self._place, [message])
        except InvariantError:  # a bug of ours, whatever was asked
            raise
        except EverwriteError as error:
            self.send([failure_of(message.rid, error)])

    # -- subscribers -------------------------------------------------------------------------------

    def _hand_on(self) -> None:
        """Go on with the first of the line for some steps."""
        source, spread = self._line[0]
        if self._first is None:
            self._first = self._hand_to_all(spread)
        try:
            for _ in range(STEPS):
                next(self._first)
        except StopIteration as end:
            self._first = None
            self._line.popleft()
            self._line_bytes -= len(spread.channel) + len(spread.payload)
            self.channels.handed_on(source, spread.number, end.value)
            self._driver.soon()

    def _hand_to_all(self, spread: Spread) -> Generator[None, None, int]:
        """Hand a publication to all its subscribers, in steps; return how many they were."""
        channel, payload = spread.channel, spread.payload
        subscriptions = self.subscriptions
        kind = SHARD if spread.sharded else CHANNEL
        count = 0
        whom = subscriptions.subscribers(kind, channel)
        told = _told(_WORDS[kind], channel, payload) if whom else ()
        for who in whom:
            count += self._hand(who, kind, channel, told)
            yield
        for pattern, fits in () if spread.sharded else subscriptions.patterns():
            if fits.fullmatch(channel):
                told = _told(_WORDS[PATTERN], pattern, channel, payload)
                for who in subscriptions.subscribers(PATTERN, pattern):
                    count += self._hand(who, PATTERN, pattern, told)
                    yield
            yield
        return count

    def _hand(self, who: RedisConnection, kind: int, name: bytes, told: Sequence[bytes]) -> bool:
        """Hand a publication to one subscriber; say whether he takes it."""
        if not self.subscriptions.has(who, kind, name):  # he has left since it was begun
            return False
        if who.transport.is_closing():
            return False
        data = told[who.session.protocol]
        self._handed_bytes += len(data)
        if self._handed_bytes > RELIEF_BYTES:
            self._handed_bytes = 0
            self.relieve()
        try:  # what goes wrong is this subscriber's, and others are still to be told
            with answering(self._log, "publication"):
                unread = who.push(data)
        except InvariantError:  # a bug of ours, whatever was published
            raise
        except EverwriteError:
            self._cut_off(who, "It could not be told what is published to it.")
            return False
        self.delivered += 1
        if unread > UNREAD_PUSHED_MAX:
            self._cut_off(who, "It does not read what is published to it.")
        return True

    def _cut_off(self, who: RedisConnection, why: str) -> None:
        self.cut_off += 1
        self._log.warning("Redis subscriber cut off", client=who.session.where, why=why)
        who.cut_off()
        self.drop(who)

    def close(self) -> None:
        """Take nothing more, and end what waits."""
        if self._closed:
            return
        self._closed = True
        self._driver.detach(self._place)
        line, self._line, self._first = self._line, deque(), None
        for source, spread in line:
            self.channels.handed_on(source, spread.number, 0)
        waiting, self._waiting = self._waiting, {}
        for rid, call in waiting.items():
            self._tell(call, stopping("unknown" if rid in self._in_core else "none"))


def _told(*words: bytes) -> Sequence[bytes]:
    """Return what is sent to each subscriber, by the protocol that he speaks: made once."""
    return (b"", b"", pushed(RESP2, *words), pushed(RESP3, *words))
