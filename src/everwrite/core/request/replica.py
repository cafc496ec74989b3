"""What a replica does for a coordinator: give its copy, or merge one into it.

A copy is an owner's (disk key ``d``) or one that this node keeps for owners that were down (``h``,
see hints/hints.py). A read joins the two. Replicas mint nothing: they store verbatim or merge
(DESIGN 4).
"""

from __future__ import annotations

import xxhash

from everwrite.core.cluster.holdings import SERVES
from everwrite.core.data import context, versions
from everwrite.core.data.versions import EMPTY
from everwrite.core.errors import ProtocolError
from everwrite.core.hints.hints import Hints
from everwrite.core.hints.kept import record_of
from everwrite.core.local import Local
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import (
    ABSENT,
    BUSY,
    FOUND,
    NOT_HERE,
    REFUSED,
    STALE_VIEW,
    UNREADABLE,
    Fetch,
    FetchReply,
    Store,
    StoreReply,
)
from everwrite.core.outbox import Place
from everwrite.core.probes import sometimes
from everwrite.core.records import HINT, MISSING, OWN, Damaged

NO_EPOCH = bytes(8)

_digest = xxhash.xxh3_64_digest


class Replica:
    """The replica side of one node."""

    def __init__(self, local: Local, hints: Hints) -> None:
        self._local = local
        self._hints = hints

    def fetch(self, source: Place, message: Fetch) -> None:
        """Answer with this node's copy of the key, or say why it can't."""
        local = self._local
        local.counters.fetches += 1
        local.pace.control.serving(local.now)
        if message.view and message.view != local.routes.placement.digest:
            local.out.send(source, FetchReply(message.rid, STALE_VIEW, b""))
            return
        key = message.key
        payload = local.records.look(OWN + key)
        if payload is MISSING:
            if not local.records.park(OWN + key, source, message, local.now):
                local.out.send(source, FetchReply(message.rid, BUSY, b""))
            return
        if isinstance(payload, Damaged):
            sometimes("a replica says that it cannot read its copy")
            local.out.send(source, FetchReply(message.rid, UNREADABLE, b""))
            return
        record = payload[8:] if payload is not None else b""  # type: ignore[index]
        if not message.digest:
            local.out.answer_bytes += len(record)
            if local.out.answer_bytes > local.config.answer_bytes_max:
                local.out.send(source, FetchReply(message.rid, BUSY, b""))
                return
        fallback = kept = False
        if self._hints.may_be_kept(key):
            joined = self._join_hint(source, message, record)
            if joined is None:
                return
            kept = joined is not record
            record, fallback = joined, payload is None and bool(joined)
        token, time_ms = b"", 0
        if message.digest:
            record = _digest(record)
        elif record and type(source) is int:
            mine = versions.decode(record)
            if versions.has_end(mine):
                if not local.clock.known:
                    # It cannot say what has ended.
                    local.out.send(source, FetchReply(message.rid, BUSY, b""))
                    return
                # A reader of several replicas goes by the latest time that any of them told.
                time_ms = local.time_ms
            seen = versions.seen_by_read(mine)
            if not versions.as_good_as_gone(mine, seen, time_ms):
                token = context.sign(local.context_key, key, seen)
        status = FOUND if payload is not None or fallback else ABSENT
        strange = local.routes.role(key) != SERVES
        if strange:
            # What it has is told all the same, but counts for nothing; a copy that it keeps for an
            # owner counts as any stand-in's.
            fallback = kept
            if not kept:
                if record:
                    sometimes("a node gives a copy of a partition that it does not serve")
                status = NOT_HERE
        known = bool(message.op) and message.op in local.recent_puts and not strange
        reply = FetchReply(message.rid, status, record, token, fallback, known, time_ms)
        local.out.send(source, reply)

    def _join_hint(self, source: Place, message: Fetch, record: bytes) -> bytes | None:
        """Return the record joined with the copy kept for others; None if an answer must
        wait or fail.
        """
        local, key = self._local, message.key
        kept = local.records.look(HINT + key)
        if kept is MISSING:
            if not local.records.park(HINT + key, source, message, local.now):
                local.out.send(source, FetchReply(message.rid, BUSY, b""))
            return None
        if isinstance(kept, Damaged):
            if kept.corrupt and (record or local.routes.role(key) == SERVES):
                sometimes("an owner answers without the damaged hint that it keeps beside")
                # Gone for good, and what an owner has is whole without it: a copy, or nothing,
                # where the key was deleted and that is over.
                return record
            sometimes("a replica says that it cannot read a hint")
            local.out.send(source, FetchReply(message.rid, UNREADABLE, b""))
            return None
        if kept is None:
            return record
        other = record_of(kept)  # type: ignore[arg-type]
        return versions.merge_bytes(record, other) if record else other

    def store(self, source: Place, message: Store) -> None:
        """Merge a record into this node's copy; the ack waits until that is as safe as was
        asked.
        """
        local = self._local
        local.counters.stores += 1
        if not local.is_timely(source, message.sent_ms):
            sometimes("a copy was read before a tombstone was collected, and comes after")
            local.counters.stale_refused += 1
            local.out.send(source, StoreReply(message.rid, REFUSED, False))
            return
        if message.hint_for and message.hint_for != local.me:
            self._hints.keep(source, message)
            return
        if not local.routes.role(message.key):
            sometimes("a node is sent a copy of a partition that it neither owns nor serves")
            local.out.send(source, StoreReply(message.rid, NOT_HERE, False))
            local.strangers.add(source)
            return
        disk_key = OWN + message.key
        payload = local.records.look(disk_key)
        if payload is MISSING:
            if not local.records.park(disk_key, source, message, local.now):
                local.out.send(source, StoreReply(message.rid, REFUSED, False))
            return
        if isinstance(payload, Damaged):
            if not (message.repair and payload.corrupt):
                sometimes("a copy is refused where the one before it cannot be read")
                local.out.send(source, StoreReply(message.rid, UNREADABLE, False))
                return
            sometimes("the join of all others takes the place of a damaged copy")
            payload = None
        base = message.base
        if base and base == local.fingerprint(payload[8:] if payload is not None else b""):  # type: ignore[index]
            epoch = payload[:8] if payload is not None else NO_EPOCH  # type: ignore[index]
            if message.plain:
                local.copies.write_plain(message.key, epoch + message.record)
            else:
                local.copies.write(message.key, epoch, message.record, payload)  # type: ignore[arg-type]
            if message.op:
                local.recent_puts.add(message.op)
            local.pace.control.serving(local.now)
            local.acknowledge(source, message)
            return
        if base:
            sometimes("a put comes to an owner that has another copy than its coordinator")
        try:
            late = not (message.op or message.touch) and source != local.me
            self._merge_in(message.key, payload, message.record, message.touch, late=late)  # type: ignore[arg-type]
        except ProtocolError:
            local.out.send(source, StoreReply(message.rid, REFUSED, False))
            return
        if message.op:
            local.recent_puts.add(message.op)
        if message.op or message.touch:
            local.pace.control.serving(local.now)
        local.acknowledge(source, message)

    def _merge_in(
        self, key: bytes, payload: bytes | None, data: bytes, touch: int, *, late: bool
    ) -> None:
        """Write the join of what is here and what came; nothing if that is what is here. ``late``:
        it comes in another way than by its put.
        """
        if not 0 <= touch < versions.END_MAX_MS:
            raise ProtocolError("A touch asks for an end that no version can have.")
        copies = self._local.copies
        theirs = versions.validate(versions.decode(data))
        if late and self._local.clock.known and (payload is None or payload[8:] != data):
            mine = versions.decode(payload[8:]) if payload is not None else EMPTY
            self._local.measures.came_late(mine, theirs, self._local.time_ms)
        if payload is None:
            copies.write(key, NO_EPOCH, data, None, record=theirs)
            return
        mine_data = payload[8:]
        if mine_data == data:
            return
        mine = versions.decode(mine_data)
        merged = versions.merge(mine, theirs)
        if touch and merged is not theirs and self._local.clock.known:
            merged = versions.touch(merged, touch, self._local.time_ms)
        if merged is theirs:
            copies.write(key, payload[:8], data, payload, record=theirs, was=mine)
        elif merged is not mine and merged != mine:
            sometimes("two copies of which each knows more are joined")
            self._local.counters.siblings_merged += 1
            data = versions.encode(merged)
            copies.write(key, payload[:8], data, payload, record=merged, was=mine)

    def expired(self, source: Place, message: Message) -> None:
        """Answer work whose deadline passed while it was parked: it is not done."""
        out = self._local.out
        if isinstance(message, Fetch):
            out.send(source, FetchReply(message.rid, BUSY, b""))
        elif isinstance(message, Store):
            out.send(source, StoreReply(message.rid, REFUSED, False))
