"""Writes of one key that a client sends ahead (INCR, HSET, SADD; SET): they go to the cluster
together.

    INCR k -> a put of its own
    INCR k, INCR k, ... -> wait until it is answered, and are one put then, in their order
    SET k, SET k, ...   -> wait as well; the last of them is put then, in the place of all

So they are carried out in their order whichever node does it, even if it looks around for one of
them and not for the next; and a thousand of them cost a few puts. A put is all or nothing: where
one of them cannot be done, nothing was, and each goes by itself, so that the answers are those of
one after another.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from msgspec.structs import replace

from everwrite.core.errors import EverwriteError, RequestError, WrongType
from everwrite.core.messages.requests import Put
from everwrite.core.types.operations import Operation, decode, encode

if TYPE_CHECKING:
    from everwrite.server.redis.pipeline import Pipeline
    from everwrite.server.redis.slots import Slot

JOINED_BYTES_MAX = 256 << 10
JOINED_MAX = 4096
"""Of changes that go together: their bytes, and their operations."""


class Asked(NamedTuple):
    """One command's write."""

    put: Put
    slot: Slot
    at: int = -1
    """Which of its messages, if it asks several at once."""
    alone: bool = False
    """Whether it may go with no other."""


class Joint(Protocol):
    """Writes of one key that are one put."""

    @property
    def parts(self) -> list[Asked]:
        """One for each command, in their order."""

    @property
    def put(self) -> Put:
        """What all of them come to."""

    def answered(self, joining: Joining, reply: Any) -> None:
        """Tell each command what is its own of the reply, and let what waits behind them begin."""


class Replacing:
    """Values that replace whatever is there: the last one stands for all."""

    __slots__ = ("parts",)

    def __init__(self, parts: list[Asked]) -> None:
        self.parts = parts

    @classmethod
    def next_of(cls, waiting: deque[Asked]) -> Replacing:
        """Take the next one, and those behind it that may go with it."""
        parts = [waiting.popleft()]
        first = parts[0]
        while waiting and not first.alone and waiting[0].put.over:
            if waiting[0].put.w != first.put.w:
                break
            parts.append(waiting.popleft())
        return cls(parts)

    @property
    def put(self) -> Put:
        return self.parts[-1].put

    def answered(self, joining: Joining, reply: Any) -> None:
        # Nobody looks for a reason: what begins as they are told need not wait.
        key = self.put.key
        last = joining.forget(key)
        for part in self.parts:
            part.slot.heard(part.at, reply)
        if not last:
            joining.go_on(key)


class Adding:
    """Changes: the operations of all, one after another."""

    __slots__ = ("_counts", "parts", "put")

    def __init__(self, parts: list[Asked], operations: list[list[Operation]]) -> None:
        self.parts = parts
        self._counts = [len(some) for some in operations]
        self.put = parts[0].put
        if len(parts) > 1:
            together = encode([each for some in operations for each in some])
            self.put = replace(self.put, value=together)

    @classmethod
    def next_of(cls, waiting: deque[Asked]) -> Adding:
        """Take the next one, and those behind it that may go with it."""
        first = waiting.popleft()
        parts, operations = [first], [_operations_of(first)]
        size, count = len(first.put.value or b""), len(operations[0])
        while waiting and operations[0]:
            part = waiting[0]
            size += len(part.put.value or b"")
            same = part.put.w == first.put.w and part.put.ttl_ms == first.put.ttl_ms
            found = _operations_of(part) if same and size <= JOINED_BYTES_MAX else []
            count += len(found)
            if not found or count > JOINED_MAX:
                break
            parts.append(waiting.popleft())
            operations.append(found)
        return cls(parts, operations)

    def answered(self, joining: Joining, reply: Any) -> None:
        parts = self.parts
        for part, told in zip(parts, self._split(reply), strict=True):
            part.slot.heard(part.at, told)
        key, slot = self.put.key, parts[0].slot
        if len(parts) == 1 and parts[0].at < 0 and not slot.done:
            joining.unfinished[slot] = key
        else:
            joining.go_on(key)

    def _split(self, reply: Any) -> list[Any]:
        """Return what each command is to hear."""
        if isinstance(reply, EverwriteError) or len(self.parts) == 1:
            return [reply] * len(self.parts)
        told, at = [], 0
        for count in self._counts:
            told.append(replace(reply, results=reply.results[at : at + count]))
            at += count
        return told


class UnderWay:
    """A put that was handed in."""

    __slots__ = ("_joining", "_joint")

    def __init__(self, joining: Joining, joint: Joint) -> None:
        self._joining = joining
        self._joint = joint

    @property
    def owner(self) -> object:
        """Whose it is: each connection has its turn."""
        return self._joining.line

    def heard(self, at: int, reply: Any) -> None:
        """Take the core's reply."""
        joining, joint = self._joining, self._joint
        wrong = isinstance(reply, WrongType | RequestError) and reply.outcome == "none"
        if wrong and len(joint.parts) > 1:  # one of them is, and none was done
            joining.one_by_one(joint)
        else:
            joint.answered(joining, reply)


class Joining:
    """The writes of one connection that are under way, and those that wait behind them."""

    def __init__(self, line: Pipeline) -> None:
        self.line = line
        self._behind: dict[bytes, deque[Asked]] = {}
        """Keys of which a write is under way: what waits until it is answered."""
        self.unfinished: dict[Slot, bytes] = {}
        """Commands that were told of an error and look for its reason: what comes behind them
        waits until they have it, or they would find what was done since."""

    def ask(self, put: Put, slot: Slot, at: int = -1) -> None:
        """Hand in a command's write."""
        waiting = self._behind.get(put.key)
        if waiting is not None:
            waiting.append(Asked(put, slot, at))
            return
        parts = [Asked(put, slot, at)]
        joint = Replacing(parts) if put.over else Adding(parts, [])
        self.line.front.place.ask(put, UnderWay(self, joint))
        self._behind[put.key] = deque()

    def one_by_one(self, joint: Joint) -> None:
        """Hand in each write of a put by itself that was refused as a whole."""
        key = joint.put.key
        self._behind[key].extendleft(part._replace(alone=True) for part in reversed(joint.parts))
        self.go_on(key)

    def over(self, slot: Slot) -> None:
        """Go on behind a command that has found out why it failed."""
        key = self.unfinished.pop(slot, None)
        if key is not None:
            self.go_on(key)

    def forget(self, key: bytes) -> bool:
        """Let the next write of a key begin at once, if none waits; say whether that is so."""
        if self._behind[key]:
            return False
        del self._behind[key]
        return True

    def go_on(self, key: bytes) -> None:
        """Hand in what waits behind a write that is over."""
        waiting = self._behind[key]
        line = self.line
        while waiting:
            joint: Joint
            joint = (Replacing if waiting[0].put.over else Adding).next_of(waiting)
            # what was answered meanwhile is to be known to whoever carries this out
            put = replace(joint.put, context=line.session.seen(key) or joint.put.context)
            try:
                line.front.place.ask(put, UnderWay(self, joint))
            except EverwriteError as error:
                for part in joint.parts:
                    part.slot.heard(part.at, error)
                continue
            return
        del self._behind[key]


def _operations_of(part: Asked) -> list[Operation]:
    """Return the operations of a change; none if it must go by itself."""
    if part.alone or len(part.put.value or b"") > JOINED_BYTES_MAX:
        return []
    try:
        return decode(part.put.value or b"")
    except RequestError:  # it is told so, and no other
        return []
