"""One node alone, before it has any data: its start, its memory, and what idle connections cost."""

from __future__ import annotations

import asyncio
import time

import msgspec

from everwrite.cli.devcluster import DevCluster
from everwrite.cli.httpload import HttpBucket
from everwrite.server.descriptors import raise_limit

IDLE_CONNECTIONS = 1000
"""Kept alive, each after one request: so it is with the pools of applications."""
_AT_A_TIME = 100


class Idle(msgspec.Struct, frozen=True):
    """What was measured."""

    start_s: float
    rss_bytes: int
    connections_bytes: int | None = None
    """By how much that grew with IDLE_CONNECTIONS over HTTP."""


async def measure_idle(alone: DevCluster, secret: bytes, *, http: bool) -> Idle:
    """Start a cluster of one node by itself, and look at it; it ends with this."""
    with alone:
        began = time.perf_counter()
        await alone.start()
        start_s = round(time.perf_counter() - began, 3)
        rss_bytes = await _rss_bytes(alone)
        if not http:
            return Idle(start_s, rss_bytes)
        raise_limit()
        url = alone.node(1).http
        buckets = [HttpBucket([url], "bench", 1, secret) for _ in range(IDLE_CONNECTIONS)]
        try:
            await buckets[0].get("warm")
            before = await _rss_bytes(alone)
            for part in range(0, IDLE_CONNECTIONS, _AT_A_TIME):
                chosen = buckets[part : part + _AT_A_TIME]
                await asyncio.gather(*(bucket.get("key") for bucket in chosen))
            grown = await _rss_bytes(alone) - before
        finally:
            for bucket in buckets:
                bucket.close()
        return Idle(start_s, rss_bytes, grown)


async def _rss_bytes(alone: DevCluster) -> int:
    status = await alone.status(1)
    return status.node.rss_bytes if status is not None else 0
