"""The RocksDB engine, through ``rocksdict``: the default, fast, and with a checksum on every block.

    <directory>/rocksdb/            RocksDB's own files
    <directory>/rocksdb/SYNCED      the sequence number up to which its log was synced (mark.py)

What the binding does and does not do (measured and read for 0.3.29), and how that shapes this file:

* ``write``, ``get(key)`` and iteration hold the GIL, even through an fsync or a write stall;
  ``flush_wal``, ``flush`` and ``get([keys])`` release it. So a write is never synced and never
  waits (``no_slowdown``: a stall is StorageStalled), and ``sync`` is ``flush_wal`` in a thread that
  may wait.
* Opening an existing directory takes the column family's options from the OPTIONS file of the last
  run unless they are passed again by name: a cache or filter set only in the main options is lost.
* A directory written in raw mode (bytes as they are) and opened without it is misread. Only this
  file opens it, and always in raw mode; the manifest keeps other engines out.
* ``items()`` ends the same way at the range's end and at a read error. So scans use ``iter()`` and
  ask for its ``status()``.
* A ``Snapshot`` that is iterated shows the present, not its moment. A cursor shows the moment it
  was made at, so a snapshot here is a cursor.
* Every error is a bare ``Exception`` with RocksDB's text, the only thing to tell them apart by.

Recovery is point in time: after a crash the write-ahead log is replayed up to the first record that
is not whole, so what comes back is a prefix of the writes, never a later one without an earlier.
A prefix that ends before the mark lacks synced writes: then the directory is opened no more.

Costs: a get is 2 to 3 microseconds, a write 1 to 2 per key in batches, an idle store 10 MiB. Under
load 24 MiB of block cache fill, and write buffers of 16 MiB come and go.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar, cast

import rocksdict

from everwrite.core.errors import StorageError, StorageFull, StorageStalled, SyncFailed
from everwrite.storage.engine import Batch, CorruptData, refuse_closed, refuse_unsynced, sync_failed
from everwrite.storage.gate import Gate
from everwrite.storage.manifest import RESTORE, sync_directory, sync_file
from everwrite.storage.mark import Mark, lost_synced, read_mark

T = TypeVar("T")

FOLDER = "rocksdb"
MARK_NAME = "SYNCED"
"""Among RocksDB's files, which it leaves alone, so that a backup put in their place has none."""

BLOCK_CACHE_BYTES = 24 << 20
"""Small, as the kernel's page cache stands behind it; index and filter blocks are in it too."""

WRITE_BUFFER_BYTES = 16 << 20
WRITE_BUFFERS_MAX = 4
"""A flush takes a fraction of a second; three full buffers in waiting are seconds of writes."""

OPEN_FILES_MAX = 512
"""Half of the usual limit of 1024 descriptors; the rest is for connections."""

BLOOM_BITS = 10
"""1 % of false alarms: a look-up of an absent key skips the files that do not have it."""

BLOCK_BYTES = 4096

L0_FILES_SLOW, L0_FILES_STOP = 40, 60
"""Files awaiting compaction before writes are slowed (here: refused). Twice RocksDB's 20 and 36: a
refusal is a worse answer than the slower reads that it prevents.
"""

REOPEN_ROOM_BYTES = 4 << 20
"""Beside the log, which opening writes out as a sorted file: the manifest, a new log, a margin."""

TOMBSTONE_WINDOW = 4096
"""A file where this many neighbours are half tombstones is compacted at once."""

STALL_RETRY_MS = 50

_FREE_SOME_SPACE = "Nothing of this was written. Free some space; no restart is needed."

_LOG_FILE = re.compile(r"/\d+\.log: ")
_GIVEN_UP = "Writer has previous error"
_STALLED = ("Operation incomplete", "Result incomplete")
_FULL = ("No space left on device", "Disk quota exceeded", "File too large")
_FSYNC = ("While fsync", "While fdatasync", "While fsync directory")


class LogGivenUp(StorageFull):
    """There was no room for an append to the log, and RocksDB will append to it no more."""


class RocksEngine:
    """Keeps the Engine contract on a RocksDB directory."""

    name: ClassVar[str] = "rocksdb"
    blocking_reads: ClassVar[bool] = True
    durable: ClassVar[bool] = True

    def __init__(self, directory: Path) -> None:
        self._folder = directory / FOLDER
        self._no_wait = rocksdict.WriteOptions()
        self._no_wait.sync = False
        self._no_wait.no_slowdown = True
        self._sync_failure: SyncFailed | None = None
        self._must_reopen = False  # the log was given up; reads go on meanwhile
        self._gate = Gate(refuse_closed(self.name))
        self._snapshots: weakref.WeakSet[RocksSnapshot] = weakref.WeakSet()
        self._refuse_lost_writes()
        self._open()
        self._mark = Mark(self._folder / MARK_NAME)

    def _refuse_lost_writes(self) -> None:
        """Raise CorruptData if synced writes are missing from what RocksDB would recover.

        Asked of a read-only opening, as the real one throws the rest of a damaged log away.
        """
        marked, _ = read_mark(self._folder / MARK_NAME)
        if not marked:
            return
        options = _options()
        seen = _native(
            lambda: rocksdict.Rdict(
                str(self._folder),
                options,
                column_families={"default": options},
                access_type=rocksdict.AccessType.read_only(),
            )
        )
        recovered = seen.latest_sequence_number()
        _native(seen.close)
        if recovered < marked:
            raise lost_synced("the RocksDB store", recovered, marked)

    def _open(self) -> None:
        options = _options()
        self._db = _native(
            lambda: rocksdict.Rdict(
                str(self._folder), options, column_families={"default": options}
            )
        )
        self._db.set_write_options(self._no_wait)
        self._get = self._db.get
        self._may_have = cast("Callable[[bytes], bool]", self._db.key_may_exist)
        self._write = self._db.write

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None if there is none. Holds the GIL, through a disk read too."""
        try:
            value: bytes | None = self._get(key)
        except Exception as error:
            raise _translated(error) from error
        return value

    def may_have(self, key: bytes) -> bool:
        """Say False if the memtables and the Bloom filters in memory say that the key is absent."""
        try:
            return self._may_have(key)
        except Exception as error:
            raise _translated(error) from error

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | StorageError | None]:
        """Return the values as of one moment; releases the GIL.

        If any cannot be read the library drops them all, and each is looked up by itself.
        """
        with self._gate:
            try:
                found = _native(lambda: self._get(list(keys)))
            except StorageError:
                return [self._get_or_error(key) for key in keys]
        return cast("list[bytes | StorageError | None]", found)

    def write(self, batch: Batch) -> None:
        """Append the batch to the log and apply it; holds the GIL, but never waits in a stall."""
        self._change(lambda: self._write(_ready(batch)))

    def sync(self) -> None:
        """Fsync the write-ahead log; releases the GIL while it waits."""
        with self._gate:
            if self._sync_failure:
                raise sync_failed(self.name, "an earlier one failed")
            if self._must_reopen:
                self._sync_given_up_log()
                return
            try:
                written = self._db.latest_sequence_number()
                _native(lambda: self._db.flush_wal(True))
            except StorageError as error:
                raise self._failed_sync(error.__cause__) from error
            self._mark.set(written)

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the first pairs of the range; holds the GIL in each step, so ask for hundreds."""
        with self._gate:
            # The bound keeps the cursor from walking over tombstones beyond the range.
            bounded = rocksdict.ReadOptions()
            bounded.set_iterate_upper_bound(end)
            return _walk(self._db.iter(bounded), start, end, limit)

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Write one range tombstone: O(1), but each slows reads until compaction: for bulk only."""
        if start < end:
            self._change(lambda: self._db.delete_range(start, end, self._no_wait))

    def snapshot(self) -> RocksSnapshot:
        """Return a view of this moment: O(1)."""
        with self._gate:
            snapshot = RocksSnapshot(self._db.iter(), self._gate)
            self._snapshots.add(snapshot)
            return snapshot

    def checkpoint(self, path: Path) -> None:
        """Hard-link the immutable files and copy the rest: cheap on one file system."""
        with self._gate:
            try:
                path.mkdir(mode=0o700)
                # A checkpoint flushes with the GIL held; this flush releases it and leaves little.
                _native(self._db.flush)
                checkpoint = rocksdict.Checkpoint(self._db)
                _native(lambda: checkpoint.create_checkpoint(str(path / FOLDER)))
                sync_directory(path)
                sync_directory(path.parent)
            except OSError as error:
                raise StorageError(
                    f"The checkpoint at {path} could not be written ({error.strerror}).",
                    hint="Remove what there is of it and try again elsewhere.",
                ) from error

    def close(self) -> None:
        """Flush and close; an error here loses nothing that a sync had confirmed."""
        if not self._gate.shut():
            return
        self._close_snapshots()
        self._mark.close()
        try:
            _native(self._db.close)
        except LogGivenUp:
            self._sync_given_up_log()

    def _change(self, act: Callable[[], None]) -> None:
        if self._sync_failure:
            raise refuse_unsynced(self._sync_failure)
        if self._must_reopen:
            self._reopen()
        try:
            _native(act)
        except LogGivenUp:
            self._must_reopen = True
            raise
        except SyncFailed as error:
            self._sync_failure = error
            raise

    def _close_snapshots(self) -> None:
        # The library keeps its files open and locked until the last object that uses them is gone.
        for snapshot in list(self._snapshots):
            snapshot.close()

    def _reopen(self) -> None:
        """Open the directory again, if there is room by now; else raise StorageFull.

        RocksDB gives up a log that an append failed in, and though it says that it resumes once
        there is room, it never finds its way to a new log. Opening replays the old one: everything
        that was written is there.
        """
        logged = sum(path.stat().st_size for path in self._folder.glob("*.log"))
        self._check_room(logged + REOPEN_ROOM_BYTES)
        self._refuse_lost_writes()
        with self._gate.alone():
            self._close_snapshots()
            # It closes, and then complains of the log that it gave up; or it is closed already.
            with contextlib.suppress(StorageError):
                _native(self._db.close)
            self._open()
            self._must_reopen = False

    def _check_room(self, size: int) -> None:
        """Raise StorageFull if a file of this size cannot be had: the only answer that counts
        quotas.

        For once the directory is closed, a failure to open it would end reads too.
        """
        probe = self._folder / "room.tmp"
        try:
            with open(probe, "wb") as file:
                if sys.platform == "darwin":
                    file.write(bytes(size))
                else:
                    os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise StorageFull(
                f"The disk of the RocksDB store is full ({error.strerror}): "
                f"to go on, {size} bytes must be free.",
                hint=_FREE_SOME_SPACE,
            ) from error
        finally:
            probe.unlink(missing_ok=True)

    def _sync_given_up_log(self) -> None:
        """Fsync the log files by path: RocksDB itself no longer syncs a log that it gave up.

        What was written before is whole in it, and whoever waits for its durability can have it.
        """
        try:
            for path in sorted(self._folder.glob("*.log")):
                sync_file(path)
        except OSError as error:
            raise self._failed_sync(error.strerror) from error

    def _get_or_error(self, key: bytes) -> bytes | StorageError | None:
        try:
            return self.get(key)
        except StorageError as error:
            return error

    def _failed_sync(self, cause: object) -> SyncFailed:
        self._sync_failure = sync_failed(self.name, cause)
        return self._sync_failure


class RocksSnapshot:
    """A cursor, which shows the moment it was made at; while it lasts, what it shows stays."""

    def __init__(self, cursor: rocksdict.RdictIter, gate: Gate) -> None:
        self._cursor: rocksdict.RdictIter | None = cursor
        self._gate = gate
        self._one_at_a_time = threading.Lock()

    def get(self, key: bytes) -> bytes | None:
        """Return the value at the snapshot's moment."""
        found = self.scan(key, key + b"\x00", 1)
        return found[0][1] if found else None

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the first pairs of the range at the snapshot's moment."""
        with self._gate, self._one_at_a_time:
            if self._cursor is None:
                raise StorageError("This snapshot is closed.", hint="Take a new one.")
            return _walk(self._cursor, start, end, limit)

    def close(self) -> None:
        """Release the cursor."""
        self._cursor = None


def _walk(
    cursor: rocksdict.RdictIter, start: bytes, end: bytes, limit: int
) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    cursor.seek(start)
    while len(found) < limit and (key := cursor.key()) is not None and key < end:
        found.append((key, cursor.value()))
        cursor.next()
    _native(cursor.status)
    return found


def _native(act: Callable[[], T]) -> T:
    """Do this with the library, and turn what it complains of into an error of ours."""
    try:
        return act()
    except Exception as error:
        raise _translated(error) from error


def _ready(batch: Batch) -> rocksdict.WriteBatch:
    ready = rocksdict.WriteBatch(True)  # raw mode
    for key, value in batch:
        if value is None:
            del ready[key]
        else:
            ready[key] = value
    return ready


def _options() -> rocksdict.Options:
    table = rocksdict.BlockBasedOptions()
    table.set_block_cache(rocksdict.Cache.new_hyper_clock_cache(BLOCK_CACHE_BYTES, BLOCK_BYTES))
    # Outside of the cache they would grow with the data, without a limit.
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    table.set_block_size(BLOCK_BYTES)
    table.set_bloom_filter(BLOOM_BITS, False)
    table.set_checksum_type(rocksdict.ChecksumType.xxh3())
    table.set_format_version(5)  # 6 needs newer readers and brings nothing here
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(table)
    options.set_compression_type(rocksdict.DBCompressionType.lz4())
    options.set_wal_recovery_mode(rocksdict.DBRecoveryMode.point_in_time())
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(WRITE_BUFFERS_MAX)
    options.set_max_background_jobs(2)
    options.set_level_zero_slowdown_writes_trigger(L0_FILES_SLOW)
    options.set_level_zero_stop_writes_trigger(L0_FILES_STOP)
    options.set_max_open_files(OPEN_FILES_MAX)
    # Spreads the write-back of big files, so that no fsync has to wait for it.
    options.set_bytes_per_sync(1 << 20)
    # Hints come and go: without this, scanning past their tombstones is what a scan mostly does.
    options.add_compact_on_deletion_collector_factory(TOMBSTONE_WINDOW, TOMBSTONE_WINDOW // 2, 0.0)
    options.set_keep_log_file_num(4)
    options.set_max_log_file_size(4 << 20)
    options.set_stats_dump_period_sec(0)
    return options


def _translated(error: Exception) -> StorageError:
    """Return what an error of the library means to the caller; raise on one that is not its."""
    if isinstance(error, rocksdict.DbClosedError):
        return refuse_closed("rocksdb")
    if type(error) is not Exception:
        raise error
    text = str(error)
    if any(sign in text for sign in _FULL):
        kind = LogGivenUp if _LOG_FILE.search(text) else StorageFull
        return kind(f"The disk of the RocksDB store is full ({text}).", hint=_FREE_SOME_SPACE)
    if _GIVEN_UP in text:
        return LogGivenUp(f"RocksDB gave up its log ({text}).", hint=_FREE_SOME_SPACE)
    if text.startswith(_STALLED):
        return StorageStalled(
            "RocksDB cannot flush or compact as fast as it is written to.",
            hint="Nothing of this was written. Wait a little and try again.",
            retry_after_ms=STALL_RETRY_MS,
        )
    if any(sign in text for sign in _FSYNC):
        return sync_failed("rocksdb", text)
    if text.startswith("Corruption"):
        return CorruptData(
            f"A file of the RocksDB store is damaged ({text}).",
            hint=RESTORE,
        )
    return StorageError(
        f"The RocksDB store failed ({text}).",
        hint="Check the disk (dmesg), the directory's permissions and its free space.",
    )
