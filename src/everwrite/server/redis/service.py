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

if TYPE_CHECKING:
    from everwrite.server.runtime import Runtime

BACKLOG = 4096
"""As many as there may be clients: in a full queue the kernel resets who waits."""
LOOK_S = 1.0
KEPT_BYTES_MAX = 256 << 20
"""Answers that nobody has read, and commands that are not done, of all connections together."""
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
        self.hub.relieve = self._relieve
        self.front = Front(
            self.place,
            self.hub,
            runtime.options.secret,
            local,
            driver.loop,
            port=self.port,
            welcome=peers.welcome,
            parted=peers.parted,
            turns=peers.turns,
            broken=driver.broken,
            log=runtime.log,
        )
        runtime.exposition.more += [self.front.measures, ChannelMeasures(self.hub)]
        self._servers: list[asyncio.Server] = []
        self._looking: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._sockets[0].getsockname()[1]
        return port

    @property
    def address(self) -> str:
        """HOST:PORT, as a program on this machine reaches it."""
        host = self._runtime.options.host or "127.0.0.1"
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    async def start(self) -> None:
        """Return once it takes connections."""
        loop = self._runtime.driver.loop
        for each in self._sockets:
            server = await loop.create_server(
                lambda: RedisConnection(self.front), sock=each, backlog=BACKLOG
            )
            self._servers.append(server)
        self._looking = loop.call_later(LOOK_S, self._look)

    async def stop(self) -> None:
        """Take no more, let what is under way end, and close."""
        if self._looking is None:
            return
        self._looking.cancel()
        self._looking = None
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

    def _look(self) -> None:
        loop = self._runtime.driver.loop
        now = loop.time()
        for connection in list(self.front.connections.values()):
            connection.look(now)
        self._relieve()
        self.hub.look()
        self._looking = loop.call_later(LOOK_S, self._look)

    def _relieve(self) -> None:
        """Cut off those who keep most here, while all together keep too much."""
        connections = list(self.front.connections.values())
        kept = [(size, connection) for connection in connections if (size := connection.kept_bytes)]
        total = sum(size for size, _ in kept)
        for size, connection in sorted(kept, key=lambda each: -each[0]):
            if total <= KEPT_BYTES_MAX:
                return
            total -= size
            why = "It leaves too much here: answers unread, or commands that do not end."
            self._runtime.log.warning("Redis client cut off", bytes=size, why=why)
            connection.cut_off()
