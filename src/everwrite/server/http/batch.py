"""Many operations in one request: a stream of JSON lines in, and one line for each out, as it ends.

Nothing holds them together: each has its own status, as if it had been sent alone. A line is read
when one of the IN_FLIGHT places is free, and answers wait for the reader: so a batch may be as long
as it likes. Whoever sends many must read while sending, or both sides wait for each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Literal

import msgspec

from everwrite.core.data.base64url import decode64, encode64
from everwrite.core.data.keys import VALUE_BYTES_MAX, checked_bucket, checked_key, data_key, of_key
from everwrite.core.errors import (
    EverwriteError,
    InvariantError,
    Overloaded,
    RequestError,
    TooLarge,
)
from everwrite.core.messages.requests import GetReply, PutReply
from everwrite.server.http.asked import Asked, Budget, Part
from everwrite.server.http.objects import absent, seen_in
from everwrite.server.http.operations import Operations, op_in, unsure
from everwrite.server.http.options import (
    BATCHES,
    Options,
    context_in,
    options_of,
    parse,
)
from everwrite.server.http.problems import Gone, Problem, Refusal, problem_of
from everwrite.server.http.values import (
    Quality,
    Sibling,
    bytes_of,
    check_plain,
    kind_said,
    moment,
    siblings_of,
)
from everwrite.server.tracing import Event, Timeline, current

IN_FLIGHT = 32
LINE_BYTES_MAX = 3 << 19
"""The largest value in base64, and what is said of it."""
ARRAY_BYTES_MAX = 4 << 20
ARRAY_MAX = 1000

_LINES = (b"content-type", b"application/x-ndjson")


class Operation(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One operation of a batch; what is left out is as in a single request."""

    op: Literal["get", "put", "delete", "touch"]
    bucket: str
    key: str = ""
    key_b64: str = ""
    id: str | int | None = None
    """Comes back with the answer."""
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """JSON; with a content_type that is not JSON, a text."""
    value_b64: str | None = None
    content_type: str = ""
    meta: dict[str, str] = {}
    context: str = ""
    idempotency_key: str = ""
    n: int | None = None
    r: int | None = None
    w: int | None = None
    dw: int | None = None
    timeout: str = ""
    ttl: str = ""
    consistency: str = ""
    strict: bool = False


class Outcome(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What one operation came to."""

    line: int
    """Which line of the request it was, from 1."""
    id: str | int | None = None
    status: int
    context: str = ""
    siblings: list[Sibling] | int | None = None
    """Of a read the values; of a write how many there are now."""
    quality: Quality | None = None
    expires: str = ""
    problem: Problem | None = None
    trace: list[Event] | None = None
    """What happened to it, if that was asked for."""


class Batches:
    """The batches of one node."""

    def __init__(self, operations: Operations, budget: Budget) -> None:
        self._operations = operations
        self.budget = budget

    async def serve(self, asked: Asked) -> None:
        """Carry out the operations in a body."""
        traced = parse(asked.query, BATCHES).trace
        kind = asked.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        run = Run(self, asked, traced=traced)
        if kind == b"application/json":
            lines = _each(_items(await asked.body(ARRAY_BYTES_MAX)))
        elif kind in (b"application/x-ndjson", b"application/jsonl", b"application/ndjson"):
            lines = _lines(asked, run.take, self.budget)
        else:
            error = RequestError(
                "A batch is application/x-ndjson or application/json.",
                hint="Nothing was done. Say which in Content-Type.",
            )
            raise Refusal(415, error)
        await asked.begin(200, [_LINES, (b"cache-control", b"no-store")])
        run.take_over(asked.hand_over())
        await run.over(lines)

    async def carry_out(
        self, line: int, data: bytes, request_id: str, *, traced: bool = False
    ) -> bytes:
        """Carry out one line, in a task of its own, and return the line that answers it."""
        timeline = Timeline() if traced else None
        current.set(timeline)
        name: str | int | None = None
        again = False
        try:
            operation = _operation(data)
            name = operation.id
            again = operation.op != "get" and operation.idempotency_key != ""
            found = await self._do(operation, line)
        except InvariantError:
            raise
        except (EverwriteError, Refusal) as error:
            if again:
                unsure(error)
            problem, _ = problem_of(error, request_id=request_id)
            found = Outcome(line=line, id=name, status=problem.status, problem=problem)
        if timeline is not None:
            found.trace = self._operations.events(timeline)
        return msgspec.json.encode(found) + b"\n"

    async def _do(self, operation: Operation, line: int) -> Outcome:
        bucket = checked_bucket(operation.bucket)
        data = data_key(bucket, _key_in(operation))
        if (timeline := current.get()) is not None:
            timeline.key = data
        options = _options(operation)
        if operation.op == "get":
            seen = seen_in(options, operation.context.encode())
            found = await self._operations.read(data, options, seen)
            check_plain(found)
            return _read(operation, line, found)
        context = context_in(operation.context.encode())
        given = operation.idempotency_key.encode()
        op, retry = op_in(given or None, data)
        if operation.op == "touch":
            reply = await self._operations.live_on(data, options, op, retry=retry)
        elif operation.op == "delete":
            reply = await self._operations.remove(data, context, options, op, retry=retry)
        else:
            raw = operation.value
            value, said = bytes_of(raw, operation.value_b64, operation.content_type)
            if len(value) > VALUE_BYTES_MAX:
                error = TooLarge(
                    f"The value has {len(value)} bytes; the most is {VALUE_BYTES_MAX}.",
                    hint="Nothing was written. Split it.",
                )
                raise of_key(error, data)
            kind = kind_said(said, operation.meta, value)
            reply = await self._operations.write(
                data, value, kind, context, options, op, retry=retry
            )
        return _written(operation, line, reply)


class Run:
    """One batch that is under way."""

    def __init__(self, batches: Batches, asked: Asked, *, traced: bool) -> None:
        self._batches = batches
        self._traced = traced
        self._asked = asked
        self._places = asyncio.Semaphore(IN_FLIGHT)
        self._writing = asyncio.Lock()
        self._done: list[bytes] = []
        self._budget = batches.budget
        self._held = 0
        """What the lines that were read hold of the budget."""
        self._under_way = 0
        self._ended = asyncio.Event()

    async def take(self, size: int, part: Part | None = None) -> None:
        """Take room for a line, or for a part of one; where there is none, wait while a line of
        this batch is under way, which gives some back. Overloaded if none is.
        """
        while True:
            try:
                self._budget.take(size, part)
                if part is None:
                    self._held += size
                return
            except Overloaded:
                if not self._under_way:
                    raise
            self._ended.clear()
            if part is None:
                await self._ended.wait()
            else:
                await part.wait(self._ended.wait())

    def take_over(self, size: int) -> None:
        """Hold what somebody else has taken room for."""
        self._held += size

    def give(self, size: int) -> None:
        """Give back room that is held."""
        self._held -= size
        self._budget.give(size)

    async def over(self, lines: AsyncGenerator[bytes]) -> None:
        """Carry out all lines, each of which has room; what is wrong with the body itself is the
        last line.
        """
        try:
            await self._carry_out_all(lines)
        finally:  # a task that was cancelled before it began gives nothing back
            self.give(self._held)

    async def _carry_out_all(self, lines: AsyncGenerator[bytes]) -> None:
        number = 0
        async with asyncio.TaskGroup() as tasks, aclosing(lines):
            try:
                async for data in lines:
                    await self._places.acquire()
                    number += 1
                    self._under_way += 1
                    tasks.create_task(self._one(number, data))
            except Gone:  # what was read is carried out, for nobody
                return
            except (EverwriteError, Refusal) as error:
                problem, _ = problem_of(error, request_id=self._asked.id.decode())
                last = Outcome(line=number + 1, status=problem.status, problem=problem)
                self._done.append(msgspec.json.encode(last) + b"\n")
        await self._write(more=False)

    async def _one(self, number: int, data: bytes) -> None:
        try:
            size = len(data)
            try:
                line = await self._batches.carry_out(
                    number, data, self._asked.id.decode(), traced=self._traced
                )
            finally:
                del data  # it may be long until somebody reads the answer
                self.give(size)
                self._under_way -= 1
                self._ended.set()
            self._done.append(line)
            # They count as what nobody reads: 32 lines with all siblings are 90 MB.
            self._asked.unsent.bytes += len(line)
            try:
                await self._write(more=True)
            finally:
                self._asked.unsent.bytes -= len(line)
        finally:
            self._places.release()

    async def _write(self, *, more: bool) -> None:
        """Send what has ended, all at once; who comes second finds nothing left."""
        async with self._writing:
            done, self._done = self._done, []
            if done or not more:
                await self._asked.write(b"".join(done), more=more)


async def _lines(
    asked: Asked, take: Callable[[int, Part | None], Awaitable[None]], budget: Budget
) -> AsyncGenerator[bytes]:
    """Yield the lines of a body as they come, each with its room, which the caller gives back;
    empty ones are left out. A byte is looked at once, however small the pieces in which a line
    comes.
    """
    kept, part = bytearray(), asked.new_part()
    try:
        async for chunk in asked.chunks():
            first, *rest = chunk.split(b"\n")
            kept += first
            whole: list[bytes] = []
            if rest:
                whole, kept = [bytes(kept), *rest[:-1]], bytearray(rest[-1])
            if whole:
                budget.give(budget.finish(part))
            for line in whole:
                if len(line) > LINE_BYTES_MAX:
                    raise _too_long()
                if line.strip():
                    await take(len(line), None)
                    yield line
            if len(kept) > LINE_BYTES_MAX:
                raise _too_long()
            await take(len(kept) - part.size, part)
        if kept.strip():
            budget.give(budget.finish(part))
            await take(len(kept), None)  # the line has it
            yield bytes(kept)
    finally:
        budget.give(budget.finish(part))


async def _each(items: list[msgspec.Raw]) -> AsyncGenerator[bytes]:
    for item in items:
        yield bytes(item)


def _items(body: bytes) -> list[msgspec.Raw]:
    """Return the operations of a JSON list."""
    try:
        items = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise RequestError(
            f"The batch is no JSON list: {error}.", hint="Nothing was done."
        ) from error
    if len(items) > ARRAY_MAX:
        raise TooLarge(
            f"The batch has {len(items)} operations; a list has {ARRAY_MAX} at most.",
            hint="Nothing was done. Send lines (application/x-ndjson): of these there may be more.",
        )
    return items


def _too_long() -> TooLarge:
    return TooLarge(
        f"A line has over {LINE_BYTES_MAX} bytes.",
        hint="Those before it were carried out, this one and what follows were not.",
    )


def _operation(data: bytes) -> Operation:
    try:
        return msgspec.json.decode(data, type=Operation)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(
            f"This is no operation: {error}.", hint="Nothing was done. See docs/http.md."
        ) from error


def _key_in(operation: Operation) -> bytes:
    if not operation.key_b64:
        return checked_key(operation.key)
    if operation.key:
        raise RequestError("key and key_b64 are two keys.", hint="Give one of them.")
    try:
        return checked_key(decode64(operation.key_b64.encode()))
    except ValueError as error:
        raise RequestError("key_b64 is no base64url.", hint="Encode it, or give key.") from error


_READS = ("n", "r", "timeout", "consistency", "strict")
_WRITES = ("n", "w", "dw", "timeout", "consistency", "strict", "ttl")


def _options(operation: Operation) -> Options:
    """Return an operation's numbers, checked as those of a query are."""
    fits = _READS if operation.op == "get" else _WRITES
    given: dict[str, str] = {}
    for name in dict.fromkeys((*_READS, *_WRITES)):
        value: Any = getattr(operation, name)
        if value is None or value == "" or value is False:
            continue
        if name not in fits or (name == "ttl" and operation.op == "delete"):
            raise RequestError(
                f"A {operation.op} has no {name}.", hint=f"It may have: {', '.join(fits)}."
            )
        given[name] = "true" if value is True else str(value)
    return options_of(given)


def _read(operation: Operation, line: int, reply: GetReply) -> Outcome:
    quality = reply.quality
    found = Outcome(
        line=line,
        id=operation.id,
        status=200,
        context=encode64(reply.context).decode(),
        siblings=siblings_of(reply),
        quality=Quality(
            owners=quality.owners,
            fallbacks=quality.fallbacks,
            required=quality.required,
            unreadable=quality.unreadable,
        ),
    )
    if not reply.values:
        found.problem, _ = problem_of(absent(reply))
        found.problem.context = ""  # the line has it already
        found.status, found.siblings = found.problem.status, None
    return found


def _written(operation: Operation, line: int, reply: PutReply) -> Outcome:
    return Outcome(
        line=line,
        id=operation.id,
        status=204,
        context=encode64(reply.context).decode(),
        siblings=reply.siblings,
        quality=Quality(owners=reply.owners, fallbacks=reply.fallbacks, required=reply.required),
        expires=moment(reply.ends),
    )
