"""The SQLite engine: one file, no wheel needed, readable with the ``sqlite3`` command.

    <directory>/everwrite.sqlite        table kv(key, value), sorted by key
    <directory>/everwrite.sqlite-wal    what was committed lately
    <directory>/everwrite.sqlite-synced how many of its frames were synced (mark.py)

WAL mode with synchronous=NORMAL, so a commit is a plain write (safe from kill -9, not from a power
cut) and this engine decides when to fsync: ``sync`` calls fsync on the WAL file itself, from the
caller's thread, while the writer goes on. SQLite fsyncs on its own only around a checkpoint (WAL,
then database, then the new WAL's header), so at each moment a commit is in a WAL that ``sync`` will
reach or in a database that was fsynced.

SQLite's own automatic checkpoint is off, because it hides its errors, failed fsyncs among them.
Ours runs in ``sync`` (a worker thread) when it is due, or in ``write`` when nobody syncs.

A WAL is replayed up to the first frame whose checksum does not fit, wherever that is. So after each
sync the mark names the WAL (by the salts of its header, new each time that it starts over) and how
many frames it had. What SQLite recovered at the next start stands in the head of its shared memory
file, whose form is documented (sqlite.org/walformat.html, 2.1).

Known limit: SQLite has no page checksums. Values are covered by the store's, a torn WAL by
SQLite's; but a key that rots on the disk is not found under its name, and only a scan notices. Who
needs more takes RocksDB.

Costs: a get is about 7 microseconds, a write 5 to 20 per key in batches; both release the GIL.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from everwrite.core.errors import StorageError, StorageFull, StorageStalled, SyncFailed
from everwrite.storage.engine import (
    Batch,
    CorruptData,
    refuse_closed,
    refuse_unsynced,
    sync_failed,
)
from everwrite.storage.manifest import RESTORE, sync_directory, sync_file
from everwrite.storage.mark import Mark, lost_synced, read_mark

FILE_NAME = "everwrite.sqlite"

WAL_BYTES = 8 << 20
"""A checkpoint is due when this much may be in the WAL; SQLite's own default is 4 MiB."""

WAL_BYTES_UNSYNCED = 4 * WAL_BYTES
"""Then the writer itself makes it: only a caller that never syncs comes here."""

PAGE_BYTES = 4096
READERS_MAX = 8

_WAL_HEAD_BYTES = 32
_SHARED_HEAD_BYTES = 48
_MAGIC = b"\x37\x7f\x06"
_FRAMES = struct.Struct("=I")
_FRAMES_AT, _SALTS_AT = 16, 32
READER_WAITS_S = 1.0
"""Another process (a person with the sqlite3 command) may lock the file for a moment."""

_GET = "SELECT value FROM kv WHERE key = ?"
_PUT = "INSERT INTO kv VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_DELETE = "DELETE FROM kv WHERE key = ?"
_SCAN = "SELECT key, value FROM kv WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
_DELETE_RANGE = "DELETE FROM kv WHERE key >= ? AND key < ?"


class SqliteEngine:
    """Keeps the Engine contract on one SQLite file."""

    name: ClassVar[str] = "sqlite"
    blocking_reads: ClassVar[bool] = True
    durable: ClassVar[bool] = True

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._wal_path = directory / f"{FILE_NAME}-wal"
        self._mark_path = directory / f"{FILE_NAME}-synced"
        self._closed = False
        self._sync_failure: SyncFailed | None = None
        self._wal_bytes = 0
        self._readers: list[sqlite3.Connection] = []
        self._snapshots: weakref.WeakSet[SqliteSnapshot] = weakref.WeakSet()
        # Held by sync, by a checkpoint of the WAL and by close, never by a read or a plain write.
        self._sync_lock = threading.Lock()
        marked = read_mark(self._mark_path)
        try:
            head = _head_of(self._wal_path)
            self._writer = self._connect(waits_s=0)
            self._writer.execute("SELECT count(*) FROM sqlite_master").fetchall()
            self._shared = os.open(f"{self._path}-shm", os.O_RDONLY | os.O_CLOEXEC)
            self._refuse_lost_writes(marked, head)
            self._writer.execute(
                "CREATE TABLE IF NOT EXISTS kv "
                "(key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) WITHOUT ROWID"
            )
            self._janitor = self._connect(waits_s=0)
            self._janitor.execute(_GET, (b"",)).fetchall()
            # The WAL file lives as long as a connection does, so one descriptor serves for all
            # fsyncs; and one that stays open is told of every write-back error (fsync reports each
            # once per descriptor).
            self._wal = os.open(self._wal_path, os.O_RDONLY | os.O_CLOEXEC)
            self._mark = Mark(self._mark_path)
            sync_directory(directory)
        except sqlite3.Error as error:
            raise _translated(error) from error
        except OSError as error:
            raise StorageError(
                f"The SQLite store in {directory} cannot be opened ({error.strerror}).",
                hint="Check the directory's permissions and free space.",
            ) from error

    def _refuse_lost_writes(self, marked: tuple[int, int], head: bytes) -> None:
        """Raise CorruptData if the WAL was synced further than SQLite has recovered it.

        The WAL of another name than the mark's was begun after that one was folded.
        """
        salts, frames = marked
        recovered = _log_of(self._shared) or (0, 0)
        begun_anew = _is_head(head) and head[16:24] != salts.to_bytes(8, "big")
        if not frames or begun_anew or (recovered[0] == salts and recovered[1] >= frames):
            return
        self._writer.close()
        os.close(self._shared)
        raise lost_synced("the SQLite store", recovered[1] if recovered[0] == salts else 0, frames)

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None if there is none."""
        reader = self._borrow()
        try:
            row = reader.execute(_GET, (key,)).fetchone()
        except sqlite3.Error as error:
            raise _translated(error) from error
        finally:
            self._give_back(reader)
        return None if row is None else row[0]

    def may_have(self, key: bytes) -> bool:
        """Say True: SQLite has no filter to ask."""
        return True

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | StorageError | None]:
        """Return the values, all from one read transaction."""
        reader = self._borrow()
        try:
            reader.execute("BEGIN")
            return [_get_or_error(reader, key) for key in keys]
        except sqlite3.Error as error:
            raise _translated(error) from error
        finally:
            self._give_back(reader)

    def write(self, batch: Batch) -> None:
        """Commit the batch as one transaction."""
        last = dict(batch)
        puts = [(key, value) for key, value in last.items() if value is not None]
        with self._transaction() as connection:
            connection.executemany(_PUT, puts)
            if len(puts) < len(last):
                dead = [(key,) for key, value in last.items() if value is None]
                connection.executemany(_DELETE, dead)
        self._wal_bytes += PAGE_BYTES * len(last) + sum(len(value) for _, value in puts)
        if self._wal_bytes > WAL_BYTES_UNSYNCED and self._sync_lock.acquire(blocking=False):
            try:
                self._fold_wal()
            finally:
                self._sync_lock.release()

    def sync(self) -> None:
        """Fsync the WAL; then fold it if that is due, since this thread may wait."""
        with self._sync_lock:
            self._check_open()
            if self._sync_failure:
                raise sync_failed(self.name, "an earlier one failed")
            try:
                log = _log_of(self._shared)
                os.fsync(self._wal)
            except OSError as error:
                raise self._noted(sync_failed(self.name, error.strerror)) from error
            if log is not None:
                self._mark.set(*log)
            if self._wal_bytes > WAL_BYTES:
                self._fold_wal()
                if self._sync_failure:
                    raise self._sync_failure

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the first pairs of the range."""
        reader = self._borrow()
        try:
            return reader.execute(_SCAN, (start, end, limit)).fetchall()
        except sqlite3.Error as error:
            raise _translated(error) from error
        finally:
            self._give_back(reader)

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Delete the range in one transaction: linear in its size."""
        with self._transaction() as connection:
            deleted = connection.execute(_DELETE_RANGE, (start, end)).rowcount
        self._wal_bytes += PAGE_BYTES * deleted

    def snapshot(self) -> SqliteSnapshot:
        """Return a read transaction of its own connection."""
        self._check_open()
        try:
            snapshot = SqliteSnapshot(self._connect(waits_s=READER_WAITS_S))
        except sqlite3.Error as error:
            raise _translated(error) from error
        self._snapshots.add(snapshot)
        return snapshot

    def checkpoint(self, path: Path) -> None:
        """Copy the file page by page from one read transaction, then fsync the copy."""
        self._check_open()
        reader = self._borrow()
        try:
            path.mkdir(mode=0o700)
            copy = sqlite3.connect(path / FILE_NAME, isolation_level=None)
            try:
                reader.backup(copy)
            finally:
                copy.close()
            sync_file(path / FILE_NAME)
            sync_directory(path)
            sync_directory(path.parent)
        except sqlite3.Error as error:
            raise _translated(error) from error
        except OSError as error:
            raise StorageError(
                f"The checkpoint at {path} could not be written ({error.strerror}).",
                hint="Remove what there is of it and try again elsewhere.",
            ) from error
        finally:
            self._give_back(reader)

    def close(self) -> None:
        """Close every connection; the last one folds the WAL into the database."""
        with self._sync_lock:
            if self._closed:
                return
            self._closed = True
            for snapshot in list(self._snapshots):
                snapshot.close()
            while self._readers:
                self._readers.pop().close()
            self._fold_wal()
            self._mark.close()
            self._janitor.close()
            self._writer.close()
            os.close(self._wal)
            # Last: to close any descriptor of this file lets go of SQLite's locks on it.
            os.close(self._shared)

    def _connect(self, waits_s: float) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=waits_s, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
            connection.execute("PRAGMA cell_size_check = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _borrow(self) -> sqlite3.Connection:
        # A pool rather than a connection per thread: threads of a pool come and go. list.pop is
        # atomic.
        try:
            return self._readers.pop()
        except IndexError:
            self._check_open()
        try:
            return self._connect(waits_s=READER_WAITS_S)
        except sqlite3.Error as error:
            raise _translated(error) from error

    def _give_back(self, reader: sqlite3.Connection) -> None:
        if reader.in_transaction:
            reader.rollback()
        if self._closed or len(self._readers) >= READERS_MAX:
            reader.close()
        else:
            self._readers.append(reader)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._check_writable()
        writer = self._writer
        try:
            writer.execute("BEGIN IMMEDIATE")
            yield writer
            writer.execute("COMMIT")
        except sqlite3.Error as error:
            if not self._closed and writer.in_transaction:
                writer.rollback()
            raise self._noted(_translated(error)) from error

    def _fold_wal(self) -> None:
        """Copy the WAL into the database, so that it starts over; the caller holds the sync lock.

        Nobody's write depends on it: what could not be folded stays in the WAL, and the next one
        tries again. But a failed fsync in it counts as any other.
        """
        try:
            _, frames, folded = self._janitor.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            self._noted(_translated(error))
            return
        # What a reader still needs stays; it counts by half, lest every sync try again.
        self._wal_bytes = 0 if frames == folded else PAGE_BYTES * (frames - folded) // 2
        if frames == folded:
            self._mark.set(0)  # it may be begun anew now, or be removed by whoever closes it last

    def _noted(self, error: StorageError) -> StorageError:
        if isinstance(error, SyncFailed):
            self._sync_failure = error
        return error

    def _check_open(self) -> None:
        if self._closed:
            raise refuse_closed(self.name)

    def _check_writable(self) -> None:
        self._check_open()
        if self._sync_failure:
            raise refuse_unsynced(self._sync_failure)


class SqliteSnapshot:
    """A read transaction; while it lasts, the WAL cannot start over."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.execute("BEGIN")
        # BEGIN alone takes no snapshot: the first read does.
        connection.execute(_GET, (b"",)).fetchall()

    def get(self, key: bytes) -> bytes | None:
        """Return the value at the snapshot's moment."""
        try:
            row = self._connection.execute(_GET, (key,)).fetchone()
        except sqlite3.Error as error:
            raise _translated(error) from error
        return None if row is None else row[0]

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the first pairs of the range at the snapshot's moment."""
        try:
            return self._connection.execute(_SCAN, (start, end, limit)).fetchall()
        except sqlite3.Error as error:
            raise _translated(error) from error

    def close(self) -> None:
        """End the read transaction."""
        self._connection.close()


def _log_of(shared: int) -> tuple[int, int] | None:
    """Return the WAL's name (its salts) and how many frames of it count; None while a commit is
    changing that.
    """
    raw = os.pread(shared, 2 * _SHARED_HEAD_BYTES, 0)
    if raw[:_SHARED_HEAD_BYTES] != raw[_SHARED_HEAD_BYTES:]:
        return None
    salts = int.from_bytes(raw[_SALTS_AT : _SALTS_AT + 8], "big")
    return salts, _FRAMES.unpack_from(raw, _FRAMES_AT)[0]


def _head_of(wal: Path) -> bytes:
    try:
        with open(wal, "rb") as file:
            return file.read(_WAL_HEAD_BYTES)
    except FileNotFoundError:
        return b""


def _is_head(head: bytes) -> bool:
    """Say whether this is the head of a WAL, by the checksum that SQLite goes by."""
    if len(head) < _WAL_HEAD_BYTES or head[:3] != _MAGIC:
        return False
    one = two = 0
    words = struct.unpack(">6I" if head[3] & 1 else "<6I", head[:24])
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & 0xFFFFFFFF
        two = (two + odd + one) & 0xFFFFFFFF
    return struct.pack(">2I", one, two) == head[24:]


def _get_or_error(reader: sqlite3.Connection, key: bytes) -> bytes | StorageError | None:
    try:
        row = reader.execute(_GET, (key,)).fetchone()
    except sqlite3.Error as error:
        return _translated(error)
    return None if row is None else row[0]


def _translated(error: sqlite3.Error) -> StorageError:
    """Return what an error of the library means to the caller."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # The library answers a closed connection with a ProgrammingError that has no code.
        return refuse_closed("sqlite")
    if code in (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC):
        return sync_failed("sqlite", error)
    match code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return StorageFull(
                f"The disk of the SQLite store is full ({error}).",
                hint="Nothing of this was written. Free some space; no restart is needed.",
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StorageStalled(
                f"Another program holds the SQLite file ({error}).",
                hint="Nothing of this was written. Try again when that program is done.",
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return CorruptData(
                f"The SQLite file is damaged ({error}).",
                hint=RESTORE,
            )
    return StorageError(
        f"The SQLite store failed ({error}, {error.sqlite_errorname}).",
        hint="Check the disk (dmesg) and the directory's permissions.",
    )
