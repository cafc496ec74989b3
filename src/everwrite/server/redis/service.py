"""The Redis front within the node: where it listens, who is looked after, how it ends."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from everwrite.server.redis.connection import RedisConnection
from everwrite.server.redis.front import Front
from everwrite.server.redis.hub import Hub
from everwrite.server.redis.measures import ChannelMeasures
from everwrite.server.redis.place import RedisPlace
from everwrite.server.sockets import Looking, address_of, listeners, port_of

if TYPE_CHECKING:
    from everwrite.server.runtime import Runtime

BACKLOG = 4096
"""As many as there may be clients: in a full queue the kernel resets who waits."""
END_S = 2.0
"""Commands under way have so long to end once the node stops."""


class RedisService:
    """The Redis front of one node; ``start`` it, ``stop`` it."""

    def __init__(self, runtime: Runtime, sockets: list[socket.socket]) -> None:
        self._runtime = runtime
        self._sockets = sockets
        driver, local, peers = runtime.driver, runtime.node.local, runtime.peers
        self.place = RedisPlace(driver, local.config.request_timeout_ms)
        self.hub = Hub(driver, runtime.log)
        self.front = Front(
            self.place,
            self.hub,
            runtime.options.secret,
            local,
            driver.loop,
            port=port_of(sockets),
            welcome=peers.welcome,
            parted=peers.parted,
            turns=peers.turns,
            broken=driver.broken,
            log=runtime.log,
        )
        runtime.exposition.more += [self.front.measures, ChannelMeasures(self.hub)]
        self._servers: list[asyncio.Server] = []
        self._looking = Looking(
            driver.loop,
            lambda: list(self.front.connections.values()),
            self._cut_off,
            also=self.hub.look,
        )
        self.hub.relieve = self._looking.relieve

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.front.port

    @property
    def address(self) -> str:
        """HOST:PORT, as a program on this machine reaches it."""
        return address_of(self._runtime.options.host, self.port)

    async def start(self) -> None:
        """Return once it takes connections."""
        loop = self._runtime.driver.loop
        for each in listeners(self._sockets):
            server = await loop.create_server(
                lambda: RedisConnection(self.front), sock=each, backlog=BACKLOG
            )
            self._servers.append(server)
        self._looking.begin()

    async def stop(self) -> None:
        """Take no more, let what is under way end, and close."""
        if not self._looking.end():
            return
        for server in self._servers:
            server.close()
        connections = list(self.front.connections.values())
        for connection in connections:
            connection.end()
        await self.place.empty(END_S)
        self.place.close()
        self.hub.close()
        for connection in list(self.front.connections.values()):
            connection.flush()
            connection.close_or_cut()

    def _cut_off(self, size: int) -> None:
        why = "It leaves too much here: answers unread, or commands that do not end."
        self._runtime.log.warning("Redis client cut off", bytes=size, why=why)
