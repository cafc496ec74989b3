"""What is missing until the nodes of a development cluster are ready, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from everwrite.cli.devplan import Node
    from everwrite.cli.reports import Status


def unready(
    nodes: Sequence[Node], found: Mapping[int, Status | None], apart: set[int]
) -> list[str]:
    """Return what is missing until these nodes are ready and know each other, one sentence each."""
    missing = []
    views = set()
    for node in nodes:
        status = found[node.number]
        if status is None:
            missing.append(f"{node.name} does not answer")
            continue
        if node.number in apart:
            continue
        views.add(status.cluster.view)
        seen = {peer.name for peer in status.nodes if peer.state != "down"}
        unseen = [n.name for n in nodes if n.name not in seen and n.number not in apart]
        if not status.node.ready:
            missing.append(f"{node.name} is not ready")
        elif unseen:
            missing.append(f"{node.name} does not see {', '.join(unseen)}")
    if not missing and len(views) > 1:
        missing.append("the nodes do not agree on the ring")
    return missing


def filling(nodes: Sequence[Node], found: Mapping[int, Status | None]) -> list[str]:
    """Return which nodes of a new cluster do not serve yet all that they own, one sentence each."""
    missing = []
    for node in nodes:
        status = found[node.number]
        mine = [peer for peer in status.nodes if peer.state == "self"] if status else []
        if any(peer.to_gain or peer.to_shed or peer.standing != "in" for peer in mine):
            missing.append(f"{node.name} has not taken in its partitions")
    return missing
