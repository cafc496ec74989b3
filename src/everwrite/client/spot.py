"""One place that is a data type: a key, or a field some maps below it, as a bucket object sees it.

    counter, set, ... -> Spot.change -> Put with operations -> its coordinator applies them
                      -> Spot.look   -> a copy, or a GetReply -> compose -> what stands at the path

A coordinator applies a change to what it knows. With a session that is no less than the session has
seen: so a remove takes what its writer was shown.
"""

# Every call takes timeout=: callers say how long a request may last, not how to cancel a coroutine.
# ruff: noqa: ASYNC109

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TypedDict

import msgspec

from everwrite.client.arguments import (
    a,
    check_numbers,
    check_session,
    checked_strict,
    checked_ttl,
)
from everwrite.client.cluster import Cluster
from everwrite.client.defaults import Defaults
from everwrite.client.results import told, type_of
from everwrite.client.session import Session
from everwrite.core.data.keys import spoken
from everwrite.core.data.labels import KIND_BYTES, Kind
from everwrite.core.data.versions import decode, live
from everwrite.core.errors import ProtocolError, RequestError, WrongType
from everwrite.core.messages.requests import FetchReply, Put, PutReply
from everwrite.core.types.composed import Composed, Map, Register
from everwrite.core.types.composing import compose, compose_all, has_assigned
from everwrite.core.types.operations import DEPTH_MAX, Name, Operation, Path, encode, name_of

Values = Sequence[tuple[Kind, bytes]]
Marks = Sequence[tuple[bytes, int, int]]


class Reads(TypedDict, total=False):
    """What each read of a data type may be told, as ``get``."""

    n: int
    r: int
    timeout: float | None
    strict: bool | None
    session: Session | None


class Writes(TypedDict, total=False):
    """What each change of a data type may be told, as ``put``."""

    n: int
    w: int
    dw: int
    timeout: float | None
    strict: bool | None
    session: Session | None
    ttl: float | timedelta | None


class Spot(msgspec.Struct, frozen=True):
    """See the module. The defaults are the bucket's."""

    cluster: Cluster
    data: bytes
    """Data key, see core/data/keys.py."""
    defaults: Defaults
    path: Path = []

    def below(self, field: str | bytes) -> Spot:
        """Return the place of a field of the map that is here."""
        return msgspec.structs.replace(self, path=deeper(self.path, field))

    async def change(
        self,
        operations: list[Operation],
        *,
        n: int = 0,
        w: int = 0,
        dw: int = -1,
        timeout: float | None = None,
        strict: bool | None = None,
        session: Session | None = None,
        ttl: float | timedelta | None = None,
    ) -> list[int]:
        """Carry out operations in one put; return what each came to."""
        check_session(session)
        check_numbers(n, 0, w, dw)
        if ttl is not None and not checked_ttl(ttl):
            raise RequestError(
                "A change cannot let a data type live for ever.",
                hint="Without ttl it ends with its key, if that has an end.",
            )
        cluster, defaults = self.cluster, self.defaults
        sent = session.seen(self.data) if session is not None else b""
        message = Put(
            0,
            self.data,
            encode(operations),
            sent,
            cluster.next_op(),
            0,
            KIND_BYTES,
            *defaults.of_write(n, w, dw, strict),
            ttl_ms=defaults.lifetime(ttl),
            change=True,
        )
        reply: PutReply = await cluster.begin(message, PutReply, defaults.patience(timeout))
        if reply.stale_view:
            cluster.refresh_soon(urgent=False)
        if session is not None:
            session.replace(self.data, sent, reply.context)
        if len(reply.results) != len(operations):
            raise ProtocolError(
                "The node does not say what the change came to: it does not know data types.",
                hint="It took them for a plain value. Upgrade all nodes, and delete that.",
                outcome="unknown",
            )
        return reply.results

    async def look(
        self,
        wanted: type[Composed],
        *,
        n: int = 0,
        r: int = 0,
        timeout: float | None = None,
        strict: bool | None = None,
        session: Session | None = None,
    ) -> Composed | None:
        """Return what stands here; None: nothing. WrongType where a plain value hides what is
        wanted, or what stands on the way to it.
        """
        check_session(session)
        check_numbers(n, r, 0, -1)
        cluster, defaults = self.cluster, self.defaults
        n, r = n or defaults.n, r or defaults.r
        strict = defaults.strict if strict is None else checked_strict(strict)
        timeout_s = defaults.patience(timeout)
        seen = session.seen(self.data) if session is not None else b""
        if n or r or strict or seen:
            reply = await cluster.get(self.data, timeout_s, n, r, strict, seen)
        else:
            reply = await cluster.read(self.data, timeout_s)
        if session is not None:
            session.note(self.data, reply.context)
        if type(reply) is FetchReply:
            values, marks = told(live(decode(reply.record), reply.time_ms))
            return self._shown(wanted, values, marks)
        if reply.stale_view:
            cluster.refresh_soon(urgent=False)
        return self._shown(wanted, reply.values, reply.marks)

    def _shown(self, wanted: type[Composed], values: Values, marks: Marks) -> Composed | None:
        """Return what is shown here of a whole key."""
        composed = compose(values, marks)
        root = Map if self.path else wanted
        if isinstance(composed, Register) and root is not Register and len(values) > 1:
            beside = compose_all(values, marks)[1:]
            if any(isinstance(one, root) for one in beside) and not has_assigned(values):
                raise _hidden(self.data, root)
        return inside(composed, self.path)


def deeper(path: Path, field: str | bytes) -> Path:
    """Return the path of a field of the map at this path; RequestError if that is too deep."""
    longer = [*path, checked_name(field, "field")]
    if len(longer) > DEPTH_MAX:
        raise RequestError(
            f"A field {len(longer)} maps below its key is not possible.",
            hint=f"Use up to {DEPTH_MAX}.",
        )
    return longer


def inside(composed: Composed | None, path: Path) -> Composed | None:
    """Return what stands at this path of a value; WrongType where what is on the way is no map."""
    for name in path:
        if composed is None:
            return None
        if not isinstance(composed, Map):
            raise wrong_type(composed, Map)
        composed = composed.fields.get(name)
    return composed


def wrong_type(found: Composed, wanted: type[Composed]) -> WrongType:
    """Return the error for a read that takes one type for another."""
    word, other = type_of(found), str(wanted.__struct_config__.tag)
    return WrongType(
        f"{a(word)} is there, and no {other}.",
        hint=f"Read it with bucket.{word}(key), or map.{word}(field) where it is a field.",
    )


def _hidden(data: bytes, wanted: type[Composed]) -> WrongType:
    """Return the error for a read of what a plain value hides. Only nodes can make a context: they
    do where a change is refused.
    """
    other = str(wanted.__struct_config__.tag)
    return WrongType(
        f"At {spoken(data)}, a plain value was put beside the {other} that stands there, and hides "
        "it.",
        hint="get() shows all that stands there. delete() with the context of that put takes the "
        f"value alone away; who does not have it changes the {other}, and finds one that does the "
        "same in the error, as `everwrite delete --context` takes it.",
    )


def checked_name(name: str | bytes, what: str) -> Name:
    """Return the one form of the name of a field, or of an element; RequestError for what is
    none.
    """
    if isinstance(name, str):
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise RequestError(
                f"{name!r} is no {what}: it is not Unicode.", hint="Use bytes."
            ) from error
        return name
    if not isinstance(name, bytes):
        raise RequestError(
            f"{a(type(name).__name__)} is no {what}.", hint="Use str or bytes, such as str(7)."
        )
    return name_of(name)
