"""What HTTP asks of the core about one key: the same for single requests and lines of a batch."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from hashlib import blake2b

import msgspec

from everwrite.core.data.context import CONTEXT_BYTES_MAX
from everwrite.core.data.labels import KIND_BYTES, Kind
from everwrite.core.errors import (
    BadContext,
    DeadlineExceeded,
    EverwriteError,
    NotFound,
    QuorumNotMet,
    RequestError,
)
from everwrite.core.messages.requests import Get, GetReply, Put, PutReply, Touch
from everwrite.core.request.limits import cannot_tell
from everwrite.server.http.options import Options
from everwrite.server.http.place import HttpPlace
from everwrite.server.tracing import Event, Timeline

_READ_FIRST = (
    "Nothing was changed. A delete without a Causal-Context reads the key first: send that of a "
    "smaller read (GET with r=1), and it need not; or delete with consistency=one."
)


class Operations:
    """Reads and writes of one node's front. All may raise an EverwriteError."""

    def __init__(self, place: HttpPlace, replicas: Callable[[], int], timeout_ms: int) -> None:
        self._place = place
        self._replicas = replicas
        """How many owners a key has now: fewer than are wanted, while there are few nodes."""
        self._timeout_ms = timeout_ms

    async def read(self, data: bytes, options: Options, seen: bytes) -> GetReply:
        """Ask for a key."""
        place = self._place
        reply: GetReply = await place.ask(
            Get(
                place.next_rid(),
                data,
                options.timeout_ms,
                options.n,
                options.r or self._level(options),
                options.strict,
                seen,
                marks=True,
            )
        )
        return reply

    async def write(
        self,
        data: bytes,
        value: bytes | None,
        kind: Kind,
        context: bytes,
        options: Options,
        op: bytes,
        *,
        retry: bool,
        timeout_ms: int = 0,
        change: bool = False,
    ) -> PutReply:
        """Write a key; None deletes. With ``change`` the value is operations on a data type."""
        if len(context) > CONTEXT_BYTES_MAX:
            raise BadContext("That context is too long.", hint="Use the one of a read as it is.")
        place = self._place
        reply: PutReply = await place.ask(
            Put(
                place.next_rid(),
                data,
                value,
                context,
                op,
                timeout_ms or options.timeout_ms,
                kind,
                options.n,
                options.w or self._level(options),
                options.dw,
                options.strict,
                retry,
                ttl_ms=options.ttl_ms,
                change=change,
            )
        )
        return reply

    async def remove(
        self, data: bytes, context: bytes, options: Options, op: bytes, *, retry: bool
    ) -> PutReply:
        """Take away what a context has seen; without one, what a read finds, in the same time.
        Stand-ins that have nothing do not know whether there is something: that is no success.
        """
        left_ms = options.timeout_ms or self._timeout_ms
        if not context:
            began = time.monotonic()
            level = options.level if options.level in ("one", "all") else ""
            try:
                found = await self.read(
                    data,
                    Options(n=options.n, timeout_ms=left_ms, strict=options.strict, level=level),
                    b"",
                )
            except QuorumNotMet as error:
                error.hint = _READ_FIRST
                raise
            context = found.context
            left_ms -= round((time.monotonic() - began) * 1000)
            if not context:  # a tombstone would be for nobody
                quality = found.quality
                if quality.absent == "unknown" and quality.owners < quality.required:
                    raise cannot_tell(quality.owners, quality.required)
                return PutReply(0, b"", 0, 0, 0, 0, quality.required)
            if left_ms <= 0:
                raise DeadlineExceeded(
                    "The time was over when the key was read.",
                    hint="Nothing was deleted. Give it more time, or the context of a read.",
                )
        return await self.write(
            data, None, KIND_BYTES, context, options, op, retry=retry, timeout_ms=left_ms
        )

    async def live_on(self, data: bytes, options: Options, op: bytes, *, retry: bool) -> PutReply:
        """Let what is there end no sooner than in ``ttl``."""
        if not options.ttl_ms:
            raise RequestError("A touch needs a time.", hint="Say how long, as in ?ttl=30m.")
        place = self._place
        w = options.w or self._level(options)
        touch = Touch(
            place.next_rid(),
            data,
            options.ttl_ms,
            op,
            options.timeout_ms,
            options.n,
            w,
            options.dw,
            options.strict,
            retry,
        )
        reply: PutReply = await place.ask(touch)
        if not reply.siblings:
            raise NotFound("Nothing is there to live on.", hint="Nothing was changed.")
        return reply

    def events(self, timeline: Timeline) -> list[Event]:
        """Return what happened to a request."""
        return timeline.told(self._place.local)

    def told(self, timeline: Timeline) -> bytes:
        """Return what a Trace header says."""
        told = msgspec.to_builtins(self.events(timeline))
        return json.dumps(told, separators=(",", ":")).encode("ascii")  # a header is no UTF-8

    def _level(self, options: Options) -> int:
        """Return how many nodes a word for consistency means; 0: the cluster's default."""
        if options.level == "one":
            return 1
        return (options.n or self._replicas()) if options.level == "all" else 0


def unsure(error: Exception) -> None:
    """Take back that nothing has happened: of the tries with one Idempotency-Key this is perhaps
    not the first. The core does so too, for what gets as far as a coordinator (write.py). What is
    wrong with the request itself was wrong each time.
    """
    if isinstance(error, EverwriteError) and error.retryable and error.outcome == "none":
        error.outcome = "unknown"
        error.hint = "An earlier try may have been carried out. Repeat it with the same key."


def op_in(given: bytes | None, data: bytes) -> tuple[bytes, bool]:
    """Return a put's request id, and whether an earlier try may have been carried out. Nodes know
    puts by their ids alone, so one key's are never those of another.
    """
    if given is None:
        return secrets.token_bytes(16), False
    if not 0 < len(given) <= 255:
        raise RequestError("An Idempotency-Key has 1 to 255 bytes.", hint="Use a random UUID.")
    return blake2b(len(data).to_bytes(2, "big") + data + given, digest_size=16).digest(), True
