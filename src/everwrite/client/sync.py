"""The blocking client: the async one, run by a background thread.

Any number of threads may share a client: their requests go over the same connections, one frame per
loop turn.

Costs: two thread switches per call (some 50 us); where that counts, use threads, or the async
client.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

from everwrite.client.arguments import UPDATE_HINT, changed, check_change, check_plain
from everwrite.client.bucket import AsyncBucket
from everwrite.client.client import DEFAULT_URL, AsyncClient, connect
from everwrite.client.limits import IN_FLIGHT_MAX, Timing
from everwrite.client.results import Found, Merge, Replica, Stored
from everwrite.client.session import Session
from everwrite.client.table import Counters
from everwrite.client.typed_sync import Counter, Flag, Map, Register, Set
from everwrite.core.errors import ClientClosed, QuorumNotMet, RequestError

Result = TypeVar("Result")


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self, name: str) -> None:
        self._loop = new_loop()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether the loop is gone, or never was in this process (after a fork)."""
        return self._loop.is_closed() or self._pid != os.getpid()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine there; return or raise what it does. Interrupted, it cancels the
        coroutine.
        """
        if self.closed:
            work.close()
            closed = "was closed" if self._loop.is_closed() else "belongs to the parent process"
            raise ClientClosed(f"The client {closed}.", hint="Connect again.")
        if threading.current_thread() is self._thread:
            work.close()
            raise RequestError(
                "A blocking call was made in the client's own thread: it would wait for itself.",
                hint="Use the async client inside an event loop.",
            )
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """End the thread and its loop; may be called twice."""
        if self.closed:
            return
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a uvloop if there is one (twice as fast), else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def connect_sync(
    url: str | Sequence[str] = DEFAULT_URL,
    *,
    secret: bytes | str = b"",
    timeout: float = 5.0,
    retries: int = 2,
    in_flight_max: int = IN_FLIGHT_MAX,
    timing: Timing | None = None,
) -> Client:
    """Return a blocking client; arguments and errors are those of ``connect``."""
    thread = LoopThread("everwrite-client")
    try:
        client = thread.run(
            connect(
                url,
                secret=secret,
                timeout=timeout,
                retries=retries,
                in_flight_max=in_flight_max,
                timing=timing,
            )
        )
    except BaseException:
        thread.stop()
        raise
    return Client(client, thread)


class Client:
    """A database, blocking: the same names as AsyncClient."""

    def __init__(self, client: AsyncClient, thread: LoopThread) -> None:
        self._client = client
        self._thread = thread

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
    ) -> Bucket:
        """Return a bucket: a name space for keys, with what its calls use where they say nothing
        else: see AsyncClient.bucket.
        """
        bucket = self._client.bucket(
            name, merge=merge, n=n, r=r, w=w, dw=dw, timeout=timeout, strict=strict, ttl=ttl
        )
        return Bucket(bucket, self._thread)

    def session(self) -> Session:
        """Return a new session: reads that are given it never show less than it has seen."""
        return self._client.session()

    def ask(
        self, verb: str, arguments: Mapping[str, Any] | None = None, node: str | None = None
    ) -> dict[str, Any]:
        """Ask a node (by name, id or HOST:PORT; None: the one that connect reached) an
        administrative question.
        """
        return self._thread.run(self._client.ask(verb, arguments, node))

    def replicas(self, bucket: str, key: str | bytes) -> list[Replica]:
        """Return each owner's own copy of a key, unmerged, in order of preference."""
        return self._thread.run(self._client.replicas(bucket, key))

    @property
    def counters(self) -> Counters:
        """What the client did besides plain requests: hedges, failovers, fall-backs, ..."""
        return self._client.counters

    def close(self) -> None:
        """End what is in flight with an error, close all connections, end the thread. May be called
        twice.
        """
        if not self._thread.closed:
            self._thread.run(self._client.close())
            self._thread.stop()

    def __repr__(self) -> str:
        return repr(self._client).replace("AsyncClient", "Client", 1)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Bucket:
    """The keys under one name, blocking: the same names as AsyncBucket."""

    __slots__ = ("_bucket", "_run")

    def __init__(self, bucket: AsyncBucket, thread: LoopThread) -> None:
        self._bucket = bucket
        self._run = thread.run

    @property
    def name(self) -> str:
        return self._bucket.name

    def __repr__(self) -> str:
        return repr(self._bucket).replace("AsyncBucket", "Bucket", 1)

    def get(
        self,
        key: str | bytes,
        *,
        n: int = 0,
        r: int = 0,
        timeout: float | None = None,
        strict: bool | None = None,
        session: Session | None = None,
    ) -> Found:
        """Return what R nodes know of the key: see AsyncBucket.get."""
        return self._run(
            self._bucket.get(key, n=n, r=r, timeout=timeout, strict=strict, session=session)
        )

    def put(
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
        ttl: float | timedelta | None = None,
    ) -> Stored:
        """Write a value that supersedes what the context has seen: see AsyncBucket.put.

        A put without a context never replaces anything: it becomes a sibling, even of your own last
        put. Use update(), or pass context. Tuples are stored as lists.
        """
        return self._run(
            self._bucket.put(
                key,
                value,
                context=context,
                n=n,
                w=w,
                dw=dw,
                timeout=timeout,
                strict=strict,
                session=session,
                ttl=ttl,
            )
        )

    def touch(
        self,
        key: str | bytes,
        ttl: float | timedelta | None = None,
        *,
        n: int = 0,
        w: int = 0,
        dw: int = -1,
        timeout: float | None = None,
        strict: bool | None = None,
    ) -> Stored:
        """Let what is there live for ``ttl`` from now on, if that is longer: see
        AsyncBucket.touch.
        """
        return self._run(
            self._bucket.touch(key, ttl, n=n, w=w, dw=dw, timeout=timeout, strict=strict)
        )

    def delete(
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
        """Take away what the context has seen; without one, what is there: see
        AsyncBucket.delete.
        """
        return self._run(
            self._bucket.delete(
                key,
                context=context,
                n=n,
                w=w,
                dw=dw,
                timeout=timeout,
                strict=strict,
                session=session,
            )
        )

    def update(
        self,
        key: str | bytes,
        change: Callable[[Any], Any],
        *,
        timeout: float | None = None,
        session: Session | None = None,
        ttl: float | timedelta | None = None,
    ) -> Stored:
        """Read the value, change it, write it back: see AsyncBucket.update."""
        check_change(change)
        try:
            found = self.get(key, timeout=timeout, session=session)
        except QuorumNotMet as error:
            error.hint = UPDATE_HINT
            raise
        check_plain(found.type)
        value = changed(change, found.value)
        if value is None:
            return self.delete(key, context=found.context, timeout=timeout, session=session)
        return self.put(
            key, value, context=found.context, timeout=timeout, session=session, ttl=ttl
        )

    def counter(self, key: str | bytes) -> Counter:
        """Return the counter at a key: a number to which many add at a time."""
        return Counter(self._bucket.counter(key), self._run)

    def register(self, key: str | bytes) -> Register:
        """Return the register at a key: a value of which the last one counts."""
        return Register(self._bucket.register(key), self._run)

    def flag(self, key: str | bytes) -> Flag:
        """Return the flag at a key: raised or not."""
        return Flag(self._bucket.flag(key), self._run)

    def set(self, key: str | bytes) -> Set:
        """Return the set at a key: texts and bytes, each once."""
        return Set(self._bucket.set(key), self._run)

    def map(self, key: str | bytes) -> Map:
        """Return the map at a key: fields, each a data type."""
        return Map(self._bucket.map(key), self._run)
