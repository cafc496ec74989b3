"""A cluster whose dashboards have buttons, and somebody who obeys them, as a demo does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from everwrite.cli.devcluster import DevCluster
from everwrite.cli.orders import take_orders

DONE_WITHIN_S = 60.0


@contextmanager
def playground(directory: Path, *, partitions: int = 256) -> Iterator[DevCluster]:
    """Five nodes that have started, and a loop in a thread that carries orders out."""
    cluster = DevCluster.create(
        directory, nodes=5, engine="sqlite", fsync=False, partitions=partitions, playground=True
    )
    with cluster, _loop() as loop:

        def done(work: Coroutine[Any, Any, Any]) -> None:
            asyncio.run_coroutine_threadsafe(work, loop).result(DONE_WITHIN_S)

        done(cluster.start())
        orders = take_orders(cluster, lambda *_: None)
        done(orders.__aenter__())
        try:
            yield cluster
        finally:
            done(orders.__aexit__(None, None, None))


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
