"""Deliberate bugs: what the judges must catch, or they judge nothing.

Each is switched on by name (``everwrite simulate --bug NAME --seeds 50``) and patches the core from
outside, for the time of a run; the core knows nothing of them. They are the mistakes that stores
of this kind have really made (docs/design/simulator.md says where), each as small as can be.

A bug that no seed catches any more is a hole in the judges, or a patch that a change of the core
has disarmed; the tests treat both alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import msgspec

from everwrite.core.data import context, versions
from everwrite.core.data.epochs import Epochs
from everwrite.core.data.versions import NOTHING, Record, Seen, Version
from everwrite.core.errors import ConfigError
from everwrite.core.local import Local
from everwrite.core.messages import STORED, Message, Store, StoreReply
from everwrite.core.node import Node
from everwrite.core.outbox import Outbox, Place
from everwrite.core.records import HINT, Damaged, Records
from everwrite.core.repair.hints import Deliver, Delivered, Hints
from everwrite.core.request import read, write
from everwrite.core.request.look import LookAround, LookedAround
from everwrite.core.request.read import GetRequest
from everwrite.core.request.replica import Replica
from everwrite.core.request.spread import PutRequest


class Bug(NamedTuple):
    """A mistake in one sentence, and the patch that makes it."""

    sentence: str
    plant: Callable[[], AbstractContextManager[None]]


BUGS: dict[str, Bug] = {}

Patch = tuple[Any, str, Any]


def bug(name: str, sentence: str) -> Callable[[Callable[[], list[Patch]]], None]:
    """Register a bug: a function that returns what to put where."""

    def register(patches: Callable[[], list[Patch]]) -> None:
        BUGS[name] = Bug(sentence, lambda: _planted(patches()))

    return register


@contextmanager
def _planted(patches: list[Patch]) -> Iterator[None]:
    old = [(owner, name, vars(owner)[name]) for owner, name, _ in patches]
    for owner, name, new in patches:
        setattr(owner, name, new)
    try:
        yield
    finally:
        for owner, name, value in old:
            setattr(owner, name, value)


def planted(name: str) -> AbstractContextManager[None]:
    """Return a context in which the core has this bug; ConfigError if there is none such."""
    if name not in BUGS:
        raise ConfigError(
            f"There is no deliberate bug {name!r}.", hint=f"Use one of: {', '.join(BUGS)}."
        )
    return BUGS[name].plant()


# -- acknowledgements that are not true ------------------------------------------------------------


@bug("ack-before-w", "a put is answered at its first ack")
def _ack_before_w() -> list[Patch]:
    return [(PutRequest, "_met", lambda self: self._owners + self._fallbacks >= 1)]


@bug("strict-counts-fallbacks", "stand-ins count as owners in a strict put")
def _strict_counts_fallbacks() -> list[Patch]:
    def met(self: PutRequest) -> bool:
        return self._owners + self._fallbacks >= self._w and self._durable >= self._dw

    return [(PutRequest, "_met", met)]


@bug("skip-sync", "a copy is called durable when it is written")
def _skip_sync() -> list[Patch]:
    def acknowledge(self: Local, source: Place, message: Store) -> None:
        self.out.on_write.append((source, StoreReply(message.rid, STORED, True)))

    return [(Local, "acknowledge", acknowledge)]


@bug("ack-twice", "an ack that comes twice counts twice")
def _ack_twice() -> list[Patch]:
    counted = PutRequest.stored

    def stored(self: PutRequest, source: Place, reply: StoreReply) -> None:
        owner = self.pending.get(source)  # type: ignore[arg-type]
        counted(self, source, reply)
        if owner is not None and not self._answered and type(source) is bytes:
            self.pending[source] = owner

    return [(PutRequest, "stored", stored)]


@bug("ack-failed-write", "a batch that was not written is acknowledged all the same")
def _ack_failed_write() -> list[Patch]:
    def write_failed(
        self: Node, writes: dict[bytes, bytes | None], acks: list[tuple[Place, Message]]
    ) -> None:
        for place, message in acks:
            self.out.send(place, message)

    return [(Node, "write_failed", write_failed)]


@bug("cache-failed-write", "the cache keeps what the disk refused")
def _cache_failed_write() -> list[Patch]:
    return [(Records, "forget", lambda self, keys: None)]


# -- dots that are minted twice --------------------------------------------------------------------


@bug("reuse-counters", "a node counts on after a restart under the epoch that it finds")
def _reuse_counters() -> list[Patch]:
    return [(Epochs, "continues", lambda self, own_epoch: own_epoch != 0)]


@bug("epochs-start-over", "the lease is not kept, and no salt is drawn")
def _epochs_start_over() -> list[Patch]:
    made = Epochs.__init__

    def start(self: Epochs, node_id: bytes, leased_from: int, salt: int, block: int) -> None:
        made(self, node_id, 1, 0, block)

    return [(Epochs, "__init__", start)]


@bug("epoch-outlives-failed-write", "an epoch is continued after a batch that was not written")
def _epoch_outlives_failed_write() -> list[Patch]:
    return [(Epochs, "abandon", lambda self: None)]


@bug("requests-start-over", "requests are numbered from 1 again after a restart")
def _requests_start_over() -> list[Patch]:
    return [(Epochs, "salt", 0)]


# -- merges and contexts ---------------------------------------------------------------------------


@bug("merge-drops-sibling", "a merge of two sides keeps one sibling")
def _merge_drops_sibling() -> list[Patch]:
    return [(versions, "merge", _merging(lambda siblings: siblings[:1]))]


@bug("merge-by-wall-clock", "the last writer by wall clock wins")
def _merge_by_wall_clock() -> list[Patch]:
    def last(siblings: list[Version]) -> list[Version]:
        return [max(siblings, key=lambda version: version.time_ms)]

    return [(versions, "merge", _merging(last))]


def _merging(choose: Callable[[list[Version]], list[Version]]) -> Callable[..., Record]:
    right = versions.merge

    def merge(mine: Record, theirs: Record) -> Record:
        merged = right(mine, theirs)
        if merged is mine or merged is theirs or len(merged.siblings) < 2:
            return merged
        return Record(merged.clock, choose(merged.siblings))

    return merge


@bug("store-overwrites", "a replica takes what comes in place of what it has")
def _store_overwrites() -> list[Patch]:
    def merge_in(self: Replica, disk_key: bytes, payload: bytes | None, data: bytes) -> None:
        epoch = payload[:8] if payload is not None else bytes(8)
        self._local.records.write(disk_key, epoch + data)
        self._local.has_data = True

    return [(Replica, "_merge_in", merge_in)]


@bug("put-drops-unseen", "a put drops all siblings, seen or not")
def _put_drops_unseen() -> list[Patch]:
    return [(versions, "put", _putting(lambda record, seen: Seen(record.clock, seen.dots)))]


@bug("put-ignores-context", "a put drops nothing, whatever its writer saw")
def _put_ignores_context() -> list[Patch]:
    return [(versions, "put", _putting(lambda record, seen: NOTHING))]


def _putting(seeing: Callable[[Record, Seen], Seen]) -> Callable[..., Record]:
    right = versions.put

    def put(record: Record, seen: Seen, written: Version) -> Record:
        return right(record, seeing(record, seen), written)

    return put


@bug("context-covers-unseen", "the answer to a put claims that its writer saw all siblings")
def _context_covers_unseen() -> list[Patch]:
    return [(versions, "seen_after", lambda record, seen, written: Seen(record.clock, []))]


@bug("accept-foreign-context", "contexts are not checked against key and signature")
def _accept_foreign_context() -> list[Patch]:
    return [(context, "verify", lambda secret, data_key, token: context.peek(token))]


@bug("session-ignored", "a read answers its session whatever the replicas know")
def _session_ignored() -> list[Patch]:
    return [(read, "_knows", lambda record, seen: True)]


# -- retries ---------------------------------------------------------------------------------------


@bug("retry-does-not-look", "a retried put is minted without asking the other replicas")
def _retry_does_not_look() -> list[Patch]:
    def begin(self: LookAround) -> None:
        self._local.out.send(self._local.me, LookedAround(self._source, self._put))

    return [(LookAround, "begin", begin)]


@bug("retry-not-recognised", "a put whose id stands in the record is minted again")
def _retry_not_recognised() -> list[Patch]:
    return [(write, "find_op", lambda record, op: None)]


@bug("retry-surely-failed", "a retry that is refused is said not to have happened")
def _retry_surely_failed() -> list[Patch]:
    def refuse(self: write.Writes, source: Place, put: Any, error: Any) -> None:
        self._local.fail(source, put.rid, error)

    return [(write.Writes, "_refuse", refuse)]


# -- repair ----------------------------------------------------------------------------------------


@bug("repair-drops-sibling", "read repair gives the owner one sibling less")
def _repair_drops_sibling() -> list[Patch]:
    right = Outbox.send

    def send(self: Outbox, place: Place, message: Message) -> None:
        if type(message) is Store and message.repair and not message.rid:
            record = versions.decode(message.record)
            if len(record.siblings) > 1:
                less = versions.encode(Record(record.clock, record.siblings[:-1]))
                message = msgspec.structs.replace(message, record=less)
        right(self, place, message)

    return [(Outbox, "send", send)]


@bug("no-read-repair", "owners that lag behind are left so")
def _no_read_repair() -> list[Patch]:
    return [(GetRequest, "_repair", lambda self: None)]


@bug("hint-not-written", "a hint is acknowledged, and not written")
def _hint_not_written() -> list[Patch]:
    return [(Hints, "write", lambda self, *arguments: None)]


@bug("hint-overwrites", "a second hint for a key takes the place of the first")
def _hint_overwrites() -> list[Patch]:
    right = Hints.write

    def write_hint(
        self: Hints,
        key: bytes,
        epoch: bytes,
        owners: list[bytes],
        owner: bytes,
        mine: bytes,
        theirs: bytes,
    ) -> None:
        right(self, key, epoch, owners, owner, b"", theirs)

    return [(Hints, "write", write_hint)]


@bug("hint-deleted-early", "a hint is struck out when it is sent, not when it is kept")
def _hint_deleted_early() -> list[Patch]:
    right = Hints.send

    def send(self: Hints, message: Deliver) -> None:
        right(self, message)
        payload = self._local.records.look(HINT + message.key)
        if isinstance(payload, bytes):
            record = self.record_of(payload)
            self.strike_out(Delivered(message.key, message.owner, record))

    return [(Hints, "send", send)]


@bug("hints-stay", "hints are never delivered")
def _hints_stay() -> list[Patch]:
    return [(Hints, "_fill", lambda self, owner: None)]


@bug("unreadable-is-absent", "a copy that cannot be read is taken for none")
def _unreadable_is_absent() -> list[Patch]:
    def unreadable(self: Node, key: bytes, reason: str, *, corrupt: bool) -> None:
        self.loaded(key, None)

    return [(Node, "unreadable", unreadable)]


@bug("repair-over-unreadable", "read repair replaces a copy that a disk only failed to read")
def _repair_over_unreadable() -> list[Patch]:
    def made(self: Damaged, reason: str, corrupt: bool) -> None:
        self.reason = reason
        self.corrupt = True

    return [(Damaged, "__init__", made)]


@bug("requests-leak", "a put that was answered stays in the table")
def _requests_leak() -> list[Patch]:
    def wake(self: PutRequest) -> None:
        if not self._answered:
            right(self)

    right = PutRequest.wake
    return [(PutRequest, "wake", wake)]
