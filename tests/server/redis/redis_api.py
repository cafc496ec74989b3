"""Nodes that speak the Redis protocol, and ways to talk to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio as redis
from tests.server.nodes import PATIENCE_S, Nodes

from everwrite.server.runtime import Runtime


def port_of(runtime: Runtime) -> int:
    assert runtime.redis is not None
    return runtime.redis.port


def client_of(runtime: Runtime, **options: Any) -> redis.Redis:
    """Return a client that makes no second try."""
    return redis.Redis(port=port_of(runtime), socket_timeout=PATIENCE_S, retry=None, **options)


@asynccontextmanager
async def one(**options: Any) -> AsyncIterator[tuple[Runtime, redis.Redis]]:
    """One node in memory, and a client of it."""
    async with Nodes() as nodes:
        runtime = await nodes.start("n1", redis_port=0, **options)
        async with client_of(runtime) as client:
            yield runtime, client


@asynccontextmanager
async def three(**options: Any) -> AsyncIterator[tuple[Nodes, list[redis.Redis]]]:
    """Three nodes in memory, and a client of each."""
    async with Nodes(redis_port=0, **options) as nodes:
        runtimes = await nodes.grow("n1", "n2", "n3")
        clients = [client_of(runtime) for runtime in runtimes]
        try:
            yield nodes, clients
        finally:
            for client in clients:
                await client.aclose()


async def raw(runtime: Runtime, *parts: bytes, size: int = 0) -> bytes:
    """Send bytes as they are; return what comes until the node closes, or so many bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(runtime))
    for part in parts:
        writer.write(part)
        await writer.drain()
    async with asyncio.timeout(PATIENCE_S):
        if size:
            found = await reader.readexactly(size)
        else:
            if writer.can_write_eof():
                writer.write_eof()
            found = await reader.read()
    writer.close()
    return found
