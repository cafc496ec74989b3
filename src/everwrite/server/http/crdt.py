"""Data types over HTTP: what a key is, composed; and operations on it, as a JSON list.

A POST is one put that carries operations in the place of a value: all of them are applied by one
coordinator to what it knows, or none is. A Causal-Context says what it must know at least. A DELETE
is that of /v1/kv/.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from everwrite.core.config import RECORD_BYTES_MAX
from everwrite.core.data.base64url import encode64
from everwrite.core.data.keys import data_key
from everwrite.core.data.labels import KIND_BYTES, KIND_JSON
from everwrite.core.errors import ProtocolError, RequestError
from everwrite.core.messages.requests import GetReply, PutReply
from everwrite.core.types import operations as core
from everwrite.core.types.composing import compose_all
from everwrite.core.types.in_json import JsonName, document, name_in
from everwrite.server.http.asked import Asked
from everwrite.server.http.objects import (
    CONTEXT_HEADER_MAX,
    Objects,
    absent,
    key_in,
    refuse_conditions,
    refuse_parts,
    replicas,
    seen_in,
)
from everwrite.server.http.operations import Operations, op_in
from everwrite.server.http.options import COPIES, PUTS, context_in, parse
from everwrite.server.http.problems import Header, Refusal
from everwrite.server.http.tags import Tags, matches
from everwrite.server.http.values import bytes_of, kind_said, moment

PREFIX = b"/v1/crdt/"
READS = COPIES | {"r"}
CHANGE_BYTES_MAX = 2 * RECORD_BYTES_MAX
"""A body of operations: JSON takes more room than what it says."""

_JSON: Header = (b"content-type", b"application/json")
_NO_STORE: Header = (b"cache-control", b"no-store")
_NO_CACHE: Header = (b"cache-control", b"no-cache")


class Step(msgspec.Struct, tag_field="op", forbid_unknown_fields=True, kw_only=True):
    """What all operations have: ``path`` leads from the key into its maps."""

    path: list[JsonName] = []


class Add(Step, tag="add"):
    """Add to a counter. Its result is the counter's value then."""

    amount: Annotated[int, msgspec.Meta(ge=-core.AMOUNT_MAX - 1, le=core.AMOUNT_MAX)] = 1


class Include(Step, tag="include"):
    """Put elements into a set. Its result: how many were not in it."""

    elements: list[JsonName]


class Exclude(Step, tag="exclude"):
    """Take elements out of a set. Its result: how many were in it."""

    elements: list[JsonName]


class Assign(Step, tag="assign"):
    """Give a register a value: JSON, or a text with a content_type that is not JSON, or
    ``value_b64``. Its result: 1 if nothing was there.
    """

    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    value_b64: str | None = None
    content_type: str = ""
    meta: dict[str, str] = {}


class Enable(Step, tag="enable"):
    """Raise a flag. Its result: 1 if it was not raised."""


class Disable(Step, tag="disable"):
    """Lower a flag. Its result: 1 if it was raised."""


class Remove(Step, tag="remove"):
    """Remove what is there, whatever its type. Its result: 1 if something was."""


Change = Add | Include | Exclude | Assign | Enable | Disable | Remove


class Changed(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What operations came to."""

    results: list[int]
    """One for each, in their order."""
    context: str = ""
    """Where it is too long for a header."""


class Typed:
    """The operations on keys that are data types."""

    def __init__(self, operations: Operations, objects: Objects, tags: Tags) -> None:
        self._operations = operations
        self._tags = tags
        self._objects = objects
        self._methods = {
            "GET": self.get,
            "HEAD": self.get,
            "POST": self.change,
            "DELETE": objects.delete,
        }

    async def serve(self, asked: Asked) -> None:
        """Answer a request whose path is that of a data type."""
        await self._objects.lead(asked, PREFIX, self._methods)

    async def get(self, asked: Asked, bucket: bytes, raw_key: bytes) -> None:
        """Tell what a key is."""
        options = parse(asked.query, READS)
        key = key_in(raw_key, options)
        seen = seen_in(options, asked.headers.get(b"causal-context"))
        reply = await self._operations.read(data_key(bucket, key), options, seen)
        made = compose_all(reply.values, reply.marks) if reply.values else []
        if not made:
            raise absent(reply)
        first, *beside = map(document, made)
        body = msgspec.json.encode(first)
        if beside:  # a clash: the context supersedes all of it, so all of it is told
            body = b'%s,"beside":%s}' % (body[:-1], msgspec.json.encode(beside))
        tag = self._tags.of([(KIND_JSON, body)], "-typed")
        headers = [(b"etag", tag), _NO_CACHE, *_quality(reply)]
        long = len(reply.context) > CONTEXT_HEADER_MAX
        known = asked.headers.get(b"if-none-match")
        if known is not None and matches(known, tag) and not long:  # a 304 would leave it out
            await asked.reply(304, headers)
            return
        headers.append(_JSON)
        if long:
            body = b'%s,"context":"%s"}' % (body[:-1], encode64(reply.context))
        await asked.reply(200, headers, body)

    async def change(self, asked: Asked, bucket: bytes, raw_key: bytes) -> None:
        """Carry out operations."""
        options = parse(asked.query, PUTS)
        key = key_in(raw_key, options)
        refuse_conditions(asked.headers)
        refuse_parts(asked.headers)
        context = context_in(asked.headers.get(b"causal-context"))
        wanted = _changes_in(asked, await asked.body(CHANGE_BYTES_MAX))
        data = data_key(bucket, key)
        op, retry = op_in(asked.headers.get(b"idempotency-key"), data)
        reply = await self._operations.write(
            data, core.encode(wanted), KIND_BYTES, context, options, op, retry=retry, change=True
        )
        if len(reply.results) != len(wanted):
            raise ProtocolError(
                "The node that coordinates this key does not know data types.",
                hint="It took them for a plain value. Upgrade all nodes, and delete that.",
                outcome="unknown",
            )
        changed = Changed(results=reply.results)
        headers = [_JSON, _NO_STORE, *_written(reply)]
        if len(reply.context) > CONTEXT_HEADER_MAX:
            changed.context = encode64(reply.context).decode()
        elif reply.context:
            headers.append((b"causal-context", encode64(reply.context)))
        await asked.reply(200, headers, msgspec.json.encode(changed))


def _quality(reply: GetReply) -> list[Header]:
    """Return what is told of an answer in headers."""
    quality = reply.quality
    headers = [replicas(quality.owners, quality.fallbacks, quality.required)]
    if len(reply.context) <= CONTEXT_HEADER_MAX:
        headers.append((b"causal-context", encode64(reply.context)))
    if reply.ends and 0 not in reply.ends:
        headers.append((b"expires-at", moment(max(reply.ends)).encode()))
    return headers


def _written(reply: PutReply) -> list[Header]:
    """Return what is told of a change in headers."""
    headers = [replicas(reply.owners, reply.fallbacks, reply.required)]
    if reply.durable:
        headers.append((b"durable", b"%d" % reply.durable))
    if reply.ends:
        headers.append((b"expires-at", moment(reply.ends).encode()))
    return headers


def _changes_in(asked: Asked, body: bytes) -> list[core.Operation]:
    """Return the operations in a body."""
    kind = asked.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        error = RequestError(
            "Operations are application/json.", hint="Nothing was done. Say so in Content-Type."
        )
        raise Refusal(415, error)
    try:
        changes = msgspec.json.decode(body, type=list[Change])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(
            f"These are no operations: {error}.", hint="Nothing was done. See docs/http.md."
        ) from error
    if not 0 < len(changes) <= core.OPERATIONS_MAX:
        raise RequestError(
            f"{len(changes)} operations are not possible in one request.",
            hint=f"Nothing was done. Send 1 to {core.OPERATIONS_MAX}.",
        )
    return [_operation(change) for change in changes]


def _operation(change: Change) -> core.Operation:
    path = [name_in(name) for name in change.path]
    match change:
        case Add():
            return core.Add(path, change.amount)
        case Include():
            return core.Include(path, [name_in(name) for name in change.elements])
        case Exclude():
            return core.Exclude(path, [name_in(name) for name in change.elements])
        case Assign():
            value, said = bytes_of(change.value, change.value_b64, change.content_type)
            return core.Assign(path, value, kind_said(said, change.meta, value))
        case Enable():
            return core.Enable(path)
        case Disable():
            return core.Disable(path)
        case Remove():
            return core.Remove(path)
