"""How the requests of clients went at the node that coordinated them, for metrics.

Each request that a client sent is counted once, by who answers it: with an operation, an outcome,
and how long it took by this node's clock, in whole milliseconds. A get that the client coordinates
by itself (paper 6.4) is no request here: a node sees single fetches of it.

*Staleness* is measured where it arises, twice (paper 6.3 counts what comes of it, siblings):

    visible   from when a put was begun until its last owner has it, if no stand-in was needed
    late      how old a version is when it comes to an owner in another way than by its put: by a
              hint, a read repair or an exchange. By the clock of the cluster.

Costs: an addition and a tally (core/tally.py) for a request.
"""

from __future__ import annotations

from typing import Literal, get_args

from everwrite.core.data.versions import Record, covers
from everwrite.core.errors import EverwriteError, Outcome
from everwrite.core.messages.listing import List
from everwrite.core.messages.requests import Fetch, Get, Put, Touch
from everwrite.core.tally import Tally

Operation = Literal["get", "put", "delete", "touch", "list", "fetch"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
"""What became of a request that failed."""

SIBLINGS_TOLD = 64
"""So many siblings are told apart: as many as a key may have."""

Asked = Get | Put | Touch | List | Fetch


class Measures:
    """What one node has measured since its start."""

    __slots__ = (
        "errors",
        "failed",
        "fallback_gets",
        "fallback_puts",
        "get_siblings",
        "late",
        "put_siblings",
        "stale_gets",
        "took",
        "visible",
    )

    def __init__(self) -> None:
        self.took: dict[Operation, Tally] = {operation: Tally() for operation in OPERATIONS}
        """Milliseconds until the answer of what was done."""
        self.failed: dict[tuple[Operation, Outcome], Tally] = {
            (operation, outcome): Tally() for operation in OPERATIONS for outcome in OUTCOMES
        }
        """Milliseconds until the error, by what it said of the write."""
        self.errors: dict[str, int] = {}
        """How often each code was answered."""
        self.get_siblings = [0] * (SIBLINGS_TOLD + 1)
        """How many gets have found so many values."""
        self.put_siblings = [0] * (SIBLINGS_TOLD + 1)
        """After how many puts so many versions lived."""
        self.fallback_gets = self.fallback_puts = 0
        """Answered with the help of a stand-in: sloppy quorums."""
        self.stale_gets = 0
        """Gets that heard different things from those whom they asked."""
        self.visible = Tally()
        self.late = Tally()

    def fail(self, asked: Asked, error: EverwriteError, took_ms: int) -> None:
        """A client is told of an error."""
        self.errors[error.code] = self.errors.get(error.code, 0) + 1
        self.failed[operation_of(asked), error.outcome].add(took_ms)

    def turn_away(self, operation: Operation, error: EverwriteError, count: int) -> None:
        """So many clients are told of an error at once."""
        self.errors[error.code] = self.errors.get(error.code, 0) + count
        self.failed[operation, error.outcome].add(0, count)

    def came_late(self, mine: Record, theirs: Record, time_ms: int) -> None:
        """An owner that knew ``mine`` gets ``theirs`` otherwise than by a put."""
        for version in theirs.siblings:
            if not covers(mine.clock, version.actor, version.counter):
                self.late.add(time_ms - version.time_ms)


def operation_of(asked: Asked) -> Operation:
    """Return what a request is counted as."""
    if type(asked) is Put:
        return "delete" if asked.value is None else "put"
    return _OPERATIONS[type(asked)]


_OPERATIONS: dict[type, Operation] = {Get: "get", Touch: "touch", List: "list", Fetch: "fetch"}
