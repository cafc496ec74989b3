"""The keys of a bucket as a stream of JSON lines, in the order of the ring.

Each line but the last is a key, and every key is a place to go on from (``after``): nothing is kept
on the server. The last line says how it ended: at the ring's end, at the limit, or with an error.
"""

from __future__ import annotations

import asyncio
from urllib.parse import unquote_to_bytes

import msgspec

from everwrite.core.data.base64url import decode64
from everwrite.core.data.keys import checked_bucket, checked_key, data_key
from everwrite.core.errors import EverwriteError, RequestError
from everwrite.core.messages.listing import List, Listed
from everwrite.server.http.asked import Asked
from everwrite.server.http.objects import PREFIX, Objects
from everwrite.server.http.options import LISTS, Options, parse
from everwrite.server.http.place import HttpPlace
from everwrite.server.http.problems import Problem, not_allowed, problem_of
from everwrite.server.http.values import key_in_json
from everwrite.server.tracing import Event

_LINES = (b"content-type", b"application/x-ndjson")


class KeyLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One key; ``key_b64`` in its place where it is no text."""

    key: str = ""
    key_b64: str = ""


class EndLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The last line of a listing."""

    end: bool
    """Whether all keys were told; else go on after the last one."""
    keys: int
    trace: list[Event] | None = None


class BrokenOff(msgspec.Struct, kw_only=True, omit_defaults=True):
    """In its place: why not all keys were told."""

    problem: Problem
    trace: list[Event] | None = None


class Buckets:
    """What is asked of a bucket as a whole."""

    def __init__(self, place: HttpPlace, objects: Objects) -> None:
        self._place = place
        self._objects = objects

    async def serve(self, asked: Asked) -> None:
        """Answer a request whose path is that of a bucket."""
        bucket = checked_bucket(unquote_to_bytes(asked.path[len(PREFIX) :].rstrip(b"/")))
        if asked.method == "GET":
            await self.list(asked, bucket)
        elif asked.method == "POST":
            await self._objects.add(asked, bucket)
        else:
            raise not_allowed(asked.method, ["GET", "POST"])

    async def list(self, asked: Asked, bucket: bytes) -> None:
        """Tell the keys."""
        options = parse(asked.query, LISTS)
        timeline = self._objects.trace(asked, options)
        prefix, after = _range(bucket, options)
        # The first step is made before the head goes out: what is wrong is told by the status.
        listed = await self._step(bucket, prefix, after, options)
        head = [_LINES, (b"cache-control", b"no-store"), (b"listing", b"ring-order")]
        await asked.begin(200, head)
        told = 0
        gone = asyncio.ensure_future(asked.hung_up())
        try:
            while not gone.done():
                keys = listed.keys[: options.limit - told] if options.limit else listed.keys
                told += len(keys)
                if keys:
                    await asked.write(b"".join(map(_line, keys)))
                cut = len(keys) < len(listed.keys)
                if cut or not listed.next or (options.limit and told >= options.limit):
                    last: EndLine | BrokenOff = EndLine(end=not cut and not listed.next, keys=told)
                    break
                listed = await self._step(bucket, prefix, listed.next, options)
            else:  # nobody reads on
                return
        except EverwriteError as error:
            last = BrokenOff(problem=problem_of(error, request_id=asked.id.decode())[0])
        finally:
            gone.cancel()
        if options.trace and timeline is not None:
            last.trace = timeline.told(self._place.local)
        await asked.write(msgspec.json.encode(last) + b"\n", more=False)

    async def _step(self, bucket: bytes, prefix: bytes, after: bytes, options: Options) -> Listed:
        place = self._place
        listed: Listed = await place.ask(
            List(place.next_rid(), bucket, prefix, after, options.timeout_ms, options.r)
        )
        return listed


def _line(key: bytes) -> bytes:
    text, base64 = key_in_json(key)
    return msgspec.json.encode(KeyLine(key=text, key_b64=base64)) + b"\n"


def _range(bucket: bytes, options: Options) -> tuple[bytes, bytes]:
    """Return the prefix and the place to begin behind."""
    prefix, after = options.prefix.encode(), options.after.encode()
    if options.base64:
        try:
            prefix, after = decode64(prefix), decode64(after)
        except ValueError as error:
            raise RequestError(
                "prefix and after are no base64url.", hint="Encode them, or leave out key_encoding."
            ) from error
    if prefix:
        checked_key(prefix)
    return prefix, data_key(bucket, checked_key(after)) if after else b""
