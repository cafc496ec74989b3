"""The contract that every storage engine keeps: RocksDB, SQLite, memory, and those that others add.

An engine is a sorted map from bytes to bytes on one machine. It is synchronous and knows neither
records nor checksums; ``store.py`` adds those once for all engines. All engines pass one suite
(``tests/storage``), in which the memory engine is the model.

Three levels of safety, and who asks for which:

    write() returned    visible to every read; outlives kill -9 of this process, not a power cut
    sync() returned     everything written before the call was made is on the disk
    checkpoint()        a second copy that can be opened, or carried away

Threads: ``get``, ``get_many``, ``scan`` and ``snapshot`` may be called from any thread at any time.
``write`` and ``delete_range`` come from one thread at a time. ``sync`` may run in one other thread
meanwhile.

The rule of fsync: it fails once. After a failed fsync the kernel may have dropped the dirty pages
and call the next one a success ("fsyncgate", PostgreSQL 2018), so an engine that saw one fail
raises SyncFailed for ever after and takes no more writes; reads go on. Only opening again, which
reads what the disk really has, ends this.

Source: Dynamo 4.1 (the pluggable local persistence engine).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from everwrite.core.errors import StorageError, SyncFailed

Batch = Sequence[tuple[bytes, bytes | None]]
"""What to write, in order; None deletes. Of two entries with one key the later one counts."""


class CorruptData(StorageError):
    """The engine's own check says that bytes on the disk are not those that were written."""


class Snapshot(Protocol):
    """The state at one moment. Hold it briefly: it keeps old data on the disk."""

    def get(self, key: bytes) -> bytes | None:
        """As ``Engine.get``, at the snapshot's moment."""

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """As ``Engine.scan``, at the snapshot's moment."""

    def close(self) -> None:
        """Let go of the old data. Closing twice is fine; so is closing after the engine."""


class Engine(Protocol):
    """A sorted map from bytes to bytes (see the module's text for threads, safety and fsync)."""

    name: ClassVar[str]
    """"rocksdb", "sqlite" or "memory": what the manifest records."""

    blocking_reads: ClassVar[bool]
    """Whether a read may wait for a disk. False: an event loop may call ``get`` itself."""

    durable: ClassVar[bool]
    """Whether anything outlives the process. False: no ack of such a node counts as fsynced."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value, None if there surely is none; StorageError if that is not known."""

    def may_have(self, key: bytes) -> bool:
        """Say False only if the key is surely absent and that can be told without the disk.

        Takes about a microsecond: a caller on the loop saves a trip to a thread.
        """
        ...

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | StorageError | None]:
        """Return an answer per key, all as of one moment; an unreadable key gets its own error.

        Releases the GIL while it waits for the disk, if the engine has one.
        """

    def write(self, batch: Batch) -> None:
        """Apply all of the batch or none, visibly and safe from kill -9 (not from power loss) on
        return.

        Raises, with nothing applied: StorageFull (no room), StorageStalled (pause, then try again),
        SyncFailed (an earlier fsync failed), StorageError (the disk's or the engine's trouble).
        """

    def sync(self) -> None:
        """Put on the disk all that was written before this call. Releases the GIL while it waits.

        Raises SyncFailed, once and then for ever: the engine takes no more writes.
        """

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the first ``limit`` pairs with start <= key < end, sorted by key; StorageError
        rather than a gap.

        To go on, scan from the last key + b"\\x00".
        """

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Delete every key with start <= key < end, atomically. Raises as ``write`` does."""

    def snapshot(self) -> Snapshot:
        """Return a view of this moment."""

    def checkpoint(self, path: Path) -> None:
        """Make at ``path``, which must not exist yet, a durable copy that this engine can open."""

    def close(self) -> None:
        """Let go of everything; later calls raise StorageError. Closing twice is fine."""


def refuse_closed(name: str) -> StorageError:
    """Return the error for the use of a closed engine."""
    return StorageError(f"This {name} store is closed.", hint="Open it again to go on.")


def sync_failed(name: str, cause: object) -> SyncFailed:
    """Return the error for a failed fsync, which the engine raises at once and keeps."""
    return SyncFailed(
        f"An fsync of the {name} store failed ({cause}).",
        outcome="unknown",
        hint=_AFTER_FAILED_SYNC,
    )


def refuse_unsynced(first: SyncFailed) -> SyncFailed:
    """Return the error for a write after a failed fsync: this one has surely not happened."""
    return SyncFailed(f"Nothing was written: {first.message}", hint=first.hint)


_AFTER_FAILED_SYNC = (
    "What was written since the last good one may be lost, and no more is taken. Check the disk "
    "(dmesg, smartctl), then restart this node, or replace it if the disk is bad."
)
