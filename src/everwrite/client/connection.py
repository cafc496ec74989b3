"""One connection to one node: handshake, frames in, frames out, any number of requests in flight.

    GREETING --Hello with a good proof--> OPEN --lost, garbage, Refused--> LOST

All messages of one loop turn go out as one frame with one ``write``: the first one asks the loop
for a flush at the end of the turn. A node that takes nothing more for now (``full``) or says
nothing although it was asked (``suspect``) keeps its connection but is passed over by new requests.

Costs: a message out is a list append; a frame in is one decode for all its messages.
Source: Dynamo 6.4 (clients that know the ring), DESIGN 3 ("one write per connection").
"""

from __future__ import annotations

import asyncio
import secrets
from time import monotonic
from typing import TYPE_CHECKING, Protocol, cast

from everwrite.client.limits import WRITE_BUFFER_MAX
from everwrite.client.manners import Throttle
from everwrite.core.config import FRAME_BYTES_MAX, HANDSHAKE_BYTES_MAX
from everwrite.core.errors import EverwriteError, ProtocolError, Unreachable, error_from_code
from everwrite.core.handshake import NONCE_BYTES, Identity, confirm, hello
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.greeting import Hello, Refused
from everwrite.core.messages.requests import Failure
from everwrite.core.wire import FrameReader, encode_frames
from everwrite.core.wrong_port import answered_otherwise

if TYPE_CHECKING:
    from collections.abc import Callable


class Request(Protocol):
    """A request in flight, as the table has it: Read and Call."""

    due: float

    def answered(self, connection: Connection, message: AnyMessage) -> None: ...

    def lost(self, connection: Connection) -> None: ...

    def tick(self, now: float) -> None: ...

    def give_up(self, error: EverwriteError) -> None: ...


class Owner(Protocol):
    """Who is told what becomes of a connection."""

    def lost(self, connection: Connection) -> None: ...

    def unasked(self, rid: int) -> None: ...

    def changed(self) -> None: ...

    def refresh_soon(self, *, urgent: bool = True) -> None: ...

    async def met(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """A connection; ``opened`` is done when it may be used, or fails with the reason why it never
    can.
    """

    __slots__ = (
        "_flush_soon",
        "_hello",
        "_out",
        "_owner",
        "_pending",
        "_reader",
        "_secret",
        "_transport",
        "asked",
        "closed",
        "cluster_id",
        "error",
        "full",
        "heard",
        "name",
        "node_id",
        "opened",
        "suspect",
        "throttle",
        "up",
    )

    def __init__(
        self,
        owner: Owner,
        pending: dict[int, Request],
        secret: bytes,
        cluster_id: bytes,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._owner = owner
        self._pending = pending
        self._secret = secret
        me = Identity(name="client", cluster_id=cluster_id)
        self._hello = hello(me, secrets.token_bytes(NONCE_BYTES))
        self._reader = FrameReader(HANDSHAKE_BYTES_MAX)
        self._out: list[AnyMessage] = []
        self._flush_soon: Callable[[Callable[[], None]], object] = loop.call_soon
        self._transport: asyncio.Transport | None = None
        self.closed: asyncio.Future[None] = loop.create_future()
        """Done when the socket is gone."""
        self.opened: asyncio.Future[None] = loop.create_future()
        self.cluster_id = b""
        self.node_id = b""
        self.name = ""
        self.up = False
        self.full = False
        self.suspect = False
        self.throttle: Throttle | None = None
        """What is held back, since the node has refused work lately."""
        self.heard = 0.0
        """When the last bytes came."""
        self.asked = 0.0
        """When the first frame went out that was followed by silence so far; 0: none."""
        self.error: EverwriteError | None = None

    def send(self, message: AnyMessage) -> None:
        """Queue a message for the frame that goes out at the end of this loop turn."""
        out = self._out
        if not out:
            self._flush_soon(self._flush)
        out.append(message)

    def refuses(self, retry_after_ms: int) -> None:
        """The node has refused a request, since it has too much to do."""
        if self.throttle is None:
            self.throttle = Throttle(self.heard)
        self.throttle.refuses(retry_after_ms)

    def fail(self, error: EverwriteError) -> None:
        """End the connection at once, for this reason."""
        if self.error is None:
            self.error = error
        if self._transport is not None:
            self._transport.abort()

    async def close(self, timeout_s: float) -> None:
        """Send what is queued, close, and return when the socket is gone; not later than this."""
        transport = self._transport
        if transport is None:
            return
        if self._out:
            self._flush()
        transport.close()
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(self.closed)
        except TimeoutError:
            transport.abort()

    def _flush(self) -> None:
        messages = self._out
        if self._transport is None or not messages:
            return
        self._out = []
        self._transport.write(encode_frames(messages))
        if not self.asked:
            self.asked = monotonic()

    # -- called by the loop ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_MAX)
        self._transport.write(encode_frames([self._hello]))

    def data_received(self, data: bytes) -> None:
        self.heard = monotonic()
        self.asked = 0.0
        if self.suspect:
            self.suspect = False
            self._owner.changed()
        try:
            if not self.up:
                self._check_port(data)
            messages = self._reader.feed(data)
            if not self.up:
                messages = self._greet(messages)
                messages += self._reader.feed(b"")
            if self.throttle is not None:
                self.throttle.taken += sum(type(message) is not Failure for message in messages)
            pending = self._pending
            for message in messages:
                try:
                    rid = message.rid  # type: ignore[union-attr]
                except AttributeError:
                    raise _no_answer(message) from None
                request = pending.get(rid)
                if request is None:
                    self._owner.unasked(rid)
                else:
                    request.answered(self, message)
        except EverwriteError as error:
            self.fail(error)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._out = []
        was_up, self.up = self.up, False
        if self.error is None:
            reason = f": {error}" if error else ""
            self.error = Unreachable(
                f"The node {self.name or '(unknown)'} closed the connection{reason}.",
                hint="Is it starting or stopping, or is this the port of another service? Its log "
                "says more.",
            )
        if not self.opened.done():
            self.opened.set_exception(self.error)
        if not self.closed.done():
            self.closed.set_result(None)
        if was_up:
            self._owner.lost(self)

    def pause_writing(self) -> None:
        self.full = True
        self._owner.changed()

    def resume_writing(self) -> None:
        self.full = False
        self._owner.changed()

    # -- the handshake ------------------------------------------------------------------------

    def _check_port(self, data: bytes) -> None:
        """Raise ProtocolError if it is HTTP, or Redis, that is spoken there."""
        peer = self._transport.get_extra_info("peername") if self._transport is not None else None
        wrong = answered_otherwise(data, peer[1] if isinstance(peer, tuple) else 0)
        if wrong is not None:
            raise wrong

    def _greet(self, messages: list[AnyMessage]) -> list[AnyMessage]:
        """Take the node's Hello, prove who we are; return what came after it."""
        if not messages:
            return messages
        theirs = messages[0]
        proof = confirm(self._secret, self._hello, theirs)
        if not isinstance(theirs, Hello):  # confirm() has made sure; the type checker has not
            raise ProtocolError("The other side did not begin with a Hello.")
        self.cluster_id, self.node_id, self.name = theirs.cluster_id, theirs.node_id, theirs.name
        self._reader.limit = FRAME_BYTES_MAX
        self.up = True
        if self._transport is not None:
            self._transport.write(encode_frames([proof]))
        if not self.opened.done():
            self.opened.set_result(None)
        return messages[1:]


def _no_answer(message: AnyMessage) -> EverwriteError:
    """Return why a node that sent this, which answers nothing, is given up."""
    if isinstance(message, Refused):
        return error_from_code(message.code)(message.message, hint=message.hint)
    return ProtocolError(f"The node sent a {type(message).__name__}, which is no answer.")
