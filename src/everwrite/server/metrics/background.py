"""What a node does behind its requests: hints, repair, moves, tombstones, and their share of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import Metric

from everwrite.core.moving.progress import MoveCounters
from everwrite.core.repair.met import RepairCounters
from everwrite.server.metrics.families import MS, US, counter, counters, gauge, gauges

if TYPE_CHECKING:
    from everwrite.server.runtime import Runtime

_REPAIR = {
    "compared": "Roots of trees that a peer has compared with its own.",
    "differed": "Of those, how many differed.",
    "exchanges": "Exchanges of what differed that this node began.",
    "broken_off": "Exchanges that were broken off.",
    "leaves": "Leaves of trees that differed.",
    "mended": "Damaged copies that exchanges have mended.",
}


def collect_background(runtime: Runtime) -> Iterator[Metric]:
    """Yield what concerns work that no client waits for."""
    yield from _hints(runtime)
    yield from _repair(runtime)
    yield from _moves(runtime)
    yield from _endings(runtime)
    yield from _pace(runtime)


def _hints(runtime: Runtime) -> Iterator[Metric]:
    hints, local = runtime.node.hints, runtime.node.local
    config, flow = local.config, hints.kept.flow
    targets = hints.deliveries.targets()
    yield gauge("everwrite_hints", "Copies kept for owners that were down.", hints.notes)
    yield gauge("everwrite_hints_max", "At so many new ones are refused.", config.hints_max)
    yield gauge("everwrite_hints_bytes", "What they take on the disk.", hints.kept.bytes)
    yield gauge("everwrite_hints_bytes_max", "At so much too.", config.hints_bytes_max)
    yield gauge("everwrite_hints_owners", "Owners for whom something is kept.", len(targets))
    yield gauge(
        "everwrite_hints_oldest_age_seconds",
        "How long the oldest has waited: an owner may be that stale.",
        max((each.oldest_ms for each in targets), default=0) / MS,
    )
    yield counter(
        "everwrite_hints_refused",
        "Writes that were refused since there was no room for their hint.",
        local.counters.hints_refused,
    )
    yield counters(
        "everwrite_hints_came",
        "Hints by where they came from: found at the start, put, made for new owners, found later.",
        "way",
        {way: getattr(flow, way) for way in ("restored", "stored", "turned_to", "recounted")},
    )
    yield counters(
        "everwrite_hints_went",
        "Hints by where they went: brought home, turned to new owners, damaged, not on the disk.",
        "way",
        {way: getattr(flow, way) for way in ("delivered", "turned", "given_up", "missed")},
    )


def _repair(runtime: Runtime) -> Iterator[Metric]:
    repairs, local = runtime.node.repairs, runtime.node.local
    counted = repairs.counters
    for name, what in _REPAIR.items():
        yield counter(f"everwrite_repair_{name}", what, getattr(counted, name))
    yield from _carried("repair", "exchanges of this node", counted)
    pairs, never, oldest = repairs.agreement()
    yield gauges(
        "everwrite_repair_pairs",
        "Partitions and peers that are compared, by whether they agreed since the start.",
        "agreed",
        {"yes": pairs - never, "never": never},
    )
    yield gauge(
        "everwrite_repair_oldest_agreement_age_seconds",
        "By then all pairs that ever agreed had last done so.",
        max(0, local.now - oldest) / MS,
    )
    yield gauge("everwrite_repair_exchanges_under_way", "Exchanges.", len(repairs.running))


def _moves(runtime: Runtime) -> Iterator[Metric]:
    node, local = runtime.node, runtime.node.local
    counted = node.moves.counters
    gains, sheds = node.moves.under_way
    owned = local.routes.owned
    held = local.serves | local.keeps
    yield gauges(
        "everwrite_partitions",
        "Partitions of this node.",
        "state",
        {
            "owned": owned.bit_count(),
            "served": local.serves.bit_count(),
            "kept": local.keeps.bit_count(),
            "to_gain": (owned & ~local.serves).bit_count(),
            "to_shed": (held & ~owned).bit_count(),
        },
    )
    yield gauges(
        "everwrite_moves_under_way",
        "Partitions that move now.",
        "kind",
        {"gain": gains, "shed": sheds},
    )
    yield counters(
        "everwrite_moves",
        "Partitions that were moved.",
        "kind",
        {
            "gained": counted.partitions_gained,
            "shed": counted.partitions_shed,
            "given": counted.partitions_given,
        },
    )
    yield from _carried("move", "moves", counted)


def _carried(name: str, who: str, counted: RepairCounters | MoveCounters) -> Iterator[Metric]:
    """Yield what came to this node, and went from it."""
    yield counters(
        f"everwrite_{name}_keys",
        f"Copies that {who} have carried.",
        "direction",
        {"in": counted.keys_in, "out": counted.keys_out},
    )
    yield counters(
        f"everwrite_{name}_bytes",
        "What those came to.",
        "direction",
        {"in": counted.bytes_in, "out": counted.bytes_out},
    )


def _endings(runtime: Runtime) -> Iterator[Metric]:
    counted, collect = runtime.node.local.counters, runtime.node.collect
    yield gauge(
        "everwrite_tombstones_queued",
        "Tombstones that this node saw to when it last went through all.",
        collect.queued,
    )
    yield gauge(
        "everwrite_tombstones_confirmed_once",
        "Those that every member has confirmed, and must confirm again.",
        collect.waiting,
    )
    yield gauge(
        "everwrite_tombstones_stopped",
        "Whether a member that is down holds up all of them.",
        bool(collect.down()),
    )
    yield counter(
        "everwrite_tombstones_collected",
        "Tombstones that went everywhere, at this node's asking.",
        counted.tombstones_collected,
    )
    yield counter("everwrite_tombstones_reaped", "Own copies of them.", counted.tombstones_reaped)
    yield counter(
        "everwrite_expired_retired", "Copies in which something has ended.", counted.retired
    )
    yield counter("everwrite_expired_purged", "Those of which nothing was left.", counted.purged)


def _pace(runtime: Runtime) -> Iterator[Metric]:
    local = runtime.node.local
    shares = local.pace.shares
    yield counters(
        "everwrite_background_slices",
        "Slices of the loop that background work was given.",
        "kind",
        {kind: share.granted for kind, share in shares.items()},
    )
    yield counters(
        "everwrite_background_waits",
        "How often it was told to wait, since requests go first.",
        "kind",
        {kind: share.waited for kind, share in shares.items()},
    )
    yield gauge(
        "everwrite_background_slices_per_second_max",
        "Slices a second for all kinds together while requests are served.",
        local.pace.rate(local.now),
    )
    latencies = local.pace.control.latencies
    yield gauges(
        "everwrite_background_quiet_p99_seconds",
        "The p99 of each sort of request while little is done behind it; 0: not known yet.",
        "sort",
        {sort: max(0.0, each.quiet) / US for sort, each in latencies.items()},
    )
