"""A store: one data directory, locked and labelled, whose every value is checked on its way in and
out.

    <directory>/lock              who has it open                          lock.py
    <directory>/everwrite.json    format and engine                        manifest.py
    <directory>/<engine's files>  values, each behind an 8-byte checksum   rocksdb.py, sqlite.py

The checksum is xxh3_64 over key + value, so a rotten value and a good value under another's key are
both found. A read has three ends, never two (P3): the value, None (surely absent), or
``Unreadable``. Taking the third for the second would let a node forget what it had acknowledged.

Costs: 8 bytes per value; about 0.3 microseconds per key and operation beyond the engine's own. So
``get`` and ``write`` are written out flat: they run a hundred thousand times a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec
import xxhash

from everwrite.core.errors import ConfigError, StorageError
from everwrite.storage.engine import Batch, CorruptData, Engine, Snapshot
from everwrite.storage.lock import DirectoryLock
from everwrite.storage.manifest import (
    claim_directory,
    prepare_directory,
    refuse_unfit,
    write_manifest,
)
from everwrite.storage.memory import MemoryEngine

ENGINES = ("rocksdb", "sqlite", "memory")
CHECKSUM_BYTES = 8

_digest = xxhash.xxh3_64_digest


class Unreadable(msgspec.Struct, frozen=True):
    """A key whose value cannot be read: neither found nor absent. Get it from another replica.

    ``corrupt`` is True if the bytes are there but wrong, False if the disk would not give them.
    """

    reason: str
    corrupt: bool


def open_store(directory: Path | None, engine: str = "rocksdb") -> Store:
    """Open the store in this directory, making it if it is new; the caller closes it.

    ``directory`` is None for the engine "memory", and only for it. Raises ConfigError (no such
    engine), DirectoryInUse, WrongFormat, or StorageError; a directory that is refused is left as it
    was.
    """
    if engine not in ENGINES:
        raise ConfigError(
            f"There is no storage engine {engine!r}.", hint=f"Use one of: {', '.join(ENGINES)}."
        )
    if directory is None:
        if engine != "memory":
            raise ConfigError(
                f"The engine {engine!r} needs a data directory.",
                hint="Name one with --data, or choose the engine 'memory'.",
            )
        return Store(MemoryEngine())
    if engine == "memory":
        raise ConfigError(
            "The engine 'memory' keeps nothing on disk, so it takes no data directory.",
            hint="Leave out --data, or choose 'rocksdb' or 'sqlite'.",
        )
    prepare_directory(directory)
    # Once before the lock too, since the lock leaves a file, even in somebody's documents.
    refuse_unfit(directory, engine)
    lock = DirectoryLock(directory)
    try:
        claim_directory(directory, engine)
        return Store(_open_engine(directory, engine), directory, lock)
    except BaseException:
        lock.release()
        raise


def _open_engine(directory: Path, engine: str) -> Engine:
    # Imported when chosen: a node on one engine neither needs nor loads the other's library.
    if engine == "sqlite":
        from everwrite.storage.sqlite import SqliteEngine

        return SqliteEngine(directory)
    try:
        from everwrite.storage.rocksdb import RocksEngine
    except ImportError as error:
        raise ConfigError(
            f"The RocksDB library cannot be loaded ({error}).",
            hint="pip install 'rocksdict>=0.3.29,<0.4', or use --engine sqlite, which needs none.",
        ) from error
    return RocksEngine(directory)


class Store:
    """An engine with checksums; the engine's contract holds, but for what a read returns."""

    def __init__(
        self, engine: Engine, directory: Path | None = None, lock: DirectoryLock | None = None
    ) -> None:
        self.engine = engine
        self.name = engine.name
        self.blocking_reads = engine.blocking_reads
        self.durable = engine.durable
        self.directory = directory
        self._lock = lock
        self._get = engine.get
        self._write = engine.write
        self.may_have = engine.may_have
        self.sync = engine.sync
        self.delete_range = engine.delete_range

    def get(self, key: bytes) -> bytes | Unreadable | None:
        """Return the value, None if there surely is none, or Unreadable."""
        try:
            sealed = self._get(key)
        except StorageError as error:
            return _unreadable(error)
        if sealed is None:
            return None
        value = sealed[8:]
        if _digest(key + value) == sealed[:8]:
            return value
        return _WRONG_CHECKSUM

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | Unreadable | None]:
        """Return an answer per key, as ``get`` does, all as of one moment."""
        try:
            found = self.engine.get_many(keys)
        except StorageError as error:
            return [_unreadable(error)] * len(keys)
        answers: list[bytes | Unreadable | None] = []
        for key, sealed in zip(keys, found, strict=True):
            if sealed is None:
                answers.append(None)
            elif isinstance(sealed, StorageError):
                answers.append(_unreadable(sealed))
            else:
                answers.append(_unseal(key, sealed))
        return answers

    def write(self, batch: Batch) -> None:
        """Apply all of the batch or none, as ``Engine.write`` does and with its errors."""
        self._write(
            [
                (key, value if value is None else _digest(key + value) + value)
                for key, value in batch
            ]
        )

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes | Unreadable]]:
        """Return the first ``limit`` pairs, sorted; StorageError if the range cannot be read."""
        return [
            (key, value if _digest(key + (value := sealed[8:])) == sealed[:8] else _WRONG_CHECKSUM)
            for key, sealed in self.engine.scan(start, end, limit)
        ]

    def snapshot(self) -> StoreSnapshot:
        """Return a view of this moment."""
        return StoreSnapshot(self.engine.snapshot())

    def checkpoint(self, path: Path) -> None:
        """Make at ``path`` (which must not exist yet) a copy that ``open_store`` can open."""
        if path.exists():
            raise StorageError(
                f"A checkpoint cannot be made at {path}: something is there already.",
                hint="Name a path that does not exist.",
            )
        self.engine.checkpoint(path)
        try:
            path.chmod(0o700)
            # Last, so that a checkpoint that was cut short is never opened as a whole one.
            write_manifest(path, self.name)
        except OSError as error:
            raise StorageError(
                f"The checkpoint at {path} could not be finished ({error.strerror}).",
                hint="Remove it and try again elsewhere.",
            ) from error

    def close(self) -> None:
        """Close the engine and let others have the directory. Closing twice is fine."""
        try:
            self.engine.close()
        finally:
            if self._lock is not None:
                self._lock.release()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class StoreSnapshot:
    """One moment of a store, with its checksums verified. Close it soon."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.close = snapshot.close

    def get(self, key: bytes) -> bytes | Unreadable | None:
        """As ``Store.get``, at the snapshot's moment."""
        try:
            sealed = self._snapshot.get(key)
        except StorageError as error:
            return _unreadable(error)
        return None if sealed is None else _unseal(key, sealed)

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes | Unreadable]]:
        """As ``Store.scan``, at the snapshot's moment."""
        return [
            (key, _unseal(key, sealed)) for key, sealed in self._snapshot.scan(start, end, limit)
        ]


def _unseal(key: bytes, sealed: bytes) -> bytes | Unreadable:
    value = sealed[CHECKSUM_BYTES:]
    return value if _digest(key + value) == sealed[:CHECKSUM_BYTES] else _WRONG_CHECKSUM


def _unreadable(error: StorageError) -> Unreadable:
    return Unreadable(str(error), isinstance(error, CorruptData))


_WRONG_CHECKSUM = Unreadable(
    "The value's checksum does not match its bytes and key: the disk damaged or misplaced it.",
    corrupt=True,
)
