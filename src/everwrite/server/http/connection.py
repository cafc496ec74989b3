"""One HTTP connection: uvicorn's, with the caps and the patience that it lacks.

    IDLE --first byte--> HEAD --head complete--> BODY --body complete--> ANSWER --answered--> IDLE

A head over HEAD_BYTES_MAX, one that takes over HEAD_S, a body that takes over BODY_S, or a batch
in which no line ends for STREAM_S: the connection ends, and says why if it still can. So whoever
opens connections and says little keeps nobody out for long. Over the cap on connections a new one
is told so and closed; native and HTTP clients share it.

What comes behind a request waits, unread by the parser, until that is answered; nothing more is
read from the socket then. So a client may send any number of requests ahead, and has all answers in
their order.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec
from uvicorn import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from everwrite.core.errors import (
    DeadlineExceeded,
    EverwriteError,
    Overloaded,
    RequestError,
    TooLarge,
)
from everwrite.server.http import probes
from everwrite.server.http.asked import UNSENT, Unsent
from everwrite.server.http.framing import CHUNKED, body_length, chunks_and_upgrade
from everwrite.server.http.portions import Portions
from everwrite.server.http.problems import MEDIA_TYPE, Refusal, problem_of
from everwrite.server.http.unframed import Unframed
from everwrite.server.parting import Parting

if TYPE_CHECKING:
    from everwrite.server.turns import Turns

HEAD_BYTES_MAX = 64 << 10
"""Twice what any proxy lets through."""
HEAD_S = 10.0
BODY_S = 60.0
"""The largest value over a line of 20 KiB/s."""
STREAM_S = 60.0
"""A line of a batch is a value: it may take as long as one."""
IDLE_S = 75
"""Longer than the minute after which most clients close a connection by themselves: who closes
first should be the one that does not send just then."""

UNREAD_S = 30.0
"""An answer of which nobody reads anything for so long is for nobody."""

IDLE, HEAD, BODY, ANSWER = range(4)

WAIT_FOR_BODY = ("PUT", "POST")
"""Methods of which nothing is done before their body is whole."""

STREAMS = (b"/v1/batch",)
"""Whose bodies may be long if they are lines: one need only end after the other."""

FRAMING_TIMES = 8
"""A chunk of one byte has five bytes of framing."""
CHUNK_COSTS = 100
"""A chunk takes as long as so many bytes of a body, whatever is in it."""


class Room(Protocol):
    """Says how many clients there may be, and for how long none is read from: server/peers.py."""

    turns: Turns

    def welcome(self, guest: HttpConnection) -> bool: ...

    def parted(self, guest: HttpConnection) -> None: ...


class Flow(FlowControl):
    """uvicorn's, which begins to read again whenever a body is asked for: not while there is
    another reason to wait.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self.held = False
        """No client is read from just now."""
        self.ahead = False
        """What was read waits for the answer to what came before."""

    def resume_reading(self) -> None:
        if self.held or self.ahead:
            self.read_paused = False
        else:
            super().resume_reading()

    def hold(self) -> None:
        """Read nothing until ``go_on``."""
        self.held = True
        self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again, unless there is another reason not to."""
        self.held = False
        self._read_on()

    def wait(self) -> None:
        """Read nothing until ``catch_up``."""
        self.ahead = True
        self._transport.pause_reading()

    def catch_up(self) -> None:
        """Nothing that was read waits any more."""
        self.ahead = False
        self._read_on()

    def _read_on(self) -> None:
        if not (self.held or self.ahead or self.read_paused):
            self._transport.resume_reading()


class HttpConfig(Config):
    """uvicorn's, with the room that its connections share."""

    room: Room
    refused: probes.Refused


class HttpConnection(HttpToolsProtocol):
    """See the module."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._room = cast(HttpConfig, config).room
        self._refused = cast(HttpConfig, config).refused
        self._phase = IDLE
        self._since = 0.0
        self._head_bytes = 0
        self._framing = 0
        """What came of a body and is no body, less FRAMING_TIMES of what is."""
        self._streams = False
        self._held_at = 0.0
        """Since when it is not read from, where that is so."""
        self._counted = False
        self._probing: asyncio.TimerHandle | None = None
        """It is one too many, and may still ask whether the process runs;"""
        self._said = b""
        """so far it has said this."""
        self._portions = Portions()
        self._ahead, self._ahead_at = b"", 0
        """What came, and how much of it is done: the rest waits for an answer."""
        self._by_hand = False
        """A body that the parser does not see: it takes a request that asks for another protocol as
        one without a body. We stay with this one, and the body is the value."""
        self._refusal: Refusal | None = None
        """What is wrong with a head that the parser takes."""
        self._unsent = Unsent(self._give_way)
        self._unread = 0
        """What was not read yet of the answers when that was looked at last,"""
        self._unread_since = 0.0
        """since when the other end has read nothing of it,"""
        self._reads = False
        """and whether it has read much since that look."""

    # -- asyncio -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._parting = Parting(transport, self.loop, self._is_silent)
        super().connection_made(self._parting)
        self.flow: Flow = Flow(self._parting)
        self._since = self._unread_since = self.loop.time()
        self._counted = self._room.welcome(self)
        if self._counted:
            return
        self._refused.take(self)
        self._probing = self.loop.call_later(probes.PROBE_S, self.turn_away)

    def turn_away(self) -> None:
        """There is no room for this client, and it is told so."""
        self._probed()
        self._end(
            Overloaded(
                "This node has as many clients as it takes, of all protocols together.",
                hint="Close some, or ask another node.",
                retry_after_ms=1000,
            ),
            503,
        )

    def leave(self) -> None:
        """It was told so, and others need its place."""
        self._parting.leave()

    def _probed(self) -> None:
        """It has asked, or had the time to: it is told something now."""
        assert self._probing is not None
        self._probing.cancel()
        self._probing = None
        self._refused.tell(self)

    def _take_probe(self, data: bytes) -> None:
        """Take what one client too many says first."""
        self._said += data
        answer = probes.live(self._said)
        if answer is None:
            self.turn_away()
        elif answer:
            self._probed()
            self.transport.write(answer)
            self.transport.close()
        self._parting.drop(len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._probing is not None:
            self._probing.cancel()
        self._room.parted(self)
        self._refused.gone(self)
        self._counted = False
        self._hang_up()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._probing is not None:
            self._take_probe(data)
            return
        if self.transport.is_closing():  # it is told to go
            self._parting.drop(len(data))
            return
        # A read that was under way when reading was to stop may still bring something.
        self._ahead, self._ahead_at = self._ahead[self._ahead_at :] + data, 0
        self._take_in()
        chunks, self._portions.chunks = self._portions.chunks, 0
        self._room.turns.took_from_guest(len(data) + CHUNK_COSTS * chunks)

    def _take_in(self) -> None:
        """Give the parser what has come, up to the end of a request that has no answer yet."""
        data = self._ahead
        while self._ahead_at < len(data):
            if self.transport.is_closing():
                break
            if self._phase == ANSWER:
                if not self.flow.ahead:
                    self.flow.wait()
                return
            at = self._ahead_at
            self._ahead_at = end = self._portions.next(data, at)
            self._take(data[at:end])
        self._ahead, self._ahead_at = b"", 0
        if self.flow.ahead and not self.transport.is_closing():
            self.flow.catch_up()

    def _take(self, portion: bytes) -> None:
        """Give the parser a part of one head, or of one body."""
        if self._phase <= HEAD:
            self._head_bytes += len(portion)
            if self._head_bytes > HEAD_BYTES_MAX:
                error = TooLarge(
                    f"The head of the request has over {HEAD_BYTES_MAX} bytes.",
                    hint="Nothing was done. Send a long context in a batch.",
                )
                self._end(error, 431)
                return
        else:
            self._framing += len(portion)
            if self.cycle.response_complete:
                self._parting.drop(len(portion))
        if self._phase == BODY and self._by_hand:
            self.on_body(portion)
            self._by_hand = not self._portions.whole
            if not self._by_hand:
                self.on_message_complete()
            return
        super().data_received(portion)
        if self._phase == BODY and self._framing > HEAD_BYTES_MAX:
            self.cut_off()  # chunks of next to nothing, or what goes beside them, without end

    def shutdown(self) -> None:
        """Take no more: an answer that is under way ends, and nothing else is waited for."""
        if self._phase == HEAD or self.transport.is_closing():
            self.cut_off()
        else:
            super().shutdown()

    def hold(self) -> None:
        """Do not read from this client until ``go_on``."""
        if not (self.flow.held or self.transport.is_closing()):
            self._held_at = self.loop.time()
            self.flow.hold()

    def go_on(self) -> None:
        if self.flow.held and not self.transport.is_closing():
            # That time is no silence of the client's; what it was silent before stays.
            self._since += self.loop.time() - max(self._held_at, self._since)
            self.flow.go_on()

    def resume_writing(self) -> None:
        """The other end has read much of what was too much."""
        self._reads = True
        super().resume_writing()

    # -- the parser --------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._phase != IDLE:  # portions.py has not seen the end that the parser sees
            raise ValueError("a request within another")
        super().on_message_begin()
        self._parting.dropped = 0
        cast(dict[str, Any], self.scope)[UNSENT] = self._unsent
        self._phase, self._since = HEAD, self.loop.time()

    def on_headers_complete(self) -> None:
        self._head_bytes = self._framing = 0
        kind = dict(self.headers).get(b"content-type", b"").lower()
        self._streams = self.url in STREAMS and not kind.startswith(b"application/json")
        version = self.parser.get_http_version()
        try:
            length = body_length(version, self.parser.get_method(), self.headers)
            self._by_hand = length != 0 and self.parser.should_upgrade()
            if self._by_hand and length == CHUNKED:
                raise chunks_and_upgrade()
        except Refusal as why:
            self._refusal = why
            raise  # the parser stops at it
        super().on_headers_complete()  # it raises for a target that is no path
        if version == "1.0":
            self.cycle.send = Unframed(self.cycle).send  # type: ignore[method-assign]
        self._portions.begin_body(length)
        self._phase = BODY

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase != BODY:  # else it is a trailer, which says nothing here (RFC 9110, 6.5.1)
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._framing -= (1 + FRAMING_TIMES) * len(body)
        if self._streams and b"\n" in body:
            self._since = self.loop.time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._by_hand:  # not yet
            return
        self._phase = ANSWER
        super().on_message_complete()
        if self.cycle.response_complete:  # it was refused before its body was whole
            self._phase, self._since = IDLE, self.loop.time()

    def on_response_complete(self) -> None:
        if self._phase == ANSWER:
            self._phase, self._since = IDLE, self.loop.time()
        super().on_response_complete()
        self._take_in()

    def send_400_response(self, msg: str) -> None:
        """The parser has stopped."""
        why = self._refusal
        if why is None:
            error = RequestError("These bytes are no HTTP/1.1 request.", hint="Nothing was done.")
            self._end(error, 400)
        else:
            self._end(why.error, why.status)

    # -- patience ----------------------------------------------------------------------------------

    @property
    def kept_bytes(self) -> int:
        """What this process holds: answers that the other end has not read, and what it has sent
        before them.
        """
        if self._parting.over:
            return 0
        unread = self.transport.get_write_buffer_size() + self._unsent.bytes
        return unread + len(self._ahead)

    @property
    def left_bytes(self) -> int:
        """What the other end has not read yet, with what the kernel holds of it.

        The kernel takes more only once a third of its megabytes is read. Whoever reads 30 KiB/s
        would seem to read nothing for half a minute, by what this process holds.
        """
        held = 0 if self._parting.over else self.transport.get_write_buffer_size()
        return held + _in_kernel(self.transport) if held else 0

    def look(self, now: float) -> None:
        """From time to time: end it if its other end says or reads nothing for too long."""
        unread = self.left_bytes
        if not unread or unread < self._unread or self._reads:
            self._unread_since = now
        elif now - self._unread_since > UNREAD_S:
            self.cut_off()
            return
        self._unread, self._reads = unread, False
        if self.transport.is_closing():
            if not unread:
                self._parting.look(now)
            return
        if self.flow.held:  # it is we who do not read
            return
        waited = now - self._since
        if self._phase == IDLE:
            cycle: RequestResponseCycle | None = self.cycle  # none before the first request
            busy = cycle is not None and not cycle.response_complete
            late = waited > IDLE_S and not busy
        elif self._phase == HEAD:
            late = waited > HEAD_S
        elif self._phase == BODY:
            if self.flow.read_paused:  # it is we who do not read
                self._since = now
                return
            late = waited > (STREAM_S if self._streams else BODY_S)
        else:
            late = False
        if not late:
            return
        if self._phase == IDLE:
            self.transport.close()
        else:
            self._end(
                DeadlineExceeded(
                    f"The request was not complete after {waited:.0f} s.", hint="Nothing was done."
                ),
                408,
            )

    def _give_way(self) -> bool:
        """Others need the room of its body, which came slowly; say whether that ends it."""
        if self._phase != BODY or self.transport.is_closing():
            return False
        error = DeadlineExceeded(
            "The body came slowly, and its room was needed.",
            hint="Nothing was done. Send it again.",
            retry_after_ms=1000,
        )
        self._end(error, 408)
        return True

    def _is_silent(self) -> bool:
        """Say whether nothing more is to come, as far as anybody can tell."""
        if not self._counted:
            return self not in self._refused.told
        return self._phase in (IDLE, ANSWER) and not self.flow.ahead

    def cut_off(self) -> None:
        """End it without a word: nobody reads one."""
        self._hang_up()
        self.transport.abort()

    def _hang_up(self) -> None:
        """Tell the request under way that nobody hears its answer."""
        cycle: RequestResponseCycle | None = self.cycle  # none before the first request
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()

    def _end(self, error: EverwriteError, status: int) -> None:
        """Say what is wrong, if that can be taken for nothing else, and close.

        Where a request waits for its answer it would be that: a client would hear that nothing was
        done of a put that is under way.
        """
        if self.transport.is_closing():
            return
        if self._phase <= HEAD or (self._phase == BODY and not self.cycle.response_started):
            document, headers = problem_of(error)
            document.status = status
            if self._phase == BODY and self.scope["method"] not in WAIT_FOR_BODY:
                document.outcome = "unknown"
                document.hint = "It may have been carried out: look before you repeat it."
            body = msgspec.json.encode(document)
            headers += [
                (b"content-type", MEDIA_TYPE),
                (b"content-length", b"%d" % len(body)),
                (b"connection", b"close"),
            ]
            head = b"".join(b"%s: %s\r\n" % header for header in headers)
            self.transport.write(b"HTTP/1.1 %d \r\n%s\r\n" % (status, head) + body)
        self._hang_up()
        self.transport.close()


def _in_kernel(transport: asyncio.Transport) -> int:
    """Return what the kernel holds for the other end; 0 where it does not tell (it is no Linux)."""
    try:
        told = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(told, sys.byteorder)
