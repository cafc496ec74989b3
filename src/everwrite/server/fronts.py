"""What the fronts have in common at the driver: who waits there for a reply, and how it ends.

A front hands in messages and is told each one's reply (http/place.py, redis/place.py). The core
answers by its deadline; what it has lost sight of all the same ends some seconds later, here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

from everwrite.core.errors import (
    DeadlineExceeded,
    EverwriteError,
    InvariantError,
    Outcome,
    Overloaded,
    UnavailableError,
)
from everwrite.core.failures import error_of
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Failure
from everwrite.server.driver import Driver

SWEEP_S = 1.0
GRACE_S = 2.0
"""So long after its deadline a message is taken for lost."""

Who = TypeVar("Who")
Which = TypeVar("Which")


class FrontPlace(ABC, Generic[Who, Which]):
    """See the module. ``Who`` asked, and ``Which`` says what of his it is."""

    most: ClassVar[int]
    """So many messages may wait,"""
    what: ClassVar[str]
    """and this they are called."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._loop = driver.loop
        self._rid = 0
        self._waiting: dict[int, tuple[Who, Which, bool, float]] = {}
        """Who asked, which of his it is, whether it writes, and when it is lost."""
        self._closed = False
        self._place = driver.attach_front(self)
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)

    @property
    def under_way(self) -> int:
        """Messages that wait for a reply."""
        return len(self._waiting)

    def next_rid(self) -> int:
        """Return the number for the next message."""
        self._rid += 1
        return self._rid

    @abstractmethod
    def send(self, messages: list[Message]) -> None:
        """Take replies of the core."""

    def close(self) -> None:
        """Take nothing more, and end what waits: nobody knows what becomes of it."""
        if self._closed:
            return
        self._closed = True
        self._sweeping.cancel()
        self._driver.detach(self._place)
        waiting, self._waiting = self._waiting, {}
        for rid, (who, which, writes, _) in waiting.items():
            self._end(rid, who, which, stopping("unknown" if writes else "none"))

    def check_room(self, count: int) -> None:
        """Raise the error for so many messages more than can be asked."""
        if self._closed:
            raise stopping("none")
        if len(self._waiting) + count > self.most:
            raise Overloaded(
                f"{self.most} {self.what} wait for an answer, and no more are taken.",
                hint="Nothing was done. Try again in a moment.",
                retry_after_ms=200,
            )

    def _sweep(self) -> None:
        now = self._loop.time()
        for rid in [rid for rid, entry in self._waiting.items() if entry[3] < now]:
            who, which, writes, _ = self._waiting.pop(rid)
            self._end(rid, who, which, _lost_sight_of(writes=writes))
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)

    @abstractmethod
    def _end(self, rid: int, who: Who, which: Which, error: EverwriteError) -> None:
        """Tell who asked that no reply comes."""


def patience_s(timeout_ms: int) -> float:
    """Return after how long a message with this deadline is lost."""
    return timeout_ms / 1000 + GRACE_S


def told(failure: Failure) -> EverwriteError:
    """Return the error that is reported. A broken invariant of another node is none of this one."""
    error = error_of(failure)
    if not isinstance(error, InvariantError):
        return error
    return EverwriteError(error.message, hint=error.hint, outcome=error.outcome)


def _lost_sight_of(*, writes: bool) -> DeadlineExceeded:
    """Return the error for a message that nobody has answered."""
    return DeadlineExceeded(
        "No answer came in time.",
        hint="Read the key to see." if writes else "Try again.",
        outcome="unknown" if writes else "none",
    )


def stopping(outcome: Outcome) -> UnavailableError:
    """Return the error for what is asked of a node that is about to end."""
    return UnavailableError("This node is stopping.", hint="Ask another node.", outcome=outcome)
