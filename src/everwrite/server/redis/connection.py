"""One connection of a Redis client: bytes in, bytes out, and for how long.

It is read from while there is room for commands, and while whoever sent them reads the answers. The
service looks at it once a second (``look``): a command that does not end, answers that nobody
reads, and a stranger who does not say the secret all have their time.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from everwrite.core.data.keys import VALUE_BYTES_MAX
from everwrite.server.redis.pipeline import Pipeline
from everwrite.server.redis.place import TURN_S
from everwrite.server.redis.replies import Problem
from everwrite.server.redis.requests import (
    COMMAND_ARGS_MAX,
    STRANGER_ARGS_MAX,
    STRANGER_BULK_MAX,
    Garbled,
    Requests,
    TooLong,
)
from everwrite.server.redis.session import Session

if TYPE_CHECKING:
    from everwrite.server.redis.front import Front

UNREAD_BYTES = 1 << 20
"""Answers that the other end has not read: over this nothing more is begun."""
UNREAD_S = 30.0
"""Answers of which nobody reads anything for so long are for nobody."""
COMMAND_S = 60.0
"""For the largest value over a line of 20 KiB/s."""
AUTH_S = 10.0
SHARED_BYTES = 64 << 10
"""Over this what is pushed is not copied: all subscribers that do not read share it."""
STRANGER_UNREAD_BYTES = 64 << 10
"""As UNREAD_BYTES, of whoever has not said the secret."""


class RedisConnection(asyncio.Protocol):
    """See the module."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._loop = front.loop
        self._requests = Requests()
        self._ahead: list[bytes] = []
        """What was pushed, and the answers before it, in their order."""
        self._ahead_bytes = 0
        self._dirty = False
        self._held = False
        """No client is read from just now."""
        self._full = False
        """There is no room for more commands."""
        self._counted = False
        self._paused = False
        self._eof = False
        """Nothing more will come."""
        self._since = 0.0
        """Since when a command has begun to come,"""
        self._unread = 0
        self._unread_since = 0.0
        """and since when the other end has read nothing."""

    # -- asyncio -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        transport.set_write_buffer_limits(high=UNREAD_BYTES)
        self._since = self._unread_since = self._loop.time()
        peer = transport.get_extra_info("peername") or ("", 0)
        here = transport.get_extra_info("sockname") or ("", 0)
        self.session = Session(
            self._front,
            self._front.next_number(),
            f"{peer[0]}:{peer[1]}",
            f"{here[0]}:{here[1]}",
        )
        self._pipeline = Pipeline(self._front, self.session, self._ready)
        self._counted = self._front.welcome(self)
        if not self._counted:
            transport.write(b"-ERR max number of clients reached\r\n")
            transport.close()
            return
        self.look_who()

    def connection_lost(self, exc: Exception | None) -> None:
        self._front.parted(self)
        self._pipeline.stopped = True

    def data_received(self, data: bytes) -> None:
        if self._pipeline.ends or not self._counted:
            return
        if not self._requests.inside:
            self._since = self._loop.time()
        self._requests.feed(data)
        self._take()
        self._front.took(len(data))

    def eof_received(self) -> bool:
        """Answer what has come, and close then."""
        self._eof = True
        if not self._full:
            self.end()
        return True

    def pause_writing(self) -> None:
        self._pipeline.stopped = True
        self._set_reading()

    def resume_writing(self) -> None:
        self._pipeline.stopped = False
        self._pipeline.go_on()
        self._take()

    # -- the way in and out ------------------------------------------------------------------------

    def _take(self) -> None:
        """Begin what has come, as far as there is room."""
        pipeline, following = self._pipeline, self._requests.next
        self._full = took = False
        clock = self._loop.time
        until = clock() + TURN_S
        try:
            while not pipeline.ends:
                if pipeline.stopped or not pipeline.room:
                    self._full = True
                    break
                try:
                    args = following()
                except TooLong as why:
                    pipeline.too_long(Problem(str(why)))
                    took = True
                    continue
                if args is None:
                    break
                took = True
                pipeline.add(args)
                if clock() >= until:  # what is answered at once may take long
                    self._full = True
                    self._loop.call_soon(self._take_more)
                    break
        except Garbled as why:
            self._front.measures.garbled += 1
            pipeline.say(Problem(str(why)))
            pipeline.ends = True
        if took:
            self._since = self._loop.time()  # what follows has its own time
        self._set_reading()
        if pipeline.ends or (self._eof and not self._full):
            self.end()

    def _take_more(self) -> None:
        """Go on where the time of a turn was over."""
        if self._full and not self.transport.is_closing():
            self._take()

    def _ready(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._front.place.due(self)

    def flush(self) -> None:
        """Send the answers that are there."""
        self._dirty = False
        if self.transport.is_closing():
            return
        data = self._pipeline.answers()
        if self._ahead:
            self._send_ahead(data)
        elif data:
            self.transport.write(data)
        self._pipeline.go_on()
        if self._full:
            self._take()
        elif self._pipeline.ends and self._pipeline.empty:
            self.transport.close()

    def _send_ahead(self, behind: bytes) -> None:
        """Send what was pushed, and this behind it."""
        ahead, size = [*self._ahead, behind], self._ahead_bytes
        self._ahead, self._ahead_bytes = [], 0
        if size > SHARED_BYTES:
            self.transport.writelines(ahead)
        else:
            self.transport.write(b"".join(ahead))

    def push(self, data: bytes) -> int:
        """Send what was not asked for, behind what is answered by now; return how much the other
        end has not read.
        """
        ahead = (self._pipeline.answers(), data) if not self._pipeline.empty else (data,)
        self._ahead += ahead
        self._ahead_bytes += sum(map(len, ahead))
        self._ready()
        return self._ahead_bytes + self.transport.get_write_buffer_size()

    def end(self) -> None:
        """Take nothing more; close once all is answered."""
        self._pipeline.ends = True
        if self._pipeline.empty and not self._dirty:
            self.transport.close()

    def quit(self) -> None:
        """Answer what came before, and nothing behind."""
        self._pipeline.quits = True
        self.end()

    def close_or_cut(self) -> None:
        """End it: what was written is still sent, if the other end reads."""
        self._pipeline.ends = True
        if self.transport.get_write_buffer_size() > UNREAD_BYTES:
            self.cut_off()
        else:
            self.transport.close()

    def cut_off(self) -> None:
        """End it without a word: nobody reads one."""
        self._pipeline.stopped = True
        self.transport.abort()

    def look_who(self) -> None:
        """Allow as much as may be sent by whoever this is."""
        known = self.session.known
        self._requests.args_max = COMMAND_ARGS_MAX if known else STRANGER_ARGS_MAX
        self.transport.set_write_buffer_limits(
            high=UNREAD_BYTES if known else STRANGER_UNREAD_BYTES
        )
        self._requests.bulk_max = VALUE_BYTES_MAX if known else STRANGER_BULK_MAX

    # -- turns, and patience -----------------------------------------------------------------------

    def hold(self) -> None:
        """Do not read from this client until ``go_on``."""
        self._held = True
        self._set_reading()

    def go_on(self) -> None:
        self._held = False
        self._set_reading()

    def _set_reading(self) -> None:
        pause = self._held or self._full or self._pipeline.stopped or self._pipeline.ends
        if pause == self._paused or self.transport.is_closing():
            return
        self._paused = pause
        if pause:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    @property
    def kept_bytes(self) -> int:
        """What this process holds for it."""
        unread = self.transport.get_write_buffer_size()
        ours = self._ahead_bytes + self._requests.kept + self._pipeline.kept
        return unread + ours + self.session.kept

    def look(self, now: float) -> None:
        """From time to time: end it if the other end says or reads nothing for too long."""
        unread = self.transport.get_write_buffer_size()
        session = self.session
        session.look(now)
        strange = not session.known and now - session.unknown_since > AUTH_S
        if strange and (self._paused or unread or self._pipeline.ends):
            self.cut_off()
            return
        if not unread or unread < self._unread:
            self._unread_since = now
        elif now - self._unread_since > UNREAD_S:
            self.cut_off()
            return
        self._unread = unread
        if self._paused or self.transport.is_closing():
            self._since = now
            return
        late = self._requests.inside and now - self._since > COMMAND_S
        if late or strange:
            self._pipeline.say(Problem("ERR that took too long, and the connection ends"))
            self.end()

    @property
    def born(self) -> float:
        """When it was made, by the loop's clock."""
        return self.session.born
