"""A listener of a node's events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec

Event = tuple[str, dict[str, Any]]


@asynccontextmanager
async def listening(client: httpx.AsyncClient) -> AsyncIterator[AsyncIterator[Event]]:
    """The events of a node, one by one, until the block ends."""
    async with client.stream("GET", "/v1/events") as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"] == "text/event-stream"
        yield _events(response)


async def _events(response: httpx.Response) -> AsyncIterator[Event]:
    kind = ""
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, msgspec.json.decode(line.removeprefix("data: "))


async def first(
    events: AsyncIterator[Event], kind: str, fits: Callable[[dict[str, Any]], object] = bool
) -> dict[str, Any]:
    """Return the first event of a kind that fits."""
    async for name, said in events:
        if name == kind and fits(said):
            return said
    raise AssertionError(f"the stream has ended without {kind}")


def glance_of(said: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return what a node has said, in an event."""
    found: dict[str, Any] | None = next(
        node["said"] for node in said["nodes"] if node["name"] == name
    )
    return found
