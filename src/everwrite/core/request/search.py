"""Whether anybody still knows what a session has seen of a key.

A session's read fails as stale where nobody who answers knows as much. But a tombstone that was
collected (tombstones/collect.py) is known by nobody any more, and a session that saw the key before
would be told so for ever. Where tombstones were ever collected a read therefore asks everybody
before it fails: first who is no owner, then the owners once more. A copy only goes from a stand-in
to an owner, so whatever there is is found on one of the two; and if nobody has it, it was collected
or is lost, and the read answers with what there is.

Costs: two round trips more for a read that would fail. One member that is down lets it fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from everwrite.core.local import Local, Request
from everwrite.core.messages.requests import ABSENT, FOUND, NOT_HERE, Fetch, FetchReply
from everwrite.core.outbox import Place
from everwrite.core.probes import sometimes
from everwrite.core.tombstones.confirm import everyone

Found = dict[bytes, bytes]
"""What each node has of the key; empty bytes: nothing."""


class Search(Request):
    """See the module; ``done`` gets what was found, or None if somebody has not said."""

    __slots__ = ("_deadline", "_done", "_found", "_key", "_local", "_owners", "_pending", "rid")

    def __init__(
        self,
        local: Local,
        key: bytes,
        owners: Sequence[bytes],
        deadline: int,
        done: Callable[[Found | None], None],
    ) -> None:
        self._local = local
        self._key = key
        self._owners = list(owners)
        """Who is to be asked at the end; nobody once they are."""
        self._deadline = deadline
        self._done = done
        self._found: Found = {}
        self._pending: set[bytes] = set()
        self.rid = 0

    def begin(self) -> None:
        local = self._local
        sometimes("a session's read asks everybody before it fails as stale")
        members = everyone(local)
        self.rid = local.open_request(self, self._deadline)
        if any(node != local.me and node not in local.liveness.up for node in members):
            self._end(None)
            return
        self._ask([node for node in members if node not in self._owners])

    def about(self) -> bytes:
        return self._key

    def _ask(self, nodes: list[bytes]) -> None:
        if not nodes:
            nodes, self._owners = self._owners, []
        self._pending = set(nodes)
        left = max(self._deadline - self._local.now, 1)
        for node in nodes:
            self._local.out.send(node, Fetch(self.rid, self._key, left))

    def fetched(self, source: Place, reply: FetchReply) -> None:
        if source not in self._pending:
            return
        assert isinstance(source, bytes)
        if reply.status not in (FOUND, ABSENT, NOT_HERE):
            self._end(None)
            return
        self._pending.discard(source)
        self._found[source] = reply.record
        if self._pending:
            return
        if self._owners:
            self._ask([])
        else:
            self._end(self._found)

    def lost(self, peer: bytes) -> None:
        if peer in self._pending:
            self._end(None)

    def wake(self) -> None:
        self._end(None)

    def _end(self, found: Found | None) -> None:
        if self._local.requests.pop(self.rid, None) is not None:
            self._done(found)
