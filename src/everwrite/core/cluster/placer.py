"""The placements of one node, where a large one is made in steps between other work.

A placement of 4096 partitions and 100 nodes is a second of the processor. Made in one go, by each
node when it hears of a change, it would be a second in which no node of the cluster answers. So
whoever will need one says so (``want``), goes on with something else while the shell does step
after step, and takes it (``place``) once it is ``ready``. A small one is made at once. The shell
alone does steps, since it alone knows how long others have waited for the processor.

Which of the two it is changes when a node goes by a placement, never what the placement is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from everwrite.core.cluster.placement import Candidate, Placement, Placing, place
from everwrite.core.errors import Overloaded

KEPT = 2
"""Placements that are kept beside that of now: that of a plan, and one that is on its way."""
WANTED_MAX = 8
"""Placements that wait to be made; who asks for more asks again."""
WAITING_MAX = 256
"""Who may wait to hear of one: operators, a handful. Whoever asked and has gone waits as well."""
RETRY_AFTER_MS = 1000
"""A large placement takes about so long."""


class Placer:
    """See the module. Placements of at most ``at_once`` pairs of a node and a partition are made
    at once.
    """

    def __init__(self, partitions: int, replicas: int, at_once: int) -> None:
        self._partitions = partitions
        self._replicas = replicas
        self._at_once = at_once
        self.current: Placement | None = None
        """By which the node goes now; kept whatever else is made."""
        self._made: list[Placement] = []
        """The one that was used last at the end."""
        self._wanted: list[Placing] = []
        self._waiting: list[Callable[[], None]] = []

    @property
    def busy(self) -> bool:
        """Whether there is a step to do."""
        return bool(self._wanted)

    def place(self, candidates: Iterable[Candidate]) -> Placement:
        """Return the placement of these nodes; made now, in one go, if it is not ready."""
        nodes = _sorted(candidates)
        found = self._known(nodes)
        return found or self._keep(place(nodes, self._partitions, self._replicas))

    def ready(self, candidates: Iterable[Candidate]) -> bool:
        """Say whether ``place`` returns at once."""
        nodes = _sorted(candidates)
        return len(nodes) * self._partitions <= self._at_once or self._known(nodes) is not None

    def want(self, candidates: Iterable[Candidate]) -> None:
        """Have a placement made in steps, behind those that are wanted already."""
        nodes = _sorted(candidates)
        there = any(placing.nodes == nodes for placing in self._wanted)
        if not there and len(self._wanted) < WANTED_MAX:
            self._wanted.append(Placing(nodes, self._partitions, self._replicas))

    def tell(self, hears: Callable[[], None]) -> None:
        """Let somebody hear once when the next placement is made: it may be his, or it leaves room
        for his to be wanted. Overloaded if too many wait already.
        """
        if len(self._waiting) >= WAITING_MAX:
            raise Overloaded(
                f"{WAITING_MAX} requests wait for a placement to be made, and no more are taken.",
                hint="Nothing was done. Try again in a moment.",
                retry_after_ms=RETRY_AFTER_MS,
            )
        self._waiting.append(hears)

    def step(self) -> None:
        """Do a step of some milliseconds, if there is one to do."""
        if not self._wanted:
            return
        placing = self._wanted[0]
        placing.step()
        if placing.made is not None:
            del self._wanted[0]
            self._keep(placing.made)
            waiting, self._waiting = self._waiting, []
            for hears in waiting:
                hears()

    def _known(self, nodes: tuple[Candidate, ...]) -> Placement | None:
        if self.current is not None and self.current.candidates == nodes:
            return self.current
        for placement in self._made:
            if placement.candidates == nodes:
                return self._keep(placement)
        return None

    def _keep(self, placement: Placement) -> Placement:
        rest = [each for each in self._made if each is not placement]
        self._made = [*rest[1 - KEPT :], placement]
        return placement


def _sorted(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    return tuple(sorted(candidates, key=lambda node: node.node_id))
