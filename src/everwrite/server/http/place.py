"""The front's place at the driver: a message goes in, and whoever asked is given its answer.

All HTTP requests of a node come in at one place. Those of one turn of the loop are handed in
together, and wait at the same door as what native clients ask. The core answers each by its
deadline; what it has lost sight of all the same ends some seconds later, here.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from typing import Any

from everwrite.core.errors import (
    DeadlineExceeded,
    EverwriteError,
    InvariantError,
    Outcome,
    Overloaded,
    UnavailableError,
)
from everwrite.core.failures import error_of, failure_of
from everwrite.core.messages.listing import List
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Ask, Failure, Get, Put, Touch
from everwrite.server.answering import answering
from everwrite.server.driver import Driver
from everwrite.server.tracing import current
from everwrite.server.transport import TURN_BYTES

REQUESTS_MAX = 4096
"""Requests that wait for an answer: as many as there may be connections."""
SWEEP_S = 1.0
GRACE_S = 2.0
"""So long after its deadline a request is taken for lost."""

Request = Get | Put | Touch | List | Ask


class Waiting:
    """A request that was handed in."""

    __slots__ = ("deadline", "future", "traced", "writes")

    def __init__(self, future: Future[Any], deadline: float, *, writes: bool, traced: bool) -> None:
        self.future = future
        self.deadline = deadline
        self.writes = writes
        self.traced = traced


class HttpPlace:
    """See the module."""

    def __init__(self, driver: Driver, timeout_ms: int) -> None:
        self._driver = driver
        self.local = driver.node.local
        self._loop = driver.loop
        self._timeout_ms = timeout_ms
        """What the core takes where a request says nothing."""
        self._rid = 0
        self._waiting: dict[int, Waiting] = {}
        self._queued: list[Request] = []
        self._closed = False
        self._place = driver.attach(self)
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)

    @property
    def under_way(self) -> int:
        """Requests that wait for an answer."""
        return len(self._waiting)

    def next_rid(self) -> int:
        """Return the number for the next request."""
        self._rid += 1
        return self._rid

    def ask(self, message: Request) -> Future[Any]:
        """Hand in a request; the future gets its reply, or an EverwriteError."""
        if self._closed:
            raise stopping()
        if len(self._waiting) >= REQUESTS_MAX:
            raise Overloaded(
                f"{REQUESTS_MAX} HTTP requests wait for an answer, and no more are taken.",
                hint="Nothing was done. Try again in a moment.",
                retry_after_ms=200,
            )
        future: Future[Any] = self._loop.create_future()
        left_ms = getattr(message, "timeout_ms", 0) or self._timeout_ms
        deadline = self._loop.time() + left_ms / 1000 + GRACE_S
        writes = not isinstance(message, Get | List)
        timeline = current.get()
        if timeline is not None:
            self._driver.tracer.begin(self._place, message.rid, timeline)
        traced = timeline is not None
        self._waiting[message.rid] = Waiting(future, deadline, writes=writes, traced=traced)
        if not self._queued:
            self._loop.call_soon(self._hand_in)
        self._queued.append(message)
        return future

    def send(self, messages: list[Message]) -> None:
        """Take answers of the core."""
        for message in messages:
            waiting = self._waiting.pop(message.rid, None)  # type: ignore[attr-defined]
            if waiting is not None and waiting.traced:
                self._driver.tracer.end(self._place, message.rid)  # type: ignore[attr-defined]
            if waiting is None or waiting.future.done():  # whoever asked has gone
                continue
            if type(message) is Failure:
                waiting.future.set_exception(_told(message))
            else:
                waiting.future.set_result(message)

    async def empty(self, seconds: float) -> None:
        """Return once nothing waits for an answer, or after this time."""
        waiting = [each.future for each in self._waiting.values()]
        if waiting:
            await asyncio.wait(waiting, timeout=seconds)

    def close(self) -> None:
        """Take nothing more, and end what waits: nobody knows what becomes of it."""
        if self._closed:
            return
        self._closed = True
        self._sweeping.cancel()
        self._driver.detach(self._place)
        for waiting in self._waiting.values():
            _fail(waiting, stopping("unknown" if waiting.writes else "none"))
        self._waiting.clear()

    def _hand_in(self) -> None:
        """Hand in what came in this turn; of much only a part, so that no batch is too large."""
        queued, self._queued = self._queued, []
        if self._closed:
            return
        held = 0
        for at, message in enumerate(queued):
            if type(message) is Put and message.value is not None:
                held += len(message.value)
                if held > TURN_BYTES:
                    queued, self._queued = queued[: at + 1], queued[at + 1 :]
                    if self._queued:
                        self._loop.call_soon(self._hand_in)
                    break
        for message in queued:  # one by one, so that none is lost with another
            try:
                with answering(self._driver.log, type(message).__name__):
                    self._driver.arrived(self._place, [message])
            except InvariantError as error:  # a bug of ours, whatever was asked
                self._driver.broken(error)
                return
            except EverwriteError as error:
                self.send([failure_of(message.rid, error)])

    def _sweep(self) -> None:
        now = self._loop.time()
        for rid, waiting in list(self._waiting.items()):
            if waiting.deadline < now:
                del self._waiting[rid]
                if waiting.traced:
                    self._driver.tracer.end(self._place, rid)
                _fail(waiting, lost_sight_of(waiting))
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)


def _told(failure: Failure) -> EverwriteError:
    """Return the error that is reported. A broken invariant of another node is none of this one."""
    error = error_of(failure)
    if not isinstance(error, InvariantError):
        return error
    return EverwriteError(error.message, hint=error.hint, outcome=error.outcome)


def _fail(waiting: Waiting, error: EverwriteError) -> None:
    if not waiting.future.done():
        waiting.future.set_exception(error)


def lost_sight_of(waiting: Waiting) -> DeadlineExceeded:
    """Return the error for a request that nobody has answered."""
    outcome: Outcome = "unknown" if waiting.writes else "none"
    return DeadlineExceeded(
        "No answer came in time.",
        hint="A write may have happened: read the key to see." if waiting.writes else "Try again.",
        outcome=outcome,
    )


def stopping(outcome: Outcome = "none") -> UnavailableError:
    """Return the error for a request to a node that is about to end."""
    return UnavailableError("This node is stopping.", hint="Ask another node.", outcome=outcome)
