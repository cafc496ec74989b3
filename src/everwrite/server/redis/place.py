"""The front's place at the driver: messages of a turn go in together, and replies come back.

It is what http/place.py is for HTTP, without a future for each message: whoever asks is a ``Call``,
which is told. All connections whose answers are due are written to once, at the end.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from typing import Protocol

from everwrite.core.errors import EverwriteError, InvariantError
from everwrite.core.failures import failure_of
from everwrite.core.messages.listing import List
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Failure, Get, Put
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


class Call(Protocol):
    """Whoever asks; ``at`` says which of its messages is meant."""

    def heard(self, at: int, reply: Message | EverwriteError) -> None: ...


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
        """Of those that wait, what is not with the core yet."""
        self._handing = False
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
        self._queued.append(message)
        if not self._handing and len(self._waiting) - len(self._queued) < IN_CORE_MAX:
            self._handing = True
            self._loop.call_soon(self._hand_in)

    def send(self, messages: list[Message]) -> None:
        """Take replies of the core."""
        waiting = self._waiting
        self._telling = True
        for message in messages:
            found = waiting.pop(message.rid, None)  # type: ignore[attr-defined]
            if found is None:
                continue
            try:  # what goes wrong is one connection's, and others are still to be told
                with answering(self._driver.log, "reply"):
                    found[0].heard(found[1], told(message) if type(message) is Failure else message)
            except InvariantError as error:  # a bug of ours, whatever was asked
                self._driver.broken(error)
            except EverwriteError:
                continue  # it is logged
        self._telling = False
        self._flush()
        if self._queued:
            self._soon()
        if self._emptied is not None and not waiting and not self._emptied.done():
            self._emptied.set_result(None)

    async def empty(self, seconds: float) -> None:
        """Return once nothing waits for a reply, or after this time."""
        if self._waiting:
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
        while queued and len(waiting) - len(queued) < IN_CORE_MAX and held < TURN_BYTES:
            message = queued.popleft()
            if message.rid not in waiting:  # it waited too long, and was told so
                continue
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

    def _soon(self) -> None:
        if not self._handing:
            self._handing = True
            self._loop.call_soon(self._hand_in)

    def _end(self, rid: int, who: Call, which: int, error: EverwriteError) -> None:
        who.heard(which, error)
