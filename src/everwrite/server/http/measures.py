"""How long HTTP requests took, from their head to the end of their answer, by operation."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from everwrite.core.tally import Tally
from everwrite.server.http.asked import Asked
from everwrite.server.metrics.families import US, Labels, histograms

HTTP_US = tuple(1 << power for power in range(8, 24))
"""From a quarter of a millisecond to 8 s."""


class HttpMeasures(Collector):
    """Those of one node. What was never asked has no line."""

    def __init__(self) -> None:
        self._took: dict[Labels, Tally] = {}

    def add(self, asked: Asked, took_ns: int) -> None:
        """Count a request that is over; who hung up before its answer began is "gone"."""
        status = f"{asked.status // 100}xx" if asked.status else "gone"
        labels = asked.operation, status
        tally = self._took.get(labels)
        if tally is None:
            tally = self._took[labels] = Tally()
        tally.add(took_ns // 1000)

    def collect(self) -> Iterator[Metric]:
        """Yield the family."""
        yield histograms(
            "everwrite_http_request_duration_seconds",
            "HTTP requests, from their head to the end of their answer.",
            ("operation", "status"),
            self._took,
            HTTP_US,
            US,
        )
