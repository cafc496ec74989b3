"""A request that one node answers: made again elsewhere when a try is lost, refused or silent.

    TRYING --success--> done
           --lost, or a failure that another node may not have--> TRYING the next, if tries are left
           --silence--> TRYING one more beside it (a hedge); the first success wins
           --nobody can be reached--> WAITING until a connection is up
           --deadline, the request itself is wrong, no try left--> failed

A put is the same put in all its tries (one ``op``), so it's safe to try again; ``retry`` tells the
node to look for it. When it fails, ``outcome`` is the worst that any of its tries left behind.

Each try has its own request id; the same object stands in the table under all of them, and while it
waits, under one more.

Source: Dynamo 4.5, 4.6; Dean & Barroso 2013, "The tail at scale" (hedged requests).
"""

from __future__ import annotations

from asyncio import Future
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from everwrite.client.manners import spread
from everwrite.client.table import Table, left_ms
from everwrite.core.errors import (
    DeadlineExceeded,
    EverwriteError,
    Outcome,
    Overloaded,
    ProtocolError,
    RequestError,
    Unreachable,
    WrongType,
)
from everwrite.core.failures import error_of
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.requests import Ask, Failure, Fetch, Get, Put, PutReply, Touch

if TYPE_CHECKING:
    from everwrite.client.connection import Connection

_WORST: dict[Outcome, int] = {"none": 0, "partial": 1, "unknown": 2}


class Call(msgspec.Struct, eq=False):
    """A row of the table; the future gets the answer, or an EverwriteError."""

    table: Table
    future: Future[Any]
    message: Get | Put | Touch | Ask | Fetch
    """What is sent; request id, time left and view are set anew for each try."""
    expects: type[AnyMessage]
    tries: dict[int, Connection]
    """Tries that may still be answered, by request id."""
    tried: tuple[Connection, ...]
    """Nodes that had a try; they get another only when there is no other node."""
    retries: int
    """Tries left after the ones made."""
    due: float
    """When ``tick`` is to be called."""
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
    again: bool = False
    """Whether a try of a write began when an earlier one may have been carried out."""
    waiting: int = 0
    """Under which id it waits in the table for ``due`` to make its next try; 0: it does not."""

    def begin(self) -> None:
        """Make the first try."""
        node = self._pick(fresh=False)
        if node is None:
            self._wait(self.table.timing.park_s)
        else:
            self._send(node)

    def answered(self, connection: Connection, message: AnyMessage) -> None:
        """Take an answer to one of the tries."""
        rid: int = message.rid  # type: ignore[union-attr]
        if self.tries.get(rid) is not connection:
            self.table.late.take(rid)
            return
        del self.tries[rid]
        del self.table.pending[rid]
        if type(message) is self.expects:
            if self.tries or self.waiting:
                self.forget()
            if not self.future.done():
                if self.again and type(message) is PutReply:
                    message = replace(message, retried=True)
                self.future.set_result(message)
        elif type(message) is Failure:
            error = error_of(message)
            if error.code == Overloaded.code:
                connection.refuses(error.retry_after_ms)
            self._failed(error)
        else:
            connection.fail(foreign(message))
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
        """Look at the clock."""
        if self.future.done():  # given up by the caller
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
        """Take it out of the table; answers that still come are expected, and of no use."""
        for rid in self.tries:
            self.table.pending.pop(rid, None)
            self.table.late.expect(rid, 1)
        self.tries.clear()
        if self.waiting:
            self.table.pending.pop(self.waiting, None)
            self.waiting = 0

    # -- one try after the other ------------------------------------------------------------------

    def _pick(self, *, fresh: bool) -> Connection | None:
        """Return the node to ask next: the most preferred that had no try, else (unless it must be
        ``fresh``) one whose try is over.
        """
        if self.only is not None:
            return self.only if self.only.up else None
        order = self.table.order(b"" if isinstance(self.message, Ask) else self.message.key)
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
        time_ms = left_ms(self.deadline - now)
        message = self.message
        if isinstance(message, Put | Touch):
            # Only tries that surely came to nothing need not be looked for.
            again = bool(self.tries) or self.outcome != "none"
            self.again |= again
            message = replace(message, rid=rid, timeout_ms=time_ms, view=table.view, retry=again)
        elif isinstance(message, Get):
            message = replace(message, rid=rid, timeout_ms=time_ms, view=table.view)
        elif isinstance(message, Fetch):
            message = replace(message, rid=rid, left_ms=time_ms, view=table.view)
        else:
            message = replace(message, rid=rid)
        self.tries[rid] = node
        self.tried = (*self.tried, node)
        self.sent = now
        self.due = min(now + table.timing.hedge_s, self.deadline)
        table.pending[rid] = self
        node.send(message)

    def _wait(self, seconds: float) -> None:
        """Make the next try after this time, if there is anybody to take it by then."""
        if not self.waiting:
            self.waiting = self.table.next_rid()
            self.table.pending[self.waiting] = self
        self.due = min(self.table.now() + seconds, self.deadline)

    def _resume(self) -> None:
        """Make the try that was waited for."""
        node = self._pick(fresh=False)
        if node is not None:
            self.table.pending.pop(self.waiting, None)
            self.waiting = 0
            self._send(node)
            return
        why = self.table.why_unreachable(self.started)
        if self.only is None and (self.tries or not why):
            self._wait(self.table.timing.park_s)
            return
        if self.error is None:
            self.error = Unreachable(f"No node can be reached: {why}.", hint=_UNREACHABLE_HINT)
        self._finish()

    def _hedge(self, now: float) -> None:
        """Make a try beside those that are open, if they seem to lead nowhere and there is a node
        for it.
        """
        timing = self.table.timing
        silent = all(node.heard < self.sent for node in self.tries.values())
        if silent or now - self.sent >= timing.slow_hedge_s:
            node = self._pick(fresh=True)
            if node is not None and self.table.budget.take():
                self.retries -= 1
                self.table.counters.hedges += 1
                self._send(node)
                return
        self.due = min(now + timing.hedge_s, self.deadline)

    def _again(self, seconds: float, *, of_budget: bool) -> bool:
        """Make another try in place of one that is over: with a node that had none at once, else
        after about this time. False if there is none to make.
        """
        timing = self.table.timing
        if self.waiting:
            return True
        if self.only is not None or self.retries <= 0:
            return False
        if self.deadline - self.table.now() < timing.park_s:
            return False
        if of_budget and not self.table.budget.take():
            return False
        self.retries -= 1
        self.table.counters.failovers += 1
        node = self._pick(fresh=True)
        if node is None:
            self._wait(max(spread(seconds), timing.park_s))
        else:
            self._send(node)
        return True

    def _broken(self, connection: Connection) -> None:
        """A try is over, and nobody knows what it did."""
        self._note("unknown")
        if self.error is None:
            reason = connection.error.message if connection.error else "The connection closed."
            write = isinstance(self.message, Put | Touch)
            self.error = Unreachable(
                f"Node {connection.name} was lost before it answered. {reason}",
                hint=_MAYBE_HINT if write else _LOST_HINT,
            )
        if not self._again(0.0, of_budget=False) and not self.tries:
            self._finish()

    def _failed(self, error: EverwriteError) -> None:
        """A try is over, and its node says why."""
        self.error = error
        self._note(error.outcome)
        hopeless = isinstance(error, RequestError | WrongType)
        seconds = error.retry_after_ms / 1000
        if hopeless or (not self._again(seconds, of_budget=True) and not self.tries):
            self._finish()

    # -- the end ----------------------------------------------------------------------------------

    def _note(self, outcome: Outcome) -> None:
        """Keep the worst of what the tries left behind; reads leave nothing."""
        if isinstance(self.message, Put | Touch | Ask) and _WORST[outcome] > _WORST[self.outcome]:
            self.outcome = outcome

    def _expire(self) -> None:
        """The deadline has passed: say so, unless a node has said something better."""
        if self.error is None or isinstance(self.error, Unreachable):
            names = ", ".join(node.name for node in self.tries.values())
            what = f"No answer in time from {names}." if names else "No node answered in time."
            hint = _MAYBE_HINT if isinstance(self.message, Put | Touch) else LATE_HINT
            error = DeadlineExceeded(what, hint=hint)
            error.__cause__ = self.error
            self.error = error
        self._finish()

    def _finish(self) -> None:
        """Raise the last error, with the worst outcome that any try may have had."""
        if self.tries:
            self._note("unknown")
        error = self.error or Unreachable("The request was given up.")
        if _WORST[self.outcome] > _WORST[error.outcome]:
            error.outcome = self.outcome
        self.forget()
        if not self.future.done():
            self.future.set_exception(error)


def foreign(message: AnyMessage) -> ProtocolError:
    """Return why a node that answers with this is given up."""
    return ProtocolError(f"The node answered with a {type(message).__name__}, unasked.")


LATE_HINT = "Try again, or give it more time with timeout=."
_LOST_HINT = "Try again: other nodes may answer. `everwrite status` says which are up."
_MAYBE_HINT = "The write may have happened: read the key to see."
_UNREACHABLE_HINT = (
    "Is the cluster running, and are its addresses right? If all of its nodes were replaced, "
    "connect again, to one of the new ones."
)
