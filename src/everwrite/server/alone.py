"""What a node says that was told to join, and has met nobody of its own cluster."""

from __future__ import annotations

from collections.abc import Sequence

from everwrite.core.errors import OtherCluster
from everwrite.core.handshake import Identity


def other_cluster(me: Identity, seeds: Sequence[tuple[str, int]], *, served: bool) -> OtherCluster:
    """Return why a node ends whose seeds are all of another cluster; ``served``: it has been in
    its own for a while, and may have taken writes.
    """
    so = "What was written here meanwhile is in this directory." if served else ""
    return OtherCluster(
        f"{me.name!r} belongs to cluster {me.cluster_name} ({me.cluster_id.hex()}), and "
        f"was told to join another one: {_listed(seeds)}.",
        hint="Clusters are never merged: check --join, or give a --data directory of its "
        f"own to a node that is to join there. {so or 'Nothing was changed.'}",
    )


def why_alone(me: Identity, seeds: Sequence[tuple[str, int]]) -> str:
    """Return what a node is to say that serves as the only one of its cluster, and that may have
    been meant for another.
    """
    return (
        f"No node of its cluster answers at {_listed(seeds)}. {me.name!r} is alone in cluster "
        f"{me.cluster_name} ({me.cluster_id.hex()}), which it found in its directory, and takes "
        "requests there. If it is to join another cluster: stop it, and start it with a --data "
        "directory of its own; if not, leave out --join."
    )


def _listed(addresses: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{host}:{port}" for host, port in addresses)
