"""Where the fronts listen: sockets are bound before a node starts, and listen once it serves."""

from __future__ import annotations

import asyncio
import socket

from everwrite.core.errors import ConfigError


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
            hint=f"Choose another port with {option}, or do without: {option} off.",
        ) from error
    return sockets


def close_all(sockets: list[socket.socket]) -> None:
    """Give sockets back that nobody will use."""
    for each in sockets:
        each.close()
