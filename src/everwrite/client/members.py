"""Keeps the view fresh: who is in the cluster, asked for at the start and whenever a node says that
ours is old; once at a time, and not too often.

    urgent      the placement is another one: all reads that we coordinate are refused
    not urgent  a partition has moved: a request for it costs a hop more

While news of a member spreads, nodes have different views for a second or so, and refresh follows
refresh. Requests go on meanwhile: a node takes any of them and forwards what is not its own. A view
that is older than ours is passed over, unless all nodes tell such a one.

Source: Dynamo 6.4 (clients poll a node for the membership).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from everwrite.client.call import LATE_HINT
from everwrite.client.connection import Connection
from everwrite.client.limits import Timing
from everwrite.client.table import Counters
from everwrite.client.view import View, ask_for_view, parse_view
from everwrite.core.errors import (
    ClientClosed,
    DeadlineExceeded,
    DeniedError,
    EverwriteError,
    ProtocolError,
    Unreachable,
)

if TYPE_CHECKING:
    from everwrite.client.pool import Address, Pool


class Members:
    """Asks for the members, and tells ``go_by`` whenever they changed."""

    def __init__(
        self,
        pool: Pool,
        seeds: Sequence[Address],
        timing: Timing,
        counters: Counters,
        ask: Callable[[Connection], asyncio.Future[Any]],
        go_by: Callable[[View | None], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = pool
        self._seeds = seeds
        self._timing = timing
        self._counters = counters
        self._ask = ask
        self._go_by = go_by
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._asked_at = monotonic() - timing.refresh_s
        self.question = ask_for_view("")
        self._view: View | None = None
        self._older = 0
        """Views in a row that were older than ours."""
        self._closed = False
        self.home = b""
        """The node that was reached first."""

    async def meet(self) -> None:
        """Learn the members from the first seed that tells them; its connection goes to the pool.

        If none does: DeniedError if one refused us, ProtocolError if all speak another protocol,
        which no retry will change; else Unreachable.
        """
        errors: list[EverwriteError] = []
        for address in self._seeds:
            connection: Connection | None = None
            try:
                connection = await self._pool.dial(address)
                await self._learn(connection, others=0)
            except EverwriteError as error:
                errors.append(error)
                if connection is not None:
                    connection.fail(error)
                continue
            except asyncio.CancelledError:  # the client is closed, and nobody else knows of it
                if connection is not None:
                    connection.fail(closed())
                raise
            self.home = self.home or connection.node_id
            self._pool.adopt(connection)
            return
        for refused in errors:
            if isinstance(refused, DeniedError):
                raise refused
        said = " ".join(error.message for error in errors)
        if all(isinstance(error, ProtocolError) for error in errors):
            raise ProtocolError(said, hint=errors[0].hint)
        raise Unreachable(
            f"No node of the cluster could be reached. {said}",
            hint="Is the cluster running, and is the address right?",
        )

    async def met(self, connection: Connection) -> None:
        """Another node of the cluster answers where a member did: hear who is there now, if there
        is nobody else to ask.
        """
        if self._closed or self._pool.usable():
            self._pool.adopt(connection)
            return
        try:
            await self._learn(connection, others=0)
        except EverwriteError as error:
            connection.fail(error)
        except asyncio.CancelledError:
            connection.fail(closed())
            raise
        if self._closed:
            connection.fail(closed())
        else:
            self._pool.adopt(connection)

    def refresh_soon(self, *, urgent: bool = True) -> None:
        """Ask again in the background, unless that is under way."""
        if self._task is not None or self._closed:
            return
        timing = self._timing
        due = self._asked_at + (timing.refresh_s if urgent else timing.moved_s)
        if self._timer is not None:
            if due >= self._due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_later(max(0.0, due - monotonic()), self._begin)

    async def close(self) -> None:
        """Ask no more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _begin(self) -> None:
        self._timer = None
        self._task = self._loop.create_task(self._refresh())
        self._task.add_done_callback(self._refreshed)

    async def _refresh(self) -> None:
        usable = self._pool.usable()
        if usable:
            node = usable[self._counters.refreshes % len(usable)]
            await self._learn(node, others=len(usable) - 1)
        else:
            await self.meet()

    def _refreshed(self, task: asyncio.Task[None]) -> None:
        """Be ready for the next time; who still needs it after a failure will ask again."""
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, EverwriteError):
            raise error

    async def _learn(self, connection: Connection, *, others: int) -> None:
        """Ask this node for the members, and go by them from now on; by older ones only if the
        ``others`` that can be asked have told such ones, too.
        """
        self._counters.refreshes += 1
        self._asked_at = monotonic()
        answer: bytes = (await self._ask(connection)).answer
        # In a thread: with many partitions and nodes the placement takes long.
        view = await asyncio.to_thread(parse_view, answer, self._view)
        if self._closed:
            return
        before = self._view
        if before is not None and view.stamp < before.stamp and self._older < others:
            self._older += 1
            return
        self._older = 0
        self._view = view
        self.question = ask_for_view(view.version)
        self._go_by(None if view is before else view)


def closed() -> ClientClosed:
    return ClientClosed("The client is closed.", hint="Connect again.")


def untold(timeout_s: float) -> DeadlineExceeded:
    """Return why a client does not know its cluster: nobody told it in time."""
    return DeadlineExceeded(
        f"No node has told who is in the cluster within {timeout_s:g} s.",
        hint=f"Is it paused or overloaded, or the network slow? {LATE_HINT}",
    )
