"""The coordinator of a put or delete (Dynamo 4.5, 4.6).

    Put -> [is it mine to coordinate?] -> [look around first?] -> mint the dot (making.py), write
    here -> Store to the others, and count acks (spread.py)

The node that coordinates is an owner, or stands in for one. It writes its own copy and sends the
others theirs at the same time; an epoch (core/data/epochs.py) makes that safe when this node dies
in between. Its own copy is acknowledged like any other, through the outbox, once it is as safe as
was asked.

A put that may be a retry, or that saw a dot which this node does not know, looks at the other
replicas first (``LookAround``). A put whose request id stands in the record was carried out: it is
not minted again, only brought to W nodes.

A touch is a put without a new dot: the copy here with later ends, brought to W nodes, each of which
raises the ends of what lives there. Where nothing lives here it looks around before it says so.
"""

from __future__ import annotations

from msgspec.structs import replace

from everwrite.core.cluster.routes import Route
from everwrite.core.config import RECORD_BYTES_MAX
from everwrite.core.copies import is_plain
from everwrite.core.data import context, versions
from everwrite.core.data.versions import EMPTY, NOTHING, Record
from everwrite.core.errors import BadContext, EverwriteError, InvariantError
from everwrite.core.hints.hints import NO_EPOCH, Hints
from everwrite.core.hints.kept import split_hint
from everwrite.core.local import Local, unreadable_here
from everwrite.core.measures import operation_of
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Put, PutReply, Touch
from everwrite.core.outbox import Place
from everwrite.core.probes import sometimes
from everwrite.core.records import HINT, MISSING, OWN, Damaged
from everwrite.core.request.forward import Forward, TakenOver
from everwrite.core.request.limits import (
    cannot_tell,
    record_too_large,
    time_unknown,
    too_busy,
    too_many_hints,
    waited_too_long,
)
from everwrite.core.request.look import LookAround, LookedAround
from everwrite.core.request.making import Making, must_look
from everwrite.core.request.spread import PutRequest

_NO_RESULTS: list[int] = []


Come = Put | Touch | TakenOver | LookedAround
"""As what a put comes: anew, back from another node, or with what the others know of it."""


class Writes:
    """The put coordinator of one node."""

    def __init__(self, local: Local, hints: Hints) -> None:
        self._local = local
        self._hints = hints
        self.making = Making(local)

    def put(self, source: Place, message: Put) -> None:
        """A client's put, or one that another node forwarded."""
        self._local.counters.puts += 1
        self._coordinate(source, message, message)

    def touch(self, source: Place, message: Touch) -> None:
        """A client's touch, or one that another node forwarded."""
        self._local.counters.touches += 1
        self._coordinate(source, message, message)

    def take_over(self, message: TakenOver) -> None:
        """A put that the node to which it was forwarded did not answer."""
        if isinstance(message.request, Put):
            self._local.counters.puts += 1
        if isinstance(message.request, Put | Touch):
            self._coordinate(message.source, message.request, message)

    def looked_around(self, message: LookedAround) -> None:
        self._coordinate(message.source, message.put, message)

    def aged(self, source: Place, message: Message, waited_ms: int) -> Message | None:
        """Return a message that waited for the disk with the time that its put has left; None if
        that is over, and its client was told.
        """
        if isinstance(message, Put | Touch):
            client, put = source, message
        elif isinstance(message, LookedAround):
            client, put = message.source, message.put
        elif isinstance(message, TakenOver) and isinstance(message.request, Put | Touch):
            client, put = message.source, message.request
        else:
            return message
        left = put.timeout_ms - waited_ms
        if left <= 0:
            self._local.counters.expired += 1
            self._refuse(client, put, waited_too_long())
            return None
        put = replace(put, timeout_ms=left)
        if isinstance(message, LookedAround):
            return replace(message, put=put)
        return replace(message, request=put) if isinstance(message, TakenOver) else put

    def _coordinate(self, source: Place, put: Put | Touch, came: Come) -> None:
        """Serve a put of ``source``, which ``came`` as this message, or in it: it comes again if
        the disk must be read first, from ``source``, or from this node itself.
        """
        local = self._local
        sender = source if came is put else local.me
        route = local.routes.route(put.key, put.n)
        mine = route.mine
        if mine is None:
            if not put.forwarded and route.targets:
                Forward.start(local, source, put, route)
                return
            mine = route.first
            if mine == local.me:
                mine = b""
        key = put.key
        disk_key = OWN + key if not mine else HINT + key
        payload = local.records.look(disk_key)
        if payload is MISSING:
            if mine and not self._hints.may_be_kept(key):
                payload = None  # the index knows every hint on disk
            elif not local.records.park(disk_key, sender, came, local.now):
                self._refuse(source, put, too_busy(local))
                return
            else:
                return
        if isinstance(payload, Damaged):
            sometimes("a put comes to a node that cannot read its copy")
            if not put.forwarded and Forward.start(local, source, put, route):
                return
            if not (mine and payload.corrupt):
                self._refuse(source, put, unreadable_here())
                return
            sometimes("a put's hint takes the place of a damaged one")
            payload = None  # nobody can read that hint any more: as in Hints.keep
        try:
            if isinstance(put, Touch):
                self._raise_ends(source, put, route, mine, payload, came)  # type: ignore[arg-type]
            else:
                self._carry_out(source, put, route, mine, payload, came)  # type: ignore[arg-type]
        except InvariantError:  # no answer to a client: the node stops
            raise
        except EverwriteError as error:
            self._refuse(source, put, error)

    def _refuse(self, source: Place, put: Put | Touch, error: EverwriteError) -> None:
        """Answer with an error. A retry is not told that surely nothing has happened: an earlier
        try, here or by the node that this one took the put over from, may have been carried out.
        """
        if put.retry and error.outcome == "none" and not isinstance(error, BadContext):
            sometimes("a retry is not told that nothing has happened")
            error.outcome = "unknown"
            error.hint = (
                "An earlier try may have been carried out. Repeat the put, or read the key."
            )
        self._local.fail(source, put, error)

    def _carry_out(
        self,
        source: Place,
        put: Put,
        route: Route,
        mine: bytes,
        payload: bytes | None,
        came: Come,
    ) -> None:
        """The local copy is at hand: mint and send, or look around first."""
        local, looked = self._local, came if isinstance(came, LookedAround) else None
        seen = context.verify(local.context_key, put.key, put.context)
        if put.change and local.is_over(seen.ends):
            seen = NOTHING
        epoch, owners, data = _parts(payload, mine)
        if mine and mine not in owners and self._hints.full():
            raise self._no_room()
        own = base = versions.decode(data) if data else EMPTY
        fingerprint = local.fingerprint(data)
        if looked is not None and looked.record:
            base = versions.merge(base, versions.decode(looked.record))
        if looked is None and must_look(put, seen, base, mine):
            LookAround(local, source, put, route, mine, base, tried=_tried(came)).begin()
            return
        if put.ttl_ms and not local.clock.known:
            raise time_unknown()
        made = self.making.make(put, base, epoch, seen, looked)
        record = made.record
        if record is not base:
            data = _encoded(record, base)
        elif not base.clock:
            self._nothing_there(source, put, mine, looked, made.results)
            return
        elif looked is not None and looked.record:
            data = versions.encode(base)
        if mine and not self._hints.room(put.key, owners, mine, data):
            raise self._no_room()
        request = PutRequest(local, source, put, route, mine, data)
        request.check_reach()
        request.unsure |= made.carried_out
        request.results, request.ends = made.results, made.ends
        if made.increments:
            request.increments = made.increments
            local.unsettled.add(made.increments, local.now)
        if mine:
            self._hints.write(put.key, made.epoch, owners, mine, data)
        else:
            local.recent_puts.add(put.op)
            request.base, request.plain = fingerprint, is_plain(record) and is_plain(own)
            if request.plain and payload is not None:
                local.copies.write_plain(put.key, made.epoch + data)
            else:
                local.copies.write(put.key, made.epoch, data, payload, record=record, was=own)
        if versions.values_in(record.siblings) > 1:
            local.counters.siblings_met += 1
        shown = versions.values_in(versions.live(record, local.time_ms))
        request.begin(context.sign(local.context_key, put.key, made.seen), shown)

    def _nothing_there(
        self,
        source: Place,
        put: Put | Touch,
        mine: bytes,
        looked: LookedAround | None,
        results: list[int],
    ) -> None:
        """Answer that there is nothing to change: enough owners have said so."""
        local = self._local
        n = put.n or local.routes.placement.replicas
        heard = (looked.heard if looked is not None else 0) + (not mine)
        if heard <= n // 2:
            raise cannot_tell(heard, n // 2 + 1)
        local.measures.took[operation_of(put)].add(0)
        w = put.w or n // 2 + 1
        local.out.send(
            source, PutReply(put.rid, b"", 0, 0, 0, 0, w, retried=put.retry, results=results)
        )

    def _raise_ends(
        self,
        source: Place,
        touch: Touch,
        route: Route,
        mine: bytes,
        payload: bytes | None,
        came: Come,
    ) -> None:
        """The local copy is at hand: give what lives in it a later end, or look around first."""
        local, time_ms = self._local, self._local.time_ms
        looked = came if isinstance(came, LookedAround) else None
        if not local.clock.known:
            raise time_unknown()
        epoch, owners, data = _parts(payload, mine)
        if mine and mine not in owners and self._hints.full():
            raise self._no_room()
        own = base = versions.decode(data) if data else EMPTY
        if looked is not None and looked.record:
            base = versions.merge(base, versions.decode(looked.record))
        shown = versions.live(base, time_ms)
        if not shown:
            if looked is None:
                LookAround(local, source, touch, route, mine, base, tried=_tried(came)).begin()
                return
            self._nothing_there(source, touch, mine, looked, _NO_RESULTS)
            return
        record = versions.touch(base, time_ms + touch.ttl_ms, time_ms)
        fingerprint, data = local.fingerprint(data), versions.encode(record)
        if mine and not self._hints.room(touch.key, owners, mine, data):
            raise self._no_room()
        request = PutRequest(local, source, touch, route, mine, data)
        request.check_reach()
        request.ends = versions.last_end(versions.live(record, time_ms))
        if mine:
            self._hints.write(touch.key, epoch, owners, mine, data)
        else:
            request.base, request.plain = fingerprint, is_plain(record) and is_plain(own)
            local.copies.write(touch.key, epoch, data, payload, record=record, was=own)
        # Without a context: who touches a key has not seen what stands there.
        request.begin(b"", versions.values_in(shown))

    def _no_room(self) -> EverwriteError:
        """This node could only stand in, and its hints are at a cap."""
        self._local.counters.hints_refused += 1
        return too_many_hints(self._local, self._hints.notes, self._hints.kept.bytes)


def _tried(came: Come) -> bytes:
    """Return to whom a put was handed on who did not answer; empty: to nobody."""
    return came.tried if isinstance(came, TakenOver) else b""


def _encoded(record: Record, base: Record) -> bytes:
    """Return the bytes of a record that a put has made; TooLarge if they are too many, and no fewer
    than before: what two sides of a cut wrote may be too much together, and must be able to shrink.
    """
    data = versions.encode(record)
    if len(data) > RECORD_BYTES_MAX and len(data) >= len(versions.encode(base)):
        raise record_too_large(len(data))
    return data


def _parts(payload: bytes | None, mine: bytes) -> tuple[bytes, dict[bytes, int], bytes]:
    """Return (own epoch, owners of a hint, record) of the copy at hand; ``mine`` as in a route."""
    if payload is None:
        return NO_EPOCH, {}, b""
    return split_hint(payload) if mine else (payload[:8], {}, payload[8:])
