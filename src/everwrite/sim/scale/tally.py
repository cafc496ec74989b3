"""Which operation a message belongs to, and how far a request went: counted from outside.

The core does not say for which client's request it sends a message. A question (Fetch, Store, a
request handed on) names its key, and where one operation alone is under way on that key it is that
one's; an answer belongs to the question with its number. Where two operations overlap on a key,
both are left out (``alone``).
"""

from __future__ import annotations

from collections.abc import Sequence

from everwrite.core.messages.members import News, Ping, Pong, Probe, Probed, Rows, Summary
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import (
    Failure,
    Fetch,
    FetchReply,
    Get,
    GetReply,
    Put,
    PutReply,
    Store,
    StoreReply,
)
from everwrite.sim.scale.arena import Mark

GOSSIP = (Ping, Pong, Probe, Probed, Summary, Rows, News)
QUESTIONS = (Fetch, Store, Get, Put)
ANSWERS = (FetchReply, StoreReply, GetReply, PutReply, Failure)


class Operation:
    """One get or put of a client."""

    __slots__ = (
        "alone",
        "began",
        "depth",
        "ended",
        "failed",
        "hops",
        "key",
        "kind",
        "messages",
        "siblings",
        "tries",
    )

    def __init__(self, kind: str, key: bytes, began: int) -> None:
        self.kind = kind
        self.key = key
        self.began = began
        self.ended = 0
        self.failed = False
        self.tries = 0
        self.messages = 0
        self.hops = 0
        self.siblings = 0
        self.alone = True
        self.depth: dict[int, int] = {}
        """Machine -> hops of the longest way on which word of this operation came there."""


class Tally:
    """Counts frames, and finds out to which operation a message belongs."""

    def __init__(self, nodes: int) -> None:
        self._open: dict[bytes, list[Operation]] = {}
        self._asked: dict[tuple[int, int], Operation] = {}
        self.done: list[Operation] = []
        self.bytes = 0
        self.load = [0] * nodes

    def begin(self, operation: Operation) -> None:
        """An operation begins; it and those that overlap with it do not have the key alone."""
        others = self._open.setdefault(operation.key, [])
        others.append(operation)
        if len(others) > 1:
            for each in others:
                each.alone = False

    def end(self, operation: Operation) -> None:
        self._open[operation.key].remove(operation)
        if not self._open[operation.key]:
            del self._open[operation.key]
        self.done.append(operation)

    def asked(self, operation: Operation, machine: int) -> None:
        """A client's request is under way to a machine."""
        operation.messages += 1
        self.load[machine] += 1
        operation.depth[machine] = max(1, operation.depth.get(machine, 0))

    def answered(self, operation: Operation, machine: int) -> None:
        operation.messages += 1
        operation.hops = operation.depth.get(machine, 0) + 1

    def sent(self, source: int, to: int, messages: Sequence[Message], size: int) -> list[Mark]:
        marks: list[Mark] = []
        if all(isinstance(message, GOSSIP) for message in messages):
            return marks
        self.bytes += size
        for message in messages:
            operation = None
            if isinstance(message, QUESTIONS):
                self.load[to] += 1
                candidates = self._open.get(message.key, ())
                if len(candidates) == 1:
                    operation = self._asked[source, message.rid] = candidates[0]
            elif isinstance(message, ANSWERS):
                self.load[to] += 1
                operation = self._asked.get((to, message.rid))
            if operation is not None and not operation.ended:
                operation.messages += 1
                marks.append((operation, operation.depth.get(source, 0) + 1))
        return marks

    def arrived(self, to: int, marks: Sequence[Mark]) -> None:
        for operation, hops in marks:
            operation.depth[to] = max(hops, operation.depth.get(to, 0))

    def open_since(self, began: int, ended: int) -> bool:
        """Say whether an operation that began between these times is under way still."""
        return any(began <= each.began < ended for open in self._open.values() for each in open)

    def take(self) -> tuple[list[Operation], int, list[int]]:
        """Return what was counted since the last time, and count anew: operations that ended,
        bytes, load.
        """
        taken = self.done, self.bytes, self.load
        self.done, self.bytes, self.load = [], 0, [0] * len(self.load)
        self._asked = {
            question: operation
            for question, operation in self._asked.items()
            if not operation.ended
        }
        return taken
