"""What became of requests: how long, how sure, how many siblings, how stale."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import Metric

from everwrite.core.measures import OPERATIONS, OUTCOMES, Measures
from everwrite.core.tally import Tally
from everwrite.server.metrics.families import (
    AGE_MS,
    MS,
    REQUEST_MS,
    SHORT_US,
    US,
    Labels,
    counter,
    counters,
    gauge,
    histogram,
    histograms,
    sizes,
)

if TYPE_CHECKING:
    from everwrite.server.runtime import Runtime

CODES = (
    "bad_request",
    "bad_context",
    "too_large",
    "unavailable",
    "quorum_not_met",
    "deadline_exceeded",
    "overloaded",
    "hints_full",
    "stale_session",
    "storage",
)
"""Told even while there are none, so that an alert sees the first; others once they were met. All
are those of core/errors.py."""
READS = ("get", "list")
"""What changes nothing can only fail with the outcome "none"."""


def collect_requests(runtime: Runtime) -> Iterator[Metric]:
    """Yield what concerns requests."""
    yield from _answers(runtime.node.local.measures)
    yield from _under_way(runtime)
    yield from _between_nodes(runtime)
    yield from _siblings(runtime.node.local.measures)
    yield from _staleness(runtime)


def _answers(measures: Measures) -> Iterator[Metric]:
    took: dict[Labels, Tally] = {}
    for operation in OPERATIONS:
        if operation == "fetch":  # answered within its turn: see everwrite_turn_duration_seconds
            continue
        took[operation, "ok"] = measures.took[operation]
        for outcome in OUTCOMES[:1] if operation in READS else OUTCOMES:
            took[operation, outcome] = measures.failed[operation, outcome]
    yield histograms(
        "everwrite_request_duration_seconds",
        "Requests that this node coordinated, until their answer: ok, or what the error said.",
        ("operation", "outcome"),
        took,
        REQUEST_MS,
        MS,
    )
    yield counters(
        "everwrite_request_errors",
        "Errors that were answered, by code.",
        "code",
        {**dict.fromkeys(CODES, 0), **measures.errors},
    )


def _under_way(runtime: Runtime) -> Iterator[Metric]:
    node, driver = runtime.node, runtime.driver
    door, local = node.clients.door, node.local
    yield gauge(
        "everwrite_requests_under_way",
        "Requests of clients that wait for other nodes or the disk.",
        len(local.requests) - local.background,
    )
    yield gauge("everwrite_requests_waiting", "Requests that were not begun yet.", len(door))
    yield gauge(
        "everwrite_requests_oldest_wait_seconds",
        "How long the first of those has waited.",
        door.oldest_us(time.monotonic_ns() // 1000) / US,
    )
    yield counters(
        "everwrite_requests_turned_away",
        "Requests that waited too long, or too many: refused before they were begun.",
        "why",
        {"overloaded": door.refused - door.late, "late": door.late},
    )
    yield gauge(
        "everwrite_requests_parked",
        "Messages that wait for a read of the disk.",
        local.records.parked_count,
    )
    yield counter(
        "everwrite_work_expired",
        "Work that was dropped since its deadline was over.",
        local.counters.expired,
    )
    yield histogram(
        "everwrite_turn_duration_seconds",
        "How long what clients sent was in this process until all of its turn was answered or "
        "passed on: the latency of reads that clients coordinate.",
        driver.turns,
        SHORT_US,
        US,
    )


def _between_nodes(runtime: Runtime) -> Iterator[Metric]:
    local = runtime.node.local
    counted = local.counters
    for name, what, value in (
        ("fetches", "Copies that were asked for here, by clients and nodes.", counted.fetches),
        ("stores", "Copies that were sent here.", counted.stores),
        ("forwards", "Requests that were handed on to a replica.", counted.forwards),
        ("hedges", "Further nodes that were asked, since one was silent.", counted.hedges),
        (
            "retries_recognised",
            "Retried puts that an earlier try had carried out.",
            counted.retries_recognised,
        ),
        (
            "quorum_shortfalls",
            "Requests for which too few nodes answered, or could be reached.",
            counted.quorum_failures,
        ),
        ("stale_refused", "Copies older than a collected tombstone.", counted.stale_refused),
    ):
        yield counter(f"everwrite_{name}", what, value)
    yield counters(
        "everwrite_sloppy_answers",
        "Answers for which a stand-in counted.",
        "operation",
        {"get": local.measures.fallback_gets, "put": local.measures.fallback_puts},
    )


def _siblings(measures: Measures) -> Iterator[Metric]:
    yield sizes(
        "everwrite_get_siblings", "Values that gets have found, each.", measures.get_siblings
    )
    yield sizes(
        "everwrite_put_siblings",
        "Versions that live at a key after a put.",
        measures.put_siblings,
    )


def _staleness(runtime: Runtime) -> Iterator[Metric]:
    local = runtime.node.local
    measures = local.measures
    yield histogram(
        "everwrite_put_visible_seconds",
        "From a put's beginning until its last owner has it, where no stand-in was needed.",
        measures.visible,
        REQUEST_MS,
        MS,
    )
    yield histogram(
        "everwrite_late_version_age_seconds",
        "How old versions were that came here by a hint, a read repair or an exchange.",
        measures.late,
        AGE_MS,
        MS,
    )
    yield counter(
        "everwrite_stale_gets",
        "Gets in which some owner lacked what another had.",
        measures.stale_gets,
    )
    yield counter(
        "everwrite_read_repairs",
        "Copies that were sent to owners that lacked something.",
        local.counters.read_repairs,
    )
    yield counter(
        "everwrite_siblings_merged",
        "Copies that were joined, each of which knew more.",
        local.counters.siblings_merged,
    )
    yield counter(
        "everwrite_types_clashed",
        "Places at which a change met several data types, written at the same time.",
        local.counters.types_clashed,
    )
    yield counter(
        "everwrite_doubts_dropped",
        "Increments in doubt that may be folded before their time, since there were too many.",
        local.unsettled.dropped,
    )
