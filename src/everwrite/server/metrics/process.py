"""The process: its loop, its connections, its store, and what it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client.core import InfoMetricFamily, Metric

from everwrite.server.metrics.disk import DiskSpace
from everwrite.server.metrics.families import (
    MS,
    SHORT_US,
    US,
    counter,
    counters,
    gauge,
    histogram,
)

if TYPE_CHECKING:
    from everwrite.server.runtime import Runtime


def collect_process(runtime: Runtime, space: DiskSpace | None) -> Iterator[Metric]:
    """Yield what concerns this process; ``space`` as it was looked at for this scrape."""
    yield from _node(runtime)
    yield from _loop(runtime)
    yield from _storage(runtime)
    yield from _damage(runtime)
    if space is not None:
        yield gauge("everwrite_storage_bytes", "What the data directory takes.", space.taken)
        yield gauge("everwrite_storage_free_bytes", "What is free there.", space.free)


def _node(runtime: Runtime) -> Iterator[Metric]:
    local = runtime.node.local
    me = local.members.me
    said = local.members.rulings.get(me.node_id) or me
    yield InfoMetricFamily(
        "everwrite_node",
        "Which node this is.",
        value={
            "node": me.name,
            "id": local.me.hex(),
            "zone": said.zone,
            "cluster": local.cluster.name,
            "version": version("everwrite"),
            "engine": runtime.driver.disk.store.name,
        },
    )
    yield gauge("everwrite_ready", "Whether it takes requests.", runtime.serves())
    yield gauge(
        "everwrite_uptime_seconds",
        "Since it was started.",
        time.monotonic() - runtime.started_ms / MS,
    )
    clients, peers = runtime.peers.counts
    yield gauge("everwrite_clients", "Connections of clients, native and HTTP.", clients)
    yield gauge("everwrite_links", "Other nodes that are connected.", peers)


def _loop(runtime: Runtime) -> Iterator[Metric]:
    driver, rests = runtime.driver, runtime.peers.turns.rests
    yield histogram(
        "everwrite_loop_lag_seconds",
        "How much later than it was due the loop came to look at the time: 50 times a second.",
        driver.lag,
        SHORT_US,
        US,
    )
    for name, what, value in (
        ("ticks", "Turns of the loop in which something was done.", driver.ticks),
        ("frames_in", "Frames that came.", driver.frames_in),
        ("messages_in", "Messages in them.", driver.messages_in),
        ("messages_dropped", "Messages to whom no connection led.", driver.dropped),
        ("client_rests", "Times that clients were not read from for a turn.", rests),
    ):
        yield counter(f"everwrite_{name}", what, value)


def _storage(runtime: Runtime) -> Iterator[Metric]:
    driver, counted = runtime.driver, runtime.node.local.counters
    yield histogram("everwrite_sync_duration_seconds", "Fsyncs.", driver.disk.syncs, SHORT_US, US)
    for name, what, value in (
        ("sync_acks", "Acknowledgements that waited for one.", driver.disk.acks),
        ("batches", "Batches that were written.", driver.batches),
        ("batch_keys", "Keys in them.", driver.keys_written),
        ("batches_failed", "Batches that the disk refused.", counted.writes_failed),
        ("cold_reads", "Keys that no cache had.", driver.disk.cold_reads),
        ("unreadable", "Reads that the disk refused, or whose bytes were wrong.",
         counted.unreadable),
    ):  # fmt: skip
        yield counter(f"everwrite_{name}", what, value)


def _damage(runtime: Runtime) -> Iterator[Metric]:
    node, trees = runtime.node, runtime.node.local.trees
    quarantine, walk = node.quarantine, node.walk
    yield gauge("everwrite_damaged_copies", "Copies that cannot be read.", len(quarantine.since))
    yield counters(
        "everwrite_damage",
        "Damaged copies that were found, and that were mended from others.",
        "what",
        {
            "found": quarantine.found_ever,
            "mended": quarantine.mended + node.local.records.rewritten,
        },
    )
    yield gauge("everwrite_tree_leaves", "Leaves of this node's tree.", trees.size)
    yield gauge("everwrite_tree_leaves_wrong", "Those that are to be made anew.", trees.wrong)
    yield counter("everwrite_scrub_keys", "Copies that were read to check them.", walk.keys)
    yield counter("everwrite_scrub_bytes", "What those came to.", walk.bytes)
