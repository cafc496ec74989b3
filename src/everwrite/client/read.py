"""A read that the client coordinates: R owners are asked, one for its copy, the others for digests.

    ASKED --all say the same--> done
          --nothing there, a difference, BUSY, silence, ...--> a ``Call`` with Get
          --NOT_HERE, a copy that does not count--> the same, and the view is asked for again

The answer that all agree on is given at once. Everything else is left to a node: it asks all owners
and their stand-ins, merges what differs, and repairs it. So is "nothing there", on which R owners
may agree while another one has the value: whether it was never written takes all of them to say.

Costs: two messages in place of five, and no hop between the client and the copy.
Source: Dynamo 6.4 (client-driven coordination), 4.5 (R).
"""

from __future__ import annotations

from asyncio import Future
from typing import TYPE_CHECKING, Any

import msgspec
import xxhash

from everwrite.client.call import LATE_HINT, Call, foreign
from everwrite.client.table import Table
from everwrite.core.errors import DeadlineExceeded, EverwriteError, Overloaded
from everwrite.core.failures import error_of
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.requests import (
    ABSENT,
    FOUND,
    NOT_HERE,
    STALE_VIEW,
    Failure,
    FetchReply,
    Get,
    GetReply,
)

if TYPE_CHECKING:
    from everwrite.client.connection import Connection

_ABSENT_DIGEST = b"absent"
"""Stands for the digest of a copy that is not there; real ones have 8 bytes."""

_COPIES = (FOUND, ABSENT)

_digest = xxhash.xxh3_64_digest


class Read(msgspec.Struct, eq=False):
    """A row of the table; the future gets a FetchReply that all agree with, or a GetReply."""

    table: Table
    future: Future[Any]
    rid: int
    key: bytes
    awaited: list[Connection]
    """Owners that have not answered."""
    copier: Connection
    """The one of them that sends its copy."""
    retries: int
    due: float
    """When ``tick`` is to be called."""
    deadline: float
    copy: FetchReply | None = None
    said: bytes | None = None
    """The digest that all answers so far have."""

    def answered(self, connection: Connection, message: AnyMessage) -> None:
        """Take one owner's answer."""
        awaited = self.awaited
        if connection not in awaited:
            self.table.late.take(self.rid)
            return
        awaited.remove(connection)
        if type(message) is not FetchReply:
            if type(message) is not Failure:
                connection.fail(foreign(message))
            elif message.code == Overloaded.code:
                connection.refuses(message.retry_after_ms)
                if not self.table.budget.take():
                    self.give_up(error_of(message))
                    return
            self._fall_back()
            return
        status = message.status
        if status not in _COPIES or message.fallback:
            if status == STALE_VIEW:
                self.table.refresh_soon()
            elif status == NOT_HERE or status in _COPIES:
                self.table.moved(self.key)
            self._fall_back()
            return
        if connection is self.copier:
            self.copy = message
            said = _digest(message.record) if status == FOUND else _ABSENT_DIGEST
        else:
            said = message.record if status == FOUND else _ABSENT_DIGEST
        differs = self.said is not None and self.said != said
        if differs or (not awaited and said == _ABSENT_DIGEST):
            self._fall_back()
        elif awaited:
            self.said = said
        else:
            del self.table.pending[self.rid]
            if not self.future.done():
                self.future.set_result(self.copy)

    def lost(self, connection: Connection) -> None:
        """Take note that a connection is gone."""
        if connection in self.awaited:
            self.awaited.remove(connection)
            self.table.counters.failovers += 1
            self._fall_back()

    def tick(self, now: float) -> None:
        """Look at the clock."""
        if self.future.done():  # given up by the caller
            self.forget()
        elif now >= self.deadline:
            names = ", ".join(connection.name for connection in self.awaited)
            self.give_up(DeadlineExceeded(f"No answer in time from {names}.", hint=LATE_HINT))
        elif self.table.budget.take():
            self.table.counters.hedges += 1
            self._fall_back()
        else:
            self.due = min(now + self.table.timing.hedge_s, self.deadline)

    def give_up(self, error: EverwriteError) -> None:
        """End it with this error."""
        self.forget()
        if not self.future.done():
            self.future.set_exception(error)

    def forget(self) -> None:
        """Take it out of the table; answers that still come are expected, and of no use."""
        self.table.pending.pop(self.rid, None)
        if self.awaited:
            self.table.late.expect(self.rid, len(self.awaited))

    def _fall_back(self) -> None:
        """Let a node do it, rather not one that is silent."""
        self.forget()
        if self.future.done():
            return
        table = self.table
        table.counters.fallbacks += 1
        now = table.now()
        call = Call(
            table,
            self.future,
            Get(0, self.key, 0, marks=True),
            GetReply,
            {},
            tuple(self.awaited),
            self.retries,
            now,
            self.deadline,
            now,
        )
        call.begin()
