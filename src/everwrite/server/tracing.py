"""The timeline of a request: when each message for it went and came, and what the disk did.

    place.py    begins one, gives it to the core, and ends it with the answer
    driver.py   shows it every message and batch, while there is any: else it looks at an empty
                dictionary, once in a tick
    the core    tells the numbers of the conversations that serve the request (core/trace.py)

A traced put asks each replica for two acks, when its copy is written and when it is fsynced, so the
timeline tells disks from networks. It counts, and waits, as any put.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextvars import ContextVar

import msgspec

from everwrite.core.local import Local
from everwrite.core.messages.listing import Named, Names
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import (
    ABSENT,
    BUSY,
    FOUND,
    NOT_HERE,
    REFUSED,
    STALE_VIEW,
    UNREADABLE,
    Failure,
    Fetch,
    FetchReply,
    Get,
    GetReply,
    Put,
    PutReply,
    Store,
    StoreReply,
    Touch,
)
from everwrite.core.outbox import Place
from everwrite.core.records import HINT, OWN

EVENTS_MAX = 100
"""More are not noted: a header must hold them. Of a long listing it is the beginning."""

_SAID = {
    FOUND: "has a copy",
    ABSENT: "has nothing",
    UNREADABLE: "cannot read its copy",
    REFUSED: "refuses",
    STALE_VIEW: "goes by another view",
    BUSY: "has too much to do",
    NOT_HERE: "does not serve the key",
}

_SAID_OF_KEYS = {
    FOUND: "tells its keys",
    NOT_HERE: "tells what it has, and does not serve this part of the ring",
}


class Event(msgspec.Struct):
    """One thing that happened to a request."""

    us: int
    """Microseconds since it began."""
    node: str
    what: str


current: ContextVar[Timeline | None] = ContextVar("everwrite_trace", default=None)
"""That of the request which this task serves."""


class Timeline:
    """See the module; a ``core.trace.Trace``."""

    __slots__ = ("_began_ns", "began_wall_ns", "events", "key")

    def __init__(self, key: bytes = b"") -> None:
        self.key = key
        """Empty: not known yet, or it is for many keys."""
        self.events: list[tuple[int, bytes, str]] = []
        """(microseconds since the beginning, node, what)."""
        self._began_ns = time.monotonic_ns()
        self.began_wall_ns = time.time_ns()
        """By this machine's clock, as spans have it."""

    def note(self, what: str, node: bytes = b"") -> None:
        """Something happened now."""
        if len(self.events) < EVENTS_MAX:
            self.events.append(((time.monotonic_ns() - self._began_ns) // 1000, node, what))

    def told(self, local: Local) -> list[Event]:
        """Return it with the names of nodes."""
        names = {member.node_id: member.name for member in local.members}
        return [
            Event(us, names.get(node or local.me, node.hex()), what)
            for us, node, what in self.events
        ]


class Tracer:
    """The traces of one node."""

    def __init__(self, local: Local) -> None:
        self._local = local

    def begin(self, place: int, rid: int, timeline: Timeline) -> None:
        """A request is handed in."""
        self._local.traces[place, rid] = timeline
        timeline.note("asked")

    def end(self, place: int, rid: int) -> None:
        """It is answered."""
        timeline = self._local.traces.pop((place, rid), None)
        if timeline is not None:
            timeline.note("answered")
            traced = self._local.traced
            for number in [number for number, trace in traced.items() if trace is timeline]:
                del traced[number]

    def sent(self, place: Place, messages: Iterable[Message]) -> None:
        """Messages go to a node."""
        for message in messages:
            if isinstance(message, Fetch | Store | Get | Put | Touch | Names):
                self._note(message.rid, f"is sent {_sent(message)}", place)

    def came(self, source: Place, messages: Iterable[Message]) -> None:
        """Messages come from a node."""
        for message in messages:
            if isinstance(message, FetchReply):
                self._note(message.rid, _SAID.get(message.status, "answers"), source)
            elif isinstance(message, StoreReply):
                done = "has it fsynced" if message.durable else "has it written"
                self._note(message.rid, _SAID.get(message.status, done), source)
            elif isinstance(message, Named):
                said = _SAID_OF_KEYS.get(message.status) or _SAID.get(message.status, "answers")
                self._note(message.rid, said, source)
            elif isinstance(message, GetReply | PutReply | Failure):
                self._note(message.rid, "gives its answer", source)

    def read(self, keys: Iterable[bytes], what: str) -> None:
        """The disk is read for these keys, or was."""
        for key in keys:
            self._of_key(key, what)

    def scanned(self, number: int) -> None:
        """The disk gave a range, for the conversation of this number."""
        self._note(number, "has read its disk", self._local.me)

    def wrote(self, keys: Iterable[bytes], took_ns: int) -> None:
        """A batch was written."""
        for key in keys:
            self._of_key(key, f"writes its batch in {took_ns // 1000} us")

    def _of_key(self, disk_key: bytes, what: str) -> None:
        if disk_key[:1] not in (OWN, HINT):  # a list in which the key stands too
            return
        for trace in self._local.traces.values():
            if trace.key == disk_key[1:]:
                trace.note(what)

    def _note(self, rid: int, what: str, place: Place) -> None:
        trace = self._local.traced.get(rid)
        if trace is not None and isinstance(place, bytes):
            trace.note(what, place)


def _sent(message: Fetch | Store | Get | Put | Touch | Names) -> str:
    if isinstance(message, Fetch | Names):
        return "the question"
    if isinstance(message, Store):
        return "a copy to keep for another" if message.hint_for else "the copy"
    return "the request"
