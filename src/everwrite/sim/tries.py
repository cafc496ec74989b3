"""Which puts came to a node again, and whom it could ask then: for the judges of retries and dots.

Kept for one life of a node: what it knew of tries went with it.
"""

from __future__ import annotations

from everwrite.core.cluster.routes import Target
from everwrite.core.data import context
from everwrite.core.errors import BadContext
from everwrite.core.messages.requests import Put
from everwrite.core.node import Node

Retry = tuple[int, tuple[Target, ...]]
"""When a retried put came to a node, and whom it could ask then."""

FIRST_TRY: Retry = (-1, ())


class Tries:
    """The puts that came to one life of a node."""

    def __init__(self) -> None:
        self.retries: dict[bytes, Retry] = {}
        """For each op the retry that came first to this life; FIRST_TRY where a first try came,
        for that is minted without looking around."""
        self.dotted: dict[bytes, Retry] = {}
        """For each op whose context names single dots: when it first came, as in ``retries``."""
        self._again: dict[bytes, Retry] = {}
        """For each op the retry that came first, though a first try came before it."""

    def clear(self) -> None:
        self.retries.clear()
        self.dotted.clear()
        self._again.clear()

    def note(self, node: Node, put: Put, now: int) -> None:
        """A put came."""
        targets = node.local.routes.route(put.key, put.n).targets
        if put.context and put.op not in self.dotted and _names_dots(put.context):
            self.dotted[put.op] = (now, targets)
        if not put.retry and not node.late_ms:  # what lay unread for long may be anything
            self.retries[put.op] = FIRST_TRY
        else:
            again = self._again.setdefault(put.op, (now, targets))
            self.retries.setdefault(put.op, again)

    def taken_over(self, node: Node, put: Put, now: int) -> None:
        """A put that was handed on comes back, since nobody answered."""
        if self.retries.get(put.op, FIRST_TRY) is FIRST_TRY:
            targets = node.local.routes.route(put.key, put.n).targets
            # Later than the loss of the peer from whom it may be taken over in this very tick.
            self.retries[put.op] = self._again.get(put.op, (now + 1, targets))


def _names_dots(token: bytes) -> bool:
    """Say whether a context names single dots; one that is garbled does not."""
    try:
        return bool(context.peek(token).dots)
    except BadContext:
        return False
