"""The front's place at the driver: messages of a turn go in together, and replies come back.

It is what http/place.py is for HTTP, without a future for each message: whoever asks is a ``Call``,
which is told. All connections whose answers are due are written to once, at the end.

Whoever is told makes an answer of it, and that of a large hash takes as long as a thousand others.
So after TURN_S the rest waits for the next turns of the loop, in which the connections that are
still to be told take turns, too. And equal reads that wait here go to the core as one, which is all
that they ask: it begins after each of them has come.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import replace

from everwrite.core.errors import EverwriteError, InvariantError
from everwrite.core.failures import failure_of
from everwrite.core.messages.listing import List
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Failure, Get, GetReply, Put
from everwrite.server.answering import answering
from everwrite.server.driver import Driver
from everwrite.server.fronts import FrontPlace, patience_s, told
from everwrite.server.redis.command import Request
from everwrite.server.transport import TURN_BYTES

REQUESTS_MAX = 16_384
"""Messages that wait for a reply."""
IN_CORE_MAX = 256
"""Messages that are with the core at once. Redis clients send far ahead and expect to be slowed
down, not to be refused: what is more waits here, and the door (core/pace/door.py) sees no flood."""


HEAVY_PIECES = 1000
"""A reply with so many took the core as long as some hundred others;"""
HEAVY_IN_CORE_MAX = 8
"""and then so few messages are with the core at once,"""
LIGHT_AGAIN = 256
"""until so many replies came of which none is large."""
TURN_S = 0.01
"""For so long calls are told in one turn of the loop, and one call more."""


class Call(Protocol):
    """Whoever asks; ``at`` says which of its messages is meant."""

    @property
    def owner(self) -> object: ...

    def heard(self, at: int, reply: Message | EverwriteError | None) -> None: ...


class Flushed(Protocol):
    """A connection with answers to send."""

    def flush(self) -> None: ...


class RedisPlace(FrontPlace[Call, int]):
    """See the module."""

    most = REQUESTS_MAX
    what = "requests"

    def __init__(self, driver: Driver, timeout_ms: int) -> None:
        super().__init__(driver)
        self._patience_s = patience_s(timeout_ms)
        self._op_head = secrets.token_bytes(8)
        """Of this run: no other has its request ids."""
        self._op = 0
        self._queued: deque[Request] = deque()
        """Of those that wait, what is not with the core yet;"""
        self._in_core: set[int] = set()
        """and the numbers of those that are."""
        self._read_by: dict[_Read, int] = {}
        """Reads among those that are not, and the number of the message,"""
        self._sharing: dict[int, list[int]] = {}
        """and the numbers of those that share its reply."""
        self._light = LIGHT_AGAIN
        """How many replies came since a large one."""
        self._handing = False
        self._behind: dict[object, deque[_Late]] = {}
        """What calls are to be told in later turns, by their owners; None: that they go on."""
        self._behind_count = 0
        self._replies_behind = 0
        """Of these the replies, one that several share counted once."""
        self._catching = False
        self._due: dict[Flushed, None] = {}
        self._telling = False
        self._emptied: asyncio.Future[None] | None = None

    def next_op(self) -> bytes:
        """Return a request id that no other put has."""
        self._op += 1
        return self._op_head + self._op.to_bytes(8, "big")

    def ask(self, message: Request, call: Call, at: int = -1) -> None:
        """Hand in a message; the call hears the reply, never before this returns."""
        self.check_room(1)
        lost_at = self._loop.time() + self._patience_s
        writes = type(message) is not Get and type(message) is not List
        self._waiting[message.rid] = call, at, writes, lost_at
        if type(message) is Get:
            first = self._read_by.setdefault(_read(message), message.rid)
            if first != message.rid:
                self._sharing.setdefault(first, []).append(message.rid)
                return
        self._queued.append(message)
        if not self._handing and self._has_room():
            self._handing = True
            self._loop.call_soon(self._hand_in)

    def rest(self, call: Call) -> None:
        """Let a call go on in a later turn."""
        self._later(call, -1, None)

    def _has_room(self) -> bool:
        """Say whether the core may have one more: what it has answered is held until it is told."""
        in_core = len(self._in_core)
        if self._light < LIGHT_AGAIN and in_core >= HEAVY_IN_CORE_MAX:
            return False
        return in_core + self._replies_behind < IN_CORE_MAX

    def send(self, messages: list[Message]) -> None:
        """Take replies of the core."""
        waiting, late = self._waiting, bool(self._behind)
        until = self._loop.time() + TURN_S
        self._telling = True
        for message in messages:
            heavy = type(message) is GetReply and len(message.values) > HEAVY_PIECES
            self._light = 0 if heavy else self._light + 1
            reply = told(message) if type(message) is Failure else message
            self._in_core.discard(message.rid)  # type: ignore[attr-defined]
            for rid in self._all_of(message.rid):  # type: ignore[attr-defined]
                found = waiting.pop(rid, None)
                if found is None:
                    continue
                if late:
                    self._later(found[0], found[1], reply, held=int(rid == message.rid))  # type: ignore[attr-defined]
                    continue
                self._tell(found[0], found[1], reply)
                late = self._loop.time() >= until
        self._have_told()

    def _all_of(self, rid: int) -> Sequence[int]:
        """Return all that the reply to this message is for."""
        more = self._sharing.pop(rid, None) if self._sharing else None
        return (rid,) if more is None else (rid, *more)

    def _tell(self, call: Call, at: int, reply: Message | EverwriteError | None) -> None:
        try:  # what goes wrong is one connection's, and others are still to be told
            with answering(self._driver.log, "reply"):
                call.heard(at, reply)
        except InvariantError as error:  # a bug of ours, whatever was asked
            self._driver.broken(error)
        except EverwriteError:
            return  # it is logged

    def _have_told(self) -> None:
        """Have it sent, and take what there is room for now."""
        self._telling = False
        self._flush()
        if self._queued:
            self._soon()
        idle = not self._waiting and not self._behind
        if idle and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def _later(
        self, call: Call, at: int, reply: Message | EverwriteError | None, held: int = 0
    ) -> None:
        """Tell a call in a later turn."""
        if not self._catching:
            self._catching = True
            self._loop.call_soon(self._catch_up)
        self._behind.setdefault(call.owner, deque()).append((call, at, reply, held))
        self._behind_count += 1
        self._replies_behind += held

    def _catch_up(self) -> None:
        """Tell what was put off, of each owner in turn."""
        behind = self._behind
        until = self._loop.time() + TURN_S
        self._telling = True
        for _ in range(self._behind_count):  # who rests again meanwhile has a turn of his own
            owner = next(iter(behind))
            theirs = behind.pop(owner)
            call, at, reply, held = theirs.popleft()
            self._behind_count -= 1
            self._replies_behind -= held
            if theirs:
                behind[owner] = theirs  # behind the others
            self._tell(call, at, reply)
            if self._loop.time() >= until:
                break
        self._catching = bool(behind)
        if behind:
            self._loop.call_soon(self._catch_up)
        self._have_told()

    async def empty(self, seconds: float) -> None:
        """Return once nothing waits for a reply, or after this time."""
        if self._waiting or self._behind:
            self._emptied = self._loop.create_future()
            await asyncio.wait([self._emptied], timeout=seconds)

    def due(self, connection: Flushed) -> None:
        """Have a connection write its answers, once all of this turn are there."""
        if not self._due and not self._telling:
            self._loop.call_soon(self._flush)
        self._due[connection] = None

    def _flush(self) -> None:
        due, self._due = self._due, {}
        for connection in due:
            connection.flush()

    def _hand_in(self) -> None:
        """Hand in what came in this turn, as far as there is room for it in the core."""
        self._handing = False
        queued, waiting = self._queued, self._waiting
        if self._closed:
            return
        held = 0
        while queued and self._has_room() and held < TURN_BYTES:
            message = queued.popleft()
            if type(message) is Get:
                self._read_by.pop(_read(message), None)
            if message.rid not in waiting:  # it waited too long, and was told so
                heir = self._heir(message)
                if heir is None:
                    continue
                message = heir
            self._in_core.add(message.rid)
            if type(message) is Put and message.value is not None:
                held += len(message.value)
            try:  # one by one, so that none is lost with another
                with answering(self._driver.log, type(message).__name__):
                    self._driver.arrived(self._place, [message])
            except InvariantError as error:  # a bug of ours, whatever was asked
                self._driver.broken(error)
                return
            except EverwriteError as error:
                self.send([failure_of(message.rid, error)])
        if held >= TURN_BYTES:
            self._soon()

    def _heir(self, message: Request) -> Request | None:
        """Return a read for those that share it and still wait, as asked by the first of them."""
        rids = [rid for rid in self._sharing.pop(message.rid, ()) if rid in self._waiting]
        if not rids:
            return None
        first, *more = rids
        if more:
            self._sharing[first] = more
        return replace(message, rid=first)

    def _soon(self) -> None:
        if not self._handing:
            self._handing = True
            self._loop.call_soon(self._hand_in)

    def _end(self, rid: int, who: Call, which: int, error: EverwriteError) -> None:
        if rid in self._in_core:  # its reply is lost; who shares it has a time of his own
            self._in_core.remove(rid)
            self._sharing.pop(rid, None)
        self._tell(who, which, error)
        if self._queued:
            self._soon()


_Late = tuple[Call, int, Message | EverwriteError | None, int]
_Read = tuple[bytes, int, bytes]


def _read(message: Get) -> _Read:
    """Return what a read asks; all else is the same in all of this front (session.py)."""
    return message.key, message.r, message.seen
