"""The front's place at the driver: a message goes in, and whoever asked is given its answer.

All HTTP requests of a node come in at one place. Those of one turn of the loop are handed in
together, and wait at the same door as what native clients ask. The core answers each by its
deadline; what it has lost sight of all the same ends some seconds later, here.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from typing import Any

from everwrite.core.errors import EverwriteError, InvariantError
from everwrite.core.failures import failure_of
from everwrite.core.messages.listing import List
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Ask, Failure, Get, Put, Touch
from everwrite.server.answering import answering
from everwrite.server.driver import Driver
from everwrite.server.fronts import FrontPlace, patience_s, told
from everwrite.server.tracing import current
from everwrite.server.transport import TURN_BYTES

REQUESTS_MAX = 4096
"""Requests that wait for an answer: as many as there may be connections."""

Request = Get | Put | Touch | List | Ask


class HttpPlace(FrontPlace[Future[Any], bool]):
    """See the module. A request waits as its future, and whether its time is noted (traced)."""

    most = REQUESTS_MAX
    what = "HTTP requests"

    def __init__(self, driver: Driver, timeout_ms: int) -> None:
        super().__init__(driver)
        self.local = driver.node.local
        self._timeout_ms = timeout_ms
        """What the core takes where a request says nothing."""
        self._queued: list[Request] = []

    def ask(self, message: Request) -> Future[Any]:
        """Hand in a request; the future gets its reply, or an EverwriteError."""
        self.check_room(1)
        future: Future[Any] = self._loop.create_future()
        left_ms = getattr(message, "timeout_ms", 0) or self._timeout_ms
        lost_at = self._loop.time() + patience_s(left_ms)
        writes = not isinstance(message, Get | List)
        timeline = current.get()
        if timeline is not None:
            self._driver.tracer.begin(self._place, message.rid, timeline)
        traced = timeline is not None
        self._waiting[message.rid] = future, traced, writes, lost_at
        if not self._queued:
            self._loop.call_soon(self._hand_in)
        self._queued.append(message)
        return future

    def send(self, messages: list[Message]) -> None:
        """Take answers of the core."""
        for message in messages:
            found = self._waiting.pop(message.rid, None)  # type: ignore[attr-defined]
            if found is None:
                continue
            future, traced, *_ = found
            if traced:
                self._driver.tracer.end(self._place, message.rid)  # type: ignore[attr-defined]
            if future.done():  # whoever asked has gone
                continue
            if type(message) is Failure:
                future.set_exception(told(message))
            else:
                future.set_result(message)

    async def empty(self, seconds: float) -> None:
        """Return once nothing waits for an answer, or after this time."""
        waiting = [future for future, *_ in self._waiting.values()]
        if waiting:
            await asyncio.wait(waiting, timeout=seconds)

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

    def _end(self, rid: int, who: Future[Any], which: bool, error: EverwriteError) -> None:
        if which:
            self._driver.tracer.end(self._place, rid)
        if not who.done():
            who.set_exception(error)
