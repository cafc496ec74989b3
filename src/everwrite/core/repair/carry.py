"""One record on its way to where it is lacking, here or on a peer, as a part of an exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from everwrite.core.local import Local, Request
from everwrite.core.messages.requests import SYNC_YES, Store, StoreReply
from everwrite.core.outbox import Place

if TYPE_CHECKING:
    from everwrite.core.repair.exchange import Exchange

SILENT = -1
"""The status of a record that was not acknowledged in time."""


class Copy(NamedTuple):
    """A record that a node lacks."""

    target: bytes
    key: bytes
    record: bytes
    read_ms: int
    """When it was read from a disk at the earliest, by this node's own count (``Local.stamp``)."""


class Carry(Request):
    """See the module."""

    __slots__ = ("_copy", "_exchange", "_local", "rid")

    def __init__(self, local: Local, exchange: Exchange, copy: Copy) -> None:
        self._local = local
        self._exchange = exchange
        self._copy = copy
        self.rid = 0

    def begin(self) -> None:
        local, copy, left = self._local, self._copy, self._local.config.repair_retry_ms
        self.rid = local.open_request(self, local.now + left)
        local.background += 1
        # It is as old as when it was read: so it cannot bring back what was removed since.
        store = Store(self.rid, copy.key, copy.record, left, SYNC_YES, sent_ms=copy.read_ms)
        local.out.send(copy.target, store)

    def stored(self, source: Place, reply: StoreReply) -> None:
        if source == self._copy.target:
            self._end(reply.status)

    def lost(self, peer: bytes) -> None:
        if peer == self._copy.target:
            self._close()  # the exchange hears of it too

    def wake(self) -> None:
        self._end(SILENT)

    def _end(self, status: int) -> None:
        self._close()
        self._exchange.carried(self._copy, status)

    def _close(self) -> None:
        if self._local.requests.pop(self.rid, None) is not None:
            self._local.background -= 1
