"""Placement: which nodes own a partition, as a pure function of the member list.

No ring is agreed on or shipped: nodes that know the same members compute the same placement, so
gossip has only to spread members. Each partition ranks all nodes by weighted rendezvous score,

    score = -weight / ln(u),   u in (0, 1) from xxh3_64(node_id + partition),

so a node that comes or goes changes only the places that it takes or leaves. By score alone the
luck of the draw would give some nodes 1.3 times their share, so places are given in rounds (every
partition's first owner, then every second one, ...) to the best-ranked node that

    is no owner of the partition yet   always: N owners are N nodes;
    is in a zone that it needs         while there are enough zones, no two owners share one; then
                                       the copies are spread over zones as evenly as can be;
    has less than its cap              (1 + eps) x its fair share; zones win over the cap.

What is left of the ranking, in order, are the partition's fallbacks.

The fair share is in proportion to weight, with two bounds: a node owns a partition at most once,
and a zone can take no more copies of it than the rule above lets it ("water-filling": who would be
over a bound is held there, and the rest is shared by the others).

Costs: partitions x nodes hashes and logarithms, and a sort per partition.
Source: Dynamo 4.2, 4.3, 6.2 (strategy 3: Q equal partitions). Differs: a computed ring in place of
chosen tokens needs no ring state and no agreement; the cap is that of consistent hashing with
bounded loads (Mirrokni 2018).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise

import msgspec
import xxhash

from everwrite.core.errors import ConfigError

NODE_ID_BYTES = 8
PARTITIONS_MAX = 1 << 16

LOAD_EPS = 0.05
"""Load above the fair share that a node may have: little movement, and max/mean under 1.06."""

_ROUNDING = 1e-6
"""Shares are sums of floats: this much below a whole number is that number."""

_LEVEL_MAX = 2.0**1000
_UNIT = 2.0**-52
_ALGORITHM = 1
"""Part of the digest: nodes that place in another way never take each other's view for theirs."""

_hash = xxhash.xxh3_64_intdigest
_log = math.log


class Candidate(msgspec.Struct, frozen=True):
    """A node that may own partitions."""

    node_id: bytes
    zone: str
    weight: float = 1.0


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Who owns what. Made by ``place`` only; equal digests are equal placements."""

    partitions: int
    replicas: int
    """Owners of each partition: as configured, or all nodes if there are fewer."""
    candidates: tuple[Candidate, ...]
    """In the order of their node ids."""
    preference: list[tuple[bytes, ...]]
    """For each partition all nodes in order of preference; the first ``replicas`` own it."""
    digest: bytes
    shift: int
    """Bits to drop from the first two bytes of a data key to get its partition."""

    def partition_of(self, data_key: bytes) -> int:
        """Return the partition of a data key: the top bits of its hash."""
        return int.from_bytes(data_key[:2], "big") >> self.shift

    def owners(self, partition: int) -> tuple[bytes, ...]:
        """Return the owners of a partition, the preferred one first."""
        return self.preference[partition][: self.replicas]

    def owned(self) -> dict[bytes, list[int]]:
        """Return the partitions that each node owns, in ascending order."""
        held: dict[bytes, list[int]] = {node.node_id: [] for node in self.candidates}
        for partition, ranked in enumerate(self.preference):
            for node_id in ranked[: self.replicas]:
                held[node_id].append(partition)
        return held


def place(candidates: Iterable[Candidate], partitions: int, replicas: int) -> Placement:
    """Return the placement of these nodes; the order in which they are given makes no difference.

    ConfigError for a number of partitions that is no power of two, for no nodes, and for ids or
    weights that cannot be.
    """
    nodes = _checked(candidates, partitions, replicas)
    copies = min(replicas, len(nodes))
    rankings = _rankings(nodes, partitions)
    owners = _assign(nodes, rankings, copies)
    preference = [
        tuple(nodes[i].node_id for i in [*chosen, *(j for j in ranking if j not in chosen)])
        for ranking, chosen in zip(rankings, owners, strict=True)
    ]
    return Placement(
        partitions=partitions,
        replicas=copies,
        candidates=nodes,
        preference=preference,
        digest=_digest(nodes, partitions, replicas),
        shift=17 - partitions.bit_length(),
    )


def fair_shares(nodes: Sequence[Candidate], partitions: int, replicas: int) -> list[float]:
    """Return how many partitions each node should own: in proportion to weight, within bounds."""
    zones = Counter(node.zone for node in nodes)
    most = _zone_limits(zones, replicas)[-1]
    heaviest = max(node.weight for node in nodes)
    inside: dict[str, list[float]] = {zone: [] for zone in sorted(zones)}
    for node in nodes:
        inside[node.zone].append(node.weight / heaviest)

    def zone_share(zone: str, level: float) -> float:
        size = zones[zone]
        low, high = partitions * min(most - 1, size), partitions * min(most, size)
        return min(high, max(low, _filled(inside[zone], level, partitions)))

    def all_shares(level: float) -> float:
        return math.fsum(zone_share(zone, level) for zone in inside)

    level = _level(all_shares, partitions * replicas)
    local = {
        zone: _level(partial(_filled, weights, bound=partitions), zone_share(zone, level))
        for zone, weights in inside.items()
    }
    return [min(partitions, local[node.zone] * (node.weight / heaviest)) for node in nodes]


def _filled(weights: Sequence[float], level: float, bound: int) -> float:
    # All nodes must agree: fsum is exact; the built-in sum rounds in another way since Python 3.12.
    return math.fsum(min(bound, level * weight) for weight in weights)


def _level(rises: Callable[[float], float], total: float) -> float:
    """Return the least level (to the last bit) at which a rising function reaches the total."""
    low, high = 0.0, 1.0
    while rises(high) < total - _ROUNDING and high < _LEVEL_MAX:
        low, high = high, high * 2
    while low < (middle := (low + high) / 2) < high:
        if rises(middle) < total:
            low = middle
        else:
            high = middle
    return high


def _caps(nodes: Sequence[Candidate], partitions: int, replicas: int) -> list[int]:
    """Return the most partitions that each node may own; together they hold all copies."""
    return [
        min(
            partitions,
            max(math.ceil(share - _ROUNDING), math.floor(share * (1 + LOAD_EPS) + _ROUNDING)),
        )
        for share in fair_shares(nodes, partitions, replicas)
    ]


def _zone_limits(zones: Mapping[str, int], replicas: int) -> list[int]:
    """Return for each owner of a partition, in turn, how many owners its zone may have with it.

    That is 1 while there are zones without an owner, then 2 while a zone has less, and so on.
    """
    limits, limit = [], 1
    for place_number in range(1, replicas + 1):
        while sum(min(limit, size) for size in zones.values()) < place_number:
            limit += 1
        limits.append(limit)
    return limits


def _rankings(nodes: Sequence[Candidate], partitions: int) -> list[list[int]]:
    """Return for each partition the indices of all nodes, the highest score first."""
    rankings = []
    seeds = [(node.node_id, node.weight) for node in nodes]
    indices = range(len(nodes))
    for partition in range(partitions):
        tail = partition.to_bytes(4, "big")
        # 52 bits and a half: never 0 or 1, where the logarithm has no use for us.
        scores = [
            -weight / _log(((_hash(node_id + tail) >> 12) + 0.5) * _UNIT)
            for node_id, weight in seeds
        ]
        rankings.append(sorted(indices, key=scores.__getitem__, reverse=True))
    return rankings


def _assign(
    nodes: Sequence[Candidate], rankings: Sequence[list[int]], replicas: int
) -> list[list[int]]:
    """Return the owners of each partition, by index, in the order of its ranking."""
    caps = _caps(nodes, len(rankings), replicas)
    zones = [node.zone for node in nodes]
    loads = [0] * len(nodes)
    owners: list[list[int]] = [[] for _ in rankings]
    for limit in _zone_limits(Counter(zones), replicas):
        for ranking, chosen in zip(rankings, owners, strict=True):
            taken = [zones[i] for i in chosen]
            able = [i for i in ranking if i not in chosen and taken.count(zones[i]) < limit]
            best = next((i for i in able if loads[i] < caps[i]), None)
            if best is None:
                best = min(able, key=lambda i: loads[i] / caps[i])
            chosen.append(best)
            loads[best] += 1
    for ranking, chosen in zip(rankings, owners, strict=True):
        chosen.sort(key=ranking.index)
    return owners


def _checked(
    candidates: Iterable[Candidate], partitions: int, replicas: int
) -> tuple[Candidate, ...]:
    """Return the nodes in canonical order, or raise ConfigError."""
    if not 1 <= partitions <= PARTITIONS_MAX or partitions & (partitions - 1):
        raise ConfigError(
            f"{partitions} partitions are not possible.",
            hint=f"Use a power of two up to {PARTITIONS_MAX}.",
        )
    if replicas < 1:
        raise ConfigError(f"{replicas} replicas are not possible.", hint="Use 1 or more.")
    nodes = tuple(sorted(candidates, key=lambda node: node.node_id))
    if not nodes:
        raise ConfigError("There is no node to place partitions on.", hint="Give one or more.")
    for node in nodes:
        if len(node.node_id) != NODE_ID_BYTES:
            raise ConfigError(
                f"The node id {node.node_id.hex()!r} has {len(node.node_id)} bytes.",
                hint=f"A node id has {NODE_ID_BYTES}.",
            )
        if not (math.isfinite(node.weight) and node.weight > 0):
            raise ConfigError(
                f"The weight {node.weight} of node {node.node_id.hex()} is not possible.",
                hint="Use a number above 0; 1 is usual.",
            )
    for one, other in pairwise(nodes):
        if one.node_id == other.node_id:
            raise ConfigError(
                f"The node id {one.node_id.hex()} is there twice.",
                hint="Was a data directory copied? Each node needs its own.",
            )
    return nodes


def _digest(nodes: Sequence[Candidate], partitions: int, replicas: int) -> bytes:
    members = [(node.node_id, node.zone, float(node.weight)) for node in nodes]
    return xxhash.xxh3_64_digest(
        msgspec.msgpack.encode((_ALGORITHM, partitions, replicas, members))
    )
