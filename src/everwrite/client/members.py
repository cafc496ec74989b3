"""Keeps the view fresh: who is in the cluster, asked for at the start and whenever a node says that
ours is old; once at a time, and not too often.

While news of a member spreads, nodes have different views for a second or so, and refresh follows
refresh. Requests go on meanwhile: a node takes any of them and forwards what is not its own.

Source: Dynamo 6.4 (clients poll a node for the membership).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from everwrite.client.connection import Connection
from everwrite.client.limits import Timing
from everwrite.client.table import Counters
from everwrite.client.view import View, parse_view
from everwrite.core.errors import DeniedError, EverwriteError, Unreachable

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
        go_by: Callable[[View], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = pool
        self._seeds = seeds
        self._timing = timing
        self._counters = counters
        self._ask = ask
        self._go_by = go_by
        self._task: asyncio.Task[None] | None = None
        self._asked_at = monotonic() - timing.refresh_s
        self._told = b""
        self._closed = False
        self.home = b""
        """The node that was reached first."""

    async def meet(self) -> None:
        """Learn the members from the first seed that tells them; its connection goes to the pool.

        Raises DeniedError if a seed refused us and none answered, else Unreachable.
        """
        errors: list[EverwriteError] = []
        for address in self._seeds:
            connection: Connection | None = None
            try:
                connection = await self._pool.dial(address)
                await self._learn(connection)
            except EverwriteError as error:
                errors.append(error)
                if connection is not None:
                    connection.fail(error)
                continue
            self.home = self.home or connection.node_id
            self._pool.adopt(connection)
            return
        for refused in errors:
            if isinstance(refused, DeniedError):
                raise refused
        raise Unreachable(
            f"No node of the cluster could be reached. {' '.join(e.message for e in errors)}",
            hint="Is the cluster running, and is the address right?",
        )

    def refresh_soon(self) -> None:
        """Ask again in the background, unless that is under way."""
        if self._task is None and not self._closed:
            self._task = self._loop.create_task(self._refresh())
            self._task.add_done_callback(self._refreshed)

    async def close(self) -> None:
        """Ask no more."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _refresh(self) -> None:
        await asyncio.sleep(max(0.0, self._asked_at + self._timing.refresh_s - monotonic()))
        usable = self._pool.usable()
        if usable:
            await self._learn(usable[self._counters.refreshes % len(usable)])
        else:
            await self.meet()

    def _refreshed(self, task: asyncio.Task[None]) -> None:
        """Be ready for the next time; who still needs it after a failure will ask again."""
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, EverwriteError):
            raise error

    async def _learn(self, connection: Connection) -> None:
        """Ask this node for the members, and go by them from now on."""
        self._counters.refreshes += 1
        self._asked_at = monotonic()
        answer: bytes = (await self._ask(connection)).answer
        if answer == self._told:
            return
        # In a thread: with many partitions and nodes the placement takes long.
        view = await asyncio.to_thread(parse_view, answer)
        self._told = answer
        self._go_by(view)
