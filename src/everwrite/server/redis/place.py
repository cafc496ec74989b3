"""The front's place at the driver: messages of a turn go in together, and replies come back.

It is what http/place.py is for HTTP, without a future for each message: whoever asks is a ``Call``,
which is told. All connections whose answers are due are written to once, at the end.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from typing import Protocol

from everwrite.core.errors import EverwriteError, InvariantError, Overloaded
from everwrite.core.failures import error_of, failure_of
from everwrite.core.messages.listing import List
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Failure, Get, Put
from everwrite.server.driver import Driver
from everwrite.server.redis.command import Request
from everwrite.server.redis.doubts import lost_sight_of, stopping
from everwrite.server.transport import TURN_BYTES

REQUESTS_MAX = 16_384
"""Messages that wait for a reply."""
IN_CORE_MAX = 256
"""Messages that are with the core at once. Redis clients send far ahead and expect to be slowed
down, not to be refused: what is more waits here, and the door (core/pace/door.py) sees no flood."""
SWEEP_S = 1.0
GRACE_S = 2.0
"""So long after its deadline a message is taken for lost."""


class Call(Protocol):
    """Whoever asks; ``at`` says which of its messages is meant."""

    def heard(self, at: int, reply: Message | EverwriteError) -> None: ...


class Flushed(Protocol):
    """A connection with answers to send."""

    def flush(self) -> None: ...


class RedisPlace:
    """See the module."""

    def __init__(self, driver: Driver, timeout_ms: int) -> None:
        self._driver = driver
        self._loop = driver.loop
        self._patience_s = timeout_ms / 1000 + GRACE_S
        self._rid = 0
        self._op_head = secrets.token_bytes(8)
        """Of this run: no other has its request ids."""
        self._op = 0
        self._waiting: dict[int, tuple[Call, int, bool, float]] = {}
        """Who asked, which of its messages it is, whether it writes, and when it is lost: the
        longest first."""
        self._queued: deque[Request] = deque()
        """Of these, what is not with the core yet."""
        self._handing = False
        self._due: dict[Flushed, None] = {}
        self._telling = False
        self._closed = False
        self._emptied: asyncio.Future[None] | None = None
        self._place = driver.attach(self)
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)

    @property
    def under_way(self) -> int:
        """Messages that wait for a reply."""
        return len(self._waiting)

    def next_rid(self) -> int:
        """Return the number for the next message."""
        self._rid += 1
        return self._rid

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

    def check_room(self, count: int) -> None:
        """Raise the error for so many messages more than can be asked."""
        if self._closed:
            raise stopping("none")
        if len(self._waiting) + count > REQUESTS_MAX:
            raise Overloaded(
                f"{REQUESTS_MAX} requests wait for an answer, and no more are taken.",
                hint="Nothing was done. Try again in a moment.",
                retry_after_ms=200,
            )

    def send(self, messages: list[Message]) -> None:
        """Take replies of the core."""
        waiting = self._waiting
        self._telling = True
        for message in messages:
            found = waiting.pop(message.rid, None)  # type: ignore[attr-defined]
            if found is None:
                continue
            told = _told(message) if type(message) is Failure else message
            found[0].heard(found[1], told)
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

    def close(self) -> None:
        """Take nothing more, and end what waits: nobody knows what becomes of it."""
        if self._closed:
            return
        self._closed = True
        self._sweeping.cancel()
        self._driver.detach(self._place)
        waiting, self._waiting = self._waiting, {}
        for call, at, writes, _ in waiting.values():
            call.heard(at, stopping("unknown" if writes else "none"))

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
                self._begin(message)
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

    def _begin(self, message: Request) -> None:
        try:
            self._driver.arrived(self._place, [message])
        except EverwriteError:
            raise
        except Exception as error:
            name = type(message).__name__
            self._driver.log.exception("question failed", asked=name, why=repr(error))
            raise EverwriteError(
                f"The node met an error in {name!r} ({type(error).__name__}).",
                hint="Its log has the traceback. It may have been carried out: look first. "
                "Please report it.",
                outcome="unknown",
            ) from error

    def _sweep(self) -> None:
        now = self._loop.time()
        lost: list[int] = []
        for rid, (_, _, _, lost_at) in self._waiting.items():
            if lost_at > now:
                break
            lost.append(rid)
        for rid in lost:
            call, at, writes, _ = self._waiting.pop(rid)
            call.heard(at, lost_sight_of(writes=writes))
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)


def _told(failure: Failure) -> EverwriteError:
    """Return the error that is reported. A broken invariant of another node is none of this one."""
    error = error_of(failure)
    if not isinstance(error, InvariantError):
        return error
    return EverwriteError(error.message, hint=error.hint, outcome=error.outcome)
