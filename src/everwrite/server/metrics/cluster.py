"""What a node thinks of the others: members, gossip, the failure detector, the clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import Metric

from everwrite.server.changes import STANDINGS
from everwrite.server.metrics.families import MS, counter, gauge, gauges

if TYPE_CHECKING:
    from everwrite.server.runtime import Runtime

STATES = ("up", "slow", "down")


def collect_cluster(runtime: Runtime) -> Iterator[Metric]:
    """Yield what concerns other nodes."""
    node, local = runtime.node, runtime.node.local
    members, detector = local.members, node.detector
    standings = Counter(STANDINGS[members.standing(each.node_id)] for each in members)
    yield gauges(
        "everwrite_members",
        "Members as this node knows them.",
        "standing",
        {standing: standings[standing] for standing in STANDINGS.values()},
    )
    others = [each.node_id for each in members.others()]
    states = Counter(map(detector.state, others))
    yield gauges(
        "everwrite_peers",
        "Other members as this node sees them.",
        "state",
        {state: states[state] for state in STATES},
    )
    trips = [detector.rtt_ms(each) for each in others]
    yield gauge(
        "everwrite_peer_round_trip_seconds_max",
        "The longest round trip of pings, smoothed.",
        max((trip for trip in trips if trip >= 0), default=0) / MS,
    )
    for name, what, value in (
        ("peer_falls", "How often a peer that was up was taken for down or slow.", detector.falls),
        ("pings", "Pings that were sent.", detector.pings),
        ("gossip_rounds", "Rounds of gossip that were begun.", node.rounds.begun),
        ("gossip_news", "Messages with news of members.", node.rounds.news_taken),
        ("members_refused", "News of members that cannot be.", members.refused),
    ):
        yield counter(f"everwrite_{name}", what, value)
    yield gauge(
        "everwrite_clock_off_seconds",
        "How far this machine's clock is from that of the majority.",
        local.clock.off_ms / MS,
    )
    yield gauge(
        "everwrite_clock_wrong", "Whether it is too far to be gone by.", bool(local.clock.wrong)
    )
