"""One HTTP request, and the way back: its head, its body within a budget, its answer."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

import msgspec

from everwrite.core.errors import EverwriteError, Overloaded, RequestError
from everwrite.server.http.problems import (
    MEDIA_TYPE,
    Gone,
    Header,
    Refusal,
    body_too_large,
    problem_of,
)

if TYPE_CHECKING:
    from everwrite.server.tracing import Timeline

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODIES_BYTES_MAX = 64 << 20
"""What all bodies may hold, from their first byte until the request is over: sixty of the largest
values."""

SLOW_S = 5.0
"""A body that is unfinished for so long gives way to others when there is no room: the largest
value over a line of 200 KiB/s."""

DIGITS_MAX = 20
"""Of a length. Python refuses to read thousands of them, even where they are all zeros."""

UNSENT = "everwrite.unsent"
"""Under this name a connection gives each of its requests its ``Unsent``."""

ONCE = frozenset(
    (
        b"host",
        b"origin",
        b"sec-fetch-site",
        b"authorization",
        b"content-type",
        b"causal-context",
        b"idempotency-key",
    )
)
"""Of these a request has one at most: who reads the first and who the last would not agree."""

_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_JSON = (b"content-type", b"application/json")
_NEWS = (b"cache-control", b"no-store")


class Part:
    """What a body, or a line, that is not whole yet holds of the budget."""

    __slots__ = ("drop", "since", "size", "waits")

    def __init__(self, drop: Callable[[], bool]) -> None:
        self.size = 0
        self.since = 0.0
        self.waits = False
        """More of it has come, and it is we who have no room for that: it is not slow."""
        self.drop = drop
        """Ends the request, since its room is needed; says whether it did."""

    async def wait(self, room: Awaitable[object]) -> None:
        """Wait until there may be room for more of it."""
        began, self.waits = time.monotonic(), True
        try:
            await room
        finally:
            self.waits = False
            self.since += time.monotonic() - began


class Budget:
    """What all bodies hold at a time. Where no room is left, what has been unfinished for SLOW_S
    gives way, first what takes most of the room for longest. So nobody keeps others out with bodies
    that only lack their last byte. Who ends and begins them anew within SLOW_S does: for that it
    must send BODIES_BYTES_MAX in that time, again and again.
    """

    __slots__ = ("_parts", "held", "most")

    def __init__(self, most: int = BODIES_BYTES_MAX) -> None:
        self.held = 0
        self.most = most
        self._parts: dict[Part, None] = {}

    def take(self, size: int, part: Part | None = None) -> None:
        """Take room for so much more, as one body or for a part of one; Overloaded if there is
        none.
        """
        self.check(size, part)
        self.held += size
        if part is not None and size:
            if part not in self._parts:
                self._parts[part] = None
                part.since = time.monotonic()
            part.size += size

    def check(self, size: int, part: Part | None = None) -> None:
        """Make room for so much more; Overloaded if that cannot be."""
        lacks = self.held + size - self.most
        if lacks > 0:
            lacks -= self._clear(lacks, part)
        if lacks > 0:
            raise Overloaded(
                f"This node holds {self.held} bytes of bodies that are under way, and takes no "
                "more.",
                hint="Nothing was done. Try again in a moment.",
                retry_after_ms=200,
            )

    def give(self, size: int) -> None:
        """Give room back."""
        self.held -= size

    def finish(self, part: Part) -> int:
        """The part is whole, or over: return what it held, for the caller to give back."""
        self._parts.pop(part, None)
        size, part.size = part.size, 0
        return size

    def _clear(self, lacks: int, asker: Part | None) -> int:
        """Let slow parts give way; return how much room that makes."""
        now, made = time.monotonic(), 0
        slow = [
            each
            for each in self._parts
            if now - each.since > SLOW_S and each is not asker and not each.waits
        ]
        if sum(each.size for each in slow) < lacks:
            return 0  # in vain: then nobody need go
        for part in sorted(slow, key=lambda each: each.size * (each.since - now)):
            if made >= lacks:
                break
            if part.drop():  # else it ends by itself, and gives its room back then
                size = self.finish(part)
                self.give(size)
                made += size
        return made


class Unsent:
    """Answers of one connection that wait until those before them are taken."""

    __slots__ = ("bytes", "give_way")

    def __init__(self, give_way: Callable[[], bool]) -> None:
        self.bytes = 0
        self.give_way = give_way
        """Ends the request of which a part came, for the sake of others, if more is to come."""


class Asked:
    """A request. ``path`` is as it was sent, percent signs and all."""

    __slots__ = (
        "_budget",
        "_given",
        "_held",
        "_part",
        "_receive",
        "_send",
        "begun",
        "headers",
        "id",
        "method",
        "operation",
        "path",
        "query",
        "recorded",
        "status",
        "timeline",
        "told",
        "unsent",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, budget: Budget) -> None:
        self._receive = receive
        self._send = send
        self._budget = budget
        self._part: Part | None = None
        self._held = 0
        """What its whole body holds of the budget, until ``let_go`` or ``hand_over``."""
        self.method: str = scope["method"]
        self.path: bytes = scope["raw_path"]
        self.query: bytes = scope["query_string"]
        self._given: list[Header] = scope["headers"]
        self.headers: dict[bytes, bytes] = dict(self._given)
        given = self.headers.get(b"request-id")
        self.id = given if given and _ID.fullmatch(given) else secrets.token_hex(8).encode()
        self.begun = False
        """Whether the answer's head is out."""
        self.operation = "other"
        """What is asked for, by its name in routes.py."""
        self.recorded = False
        """Whether a span is made of it (server/spans.py)."""
        self.timeline: Timeline | None = None
        self.told: Callable[[], bytes] | None = None
        """What a Trace header says, if one was asked for."""
        self.status = 0
        """What it was answered with; 0: with nothing yet."""
        self.unsent: Unsent = scope[UNSENT]

    def check_head(self) -> None:
        """Raise RequestError for a header that is given twice where only one can be meant."""
        if len(self._given) == len(self.headers):
            return
        seen = set()
        for name, _ in self._given:
            if name in seen and (name in ONCE or name.startswith(b"meta-")):
                raise RequestError(
                    f"The header {name.decode('latin-1')[:64].title()} is given twice.",
                    hint="Nothing was done. Give each once.",
                )
            seen.add(name)

    # -- the body ----------------------------------------------------------------------------------

    async def body(self, most: int) -> bytes:
        """Return the whole body; a Refusal if it is longer, Gone if it never comes."""
        declared = self.headers.get(b"content-length", b"").strip()
        if declared.isdigit() and (len(declared) > DIGITS_MAX or int(declared) > most):
            raise body_too_large(most)
        part = self._part = self.new_part()
        if declared.isdigit():
            self._budget.check(int(declared), part)  # before all of it is read in vain
        chunks: list[bytes] = []
        more = True
        while more:
            event = await self._next()
            more = event.get("more_body", False)
            chunk: bytes = event.get("body", b"")
            self._budget.take(len(chunk), part)
            if part.size > most:
                raise body_too_large(most)
            chunks.append(chunk)
        self._held = self._budget.finish(part)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def new_part(self) -> Part:
        """Return what is to hold room for a part of this body."""
        return Part(self.unsent.give_way)

    def let_go(self) -> None:
        """The request is over, and its body with it."""
        if self._part is not None:
            self._budget.give(self._budget.finish(self._part))
        self._budget.give(self.hand_over())

    def hand_over(self) -> int:
        """Return what its body holds of the budget, for the caller to give back."""
        held, self._held = self._held, 0
        return held

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        more = True
        while more:
            event = await self._next()
            more = event.get("more_body", False)
            if event.get("body"):
                yield event["body"]

    async def hung_up(self) -> None:
        """Return when whoever asked has gone; for answers that take long. No body is read after."""
        while (await self._receive())["type"] != "http.disconnect":
            continue

    async def _next(self) -> MutableMapping[str, Any]:
        event = await self._receive()
        if event["type"] == "http.disconnect":
            raise Gone
        return event

    # -- the answer --------------------------------------------------------------------------------

    async def reply(self, status: int, headers: list[Header], body: bytes = b"") -> None:
        """Send an answer as a whole."""
        headers.append((b"request-id", self.id))
        if self.told is not None:
            headers.append((b"trace", self.told()))
        if status not in {204, 304}:
            headers.append((b"content-length", b"%d" % len(body)))
        self.begun, self.status = True, status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def begin(self, status: int, headers: list[Header]) -> None:
        """Send the head of an answer that comes in pieces (``write``)."""
        headers.append((b"request-id", self.id))
        self.begun, self.status = True, status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes, *, more: bool = True) -> None:
        """Send a piece; returns once the other end has taken enough of what went before."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def reply_json(self, status: int, document: Any) -> None:
        """Send a JSON document; bytes are one already."""
        body = document if type(document) is bytes else msgspec.json.encode(document)
        await self.reply(status, [_JSON, _NEWS], body)

    async def reply_problem(self, error: EverwriteError | Refusal) -> None:
        """Send an error as a problem document."""
        instance = self.path.decode("latin-1")[:512]
        document, headers = problem_of(error, instance, self.id.decode())
        headers += [(b"content-type", MEDIA_TYPE), _NEWS]
        await self.reply(document.status, headers, msgspec.json.encode(document))
