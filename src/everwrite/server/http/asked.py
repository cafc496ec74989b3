"""One HTTP request, and the way back: its head, its body within a budget, its answer."""

from __future__ import annotations

import re
import secrets
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


class Budget:
    """What all bodies hold at a time."""

    __slots__ = ("held", "most")

    def __init__(self, most: int = BODIES_BYTES_MAX) -> None:
        self.held = 0
        self.most = most

    def take(self, size: int) -> None:
        """Take room for so much more; Overloaded if there is none."""
        if self.held + size > self.most:
            raise Overloaded(
                f"This node holds {self.held} bytes of bodies that are under way, and takes no "
                "more.",
                hint="Nothing was done. Try again in a moment.",
                retry_after_ms=200,
            )
        self.held += size

    def give(self, size: int) -> None:
        """Give room back."""
        self.held -= size


class Unsent:
    """Answers of one connection that wait until those before them are taken."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class Asked:
    """A request. ``path`` is as it was sent, percent signs and all."""

    __slots__ = (
        "_budget",
        "_given",
        "_held",
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
        self._held = 0
        """What its body holds of the budget, until ``let_go`` or ``hand_over``."""
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
        declared = self.headers.get(b"content-length", b"")
        if declared.isdigit() and (len(declared) > DIGITS_MAX or int(declared) > most):
            raise body_too_large(most)
        chunks: list[bytes] = []
        more = True
        while more:
            event = await self._next()
            more = event.get("more_body", False)
            chunk: bytes = event.get("body", b"")
            self._budget.take(len(chunk))
            self._held += len(chunk)
            if self._held > most:
                raise body_too_large(most)
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def let_go(self) -> None:
        """The request is over, and its body with it."""
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
