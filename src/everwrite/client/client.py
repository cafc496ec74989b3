"""The async client: databases and buckets.

    db = await everwrite.connect("127.0.0.1:7400")
    carts = db.bucket("carts", merge=union_of_items)
    found = await carts.get("alice")
    await carts.put("alice", found.value + ["book"], context=found.context)

A put with the context of a read supersedes what was read; one without it becomes a sibling of what
is there. Every call may be retried inside its timeout; a put is one and the same write in all its
tries.
"""

# Every call takes timeout=: callers say how long a request may last, not how to cancel a coroutine.
# ruff: noqa: ASYNC109

from __future__ import annotations

import asyncio
import os
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from datetime import timedelta
from typing import Any

import msgspec

from everwrite.client.arguments import (
    bucket_name,
    check_numbers,
    checked_secret,
    checked_strict,
    checked_timeout,
    checked_ttl,
    key_error,
)
from everwrite.client.bucket import AsyncBucket
from everwrite.client.cluster import Cluster
from everwrite.client.connection import Connection
from everwrite.client.defaults import Defaults
from everwrite.client.limits import ASK_BYTES_MAX, IN_FLIGHT_MAX, RETRIES_MAX, Timing
from everwrite.client.pool import Address
from everwrite.client.resolvers import check_ready
from everwrite.client.results import Merge, Replica, replica_of
from everwrite.client.session import Session
from everwrite.client.table import Counters
from everwrite.core.data.keys import checked_key, data_key
from everwrite.core.errors import ProtocolError, RequestError, UnavailableError
from everwrite.core.messages.requests import FetchReply, Told

DEFAULT_URL = "127.0.0.1:7400"
DEFAULT_PORT = 7400
SECRET_VARIABLE = "EVERWRITE_SECRET"


def connect(
    url: str | Sequence[str] = DEFAULT_URL,
    *,
    secret: bytes | str = b"",
    timeout: float = 5.0,
    retries: int = 2,
    in_flight_max: int = IN_FLIGHT_MAX,
    timing: Timing | None = None,
) -> Connecting:
    """Return a client of the cluster that one of these nodes (HOST:PORT, or several) belongs to:
    ``db = await connect()``, or ``async with connect() as db``.

    ``secret`` is the cluster's; EVERWRITE_SECRET if it's not given. ``timeout`` (seconds) bounds
    this call and every request that names none; ``retries`` is how many more tries a request may
    make. Raises Unreachable if no node can be reached, DeadlineExceeded if none
    answers in time, DeniedError for the wrong secret, ProtocolError where another port was given,
    such as that of HTTP.
    """
    return Connecting(_connect(url, secret, timeout, retries, in_flight_max, timing))


async def _connect(
    url: str | Sequence[str],
    secret: bytes | str,
    timeout: float,
    retries: int,
    in_flight_max: int,
    timing: Timing | None,
) -> AsyncClient:
    if type(retries) is not int or not 0 <= retries <= RETRIES_MAX:
        raise RequestError(f"retries={retries!r} is not possible.", hint=f"Use 0 to {RETRIES_MAX}.")
    if type(in_flight_max) is not int or in_flight_max < 1:
        raise RequestError(
            f"in_flight_max={in_flight_max!r} is not possible.", hint="Use 1 or more."
        )
    if timing is not None and not isinstance(timing, Timing):
        raise RequestError(f"timing={timing!r} is not possible.", hint="Use an everwrite.Timing().")
    timeout_s = checked_timeout(timeout)
    seeds = parse_urls(url)
    raw = checked_secret(secret)
    cluster = Cluster(
        seeds,
        raw or os.fsencode(os.environ.get(SECRET_VARIABLE, "")),
        retries=retries,
        in_flight_max=in_flight_max,
        timing=timing or Timing(),
    )
    await cluster.open(timeout_s)
    return AsyncClient(cluster, timeout_s)


class Connecting(Coroutine[Any, Any, "AsyncClient"]):
    """A client to be: await it, or enter it as a context that closes the client. A coroutine in
    all else, so ``create_task`` and ``asyncio.run`` take it.
    """

    __slots__ = ("_client", "_work")

    def __init__(self, work: Coroutine[Any, Any, AsyncClient]) -> None:
        self._work = work

    def send(self, value: Any) -> Any:
        return self._work.send(value)

    def throw(self, *error: Any) -> Any:
        return self._work.throw(*error)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, AsyncClient]:
        return self._work.__await__()

    async def __aenter__(self) -> AsyncClient:
        self._client = await self._work
        return self._client

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.close()


class AsyncClient:
    """A database: one cluster as one event loop sees it. Any number of tasks may use it at once."""

    def __init__(
        self,
        cluster: Cluster,
        timeout_s: float,
        afterwards: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._cluster = cluster
        self._afterwards = afterwards
        """What is to be closed after the connections: the node of an embedded database."""
        self._timeout_s = timeout_s

    def bucket(
        self,
        name: str,
        *,
        merge: Merge | None = None,
        n: int = 0,
        r: int = 0,
        w: int = 0,
        dw: int = -1,
        timeout: float | None = None,
        strict: bool = False,
        ttl: float | timedelta | None = None,
    ) -> AsyncBucket:
        """Return a bucket: a name space for keys, with what its calls use where they say nothing
        else.

        ``ttl`` (seconds, or a timedelta) is how long values put through this object live. It is
        kept here, not in the cluster: give it wherever the bucket is opened.
        """
        check_numbers(n, r, w, dw)
        if merge is not None:
            check_ready(merge)
        timeout_s = self._timeout_s if timeout is None else checked_timeout(timeout)
        ttl_ms = 0 if ttl is None else checked_ttl(ttl)
        defaults = Defaults(n, r, w, dw, timeout_s, checked_strict(strict), ttl_ms)
        return AsyncBucket(self._cluster, bucket_name(name), merge, defaults)

    def session(self) -> Session:
        """Return a new session: reads that are given it never show less than it has seen."""
        return Session()

    async def ask(
        self, verb: str, arguments: Mapping[str, Any] | None = None, node: str | None = None
    ) -> dict[str, Any]:
        """Ask a node (by name, id or HOST:PORT; None: the one that connect() reached) an
        administrative question.
        """
        raw = msgspec.json.encode(dict(arguments or {}))
        if len(raw) > ASK_BYTES_MAX or len(verb) > 64:
            raise RequestError(f"The arguments have {len(raw)} bytes; the most is {ASK_BYTES_MAX}.")
        told: Told = await self._cluster.ask(verb, raw, self._timeout_s, node)
        try:
            return msgspec.json.decode(told.answer, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"The answer to {verb!r} cannot be read: {error}.") from error

    async def replicas(self, bucket: str, key: str | bytes) -> list[Replica]:
        """Return each owner's own copy of a key, unmerged, in order of preference; then those of
        the nodes that serve it for owners that do not yet.
        """
        name = bucket_name(bucket)
        try:
            data = data_key(name, checked_key(key))
        except (TypeError, RequestError) as error:
            raise key_error(key, error) from None
        cluster = self._cluster
        names, nodes = zip(*cluster.holders(data), strict=True)
        copies = await asyncio.gather(*(self._copy(data, node) for node in nodes))
        return [replica_of(name, copy) for name, copy in zip(names, copies, strict=True)]

    async def _copy(self, key: bytes, node: Connection | None) -> FetchReply | None:
        """Return one owner's copy; None if it does not answer."""
        if node is None:
            return None
        try:
            copy: FetchReply = await self._cluster.fetch(key, node, self._timeout_s)
        except UnavailableError:
            return None
        return copy

    @property
    def counters(self) -> Counters:
        """What the client did besides plain requests: hedges, failovers, fall-backs, ..."""
        return self._cluster.counters

    @property
    def in_flight(self) -> int:
        """Requests that wait for an answer now."""
        return len(self._cluster.pending)

    async def close(self) -> None:
        """End what is in flight with an error and close all connections. May be called twice."""
        await self._cluster.close()
        if self._afterwards is not None:
            await self._afterwards()

    def __repr__(self) -> str:
        return f"<everwrite.AsyncClient: {self._cluster!r}>"

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


def parse_urls(url: str | Sequence[str]) -> list[Address]:
    """Return the addresses in HOST:PORT[,...] or a list of such; RequestError for anything else."""
    given: Any = [url] if isinstance(url, str) else url
    urls = list(given) if isinstance(given, Iterable) else [given]
    if not all(isinstance(one, str) for one in urls):
        raise RequestError(f"{url!r} is no address.", hint="Write 'HOST:PORT', or a list of such.")
    parts = [part for one in urls for part in one.split(",")]
    addresses = [_parse_address(part.strip()) for part in parts if part.strip()]
    if not addresses:
        raise RequestError(
            "There is no address to connect to.", hint=f"Give one such as {DEFAULT_URL}."
        )
    return addresses


def _parse_address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(DEFAULT_PORT)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host or "/" in text:
        raise RequestError(f"{text!r} is no address.", hint="Write HOST:PORT, or [IPV6]:PORT.")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise RequestError(
            f"{text!r} is no address.", hint="Write HOST:PORT with a port up to 65535."
        )
    try:
        host.encode("idna")  # as a resolver will
    except UnicodeError as error:
        raise RequestError(
            f"{text!r} is no address.", hint="Each part of a host's name has 1 to 63 letters."
        ) from error
    if not host.isprintable() or " " in host:
        raise RequestError(f"{text!r} is no address.", hint="Write HOST:PORT.")
    return host, int(port)
