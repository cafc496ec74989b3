"""Bugs by which a put that is tried again is carried out twice, or taken for done."""

from __future__ import annotations

from typing import Any

from everwrite.core.errors import EverwriteError
from everwrite.core.messages.requests import Put, Touch
from everwrite.core.node import Node
from everwrite.core.outbox import Place
from everwrite.core.recent import RecentPuts
from everwrite.core.request import making, write
from everwrite.core.request.look import LookAround, LookedAround
from everwrite.sim.bugs.registry import Patch, area

bug = area("retries")


@bug(
    "retry-does-not-look",
    "a retried put is minted without asking the other replicas",
    rules=("retry",),
)
def _retry_does_not_look() -> list[Patch]:
    def begin(self: LookAround) -> None:
        self._local.out.send(self._local.me, LookedAround(self._source, self._put))

    return [(LookAround, "begin", begin)]


@bug(
    "retry-not-recognised",
    "a put whose id stands in the record is minted again",
    rules=("retry",),
)
def _retry_not_recognised() -> list[Patch]:
    return [(making, "find_op", lambda record, op: None)]


@bug(
    "retry-surely-failed",
    "a retry that is refused is said not to have happened",
    rules=("outcome", "phantom"),
)
def _retry_surely_failed() -> list[Patch]:
    def refuse(self: write.Writes, source: Place, put: Put | Touch, error: EverwriteError) -> None:
        self._local.fail(source, put, error)

    return [(write.Writes, "_refuse", refuse)]


@bug(
    "recent-puts-outlive-failed-write",
    "the table of recent puts keeps those of a batch that was not written",
    rules=("lost", "quorum", "frontier", "coverage"),
    needs=("full_disk",),
)
def _recent_puts_outlive_failed_write() -> list[Patch]:
    return [(Node, "write_failed", _keeping(Node.write_failed))]


def _keeping(right: Any) -> Any:
    """Return a method of a node that leaves its table of recent puts as it was."""

    def method(self: Node, *arguments: Any, **named: Any) -> None:
        kept, self.local.recent_puts = self.local.recent_puts, RecentPuts()
        right(self, *arguments, **named)
        self.local.recent_puts = kept

    return method


@bug(
    "late-put-is-new",
    "a put that lay unread while its node stood still is taken for a first try",
    rules=("retry",),
    needs=("pause",),
)
def _late_put_is_new() -> list[Patch]:
    def put(self: Node, source: Place, message: Put) -> None:
        self.writes.put(source, message)

    return [(Node, "put", put)]
