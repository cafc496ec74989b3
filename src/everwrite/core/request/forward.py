"""A request that came to a node which is no replica of its key: it is handed on once (DESIGN 4,
Requests).

The replica coordinates and answers this node, which passes the answer on and tells the client that
it went by an old view. If the replica goes down or stays silent, this node coordinates by itself,
as a stand-in.
"""

from __future__ import annotations

import msgspec

from everwrite.core.cluster.routes import Route
from everwrite.core.errors import DeadlineExceeded
from everwrite.core.local import Local, Request
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Failure, Get, GetReply, Put, PutReply, Touch
from everwrite.core.outbox import Place
from everwrite.core.probes import sometimes
from everwrite.core.records import weight

PATIENCE = 3
"""How many times ``spare_after_ms`` a replica may take: it may have to wait that long for its own
peers.
"""


class Forward(Request):
    """One request in another node's hands."""

    __slots__ = ("_local", "_message", "_rid", "_source", "_started", "_to")

    def __init__(self, local: Local, source: Place, message: Put | Touch | Get, to: bytes) -> None:
        self._local = local
        self._source = source
        self._message = message
        self._to = to
        self._started = local.now
        self._rid = 0

    @classmethod
    def start(cls, local: Local, source: Place, message: Put | Touch | Get, route: Route) -> bool:
        """Hand the request to the first target that is another node; False if there is none."""
        to = next((node for node, _ in route.targets if node != local.me), None)
        if to is None:
            return False
        local.counters.forwards += 1
        forward = cls(local, source, message, to)
        patience = min(PATIENCE * local.config.spare_after_ms, message.timeout_ms)
        rid = local.open_request(forward, local.now + patience)
        forward._rid = rid
        local.held_bytes += weight(message)
        local.out.send(to, msgspec.structs.replace(message, rid=rid, forwarded=True, view=b""))
        return True

    def relayed(self, reply: Message) -> None:
        self._end()
        if isinstance(reply, GetReply | PutReply):
            answer = msgspec.structs.replace(reply, rid=self._message.rid, stale_view=True)
            self._local.out.send(self._source, answer)
        elif isinstance(reply, Failure):
            sometimes("a replica to which a request was handed on refused it")
            self._local.out.send(
                self._source, msgspec.structs.replace(reply, rid=self._message.rid)
            )

    does = "hands the request on"

    def serves(self) -> tuple[Place, int]:
        return self._source, self._message.rid

    def about(self) -> bytes:
        return self._message.key

    def lost(self, peer: bytes) -> None:
        if peer == self._to:
            sometimes("a request is taken over from a replica that went down")
            self._take_over()

    def wake(self) -> None:
        sometimes("a request is taken over from a replica that stayed silent")
        self._take_over()

    def _end(self) -> None:
        del self._local.requests[self._rid]
        self._local.held_bytes -= weight(self._message)

    def _take_over(self) -> None:
        """Coordinate here: what the replica began may have been carried out, so a put looks
        for it.
        """
        local, message = self._local, self._message
        self._end()
        left = message.timeout_ms - (local.now - self._started)
        if left <= 0:
            sometimes("a request's time ends in the hands of the node it was handed on to")
            local.fail(self._source, message, _in_vain(message), local.now - self._started)
            return
        again = msgspec.structs.replace(message, timeout_ms=left, forwarded=True)
        if isinstance(again, Put | Touch):
            again = msgspec.structs.replace(again, retry=True)
        local.out.send(local.me, TakenOver(self._source, again, self._to))


def _in_vain(message: Put | Touch | Get) -> DeadlineExceeded:
    """Return the error for a request whose time was over in the other node's hands."""
    maybe = not isinstance(message, Get)
    return DeadlineExceeded(
        "The node to which this request was handed on did not answer in time.",
        hint="The write may appear later. Repeat it with the same context."
        if maybe
        else "Nothing was changed. Try again, or give it more time.",
        outcome="unknown" if maybe else "none",
    )


class TakenOver(Message, frozen=True, tag=105):
    """To oneself: coordinate this request of that client here."""

    source: Place
    request: Put | Touch | Get
    tried: bytes = b""
    """The node to which it was handed on: whoever looks for what became of it asks there, too."""
