"""Where the fronts listen, and who looks at their connections: sockets are bound before a node
starts, and listen once it serves.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from typing import Protocol

from everwrite.core.errors import ConfigError
from everwrite.server.settings import wrong_place

ACCEPTS_PER_TURN = 16
LOOK_S = 1.0
KEPT_BYTES_MAX = 256 << 20
"""Answers that nobody has read, and what came and is not done, of all connections of one front: a
hundred of the largest."""


async def bind(host: str, port: int, protocol: str) -> list[socket.socket]:
    """Return sockets that are bound and do not listen yet; ConfigError if that can't be."""
    loop = asyncio.get_running_loop()
    sockets: list[socket.socket] = []
    try:
        found = await loop.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, number, _, address in dict.fromkeys(found):
            made = socket.socket(family, kind, number)
            sockets.append(made)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind(address)
            made.setblocking(False)
    except OSError as error:
        close_all(sockets)
        option = f"--{protocol.lower()}-port"
        raise ConfigError(
            f"Cannot listen for {protocol} on {host}:{port} ({error.strerror}).",
            hint=wrong_place(host, error, option)
            or f"Choose another port with {option}, or do without: {option} off. If another node "
            "has all its ports: another --base-port.",
        ) from error
    return sockets


def close_all(sockets: list[socket.socket]) -> None:
    """Give sockets back that nobody will use."""
    for each in sockets:
        each.close()


def listeners(sockets: list[socket.socket]) -> list[socket.socket]:
    """Return these, and each as often again as there may be connections accepted in a turn.

    uvloop accepts one connection per turn and listener. In turns of a full node that is too few to
    tell a flood of newcomers that there is no room: they would wait in the kernel.
    """
    again = [each.dup() for each in sockets for _ in range(ACCEPTS_PER_TURN - 1)]
    return [*sockets, *again]


def port_of(sockets: list[socket.socket]) -> int:
    """Return the port on which these listen."""
    port: int = sockets[0].getsockname()[1]
    return port


def address_of(host: str, port: int) -> str:
    """Return HOST:PORT, as a program on this machine reaches it if it names no host.

    >>> address_of("::1", 7400), address_of("", 7400)
    ('[::1]:7400', '127.0.0.1:7400')
    """
    host = host or "127.0.0.1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Looked(Protocol):
    """A connection that is looked at from time to time."""

    @property
    def kept_bytes(self) -> int:
        """What this process holds for it."""

    def look(self, now: float) -> None:
        """End it if the other end says or reads nothing for too long."""

    def cut_off(self) -> None: ...


class Looking:
    """Looks at all connections of a front, once in LOOK_S. While all together keep too much here,
    those that keep most are cut off.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connections: Callable[[], Iterable[Looked]],
        cut_off: Callable[[int], None],
        also: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._connections = connections
        self._also = also
        """What else is looked at then."""
        self._cut_off = cut_off
        """Hears of each that is cut off how much it kept."""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        self._timer = self._loop.call_later(LOOK_S, self._look)

    def end(self) -> bool:
        """Look no more; say whether it had begun, and not ended."""
        timer, self._timer = self._timer, None
        if timer is None:
            return False
        timer.cancel()
        return True

    def _look(self) -> None:
        now = self._loop.time()
        for connection in self._connections():
            connection.look(now)
        self.relieve()
        self._also()
        self.begin()

    def relieve(self) -> None:
        """Cut off those that keep most, while all together keep too much."""
        kept = [(size, each) for each in self._connections() if (size := each.kept_bytes)]
        total = sum(size for size, _ in kept)
        for size, connection in sorted(kept, key=lambda each: -each[0]):
            if total <= KEPT_BYTES_MAX:
                return
            total -= size
            self._cut_off(size)
            connection.cut_off()
