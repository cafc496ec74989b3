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
from typing import TYPE_CHECKING, Any, NamedTuple

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


class Joint:
    """One put under way, of one command or several."""

    __slots__ = ("_counts", "_joining", "parts")

    def __init__(self, joining: Joining, parts: list[Asked], counts: list[int]) -> None:
        self._joining = joining
        self.parts = parts
        self._counts = counts
        """How many operations each has; of values that replace each other: none."""

    @property
    def owner(self) -> object:
        """Whose it is: each connection has its turn."""
        return self._joining.line

    def heard(self, at: int, reply: Any) -> None:
        """Take the core's reply."""
        self._joining.answered(self, reply)

    def split(self, reply: Any) -> list[Any]:
        """Return what each command is to hear."""
        if isinstance(reply, EverwriteError) or len(self.parts) == 1 or not self._counts:
            return [reply] * len(self.parts)
        told, at = [], 0
        for count in self._counts:
            told.append(replace(reply, results=reply.results[at : at + count]))
            at += count
        return told


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
        self.line.front.place.ask(put, Joint(self, [Asked(put, slot, at)], []))
        self._behind[put.key] = deque()

    def answered(self, joint: Joint, reply: Any) -> None:
        """Tell each command of a put what is its own of the reply."""
        parts = joint.parts
        key = parts[0].put.key
        wrong = isinstance(reply, WrongType | RequestError) and reply.outcome == "none"
        if wrong and len(parts) > 1:  # one of them is, and none was done
            self._behind[key].extendleft(part._replace(alone=True) for part in reversed(parts))
            self._next(key)
            return
        over = parts[0].put.over and not self._behind[key]
        if over:  # nobody looks for a reason: what begins now need not wait
            del self._behind[key]
        for part, told in zip(parts, joint.split(reply), strict=True):
            part.slot.heard(part.at, told)
        if over:
            return
        last = parts[0].slot
        if len(parts) == 1 and parts[0].at < 0 and not last.done:
            self.unfinished[last] = key
        else:
            self._next(key)

    def over(self, slot: Slot) -> None:
        """Go on behind a command that has found out why it failed."""
        key = self.unfinished.pop(slot, None)
        if key is not None:
            self._next(key)

    def _next(self, key: bytes) -> None:
        """Hand in what waits behind a write that is over."""
        waiting = self._behind[key]
        line = self.line
        while waiting:
            if waiting[0].put.over:
                parts = _replacing(waiting)
                put, counts = parts[-1].put, _NONE
            else:
                parts, operations = _together(waiting)
                put, counts = parts[0].put, [len(some) for some in operations]
                if len(parts) > 1:
                    put = replace(put, value=encode([each for some in operations for each in some]))
            # what was answered meanwhile is to be known to whoever carries this out
            put = replace(put, context=line.session.seen(key) or put.context)
            try:
                line.front.place.ask(put, Joint(self, parts, counts))
            except EverwriteError as error:
                for part in parts:
                    part.slot.heard(part.at, error)
                continue
            return
        del self._behind[key]


_NONE: list[int] = []


def _replacing(waiting: deque[Asked]) -> list[Asked]:
    """Return the next values that replace whatever is there: the last one stands for all."""
    parts = [waiting.popleft()]
    first = parts[0]
    while waiting and not first.alone and waiting[0].put.over and waiting[0].put.w == first.put.w:
        parts.append(waiting.popleft())
    return parts


def _together(waiting: deque[Asked]) -> tuple[list[Asked], list[list[Operation]]]:
    """Return the next change, and those behind it that may go with it."""
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
    return parts, operations


def _operations_of(part: Asked) -> list[Operation]:
    """Return the operations of a change; none if it must go by itself."""
    if part.alone or len(part.put.value or b"") > JOINED_BYTES_MAX:
        return []
    try:
        return decode(part.put.value or b"")
    except RequestError:  # it is told so, and no other
        return []
