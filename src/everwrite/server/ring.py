"""The verb by which a node tells the whole ring: who owns what, and who comes next.

ring  {"partitions", "replicas", "view", "nodes": [...], "preference": [[node, ...], ...]}; a node
      of a row is its place among "nodes"

All rows are partitions x nodes numbers, 400,000 in a large cluster: an answer of a megabyte, and
0.1 s of a loop that has better things to do. So the rows are written in slices, a turn of the loop
for each, for all who ask meanwhile; and kept until the ring or the list of nodes is another one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from everwrite.core.cluster.placement import Placement, fair_shares
from everwrite.core.errors import EverwriteError
from everwrite.core.failures import failure_of
from everwrite.core.messages.members import Member
from everwrite.core.messages.requests import Failure, Told
from everwrite.core.outbox import Place
from everwrite.server.answering import answering
from everwrite.server.changes import seat_of

if TYPE_CHECKING:
    from everwrite.server.runtime import Runtime

SLICE_NS = 1_000_000
"""So long rows are written in one turn of the loop,"""
ROWS_AT_ONCE = 32
"""and so many between two looks at the time: 50 us for a hundred nodes."""


class Ring:
    """What one node tells of the ring. ``placed`` returns its members, in the order of "nodes"."""

    def __init__(self, runtime: Runtime, placed: Callable[[], list[Member]]) -> None:
        self._runtime = runtime
        self._local = runtime.node.local
        self._placed = placed
        self._waiting: list[tuple[Place, int]] = []
        self._placement: Placement | None = None
        self._names: list[bytes] = []
        self._texts: dict[bytes, bytes] = {}
        self._rows: list[bytes] = []
        self._preference = msgspec.Raw(b"")
        """All rows; empty while they are written."""

    def begin(self, place: Place, rid: int) -> None:
        """Answer one client, once all rows are written."""
        self._waiting.append((place, rid))
        if len(self._waiting) == 1:
            self._go_on()

    def _go_on(self) -> None:
        answer: Told | Failure
        try:
            with answering(self._runtime.log, "ring"):
                members = self._placed()
                if not self._write(members):
                    self._runtime.driver.loop.call_soon(self._go_on)
                    return
                answer = Told(0, msgspec.json.encode(self._told(members)))
        except EverwriteError as error:
            answer = failure_of(0, error)
        waiting, self._waiting = self._waiting, []
        for place, rid in waiting:
            self._local.out.send(place, replace(answer, rid=rid))
        self._runtime.driver.soon()

    def _write(self, members: list[Member]) -> bool:
        """Write some rows; say whether there are all, of the ring and the nodes as they are now."""
        placement = self._local.routes.placement
        names = [member.node_id for member in members]
        if placement is not self._placement or names != self._names:
            self._placement, self._names = placement, names
            self._texts = {name: b"%d" % at for at, name in enumerate(names)}
            self._rows, self._preference = [], msgspec.Raw(b"")
        if self._preference:
            return True
        rows, text, preference = self._rows, self._texts.__getitem__, placement.preference
        end = time.monotonic_ns() + SLICE_NS
        while len(rows) < len(preference):
            for row in preference[len(rows) : len(rows) + ROWS_AT_ONCE]:
                rows.append(b",".join(map(text, row)))
            if time.monotonic_ns() > end:
                return False
        self._preference = msgspec.Raw(b"[[" + b"],[".join(rows) + b"]]")
        self._rows = []
        return False  # the answer has a turn of its own

    def _told(self, members: list[Member]) -> dict[str, Any]:
        placement = self._local.routes.placement
        fair = fair_shares(placement.candidates, placement.partitions, placement.replicas)
        shares = {
            node.node_id: share for node, share in zip(placement.candidates, fair, strict=True)
        }
        nodes = []
        for member in members:
            seat, share = seat_of(self._local, member), shares.get(member.node_id)
            load = round(seat["owned"] / share, 4) if share else 0.0
            nodes.append({"id": member.node_id.hex(), "name": member.name, **seat, "load": load})
        return {
            "partitions": placement.partitions,
            "replicas": placement.replicas,
            "view": placement.digest.hex(),
            "nodes": nodes,
            "preference": self._preference,
        }
