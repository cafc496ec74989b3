"""Requests in flight: small state machines in one table, with a deadline, not a task each.

A *read* that the client coordinates (``Read``) asks R owners, one for its copy and the others for
its digest:

    ASKED --all say the same--> done
          --a difference, no answer in time, a lost connection, BUSY, ...--> a ``Call`` with Get,
          which repairs

A *call* (``Call``) is a request that one node answers. A try that is lost, refused or silent is
followed by one at the next node of the preference list, while the first may still answer: the first
success wins.

    TRYING --success--> done
           --lost, a failure that another node may not have--> TRYING the next, while tries are left
           --silence--> TRYING one more beside it (a hedge)
           --nobody can be reached--> PARKED until a connection is up
           --deadline, the request itself is wrong, no try left--> failed

A put is the same put in all its tries (one ``op``), so it's safe to try again; ``retry`` tells the
node to look for it. When it fails, ``outcome`` is the worst that any of its tries left behind:
unknown, then partial, then none.

Each try has its own request id, entered in the table of the cluster; the same object stands under
all of them.

Costs: one object and one future per request. Timers: none, ``due`` is looked at by the cluster's
ticker. Source: Dynamo 4.5, 6.4; Dean & Barroso 2013, "The tail at scale" (hedged requests).
"""

from __future__ import annotations

from asyncio import Future
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec
import xxhash
from msgspec.structs import replace

from everwrite.core.errors import (
    DeadlineExceeded,
    EverwriteError,
    Outcome,
    ProtocolError,
    RequestError,
    Unreachable,
    error_from_code,
)
from everwrite.core.messages import (
    ABSENT,
    FOUND,
    STALE_VIEW,
    AnyMessage,
    Ask,
    Failure,
    Fetch,
    FetchReply,
    Get,
    GetReply,
    Put,
)

if TYPE_CHECKING:
    from everwrite.client.connection import Connection, Request

HEDGE_S = 0.25
"""A node that said nothing for this long gets company: far over a healthy p99.9, and a person does
not notice."""

SLOW_HEDGE_S = 1.0
"""The same for a node that does answer others: it may be waiting for a slow quorum, and company is
more load."""

PARK_S = 0.05
"""How often a request that nobody can take looks for a connection."""

_ABSENT_DIGEST = b"absent"
_WORST: dict[str, int] = {"none": 0, "partial": 1, "unknown": 2}

_digest = xxhash.xxh3_64_digest


class Counters(msgspec.Struct):
    """What the client did besides plain requests; all count up."""

    hedges: int = 0
    """Tries sent beside one that was silent."""
    failovers: int = 0
    """Tries sent since one was lost or refused."""
    fallbacks: int = 0
    """Client-coordinated reads that became node-coordinated ones."""
    strays: int = 0
    """Answers to what was never asked, or twice to the same: a node with a bug."""
    late: int = 0
    """Answers that came after their request was over."""
    refreshes: int = 0
    """Times that the members were asked for."""
    connects: int = 0
    """Connections opened."""
    losses: int = 0
    """Connections lost."""


class Table(Protocol):
    """What requests need of the cluster that they run in."""

    pending: dict[int, Request]
    counters: Counters
    view: bytes

    def next_rid(self) -> int: ...

    def now(self) -> float: ...

    def order(self, key: bytes) -> tuple[Connection, ...]: ...

    def expect_late(self, rid: int, answers: int) -> None: ...

    def refresh_soon(self) -> None: ...

    def stray(self, rid: int) -> None: ...

    def why_unreachable(self, since: float) -> str: ...


class Read(msgspec.Struct, eq=False):
    """A read that the client coordinates; the future gets a FetchReply all agree with, or a
    GetReply."""

    table: Table
    future: Future[Any]
    rid: int
    key: bytes
    awaited: list[Connection]
    """Owners that have not answered."""
    copier: Connection
    """The one of them that sends its copy; the others send digests."""
    retries: int
    due: float
    deadline: float
    copy: FetchReply | None = None
    said: bytes | None = None
    """The digest that all answers so far have."""

    def answered(self, connection: Connection, message: AnyMessage) -> None:
        """Take one owner's answer."""
        awaited = self.awaited
        if connection not in awaited:
            self.table.stray(self.rid)
            return
        awaited.remove(connection)
        if type(message) is not FetchReply:
            if type(message) is not Failure:
                connection.fail(_foreign(message))
            self._fall_back()
            return
        status = message.status
        if status > ABSENT or message.fallback:
            if status == STALE_VIEW:
                self.table.refresh_soon()
            self._fall_back()
            return
        if connection is self.copier:
            self.copy = message
            said = _digest(message.record) if status == FOUND else _ABSENT_DIGEST
        else:
            said = message.record if status == FOUND else _ABSENT_DIGEST
        if self.said is not None and self.said != said:
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
        """Look at the clock: called once ``due`` has passed."""
        if self.future.done():
            self.forget()
        elif now < self.deadline:
            self.table.counters.hedges += 1
            self._fall_back()
        else:
            self.forget()
            waited = ", ".join(connection.name for connection in self.awaited)
            self.future.set_exception(
                DeadlineExceeded(f"No answer in time from {waited}.", hint=_LATE_HINT)
            )

    def give_up(self, error: EverwriteError) -> None:
        """End it with this error."""
        self.forget()
        if not self.future.done():
            self.future.set_exception(error)

    def forget(self) -> None:
        """Take it out of the table."""
        self.table.pending.pop(self.rid, None)
        if self.awaited:
            self.table.expect_late(self.rid, len(self.awaited))

    def _fall_back(self) -> None:
        """Let a node do it: it asks all owners, merges, and repairs what differs."""
        self.forget()
        if self.future.done():
            return
        table = self.table
        table.counters.fallbacks += 1
        call = Call(
            table=table,
            future=self.future,
            message=Get(0, self.key, 0),
            expects=GetReply,
            tries={},
            tried=tuple(self.awaited),  # silent or slow: rather not them again
            retries=self.retries,
            due=0.0,
            deadline=self.deadline,
            started=table.now(),
        )
        call.begin()


class Call(msgspec.Struct, eq=False):
    """A request that one node answers; the future gets the answer."""

    table: Table
    future: Future[Any]
    message: Get | Put | Ask | Fetch
    """What is sent; request id, time left and view are set anew for each try."""
    expects: type[AnyMessage]
    tries: dict[int, Connection]
    """Tries that may still be answered, by request id."""
    tried: tuple[Connection, ...]
    """Nodes that got a try; asked again only when there is no other."""
    retries: int
    """Tries left after the ones made."""
    due: float
    deadline: float
    started: float
    sent: float = 0.0
    """When the last try went out."""
    only: Connection | None = None
    """The one node that may answer: for questions about that node."""
    outcome: Outcome = "none"
    """The worst that a finished try left behind."""
    error: EverwriteError | None = None
    """The last failure."""
    waiting: int = 0
    """Under which id it waits in the table for ``due`` to make its next try; 0: it does not."""

    def begin(self) -> None:
        """Make the first try."""
        node = self._pick()
        if node is None:
            self._wait(PARK_S)
        else:
            self._send(node)

    def answered(self, connection: Connection, message: AnyMessage) -> None:
        """Take an answer to one of the tries."""
        rid: int = message.rid  # type: ignore[union-attr]
        if self.tries.get(rid) is not connection:
            self.table.stray(rid)
            return
        del self.tries[rid]
        del self.table.pending[rid]
        if type(message) is self.expects:
            if self.tries or self.waiting:
                self.forget()
            if not self.future.done():
                self.future.set_result(message)
        elif type(message) is Failure:
            self._failed(message)
        else:
            connection.fail(_foreign(message))
            self._broken(connection)

    def lost(self, connection: Connection) -> None:
        """Take note that a connection is gone."""
        mine = [rid for rid, node in self.tries.items() if node is connection]
        for rid in mine:
            del self.tries[rid]
            del self.table.pending[rid]
        if mine:
            self._broken(connection)

    def tick(self, now: float) -> None:
        """Look at the clock: called once ``due`` has passed."""
        if self.future.done():
            self.forget()
        elif now >= self.deadline:
            self._expire()
        elif self.waiting:
            self._resume()
        elif self.retries <= 0 or self.only is not None:
            self.due = self.deadline
        else:
            self._hedge(now)

    def give_up(self, error: EverwriteError) -> None:
        """End it with this error."""
        self.error = error
        self._finish()

    def forget(self) -> None:
        """Take all tries out of the table; their answers are expected, and of no use."""
        for rid in self.tries:
            self.table.pending.pop(rid, None)
            self.table.expect_late(rid, 1)
        self.tries.clear()
        if self.waiting:
            self.table.pending.pop(self.waiting, None)
            self.waiting = 0

    # -- one try after the other ------------------------------------------------------------------

    def _pick(self, fresh: bool = False) -> Connection | None:
        """Return the node to ask next: the most preferred that had no try, else one whose try is
        over."""
        if self.only is not None:
            return self.only if self.only.up else None
        order = self.table.order(self.message.key if not isinstance(self.message, Ask) else b"")
        for node in order:
            if node not in self.tried:
                return node
        if fresh:
            return None
        busy = self.tries.values()
        return next((node for node in order if node not in busy), None)

    def _send(self, node: Connection) -> None:
        table = self.table
        now = table.now()
        rid = table.next_rid()
        left_ms = left(self.deadline - now)
        message = self.message
        if isinstance(message, Put):
            message = replace(
                message, rid=rid, timeout_ms=left_ms, view=table.view, retry=bool(self.tried)
            )
        elif isinstance(message, Get):
            message = replace(message, rid=rid, timeout_ms=left_ms, view=table.view)
        elif isinstance(message, Fetch):
            message = replace(message, rid=rid, left_ms=left_ms, view=table.view)
        else:
            message = replace(message, rid=rid)
        self.tries[rid] = node
        self.tried = (*self.tried, node)
        self.sent = now
        self.due = min(now + HEDGE_S, self.deadline)
        table.pending[rid] = self
        node.send(message)

    def _wait(self, seconds: float) -> None:
        """Make the next try (if there is one by then) after this time."""
        if not self.waiting:
            self.waiting = self.table.next_rid()
            self.table.pending[self.waiting] = self
        self.due = min(self.table.now() + seconds, self.deadline)

    def _resume(self) -> None:
        """Make the try that was waited for, if there is anybody to take it."""
        node = self._pick()
        if node is not None:
            self.table.pending.pop(self.waiting, None)
            self.waiting = 0
            self._send(node)
            return
        if self.only is not None:
            self._finish()
            return
        why = self.table.why_unreachable(self.started)
        if why and not self.tries:
            self.error = Unreachable(f"No node can be reached: {why}.", hint=_UNREACHABLE_HINT)
            self._finish()
        else:
            self._wait(PARK_S)

    def _hedge(self, now: float) -> None:
        """Make a try beside those that are open, if they seem to lead nowhere and there is a node
        for it."""
        silent = all(node.heard < self.sent for node in self.tries.values())
        node = self._pick(fresh=True) if silent or now - self.sent >= SLOW_HEDGE_S else None
        if node is None:
            self.due = min(now + HEDGE_S, self.deadline)
            return
        self.retries -= 1
        self.table.counters.hedges += 1
        self._send(node)

    def _again(self, seconds: float) -> None:
        """Make another try in place of one that is over: elsewhere at once, with the same node
        later."""
        if self.waiting:
            return
        self.retries -= 1
        self.table.counters.failovers += 1
        node = self._pick(fresh=True)
        if node is None:
            self._wait(max(seconds, PARK_S))
        else:
            self._send(node)

    def _broken(self, connection: Connection) -> None:
        """A try is over and nobody knows what it did."""
        if isinstance(self.message, Put | Ask):
            self.outcome = "unknown"
        if self.error is None:
            reason = connection.error.message if connection.error else "It closed the connection."
            self.error = Unreachable(
                f"The node {connection.name} was lost before it answered: {reason}"
            )
        if self.retries > 0 and self.only is None:
            self._again(0.0)
        elif not self.tries and not self.waiting:
            self._finish()

    def _failed(self, failure: Failure) -> None:
        """A try is over and says why."""
        error = error_of(failure)
        self.error = error
        if _WORST[error.outcome] > _WORST[self.outcome]:
            self.outcome = error.outcome
        if isinstance(error, RequestError) or isinstance(self.message, Ask) or self.only:
            self._finish()
        elif self.retries > 0:
            self._again(failure.retry_after_ms / 1000)
        elif not self.tries and not self.waiting:
            self._finish()

    # -- the end ----------------------------------------------------------------------------------

    def _expire(self) -> None:
        if self.tries or self.error is None:
            names = ", ".join(node.name for node in self.tries.values())
            waited = (
                f"No answer in time from {names}" if names else "No node could be reached in time"
            )
            hint = _MAYBE_HINT if isinstance(self.message, Put) else _LATE_HINT
            error = DeadlineExceeded(f"{waited}.", hint=hint)
            error.__cause__ = self.error
            self.error = error
        self._finish()

    def _finish(self) -> None:
        """Raise the last error, with the worst outcome that any try may have had."""
        error = self.error or Unreachable("The request was given up.")
        if self.tries and isinstance(self.message, Put | Ask):
            self.outcome = "unknown"
        if _WORST[self.outcome] > _WORST[error.outcome]:
            error.outcome = self.outcome
        self.forget()
        if not self.future.done():
            self.future.set_exception(error)


def error_of(failure: Failure) -> EverwriteError:
    """Return the error that a node reports."""
    known = failure.outcome in _WORST
    return error_from_code(failure.code)(
        failure.message,
        hint=failure.hint,
        outcome=cast("Outcome", failure.outcome) if known else "unknown",
        acked=failure.acked,
        required=failure.required,
        retry_after_ms=failure.retry_after_ms,
    )


def left(seconds: float) -> int:
    """Return the milliseconds to give a node: a little less, so that its answer (it knows more) is
    in time."""
    return max(1, int(seconds * 950))


def _foreign(message: AnyMessage) -> ProtocolError:
    return ProtocolError(
        f"The node answered with a {type(message).__name__}, which was not asked for."
    )


_LATE_HINT = "Try again, or give it more time with timeout=."
_MAYBE_HINT = (
    "The write may have happened. Read the key to see, or put again with the same context."
)
_UNREACHABLE_HINT = "Is the cluster running, and are its addresses right? `everwrite status` tells."
