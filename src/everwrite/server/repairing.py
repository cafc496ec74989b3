"""The verbs by which an operator sees how far replicas agree, and has them compared now.

    repairs      each partition and peer: when they agreed last, what was repaired, what goes on
    repair       {"all": true} | {"partition": p} | {"bucket", "key"}: compare it now; an order
    repair_look  {"order": n}: how far an order is, and what is left of it waits for

An order is one node's, for its own pairs. ``everwrite repair`` gives it to all nodes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from everwrite.core.cluster.plans import name_of
from everwrite.core.data.keys import checked_bucket, checked_key, data_key
from everwrite.core.errors import Overloaded, RequestError
from everwrite.server.arguments import bytes_in
from everwrite.server.checking import disk_report

if TYPE_CHECKING:
    from everwrite.server.runtime import Runtime

Answer = dict[str, Any]

PAIRS_SHOWN_MAX = 16_384
"""Pairs of a partition and a peer in one answer: 3 MiB. Three nodes with 65,536 partitions have
eight times as many."""


class Repairing:
    """Comparisons and repairs of one node."""

    def __init__(self, runtime: Runtime) -> None:
        self._node = runtime.node
        self._started_ms = runtime.started_ms
        self._local = runtime.node.local
        self._repairs = runtime.node.repairs
        self.verbs: dict[str, Callable[[Answer], Answer]] = {
            "repairs": self.repairs,
            "repair": self.repair,
            "repair_look": self.look,
        }

    def repairs(self, _: Answer) -> Answer:
        """What is compared with whom, and what came of it."""
        local, repairs = self._local, self._repairs
        members = local.members
        rows = repairs.rows()
        if len(rows) > PAIRS_SHOWN_MAX:  # what is under way, and what has not agreed for longest
            rows.sort(key=lambda row: (not row[4], row[2]))
        return {
            "id": local.me.hex(),
            "name": members.me.name,
            "pairs_in_all": len(rows),
            "partitions": local.routes.placement.partitions,
            "leaves": {"all": repairs.trees.size, "made_anew": repairs.trees.wrong},
            "disk": disk_report(self._node),
            "round_ms": local.config.repair_round_ms,
            "up_ms": time.monotonic_ns() // 1_000_000 - self._started_ms,
            "counters": msgspec.structs.asdict(repairs.counters),
            "pairs": [
                {
                    "partition": partition,
                    "peer": name_of(members, peer),
                    "agreed_ms": local.now - agreed_ms if agreed_ms >= 0 else None,
                    **msgspec.structs.asdict(met),
                    "phase": phase,
                }
                for partition, peer, agreed_ms, met, phase in rows[:PAIRS_SHOWN_MAX]
            ],
        }

    def repair(self, arguments: Answer) -> Answer:
        """Compare something with all its other owners now."""
        partitions, leaf = self._named(arguments)
        order = self._repairs.order(partitions, leaf)
        if order is None:
            raise Overloaded(
                "This node has as many repairs to see through as it takes at a time.",
                hint="Nothing was begun. Wait for those that run, or try again in two minutes.",
            )
        return {"order": order.number, "pairs": len(order.left)}

    def look(self, arguments: Answer) -> Answer:
        """How far an order is; ``known`` is false once it is forgotten."""
        number = arguments.get("order")
        if not isinstance(number, int):
            raise RequestError('This needs "order": the number that "repair" has answered with.')
        order = self._repairs.ordered(number)
        if order is None:
            return {"known": False}
        names = {peer: name_of(self._local.members, peer) for _, peer in order.left}
        waiting = Counter((names[peer], why) for (_, peer), why in order.left.items())
        return {
            "known": True,
            "agreed": order.agreed,
            "left": len(order.left),
            "keys": order.keys,
            "bytes": order.bytes,
            "waiting": [
                {"peer": peer, "why": why, "partitions": number}
                for (peer, why), number in sorted(waiting.items())
            ],
        }

    def _named(self, arguments: Answer) -> tuple[list[int], int | None]:
        """Return the partitions that are meant, and the leaf if only one is."""
        placement = self._local.routes.placement
        if arguments.get("all") is True:
            return list(range(placement.partitions)), None
        partition = arguments.get("partition")
        if partition is None:
            key = data_key(
                checked_bucket(bytes_in(arguments, "bucket")),
                checked_key(bytes_in(arguments, "key")),
            )
            return [placement.partition_of(key)], self._repairs.trees.leaf_of(key)
        if not isinstance(partition, int) or not 0 <= partition < placement.partitions:
            raise RequestError(
                f"There is no partition {str(partition)[:32]!r}.",
                hint=f"They are numbered from 0 to {placement.partitions - 1}.",
            )
        return [partition], None
