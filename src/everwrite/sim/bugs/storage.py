"""Bugs in what a node does with its disk: acks, batches, reads that fail."""

from __future__ import annotations

from typing import Any

from everwrite.core.data import versions
from everwrite.core.local import Local
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import STORED, Store, StoreReply
from everwrite.core.node import Node
from everwrite.core.outbox import Place
from everwrite.core.records import OWN, Damaged, Records
from everwrite.core.request.replica import Replica
from everwrite.sim.bugs.registry import Patch, area
from everwrite.sim.machine import Machine

bug = area("storage")


@bug("skip-sync", "a copy is called durable when it is written", rules=("quorum", "hint"))
def _skip_sync() -> list[Patch]:
    def acknowledge(self: Local, source: Place, message: Store) -> None:
        self.out.on_write.append((source, StoreReply(message.rid, STORED, True)))

    return [(Local, "acknowledge", acknowledge)]


@bug(
    "acks-join-running-sync",
    "an ack that queues while an fsync runs goes out with it",
    rules=("quorum", "hint"),
)
def _acks_join_running_sync() -> list[Patch]:
    right = Machine._end_sync

    def end_sync(self: Machine, life: int, mark: int, acks: list[tuple[Place, Message]]) -> None:
        if life == self.life and not self.paused:
            acks += self._unsynced
            self._unsynced = []
        right(self, life, mark, acks)

    return [(Machine, "_end_sync", end_sync)]


@bug(
    "ack-failed-write",
    "a batch that was not written is acknowledged all the same",
    rules=("quorum", "hint"),
    needs=("full_disk",),
)
def _ack_failed_write() -> list[Patch]:
    def write_failed(
        self: Node, writes: dict[bytes, bytes | None], acks: list[tuple[Place, Message]]
    ) -> None:
        for place, message in acks:
            self.out.send(place, message)

    return [(Node, "write_failed", write_failed)]


@bug(
    "cache-failed-write",
    "the cache keeps what the disk refused",
    rules=("quorum", "hint"),
    needs=("full_disk",),
)
def _cache_failed_write() -> list[Patch]:
    return [(Records, "forget", lambda self, keys: None)]


@bug("store-overwrites", "a replica takes what comes in place of what it has", rules=("forgotten",))
def _store_overwrites() -> list[Patch]:
    def merge_in(
        self: Replica, key: bytes, payload: bytes | None, data: bytes, touch: int, *, late: bool
    ) -> None:
        epoch = payload[:8] if payload is not None else bytes(8)
        self._local.copies.write(key, epoch, data, payload)

    return [(Replica, "_merge_in", merge_in)]


@bug(
    "fingerprint-by-length",
    "two copies of one length are taken for the same, and the put's written over the other",
    rules=("forgotten", "frontier"),
)
def _fingerprint_by_length() -> list[Patch]:
    made = Local.__init__

    def start(self: Local, *arguments: object) -> None:
        made(self, *arguments)  # type: ignore[arg-type]
        self.fingerprint = _length  # type: ignore[assignment]

    return [(Local, "__init__", start)]


def _length(data: bytes) -> bytes:
    return len(data).to_bytes(16, "big")


@bug(
    "tombstone-reaped",
    "a copy of which only deletes are left is removed at once",
    rules=("forgotten", "quorum"),
)
def _tombstone_reaped() -> list[Patch]:
    right = Records.write

    def write(self: Records, key: bytes, payload: bytes | None, *before: Any) -> None:
        if payload and key[:1] == OWN:
            siblings = versions.decode(payload[8:]).siblings
            if all(version.value is None for version in siblings):
                payload = None
        right(self, key, payload, *before)

    return [(Records, "write", write)]


@bug(
    "unreadable-is-absent",
    "a copy that cannot be read is taken for none",
    rules=("forgotten", "frontier", "silent", "coverage"),
    needs=("read_errors",),
)
def _unreadable_is_absent() -> list[Patch]:
    def unreadable(self: Node, key: bytes, reason: str, *, corrupt: bool) -> None:
        self.loaded(key, None)

    return [(Node, "unreadable", unreadable)]


@bug(
    "repair-over-unreadable",
    "read repair replaces a copy that a disk only failed to read",
    rules=("forgotten", "hint"),
    needs=("read_errors",),
)
def _repair_over_unreadable() -> list[Patch]:
    def made(self: Damaged, reason: str, corrupt: bool) -> None:
        self.reason = reason
        self.corrupt = True

    return [(Damaged, "__init__", made)]
