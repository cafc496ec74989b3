"""What /metrics answers: all families of one node, as they are at that moment.

Nobody counts for it: it copies what the core and the shell count anyway. The registry is the
node's own, not the process's, since tests and embedded nodes are many in one process.

Costs: for a scrape, see docs/design/metrics.md; for a request, nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from everwrite.server.metrics.background import collect_background
from everwrite.server.metrics.cluster import collect_cluster
from everwrite.server.metrics.disk import DiskSpace, look_at
from everwrite.server.metrics.process import collect_process
from everwrite.server.metrics.requests import collect_requests

if TYPE_CHECKING:
    from everwrite.server.runtime import Runtime

DISK_S = 1.0
"""A disk that takes longer to say how full it is says nothing in this scrape."""


class Exposition(Collector):
    """The metrics of one node. ``more`` has families of others, such as the HTTP front."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._space: DiskSpace | None = None
        self._looking: asyncio.Future[DiskSpace] | None = None
        self.more: list[Collector] = []
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Return a scrape in the form that is asked for, and its content type."""
        self._space = await self._look_at_disk()
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # it compares versions that are no numbers with some
            encode, content_type = choose_encoder("")
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        runtime = self._runtime
        yield from collect_requests(runtime)
        yield from collect_background(runtime)
        yield from collect_cluster(runtime)
        yield from collect_process(runtime, self._space)
        for each in self.more:
            yield from each.collect()

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: the names are fixed, and no one else registers here."""
        yield from ()

    async def _look_at_disk(self) -> DiskSpace | None:
        """Return how full the disk is; None if it does not say in time, or there is none."""
        directory = self._runtime.driver.disk.store.directory
        if directory is None:
            return None
        if self._looking is None or self._looking.done():  # one thread at most hangs
            loop = self._runtime.driver.loop
            self._looking = loop.run_in_executor(None, look_at, directory)
        done, _ = await asyncio.wait([self._looking], timeout=DISK_S)
        if not done or self._looking.exception() is not None:
            return None
        return self._looking.result()
