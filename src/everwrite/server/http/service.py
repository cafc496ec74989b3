"""uvicorn within the node: its loop, its signals and its end are the node's."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import TYPE_CHECKING

import uvicorn

from everwrite.server.http.asked import Budget
from everwrite.server.http.connection import IDLE_S, HttpConfig, HttpConnection
from everwrite.server.http.front import Front
from everwrite.server.http.guard import Guard
from everwrite.server.http.place import HttpPlace
from everwrite.server.http.probes import Refused
from everwrite.server.settings import split_address
from everwrite.server.sockets import Looking, address_of, listeners, port_of
from everwrite.server.spans import open_spans
from everwrite.server.ui.dashboard import Dashboard

if TYPE_CHECKING:
    from everwrite.server.runtime import Runtime


BACKLOG = 4096
"""As many as there may be clients: in a full queue the kernel resets who waits."""
END_S = 2
"""Requests under way have so long to end once the node stops."""


class Embedded(uvicorn.Server):
    """A uvicorn that leaves the process's signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()


class HttpService:
    """The HTTP front of one node; ``start`` it, ``stop`` it."""

    def __init__(self, runtime: Runtime, sockets: list[socket.socket]) -> None:
        self._runtime = runtime
        self._sockets = sockets
        local, options = runtime.node.local, runtime.options
        names = [options.host]
        if options.advertise:
            names.append(split_address(options.advertise)[0])
        self.place = HttpPlace(runtime.driver, local.config.request_timeout_ms)
        self.dashboard = Dashboard(runtime, self.place)
        front = Front(
            self.place,
            Guard(options.secret, names),
            Budget(),
            replicas=lambda: local.routes.placement.replicas,
            timeout_ms=local.config.request_timeout_ms,
            ready=runtime.serves,
            render=runtime.exposition.render,
            more=self.dashboard.handlers,
            broken=runtime.driver.broken,
            log=runtime.log,
            spans=open_spans(local) if options.otel else None,
        )
        self.front = front
        runtime.exposition.more.append(front.measures)
        config = HttpConfig(
            front,
            http=HttpConnection,
            loop="none",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",  # what is wrong with a request is told to whoever sent it
            access_log=False,
            proxy_headers=False,
            server_header=False,
            reset_contextvars=True,  # else a request has the trace of the one whose end began it
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=END_S,
            backlog=BACKLOG,
        )
        config.room, config.refused = runtime.peers, Refused()
        self._server = Embedded(config)
        self._task: asyncio.Task[None] | None = None
        self._looking = Looking(runtime.driver.loop, self._connections, self._cut_off)

    @property
    def port(self) -> int:
        """Where it listens."""
        return port_of(self._sockets)

    @property
    def url(self) -> str:
        """What a program on this machine asks it by."""
        return f"http://{address_of(self._runtime.options.host, self.port)}"

    async def start(self) -> None:
        """Return once it takes connections."""
        loop = self._runtime.driver.loop
        self._task = loop.create_task(self._server.serve(sockets=listeners(self._sockets)))
        self._task.add_done_callback(self._ended)
        self._looking.begin()
        await self._server.listens.wait()

    async def stop(self) -> None:
        """Take no more, let what is under way end, and close."""
        if self._task is None or not self._looking.end():
            return
        self._server.should_exit = True
        await self.dashboard.close()
        await self.place.empty(END_S / 2)
        self.place.close()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        for connection in self._connections():  # nobody looks after them any more
            connection.cut_off()
        if self.front.spans is not None:  # it may have to wait for a collector
            await self.front.spans.close(END_S)

    def _connections(self) -> list[HttpConnection]:
        found = self._server.server_state.connections
        return [each for each in found if isinstance(each, HttpConnection)]

    def _cut_off(self, size: int) -> None:
        why = "It leaves too much here: answers unread, or requests ahead of them."
        self._runtime.log.warning("HTTP client cut off", bytes=size, why=why)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """uvicorn ends by itself only if something is wrong with it."""
        self._server.listens.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._runtime.driver.broken(error)
