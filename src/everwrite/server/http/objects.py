"""Objects: get, put, delete and touch of one key over HTTP.

A reply of the core becomes an answer in one of three forms: *raw*, the one value with its own
content type; the *envelope*, all siblings as JSON; a *problem*. What is asked of the core is the
same for all three.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from everwrite.core.data.base64url import decode64, encode64
from everwrite.core.data.keys import (
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    checked_bucket,
    checked_key,
    data_key,
)
from everwrite.core.data.labels import Kind
from everwrite.core.errors import NotFound, RequestError, Unsupported
from everwrite.core.messages.requests import GetReply, PutReply
from everwrite.server.http.asked import Asked
from everwrite.server.http.operations import Operations, op_in
from everwrite.server.http.options import (
    PUTS,
    READS,
    TRACED,
    WRITES,
    Options,
    context_in,
)
from everwrite.server.http.options import parse as parse_query
from everwrite.server.http.problems import Header, Refusal, not_allowed
from everwrite.server.http.tags import Tags, matches
from everwrite.server.http.values import (
    check_plain,
    dot_of,
    envelope_of,
    headers_of,
    kind_in,
    moment,
    resolve,
)
from everwrite.server.tracing import Timeline, current

PREFIX = b"/v1/kv/"
CONTEXT_HEADER_MAX = 3 << 10
"""A longer context comes in a body only: in base64 this is 4 KiB, and usual proxies take no more in
one header (nginx 4 or 8 KiB in all).
"""

_CONDITIONS = (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since")
_SAFE: list[Header] = [
    (b"cache-control", b"no-cache"),
    (b"vary", b"accept"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox"),
]
"""A stored page must not act in the name of this node."""
_JSON: Header = (b"content-type", b"application/json")


Method = Callable[[Asked, bytes, bytes], Awaitable[None]]
"""Answers a request for a key: given its bucket, and the key as it stands in the path."""


class Written(msgspec.Struct, kw_only=True):
    """What a write came to, where its context is too long for a header."""

    context: str
    siblings: int


class Objects:
    """The operations on single keys."""

    def __init__(self, operations: Operations, tags: Tags) -> None:
        self._operations = operations
        self._tags = tags
        self._methods = {
            "GET": self.get,
            "HEAD": self.get,
            "PUT": self.put,
            "DELETE": self.delete,
            "PATCH": self.touch,
        }

    async def serve(self, asked: Asked) -> None:
        """Answer a request whose path is that of a key."""
        await self.lead(asked, PREFIX, self._methods)

    async def lead(self, asked: Asked, prefix: bytes, methods: Mapping[str, Method]) -> None:
        """Answer a request whose path is this prefix, a bucket and a key, by one of these."""
        method = methods.get(asked.method)
        if method is None:
            raise not_allowed(asked.method, [*methods])
        bucket, _, key = asked.path[len(prefix) :].partition(b"/")
        name = checked_bucket(unquote_to_bytes(bucket))
        self._trace_key(asked, name, key)
        await method(asked, name, key)

    def _trace_key(self, asked: Asked, bucket: bytes, raw_key: bytes) -> None:
        """As ``trace``, for a request whose path names a key."""
        if asked.recorded or b"trace=1" in asked.query:
            options = parse_query(asked.query, TRACED)
            self.trace(asked, options, data_key(bucket, key_in(raw_key, options)))

    def trace(self, asked: Asked, options: Options, key: bytes = b"") -> Timeline | None:
        """Note from now on what happens to a request, if that is wanted; and tell it in a header of
        its answer, if that comes as a whole.
        """
        if not (asked.recorded or options.trace):
            return None
        asked.timeline = timeline = Timeline(key)
        current.set(timeline)
        if options.trace:
            asked.told = partial(self._operations.told, timeline)
        return timeline

    # -- over HTTP ---------------------------------------------------------------------------------

    async def get(self, asked: Asked, bucket: bytes, raw_key: bytes) -> None:
        """Read a key."""
        headers = asked.headers
        options = parse_query(asked.query, READS)
        key = key_in(raw_key, options)
        seen = seen_in(options, headers.get(b"causal-context"))
        reply = await self._operations.read(data_key(bucket, key), options, seen)
        if not reply.values:
            raise absent(reply)
        check_plain(reply)
        enveloped = options.envelope or wants_envelope(headers.get(b"accept", b""))
        long = len(reply.context) > CONTEXT_HEADER_MAX
        if enveloped:
            await self._reply_envelope(asked, bucket, key, reply, 200)
        elif options.dot:
            await self._reply_raw(asked, reply, *named(options.dot, reply), "")
        elif options.resolve and not long:
            kind, value = resolve(options.resolve, reply)
            await self._reply_raw(asked, reply, kind, value, 0, f"-{options.resolve}")
        elif len(reply.values) > 1 or long:
            await self._reply_envelope(asked, bucket, key, reply, 300)
        else:
            kind, value = reply.values[0]
            await self._reply_raw(asked, reply, kind, value, last_end(reply), "")

    async def put(self, asked: Asked, bucket: bytes, raw_key: bytes) -> None:
        """Write a key."""
        options = parse_query(asked.query, PUTS)
        key = key_in(raw_key, options)
        refuse_conditions(asked.headers)
        refuse_parts(asked.headers)
        context = context_in(asked.headers.get(b"causal-context"))
        body = await asked.body(VALUE_BYTES_MAX)
        kind = kind_in(asked.headers, body)
        data = data_key(bucket, key)
        op, retry = op_in(asked.headers.get(b"idempotency-key"), data)
        reply = await self._operations.write(data, body, kind, context, options, op, retry=retry)
        await reply_written(asked, reply, 204, [])

    async def add(self, asked: Asked, bucket: bytes) -> None:
        """Write a value under a key that is made here."""
        options = parse_query(asked.query, PUTS - {"key_encoding"})
        timeline = self.trace(asked, options)
        refuse_conditions(asked.headers)
        refuse_parts(asked.headers)
        given = asked.headers.get(b"idempotency-key")
        # A retry must come to the same key, or it would be another value.
        key = (op_in(given, bucket)[0].hex() if given else new_key()).encode()
        body = await asked.body(VALUE_BYTES_MAX)
        kind = kind_in(asked.headers, body)
        data = data_key(bucket, key)
        if timeline is not None:
            timeline.key = data
        op, retry = op_in(given, data)
        reply = await self._operations.write(data, body, kind, b"", options, op, retry=retry)
        location = asked.path.rstrip(b"/") + b"/" + key
        await reply_written(asked, reply, 201, [(b"location", location)])

    async def delete(self, asked: Asked, bucket: bytes, raw_key: bytes) -> None:
        """Take away what the context has seen; without one, what is there."""
        options = parse_query(asked.query, WRITES)
        key = key_in(raw_key, options)
        refuse_conditions(asked.headers)
        context = context_in(asked.headers.get(b"causal-context"))
        data = data_key(bucket, key)
        op, retry = op_in(asked.headers.get(b"idempotency-key"), data)
        reply = await self._operations.remove(data, context, options, op, retry=retry)
        await reply_written(asked, reply, 204, [])

    async def touch(self, asked: Asked, bucket: bytes, raw_key: bytes) -> None:
        """Let what is there live on."""
        options = parse_query(asked.query, PUTS)
        key = key_in(raw_key, options)
        refuse_conditions(asked.headers)
        data = data_key(bucket, key)
        op, retry = op_in(asked.headers.get(b"idempotency-key"), data)
        reply = await self._operations.live_on(data, options, op, retry=retry)
        await reply_written(asked, reply, 204, [])

    # -- answers -----------------------------------------------------------------------------------

    async def _reply_raw(
        self, asked: Asked, reply: GetReply, kind: Kind, value: bytes, end: int, form: str
    ) -> None:
        tag = self._tags.of([(kind, value)], form)
        headers = self._head(reply, tag)
        if end:
            headers.append((b"expires-at", moment(end).encode()))
        known = asked.headers.get(b"if-none-match")
        if known is not None and matches(known, tag):
            await asked.reply(304, headers)
            return
        headers += headers_of(kind)
        await asked.reply(200, headers, value)

    async def _reply_envelope(
        self, asked: Asked, bucket: bytes, key: bytes, reply: GetReply, status: int
    ) -> None:
        tag = self._tags.of(reply.values, "-envelope")
        headers = self._head(reply, tag)
        known = asked.headers.get(b"if-none-match")
        told = len(reply.context) <= CONTEXT_HEADER_MAX  # else a 304 would leave it out
        if known is not None and told and matches(known, tag):
            await asked.reply(304, headers)
            return
        headers.append(_JSON)
        if status == 300:
            # Relative to the path: with a long key in each, many siblings make a head of 200 KB.
            more = b"&key_encoding=base64url" if parse_query(asked.query, READS).base64 else b""
            for mark in reply.marks:
                link = b'<?dot=%s%s>; rel="alternate"' % (dot_of(mark).encode(), more)
                headers.append((b"link", link))
        body = msgspec.json.encode(envelope_of(bucket, key, reply))
        await asked.reply(status, headers, body)

    def _head(self, reply: GetReply, tag: bytes) -> list[Header]:
        quality = reply.quality
        headers = [
            (b"etag", tag),
            (b"siblings", b"%d" % len(reply.values)),
            replicas(quality.owners, quality.fallbacks, quality.required),
            *_SAFE,
        ]
        if len(reply.context) <= CONTEXT_HEADER_MAX:
            headers.append((b"causal-context", encode64(reply.context)))
        return headers


async def reply_written(asked: Asked, reply: PutReply, status: int, headers: list[Header]) -> None:
    """Answer a write."""
    headers.append((b"siblings", b"%d" % reply.siblings))
    headers.append(replicas(reply.owners, reply.fallbacks, reply.required))
    if reply.durable:
        headers.append((b"durable", b"%d" % reply.durable))
    if reply.ends:
        headers.append((b"expires-at", moment(reply.ends).encode()))
    if len(reply.context) > CONTEXT_HEADER_MAX:
        context = encode64(reply.context).decode()
        document = msgspec.json.encode(Written(context=context, siblings=reply.siblings))
        await asked.reply(status if status == 201 else 200, [*headers, _JSON], document)
        return
    if reply.context:
        headers.append((b"causal-context", encode64(reply.context)))
    await asked.reply(status, headers)


def replicas(owners: int, fallbacks: int, required: int) -> Header:
    """Return the header that says how good an answer is (a dictionary of RFC 9651)."""
    said = b"owners=%d, fallbacks=%d, required=%d" % (owners, fallbacks, required)
    return b"replicas", said


def seen_in(options: Options, context: bytes | None) -> bytes:
    """Return what a read must show no less than. Whoever has not asked for that has not asked to
    fail where nobody is there who knows as much.
    """
    seen = context_in(context)
    if options.level != "session":
        return b""
    if not seen:
        raise RequestError(
            "consistency=session reads what a context has seen, and there is none.",
            hint="Send the Causal-Context of the write or read to go on from.",
        )
    return seen


def key_in(raw: bytes, options: Options) -> bytes:
    """Return the key that a path names."""
    if options.base64:
        try:
            return checked_key(decode64(unquote_to_bytes(raw)))
        except ValueError as error:
            raise RequestError(
                "The key is no base64url.", hint="Encode it, or leave out key_encoding."
            ) from error
    if len(raw) > 3 * KEY_BYTES_MAX:
        raw = raw[: 3 * KEY_BYTES_MAX + 3]  # too long, however it is read
    return checked_key(unquote_to_bytes(raw))


def new_key() -> str:
    """Return a UUID of version 7 (RFC 9562): keys of one time are not alike but in their heads."""
    number = (time.time_ns() // 1_000_000 & (1 << 48) - 1) << 80
    number |= 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    text = f"{number:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def refuse_conditions(headers: Mapping[bytes, bytes]) -> None:
    """Raise Unsupported for a write on a condition: nobody here can decide between two writers."""
    for name in _CONDITIONS:
        if name in headers:
            raise Unsupported(
                f"{name.decode().title()} on a write cannot be promised here: two writers that "
                "both meet it would both succeed.",
                hint="Nothing was done. Send the Causal-Context of a read: what you had not seen "
                "stays, as a sibling.",
            )


def refuse_parts(headers: Mapping[bytes, bytes]) -> None:
    """Raise for a body that is not the value as it is: a part of it would take its place, and a
    compressed one would come back without a word of that (RFC 9110, 14.5 and 8.4).
    """
    if b"content-range" in headers:
        raise RequestError(
            "A part of a value cannot be written.",
            hint="Nothing was written. Send the whole value, without Content-Range.",
        )
    coding = headers.get(b"content-encoding", b"identity").strip().lower()
    if coding != b"identity":
        error = RequestError(
            "A body with a Content-Encoding is not taken: a value has none.",
            hint="Nothing was written. Send it plain, or as a type of its own: application/gzip.",
        )
        raise Refusal(415, error, [(b"accept-encoding", b"identity")])


def wants_envelope(accept: bytes) -> bool:
    """Say whether a reader asks for all siblings as JSON."""
    return b"profile=" in accept and b"siblings" in accept and b"application/json" in accept


def named(dot: str, reply: GetReply) -> tuple[Kind, bytes, int]:
    """Return the sibling of this write, and its end."""
    for at, mark in enumerate(reply.marks):
        if dot_of(mark) == dot:
            return (*reply.values[at], reply.ends[at] if reply.ends else 0)
    error = NotFound(
        "No sibling is of that write, or not any more.",
        hint="Those that are there have other dots: read the key without one.",
    )
    raise Refusal(404, error, *_quality(reply))  # the key is not absent


def last_end(reply: GetReply) -> int:
    """Return when a single value ends; 0: never."""
    return reply.ends[0] if reply.ends else 0


def absent(reply: GetReply) -> Refusal:
    """Return the answer to a read that found nothing. Its context covers what was deleted."""
    why = reply.quality.absent or "unknown"
    error = NotFound(_WHY[why], hint=_HINT if why == "unknown" else "")
    headers, more = _quality(reply)
    return Refusal(404, error, headers, {"absent": why, **more})


def _quality(reply: GetReply) -> tuple[list[Header], dict[str, str]]:
    """Return what is told of an answer without a value: in headers, and in the document."""
    quality = reply.quality
    headers = [replicas(quality.owners, quality.fallbacks, quality.required)]
    if len(reply.context) > CONTEXT_HEADER_MAX:
        return headers, {"context": encode64(reply.context).decode()}
    if reply.context:
        headers.append((b"causal-context", encode64(reply.context)))
    return headers, {}


_WHY: dict[str, Any] = {
    "never": "No owner of the key has ever heard of it.",
    "deleted": "The key was deleted.",
    "expired": "The key's value has ended.",
    "unknown": "None of the nodes that answered has the key, and not all of its owners did.",
}
_HINT = "Another owner may have it: ask again later, or with a larger r."
