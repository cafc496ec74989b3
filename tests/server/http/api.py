"""Nodes that answer HTTP, and a client for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
from tests.server.nodes import Nodes, eventually

from everwrite.server.runtime import Runtime

KEY = "/v1/kv/carts/alice"


def client_of(runtime: Runtime, **options: Any) -> httpx.AsyncClient:
    """Return a client of one node."""
    assert runtime.http is not None
    return httpx.AsyncClient(base_url=runtime.http.url, timeout=10, trust_env=False, **options)


@asynccontextmanager
async def one(**options: Any) -> AsyncIterator[tuple[Runtime, httpx.AsyncClient]]:
    """One node in memory, and a client of it."""
    async with Nodes() as nodes:
        runtime = await nodes.start("n1", http_port=0, **options)
        async with client_of(runtime) as client:
            yield runtime, client
            await _gave_back(runtime)


@asynccontextmanager
async def three(**options: Any) -> AsyncIterator[tuple[Nodes, list[httpx.AsyncClient]]]:
    """Three nodes in memory, and a client of each."""
    async with Nodes(http_port=0, **options) as nodes:
        await nodes.grow("n1", "n2", "n3")
        clients = [client_of(runtime) for runtime in nodes.running.values()]
        try:
            yield nodes, clients
            for runtime in nodes.running.values():
                await _gave_back(runtime)
        finally:
            for client in clients:
                await client.aclose()


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Return the problem document that an answer must be."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert (found["status"], found["code"]) == (status, code)
    assert found["request_id"] == response.headers["request-id"]
    assert found["outcome"] in ("none", "partial", "unknown")
    assert found["title"]
    assert found["detail"]
    return found


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    """Return the lines of a stream."""
    assert response.headers["content-type"] == "application/x-ndjson"
    return [msgspec.json.decode(line) for line in response.content.splitlines()]


async def raw(runtime: Runtime, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """Send bytes over a socket as they are, and return all that comes until it closes."""
    assert runtime.http is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", runtime.http.port)
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(pause_s)
    async with asyncio.timeout(10):
        found = await reader.read()
    writer.close()
    return found


async def under_way(runtime: Runtime, count: int) -> None:
    """Return once so many requests wait for an answer of the core."""

    async def waits() -> bool:
        return runtime.http is not None and runtime.http.place.under_way == count

    await eventually(waits, f"{count} requests wait")


async def _gave_back(runtime: Runtime) -> None:
    """Return once no body holds room any more: every request gives back what it took."""

    async def empty() -> bool:
        return runtime.http is None or runtime.http.front._budget.held == 0

    await eventually(empty, "the room of all bodies is given back")
