"""The async client: databases and buckets.

    db = await everwrite.connect("127.0.0.1:7400")
    carts = db.bucket("carts", merge=union_of_items)
    found = await carts.get("alice")
    await carts.put("alice", found.value + ["book"], context=found.context)

A put with the context of a read supersedes what was read; one without it becomes a sibling of what
is there. Every call may be retried inside its timeout; a put is one and the same write in all its
tries.

``get`` and ``put`` are themselves the fast path: no task, no timer, one future per call.
"""

# Every call takes timeout=: callers say how long a request may last, not how to cancel a coroutine.
# ruff: noqa: ASYNC109

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from numbers import Real
from types import TracebackType
from typing import Any

import msgspec

from everwrite.client.cluster import Cluster
from everwrite.client.connection import Connection
from everwrite.client.limits import (
    ASK_BYTES_MAX,
    IN_FLIGHT_MAX,
    RETRIES_MAX,
    TIMEOUT_MAX_S,
    Timing,
)
from everwrite.client.pool import Address
from everwrite.client.results import (
    Found,
    Merge,
    Replica,
    Stored,
    encode_value,
    found_by_node,
    found_in_copy,
    replica_of,
)
from everwrite.client.session import Session
from everwrite.client.table import Counters
from everwrite.core.data.context import CONTEXT_BYTES_MAX
from everwrite.core.data.keys import (
    VALUE_BYTES_MAX,
    checked_bucket,
    checked_key,
    checked_value,
    data_key,
)
from everwrite.core.errors import BadContext, ProtocolError, RequestError, UnavailableError
from everwrite.core.messages import KIND_BYTES, FetchReply, PutReply, Told

DEFAULT_URL = "127.0.0.1:7400"
DEFAULT_PORT = 7400
SECRET_VARIABLE = "EVERWRITE_SECRET"


async def connect(
    url: str | Sequence[str] = DEFAULT_URL,
    *,
    secret: bytes | str = b"",
    timeout: float = 5.0,
    retries: int = 2,
    in_flight_max: int = IN_FLIGHT_MAX,
    timing: Timing | None = None,
) -> AsyncClient:
    """Return a client of the cluster that one of these nodes (HOST:PORT, or several) belongs to.

    ``secret`` is the cluster's; EVERWRITE_SECRET if it's not given. ``timeout`` (seconds) bounds
    this call and every request that names none; ``retries`` is how many more tries a request may
    make. Raises Unreachable if no node answers, DeniedError for the wrong secret.
    """
    if type(retries) is not int or not 0 <= retries <= RETRIES_MAX:
        raise RequestError(f"retries={retries!r} is not possible.", hint=f"Use 0 to {RETRIES_MAX}.")
    timeout_s = checked_timeout(timeout)
    seeds = parse_urls(url)
    raw = secret.encode() if isinstance(secret, str) else secret
    cluster = Cluster(
        seeds,
        raw or os.fsencode(os.environ.get(SECRET_VARIABLE, "")),
        retries=retries,
        in_flight_max=in_flight_max,
        timing=timing or Timing(),
    )
    await cluster.open(timeout_s)
    return AsyncClient(cluster, timeout_s)


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
    ) -> AsyncBucket:
        """Return a bucket: a name space for keys, with what its calls use where they say nothing
        else.
        """
        _check_numbers(n, r, w, dw)
        if merge is not None and not callable(merge):
            raise RequestError(
                f"merge={merge!r} is not possible.",
                hint="Give a function of the siblings' values, such as everwrite.union_of_items.",
            )
        timeout_s = self._timeout_s if timeout is None else checked_timeout(timeout)
        return AsyncBucket(
            self._cluster, _bucket_name(name), merge, (n, r, w, dw), timeout_s, bool(strict)
        )

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
        name = _bucket_name(bucket)
        try:
            data = data_key(name, checked_key(key))
        except (TypeError, RequestError) as error:
            raise _key_error(key, error) from None
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

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class AsyncBucket:
    """The keys under one name. Options left out are the bucket's; 0 (and -1 for dw) is the
    cluster's default.
    """

    __slots__ = ("_cluster", "_dw", "_merge", "_n", "_name", "_r", "_strict", "_timeout_s", "_w")

    def __init__(
        self,
        cluster: Cluster,
        name: bytes,
        merge: Merge | None,
        numbers: tuple[int, int, int, int],
        timeout_s: float,
        strict: bool,
    ) -> None:
        self._cluster = cluster
        self._name = name
        self._merge = merge
        self._n, self._r, self._w, self._dw = numbers
        self._timeout_s = timeout_s
        self._strict = strict

    @property
    def name(self) -> str:
        return self._name.decode()

    def __repr__(self) -> str:
        merge = getattr(self._merge, "__name__", self._merge)
        numbers = f"n={self._n}, r={self._r}, w={self._w}, dw={self._dw}, strict={self._strict}"
        return f"<everwrite.AsyncBucket {self.name!r}: merge={merge}, {numbers}>"

    async def get(
        self,
        key: str | bytes,
        *,
        n: int = 0,
        r: int = 0,
        timeout: float | None = None,
        strict: bool | None = None,
        session: Session | None = None,
    ) -> Found:
        """Return what R nodes know of the key: its values, their context, and how good the answer
        is.

        Raises QuorumNotMet, DeadlineExceeded, Unreachable or Overloaded if they can't be asked now,
        and StaleSession if they cannot show all that the session has seen.
        """
        try:
            data = data_key(self._name, checked_key(key))
        except (TypeError, RequestError) as error:
            raise _key_error(key, error) from None
        cluster = self._cluster
        timeout_s = self._timeout_s if timeout is None else checked_timeout(timeout)
        if session is None:
            deadline = 0.0
        else:
            _check_session(session)
            deadline = cluster.now() + timeout_s
        n, r = n or self._n, r or self._r
        strict = self._strict if strict is None else strict
        if n or r or strict:
            _check_numbers(n, r, 0, -1)
            seen = session.seen(data) if session is not None else b""
            reply = await cluster.get(data, timeout_s, n, r, bool(strict), seen)
        else:
            reply = await cluster.read(data, timeout_s)
        if session is not None:
            if not session.satisfied(data, reply.context):
                left_s = max(deadline - cluster.now(), 0.001)
                reply = await cluster.get(data, left_s, n, r, bool(strict), session.seen(data))
            session.note(data, reply.context)
        if type(reply) is FetchReply:
            return found_in_copy(reply, cluster.routes.quality, self._merge)
        if reply.stale_view:
            cluster.refresh_soon(urgent=False)
        return found_by_node(reply, self._merge)

    async def put(
        self,
        key: str | bytes,
        value: Any,
        *,
        context: bytes = b"",
        n: int = 0,
        w: int = 0,
        dw: int = -1,
        timeout: float | None = None,
        strict: bool | None = None,
        session: Session | None = None,
    ) -> Stored:
        """Write a value that supersedes what the context has seen; return once W nodes have it.

        A put without a context never replaces anything: it becomes a sibling, even of your own last
        put. Use update(), or pass context. Tuples are stored as lists.

        An error's ``outcome`` says what became of the write: "none", "partial" (on fewer than W
        nodes) or "unknown".
        """
        if type(value) is bytes:
            kind = KIND_BYTES
            if len(value) > VALUE_BYTES_MAX:
                checked_value(value)
        else:
            kind, value = encode_value(value)
        try:
            data = data_key(self._name, checked_key(key))
        except (TypeError, RequestError) as error:
            raise _key_error(key, error) from None
        if context != b"" or session is not None or n or w or dw != -1:
            _check_context(context)
            _check_session(session)
            _check_numbers(n, 0, w, dw)
        cluster = self._cluster
        reply: PutReply = await cluster.put(
            data,
            value,
            kind,
            context,
            self._timeout_s if timeout is None else checked_timeout(timeout),
            n or self._n,
            w or self._w,
            self._dw if dw == -1 else dw,
            self._strict if strict is None else bool(strict),
        )
        if reply.stale_view:
            cluster.refresh_soon(urgent=False)
        if session is not None:
            session.note(data, reply.context)
        return _stored(reply)

    async def delete(
        self,
        key: str | bytes,
        *,
        context: bytes | None = None,
        n: int = 0,
        w: int = 0,
        dw: int = -1,
        timeout: float | None = None,
        strict: bool | None = None,
        session: Session | None = None,
    ) -> Stored:
        """Take away what the context has seen; values that it has not seen stay.

        Without a context the key is read first, in the same timeout, and what is found is taken
        away. b"" is the context that has seen nothing: it takes nothing away.
        """
        try:
            data = data_key(self._name, checked_key(key))
        except (TypeError, RequestError) as error:
            raise _key_error(key, error) from None
        _check_numbers(n, 0, w, dw)
        _check_session(session)
        timeout_s = self._timeout_s if timeout is None else checked_timeout(timeout)
        if context is None:
            deadline = self._cluster.now() + timeout_s
            found = await self.get(key, n=n, timeout=timeout_s, strict=strict, session=session)
            context = found.context
            timeout_s = max(deadline - self._cluster.now(), 0.001)
        _check_context(context)
        reply: PutReply = await self._cluster.put(
            data,
            None,
            KIND_BYTES,
            context,
            timeout_s,
            n or self._n,
            w or self._w,
            self._dw if dw == -1 else dw,
            self._strict if strict is None else bool(strict),
        )
        if reply.stale_view:
            self._cluster.refresh_soon(urgent=False)
        if session is not None:
            session.note(data, reply.context)
        return _stored(reply)

    async def update(
        self,
        key: str | bytes,
        change: Callable[[Any], Any],
        *,
        timeout: float | None = None,
        session: Session | None = None,
    ) -> Stored:
        """Read the value, change it, write it back: ``change`` gets the value (None if absent) and
        returns the new one.

        Siblings are merged first (Conflict without a merge). If ``change`` returns None the key is
        deleted. Not atomic: of two updates at once both values stay, as siblings that the next one
        merges.
        """
        found = await self.get(key, timeout=timeout, session=session)
        value = change(found.value)
        if value is None:
            return await self.delete(key, context=found.context, timeout=timeout, session=session)
        return await self.put(key, value, context=found.context, timeout=timeout, session=session)


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


def checked_timeout(seconds: float) -> float:
    """Return a timeout that can be kept; RequestError for any other."""
    if not isinstance(seconds, Real) or not 0 < seconds <= TIMEOUT_MAX_S:
        raise RequestError(
            f"timeout={seconds!r} is not possible.",
            hint=f"Use seconds, over 0 and up to {TIMEOUT_MAX_S:g}.",
        )
    return float(seconds)


def _check_numbers(n: int, r: int, w: int, dw: int) -> None:
    for name, number, least in (("n", n, 0), ("r", r, 0), ("w", w, 0), ("dw", dw, -1)):
        if type(number) is not int or not least <= number <= 255:
            raise RequestError(
                f"{name}={number!r} is not possible.",
                hint="Use a small number of nodes; 0 is the default.",
            )


def _check_session(session: Session | None) -> None:
    if session is not None and not isinstance(session, Session):
        raise RequestError(
            f"session={session!r} is not possible.", hint="A session must come from db.session()."
        )


def _bucket_name(name: str | bytes) -> bytes:
    if not isinstance(name, str | bytes):
        raise RequestError(f"{name!r} is no bucket's name.", hint="Use text such as 'carts'.")
    return checked_bucket(name)


def _key_error(key: object, error: Exception) -> Exception:
    """Return why a key is refused: for what it is, before what is wrong with it."""
    if isinstance(key, str | bytes | bytearray | memoryview):
        return error
    return RequestError(f"A {type(key).__name__} is no key.", hint="Keys are str or bytes.")


def _check_context(context: bytes) -> None:
    if type(context) is not bytes or len(context) > CONTEXT_BYTES_MAX:
        raise BadContext(
            "That is not a context.", hint="Use the .context of a Found or Stored as it is."
        )


def _stored(reply: PutReply) -> Stored:
    return Stored(
        reply.context, reply.owners, reply.fallbacks, reply.durable, reply.siblings, reply.required
    )
