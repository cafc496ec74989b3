"""Connections: bytes of a socket to messages for the driver, and back.

One kind of connection serves both sides of the wire and both sorts of other ends; the handshake
(core/handshake.py) tells what the other end is. Whatever is wrong gets a Refused that says so, and
the connection closes before any state is touched.

Caps: a stranger's frame 1 KiB and 5 s to say who it is; HANDSHAKES_MAX strangers at once; a client
that does not read its answers is not read from above WRITE_BYTES_HIGH, and cut off at
WRITE_BYTES_MAX; after TURN_BYTES from all clients none is read from for a turn of the loop; what
does not fit into a peer's buffer is dropped like on any bad network, and hints take care of it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from everwrite.core.config import FRAME_BYTES_MAX, HANDSHAKE_BYTES_MAX
from everwrite.core.errors import (
    EverwriteError,
    InvariantError,
    Overloaded,
    ProtocolError,
    TooLarge,
)
from everwrite.core.failures import failure_of
from everwrite.core.handshake import NONCE_BYTES, admit, answer, confirm, hello, refusal, refused
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.greeting import Hello, Refused
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import PutReply
from everwrite.core.outbox import Place
from everwrite.core.wire import FrameReader, encode_frames
from everwrite.core.wrong_port import answered_otherwise, asked_in_http, asked_in_redis
from everwrite.server import parting

if TYPE_CHECKING:
    from everwrite.server.peers import Peers


HANDSHAKE_S = 5.0
HANDSHAKES_MAX = 512
CLIENTS_MAX = 4096
FRAME_S = 30.0
"""An incomplete frame is waited for so long."""
UNFINISHED_BYTES_MAX = 256 << 20
"""What all connections of a node may hold of incomplete frames."""
TURN_BYTES = 16 << 20
"""After so much from clients, native and HTTP, none of them is read from until it was handled and
written. A turn of the loop could take megabytes from each, and one batch of them all stops the
process for seconds, while its peers wait for a sign of life (60 clients, puts of 1 MiB: 2.4 s, and
2.1 GiB of memory).
"""
WRITE_BYTES_HIGH = 4 << 20
WRITE_BYTES_MAX = 64 << 20

_UNSENDABLE = (ProtocolError, OverflowError, UnicodeEncodeError)
"""A message over the limit, or with a number or a text that no frame can hold."""


class Connection(asyncio.Protocol):
    """One socket, from the first byte to the last.

    ``dialled`` is true on the side that opened it. ``place`` is set once the handshake is over: the
    peer's id, or the client's number.
    """

    def __init__(self, peers: Peers, *, dialled: bool) -> None:
        self._peers = peers
        self._driver = peers.driver
        self.dialled = dialled
        self.place: Place | None = None
        self._reader = FrameReader(HANDSHAKE_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._parting: parting.Parting | None = None
        """In its place, of one that was told to go and may still send."""
        self._sent: Hello | None = None
        self.theirs: Hello | None = None
        """What the other end says of itself."""
        self._deadline: asyncio.TimerHandle | None = None
        self._step: Callable[[AnyMessage], None] = self._answer if dialled else self._hello
        self.over: asyncio.Future[EverwriteError | None] = peers.driver.loop.create_future()
        """Done when the connection is over, with why it was refused."""
        self.silent = True
        """Nothing has come from the other end yet, or it was told to go."""
        self._unfinished = 0
        self._unfinished_since: float | None = None
        self._paused = False
        self._why: EverwriteError | None = None

    # -- asyncio -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface, not the base class
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=WRITE_BYTES_HIGH)
        loop = self._driver.loop
        self._deadline = loop.call_later(HANDSHAKE_S, self._too_slow)
        if self.dialled:
            self._sent = hello(self._peers.who_am_i(), secrets.token_bytes(NONCE_BYTES))
            self.send([self._sent])
        elif not self._peers.strangers_may_come(self):
            self.refuse(
                Overloaded("Too many connections are being opened.", hint="Try again in a moment.")
            )

    def data_received(self, data: bytes) -> None:
        if self._parting is not None:
            self._parting.drop(len(data))
            return
        first, self.silent = self.silent, False
        try:
            if first and self._is_foreign(data):
                return
            messages = self._reader.feed(data)
            if self.place is None:
                messages = self._greet(messages)
                if self.place is not None:
                    messages += self._reader.feed(b"")
            if self._unfinished or self._reader.unfinished:
                self._account(completed=bool(messages))
            if messages and type(self.place) is bytes and type(messages[-1]) is Refused:
                self._part(messages.pop())
            if messages and self.place is not None:
                self._driver.arrived(self.place, messages)
            if type(self.place) is int:
                self._peers.turns.took(len(data))
        except InvariantError as error:  # a bug of ours, whatever the other end sent
            self._driver.broken(error)
        except EverwriteError as error:
            self.refuse(error)

    def connection_lost(self, error: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._transport = None
        self._let_go()
        self._peers.leaving.discard(self)
        self._peers.closed(self)
        if not self.over.done():
            self.over.set_result(self._why)

    def pause_writing(self) -> None:
        """The other end does not read: a client is not read from until it does."""
        if type(self.place) is int and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if type(self.place) is int and self._transport is not None:
            self._paused = False
            if self._unfinished:
                self._unfinished_since = self._driver.loop.time()
            self._transport.resume_reading()

    def hold(self) -> None:
        """Do not read from this client until ``go_on``."""
        if self._transport is not None:
            self._transport.pause_reading()

    def go_on(self) -> None:
        if self._transport is not None and not self._paused:
            self._transport.resume_reading()

    # -- frames that do not end --------------------------------------------------------------------

    def look(self, now: float) -> None:
        """From time to time: refuse an end that began a frame and does not finish it."""
        since = self._unfinished_since
        if since is not None and now - since > FRAME_S and not self._paused:
            self.refuse(ProtocolError(f"A frame was not complete after {FRAME_S:.0f} s."))

    def _account(self, *, completed: bool) -> None:
        """Take note of what is kept of a frame that is not complete; Overloaded over the budget."""
        kept = self._reader.unfinished
        grown, self._unfinished = kept - self._unfinished, kept
        self._peers.unfinished_bytes += grown
        if not kept:
            self._unfinished_since = None
        elif completed or self._unfinished_since is None:
            self._unfinished_since = self._driver.loop.time()
        if grown > 0 and self._peers.unfinished_bytes > UNFINISHED_BYTES_MAX:
            raise Overloaded(
                f"This node holds {UNFINISHED_BYTES_MAX >> 20} MiB of incomplete frames, "
                "and takes no more.",
                hint="Try again in a moment.",
            )

    def _let_go(self) -> None:
        """Forget what was kept of an incomplete frame."""
        self._peers.unfinished_bytes -= self._unfinished
        self._unfinished, self._unfinished_since = 0, None
        self._reader = FrameReader(HANDSHAKE_BYTES_MAX)

    # -- the other way -----------------------------------------------------------------------------

    def send(self, messages: list[Message]) -> None:
        """Send messages as one frame; drop them if the other end has not read for too long."""
        transport = self._transport
        if transport is None:
            self._driver.dropped += len(messages)
            return
        if transport.get_write_buffer_size() > WRITE_BYTES_MAX:
            self._driver.dropped += len(messages)
            if type(self.place) is int:
                why = "It does not read its answers."
                self._driver.log.warning("client cut off", client=self.place, why=why)
                transport.abort()
            return
        try:
            data = encode_frames(messages)  # type: ignore[arg-type]
        except _UNSENDABLE:
            data = b"".join(map(self._alone, messages))
        transport.write(data)

    def _alone(self, message: Message) -> bytes:
        """Return one message's frame; for one that has none, what its client hears instead. A peer
        takes its absence for silence.
        """
        try:
            return encode_frames([message])  # type: ignore[list-item]
        except _UNSENDABLE as error:
            self._driver.dropped += 1
            kind, rid = type(message).__name__, getattr(message, "rid", None)
            to = self.place.hex() if isinstance(self.place, bytes) else self.place
            self._driver.log.error("message dropped", to=to, kind=kind, request=rid, why=error)
        if type(self.place) is not int or rid is None:
            return b""
        why = TooLarge(
            f"The answer, a {kind}, cannot be sent: it is too large, or has what has no encoding.",
            hint="Read less at once; of a key, merge its siblings with a smaller value.",
        )
        why.outcome = "unknown" if isinstance(message, PutReply) else "none"
        return encode_frames([failure_of(rid, why)])

    def close(self) -> None:
        """Send what is queued, then close."""
        if self._parting is not None:
            self._parting.abort()
        elif self._transport is not None:
            self._transport.close()

    # -- the handshake -----------------------------------------------------------------------------

    def _is_foreign(self, data: bytes) -> bool:
        """Say whether the first bytes are HTTP or Redis, which are spoken on other ports; and say
        so to whoever asked.
        """
        transport = self._transport
        if transport is None:
            return False
        if self.dialled:
            peer = transport.get_extra_info("peername")
            wrong = answered_otherwise(data, peer[1] if isinstance(peer, tuple) else 0)
            if wrong is not None:
                raise wrong
            return False
        what, said = "HTTP", asked_in_http(data, self._peers.http_port)
        if said is None:
            what, said = "Redis", asked_in_redis(data, self._peers.redis_port)
        if said is None:
            return False
        self._peers.warn("", ProtocolError(f"It speaks {what}, and this is the native port."))
        transport.write(said)
        self._see_out(transport)
        return True

    def _see_out(self, transport: asyncio.Transport) -> None:
        """Close, but let what was said reach an end that still sends (parting.py)."""
        loop = self._driver.loop
        self._transport, self.silent = None, True
        self._parting = parting.Parting(transport, loop, lambda: False)
        self._parting.close()
        self._peers.leaving.add(self)
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = loop.call_later(parting.LEAVE_S, self._parting.abort)

    def _greet(self, messages: list[AnyMessage]) -> list[AnyMessage]:
        """Take the handshake's next steps; return what came behind it."""
        at = 0
        while at < len(messages) and self.place is None and self._transport is not None:
            self._step(messages[at])
            at += 1
        return messages[at:]

    def _hello(self, message: AnyMessage) -> None:
        """Acceptor, first message: who is there?"""
        reply = answer(
            self._peers.who_am_i(), self._peers.secret, secrets.token_bytes(NONCE_BYTES), message
        )
        assert isinstance(message, Hello)
        self.theirs = message
        self._peers.check_newcomer(message)
        self._sent = reply
        self.send([reply])
        self._step = self._proof

    def _proof(self, message: AnyMessage) -> None:
        """Acceptor, second message: does it know the secret, and may it come in?"""
        assert self.theirs is not None and self._sent is not None
        admit(self._peers.secret, self.theirs, self._sent, message)
        self._open(self.theirs)

    def _answer(self, message: AnyMessage) -> None:
        """Connector: the acceptor's answer."""
        assert self._sent is not None
        proof = confirm(self._peers.secret, self._sent, message)
        assert isinstance(message, Hello)
        self.theirs = message
        self.send([proof])
        self._open(message)

    def _open(self, theirs: Hello) -> None:
        place = self._peers.admit(self, theirs)
        self._reader.limit = FRAME_BYTES_MAX
        self.place = place
        if self._deadline is not None:
            self._deadline.cancel()
        self._peers.opened(self)

    def _part(self, message: AnyMessage) -> None:
        """A peer, who has proved itself, will not have this connection."""
        assert isinstance(message, Refused)
        self._why = refused(message)
        self.close()
        self._peers.told(self, self._why)

    def evict(self) -> None:
        """Give the place of a stranger that has said nothing to another."""
        if self._parting is not None:
            self._parting.abort()
            return
        self.refuse(
            Overloaded("Too many connections are being opened.", hint="Try again in a moment.")
        )

    def _too_slow(self) -> None:
        self.refuse(ProtocolError(f"The handshake took over {HANDSHAKE_S:.0f} s."))

    def refuse(self, error: EverwriteError) -> None:
        """Say what is wrong, and close."""
        self._why = error
        self._let_go()
        if self._transport is None:
            return
        name = self.theirs.name[:64] if self.theirs is not None else ""
        self._peers.warn(name, error)
        if self.dialled:
            if not isinstance(error, ProtocolError):
                self.send([refusal(error)])
            self._transport.close()
            return
        self.send([refusal(error)])
        if self.silent:  # nothing that came is unread
            self._transport.close()
            return
        self._see_out(self._transport)
        if type(self.place) is bytes:  # it may take its time to go, and others lead to that peer
            self._peers.closed(self)
