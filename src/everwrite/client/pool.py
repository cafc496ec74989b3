"""Connections: one to each member, opened in the background, opened again when lost.

    DIALING --handshake done--> UP --lost--> DIALING (50 ms, doubling to 1 s, each spread at random)
            --no member any more--> LINGERING until the answers under way had time --> closed

Source: Dynamo 6.4. The spread keeps clients that lost a node together from coming back together.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING

from everwrite.client.connection import Connection
from everwrite.client.limits import Timing
from everwrite.core.errors import ClientClosed, EverwriteError, Unreachable

if TYPE_CHECKING:
    from everwrite.client.connection import Owner, Request
    from everwrite.client.view import Node

_SHOWN_MAX = 8
"""Nodes that an error names: a cluster has up to a thousand."""

Address = tuple[str, int]

Connect = Callable[[Callable[[], asyncio.Protocol], str, int], Awaitable[object]]
"""Opens a connection for a protocol to a host and port: ``loop.create_connection``, mostly."""


class Link:
    """A member and the connection to it, if there is one."""

    __slots__ = ("address", "connection", "error", "failed_at", "name", "node_id", "task", "tried")

    def __init__(self, node: Node, loop: asyncio.AbstractEventLoop) -> None:
        self.node_id = node.node_id
        self.name = node.name
        self.address: Address = (node.host, node.port)
        self.connection: Connection | None = None
        self.task: asyncio.Task[None] | None = None
        self.tried: asyncio.Future[None] = loop.create_future()
        """Done after the first attempt to connect."""
        self.failed_at = 0.0
        self.error = ""


class Pool:
    """The connections of one client."""

    def __init__(
        self,
        owner: Owner,
        pending: dict[int, Request],
        secret: bytes,
        timing: Timing,
        connect: Connect | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._pending = pending
        self._secret = secret
        self._timing = timing
        self._connect_to = connect or self._loop.create_connection
        self._links: dict[bytes, Link] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False
        self._over: asyncio.Future[None] = self._loop.create_future()
        self.cluster_id = b""
        """Learned from the first node; all others must be of the same cluster."""

    def connections(self) -> list[Connection]:
        """Return the connections that are up."""
        return [link.connection for link in self._links.values() if link.connection is not None]

    def links(self) -> Iterable[Link]:
        return self._links.values()

    def usable(self) -> list[Connection]:
        """Return the connections for new requests: silent ones only if there are no others."""
        ready = [connection for connection in self.connections() if not connection.full]
        return [connection for connection in ready if not connection.suspect] or ready

    def why_unreachable(self, since: float) -> str:
        """Return why no node can be reached, if each was tried since then; else an empty string."""
        if self.connections() or any(link.failed_at <= since for link in self._links.values()):
            return ""
        errors = [link.error for link in self._links.values()]
        more = f"; and {len(errors) - _SHOWN_MAX} more" if len(errors) > _SHOWN_MAX else ""
        return "; ".join(errors[:_SHOWN_MAX]) + more

    async def dial(self, address: Address) -> Connection:
        """Return an open connection to the node at an address, or raise; it belongs to no link."""
        host, port = address
        connection = Connection(
            self._owner, self._pending, self._secret, self.cluster_id, self._loop
        )
        error: EverwriteError
        try:
            async with asyncio.timeout(self._timing.dial_s):
                await self._connect_to(lambda: connection, host, port)
                await connection.opened
            return connection
        except (OSError, UnicodeError) as reason:  # TimeoutError is one; a host that is no name
            timed_out = isinstance(reason, TimeoutError)
            why = (
                f"no answer in {self._timing.dial_s:g} s"
                if timed_out
                else str(getattr(reason, "strerror", None) or reason)
            )
            error = Unreachable(f"{host}:{port}: {why}.")
            error.__cause__ = reason
        except EverwriteError as reason:
            error = type(reason)(f"{host}:{port}: {reason.message}", hint=reason.hint)
            error.__cause__ = reason
        except asyncio.CancelledError:
            connection.fail(ClientClosed("The client was closed."))
            raise
        connection.fail(error)
        raise error

    def keep(self, nodes: Iterable[Node]) -> None:
        """Have a link to each of these members, and to nobody else."""
        wanted = {node.node_id: node for node in nodes}
        for node_id, link in list(self._links.items()):
            node = wanted.get(node_id)
            if node is None or (node.host, node.port) != link.address:
                self._drop(link)
        for node_id, node in wanted.items():
            if node_id not in self._links:
                self._links[node_id] = Link(node, self._loop)
                self._start(self._links[node_id])

    def adopt(self, connection: Connection) -> None:
        """Take a seed's connection for the link to its node, or close it if there is one."""
        link = self._links.get(connection.node_id)
        if link is None or link.connection is not None or not connection.up:
            self._close_soon(connection)
            return
        if link.task is not None:
            link.task.cancel()
        self._set_up(link, connection)

    async def settle(self, timeout_s: float) -> None:
        """Return when each link had its first attempt, or after this time."""
        if self._links:
            await asyncio.wait([link.tried for link in self._links.values()], timeout=timeout_s)

    def lost(self, connection: Connection) -> None:
        """Take note of a connection that is gone, and begin to open it again."""
        link = self._links.get(connection.node_id)
        if link is not None and link.connection is connection:
            link.connection = None
            self._start(link)

    async def close(self) -> None:
        """Stop dialing and close all connections; return when the sockets are gone."""
        self._closed = True
        if not self._over.done():
            self._over.set_result(None)
        for link in list(self._links.values()):
            self._drop(link)
        if self._closing:
            await asyncio.wait(list(self._closing))

    def _start(self, link: Link) -> None:
        if not self._closed:
            link.task = self._loop.create_task(self._connect(link))

    async def _connect(self, link: Link) -> None:
        """Open the connection of a link, however long it takes."""
        back_off = self._timing.back_off_s
        while True:
            try:
                connection = await self.dial(link.address)
                if connection.node_id == link.node_id:
                    break
                link.error = f"{connection.name} answers at the address of {link.name}"
                meeting = self._loop.create_task(self._owner.met(connection))
                self._keep(meeting)
                # It may tell who is there now; then this is cancelled. It has no time of its own:
                # all that a meeting waits for is one question, which ends by view_s, and if it were
                # given up before that, this link would meet a second stranger beside the first.
                await asyncio.wait([meeting])
            except EverwriteError as error:
                link.error = error.message.rstrip(".")
            link.failed_at = monotonic()
            if not link.tried.done():
                link.tried.set_result(None)
            if back_off >= self._timing.back_off_max_s:
                self._owner.refresh_soon()
            await asyncio.sleep(back_off * random.uniform(0.5, 1.0))
            back_off = min(2 * back_off, self._timing.back_off_max_s)
        self._set_up(link, connection)

    def _set_up(self, link: Link, connection: Connection) -> None:
        link.task = None
        if not link.tried.done():
            link.tried.set_result(None)
        if connection.up:
            link.connection = connection
            self._owner.changed()
        else:
            self._start(link)

    def _drop(self, link: Link) -> None:
        del self._links[link.node_id]
        if link.task is not None:
            link.task.cancel()
            self._keep(link.task)
        if not link.tried.done():
            link.tried.set_result(None)
        if link.connection is not None:
            self._keep(self._loop.create_task(self._linger(link.connection)))
            self._owner.changed()

    async def _linger(self, connection: Connection) -> None:
        """Close a connection that gets no new requests, once the answers under way had time."""
        if not self._closed:
            waited = [connection.closed, self._over]
            timeout_s = self._timing.linger_s
            await asyncio.wait(waited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        await connection.close(self._timing.close_s)

    def _close_soon(self, connection: Connection) -> None:
        self._keep(self._loop.create_task(connection.close(self._timing.close_s)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
