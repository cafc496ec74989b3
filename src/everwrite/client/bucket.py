"""A bucket as async callers see it: get, put, touch, delete and update of the keys under one name.

``get`` and ``put`` are themselves the fast path: no task, no timer, one future per call.
"""

# Every call takes timeout=: callers say how long a request may last, not how to cancel a coroutine.
# ruff: noqa: ASYNC109

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from everwrite.client.arguments import (
    UPDATE_HINT,
    changed,
    check_change,
    check_context,
    check_numbers,
    check_plain,
    check_session,
    checked_strict,
    checked_timeout,
    key_error,
    read_first,
)
from everwrite.client.cluster import Cluster
from everwrite.client.defaults import Defaults
from everwrite.client.results import (
    Found,
    Merge,
    Stored,
    at,
    encode_value,
    found_by_node,
    found_in_copy,
)
from everwrite.client.session import Session
from everwrite.client.spot import Spot
from everwrite.client.typed import AsyncCounter, AsyncFlag, AsyncMap, AsyncRegister, AsyncSet
from everwrite.core.data.keys import VALUE_BYTES_MAX, checked_key, checked_value, data_key, of_key
from everwrite.core.data.labels import KIND_BYTES
from everwrite.core.errors import QuorumNotMet, RequestError, TooLarge
from everwrite.core.messages.requests import FetchReply, PutReply
from everwrite.core.request.limits import cannot_tell, check_copies


class AsyncBucket:
    """The keys under one name. Options left out are the bucket's; 0 (and -1 for dw) is the
    cluster's default.
    """

    __slots__ = ("_cluster", "_defaults", "_merge", "_name")

    def __init__(
        self, cluster: Cluster, name: bytes, merge: Merge | None, defaults: Defaults
    ) -> None:
        self._cluster = cluster
        self._name = name
        self._merge = merge
        self._defaults = defaults

    @property
    def name(self) -> str:
        return self._name.decode()

    def __repr__(self) -> str:
        merge = getattr(self._merge, "__name__", self._merge)
        of = self._defaults
        numbers = f"n={of.n}, r={of.r}, w={of.w}, dw={of.dw}, strict={of.strict}"
        if of.ttl_ms:
            numbers += f", ttl={of.ttl_ms / 1000:g}"
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
            raise key_error(key, error) from None
        cluster, defaults = self._cluster, self._defaults
        timeout_s = defaults.timeout_s if timeout is None else checked_timeout(timeout)
        if session is None:
            deadline = 0.0
        else:
            check_session(session)
            deadline = cluster.now() + timeout_s
        n, r = n or defaults.n, r or defaults.r
        strict = defaults.strict if strict is None else checked_strict(strict)
        if n or r or strict:
            check_numbers(n, r, 0, -1)
            seen = session.seen(data) if session is not None else b""
            reply = await cluster.get(data, timeout_s, n, r, strict, seen)
        else:
            reply = await cluster.read(data, timeout_s)
        if session is not None:
            if not session.satisfied(data, reply.context):
                left_s = max(deadline - cluster.now(), 0.001)
                reply = await cluster.get(data, left_s, n, r, strict, session.seen(data))
            session.note(data, reply.context)
        if type(reply) is FetchReply:
            found = found_in_copy(reply, cluster.routes.quality, self._merge)
            return found if len(found.values) < 2 else at(found, data)
        if reply.stale_view:
            cluster.refresh_soon(urgent=False)
        found = found_by_node(reply, self._merge)
        return found if len(found.values) < 2 else at(found, data)

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
        ttl: float | timedelta | None = None,
    ) -> Stored:
        """Write a value that supersedes what the context has seen; return once W nodes have it.

        A put without a context never replaces anything: it becomes a sibling, even of your own last
        put. Use update(), or pass context. Tuples are stored as lists.

        The value is gone ``ttl`` (seconds, or a timedelta) after it was written. Without one it
        lives as long as the bucket says, and without that for ever, whatever it replaces;
        math.inf: for ever.

        An error's ``outcome`` says what became of the write: "none", "partial" (on fewer than W
        nodes) or "unknown".
        """
        try:
            data = data_key(self._name, checked_key(key))
        except (TypeError, RequestError) as error:
            raise key_error(key, error) from None
        try:
            if type(value) is bytes:
                kind = KIND_BYTES
                if len(value) > VALUE_BYTES_MAX:
                    checked_value(value)
            else:
                kind, value = encode_value(value)
        except TooLarge as error:
            raise of_key(error, data) from None
        if context != b"" or session is not None or n or w or dw != -1:
            check_context(context)
            check_session(session)
            check_numbers(n, 0, w, dw)
        cluster, defaults = self._cluster, self._defaults
        reply: PutReply = await cluster.put(
            data,
            value,
            kind,
            context,
            defaults.patience(timeout),
            *defaults.of_write(n, w, dw, strict),
            defaults.lifetime(ttl),
        )
        if reply.stale_view:
            cluster.refresh_soon(urgent=False)
        if session is not None:
            session.note(data, reply.context)
        return _stored(reply)

    async def touch(
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
        """Let what is there live for ``ttl`` (else the bucket's) from now on, if that is longer.

        It changes no value and makes no sibling, and of two touches the longer wins. What lives for
        ever stays so. ``siblings`` of the answer is 0 if there is nothing (any more): a touch
        brings nothing back.
        """
        try:
            data = data_key(self._name, checked_key(key))
        except (TypeError, RequestError) as error:
            raise key_error(key, error) from None
        check_numbers(n, 0, w, dw)
        defaults = self._defaults
        ttl_ms = defaults.lifetime(ttl)
        if ttl_ms == 0:
            raise RequestError(
                "A touch needs a time: it cannot make a value live for ever.",
                hint="Give a ttl, here or to bucket(). To keep a value, put it again without one.",
            )
        reply: PutReply = await self._cluster.touch(
            data,
            ttl_ms,
            defaults.patience(timeout),
            *defaults.of_write(n, w, dw, strict),
        )
        if reply.stale_view:
            self._cluster.refresh_soon(urgent=False)
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
        away; if there is nothing, nothing is written (``owners`` 0), and it is QuorumNotMet if too
        few owners were heard to say so. b"" is the context that has seen nothing: it takes nothing
        away.
        """
        try:
            data = data_key(self._name, checked_key(key))
        except (TypeError, RequestError) as error:
            raise key_error(key, error) from None
        check_numbers(n, 0, w, dw)
        check_session(session)
        timeout_s = self._defaults.patience(timeout)
        numbers = self._defaults.of_write(n, w, dw, strict)
        if context is None:
            deadline = self._cluster.now() + timeout_s
            try:
                found = await self.get(
                    key, n=numbers.n, timeout=timeout_s, strict=strict, session=session
                )
            except QuorumNotMet as error:
                error.hint = read_first("get(key, r=1)")
                raise
            context = found.context
            if not context:
                # Nothing to supersede, so a tombstone would be for nobody: a logout after the end.
                check_copies(numbers.n, numbers.w, numbers.dw, self._cluster.replicas)
                quality = found.quality
                if quality.absent == "unknown" and quality.owners < quality.required:
                    raise cannot_tell(quality.owners, quality.required)
                return Stored(b"", 0, 0, 0, 0, 0)
            timeout_s = max(deadline - self._cluster.now(), 0.001)
        check_context(context)
        reply: PutReply = await self._cluster.put(
            data,
            None,
            KIND_BYTES,
            context,
            timeout_s,
            *numbers,
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
        ttl: float | timedelta | None = None,
    ) -> Stored:
        """Read the value, change it, write it back: ``change`` gets the value (None if absent) and
        returns the new one.

        Siblings are merged first (Conflict without a merge). If ``change`` returns None the key is
        deleted. Not atomic: of two updates at once both values stay, as siblings that the next one
        merges. ``ttl`` as for put: the new value does not inherit the end of the old one.
        """
        check_change(change)
        try:
            found = await self.get(key, timeout=timeout, session=session)
        except QuorumNotMet as error:
            error.hint = UPDATE_HINT
            raise
        check_plain(found.type)
        value = changed(change, found.value)
        if value is None:
            return await self.delete(key, context=found.context, timeout=timeout, session=session)
        return await self.put(
            key, value, context=found.context, timeout=timeout, session=session, ttl=ttl
        )

    # -- data types: places, which ask nobody until they are told to -------------------------------

    def counter(self, key: str | bytes) -> AsyncCounter:
        """Return the counter at a key: a number to which many add at a time."""
        return AsyncCounter(self._spot(key))

    def register(self, key: str | bytes) -> AsyncRegister:
        """Return the register at a key: a value of which the last one counts."""
        return AsyncRegister(self._spot(key))

    def flag(self, key: str | bytes) -> AsyncFlag:
        """Return the flag at a key: raised or not."""
        return AsyncFlag(self._spot(key))

    def set(self, key: str | bytes) -> AsyncSet:
        """Return the set at a key: texts and bytes, each once."""
        return AsyncSet(self._spot(key))

    def map(self, key: str | bytes) -> AsyncMap:
        """Return the map at a key: fields, each a data type."""
        return AsyncMap(self._spot(key))

    def _spot(self, key: str | bytes) -> Spot:
        try:
            data = data_key(self._name, checked_key(key))
        except (TypeError, RequestError) as error:
            raise key_error(key, error) from None
        return Spot(self._cluster, data, self._defaults)


def _stored(reply: PutReply) -> Stored:
    return Stored(
        reply.context,
        reply.owners,
        reply.fallbacks,
        reply.durable,
        reply.siblings,
        reply.required,
        reply.ends,
        reply.time_ms,
        reply.retried,
    )
