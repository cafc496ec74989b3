"""The disk's side of a tick: batches on the loop, fsyncs, cold reads and scans on a thread each.

A write into the engine's log is a memory copy and a system call, so it is done on the loop; what
takes long is the fsync, and a read that misses every cache. Each has one thread. All acks that ask
for durability while one fsync runs share the next one: group commit for free.
"""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
import time
from collections.abc import Callable

from everwrite.core.errors import StorageError
from everwrite.core.messages.message import Message
from everwrite.core.moving.ranges import Scan, Scanned
from everwrite.core.outbox import Place
from everwrite.core.records import Damaged
from everwrite.core.tally import Tally
from everwrite.storage.store import Store, Unreadable

BUSY_ACKS = 4
GATHER_S = 0.002
"""After an fsync that served so many acks, the next one waits so long for more to share it: under
load that takes less time than the fsyncs that it saves. A client that writes one thing after the
other does not wait.
"""

SYNC_HANGS_MS = 50
"""An fsync that runs for longer is slow, whenever it will end."""
SYNC_SAYS_MS = 5_000
"""For how long an fsync says how fast the disk is: ten rounds of pings."""

SCAN_PAGE = 32
"""Keys of one call to the engine, which holds the interpreter meanwhile: a quarter of a
millisecond."""
SCAN_PAGE_QUICK = 1024
"""While nobody else wants the interpreter."""
SCAN_REST_S = 0.0005
"""A pause after each page. The interpreter goes to another thread only after 5 ms, unless who has
it waits for something: without a pause, each request would wait for a whole scan."""

Ack = tuple[Place, Message]
Found = bytes | Unreadable | None


class Worker:
    """One thread that does one job at a time, and says on the loop when each is done.

    An error that a job does not handle ends the thread, after ``broken`` heard of it on the loop.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, name: str, broken: Callable[[BaseException], None]
    ) -> None:
        self._loop = loop
        self._broken = broken
        self._jobs: queue.SimpleQueue[Callable[[], Callable[[], None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def do(self, job: Callable[[], Callable[[], None]]) -> None:
        """Run ``job`` on the thread, and what it returns on the loop."""
        self._jobs.put(job)

    def stop(self) -> None:
        """End after the jobs that were given; waits for them."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                then = job()
            except BaseException as error:
                self._tell(functools.partial(self._broken, error))
                raise
            if not self._tell(functools.partial(self._finish, then)):
                return

    def _tell(self, what: Callable[[], None]) -> bool:
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:  # the loop has closed: nobody waits for the result any more
            return False
        return True

    def _finish(self, then: Callable[[], None]) -> None:
        try:
            then()
        except BaseException as error:
            self._broken(error)
            raise


class Disk:
    """One node's store, as the driver uses it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        store: Store,
        *,
        synced: Callable[[list[Ack]], None],
        loaded: Callable[[list[bytes], list[Found]], None],
        failed: Callable[[StorageError], None],
        broken: Callable[[BaseException], None],
    ) -> None:
        self.store = store
        self.write = store.write
        self._synced = synced
        self._loaded = loaded
        self._failed = failed
        self.syncs = Tally()
        """Microseconds of each fsync, on its thread."""
        self.acks = 0
        """Acks that waited for one."""
        self.cold_reads = 0
        """Keys that were read on a thread, since no cache had them."""
        self._waiting: list[Ack] = []
        self._syncing = False
        self._sync_ms = -1.0
        self._synced_at = 0
        self._sync_since = -1
        """When the fsync that runs now was asked for; -1: none runs."""
        self._owes_sync = False
        self._loop = loop
        self._syncer = Worker(loop, "everwrite-sync", broken)
        self._reader = Worker(loop, "everwrite-read", broken)
        self._broken = broken
        self._scanner: Worker | None = None

    def scan(self, scan: Scan, done: Callable[[Scan, Scanned | StorageError], None]) -> None:
        """Read a range, a page at a time, on a thread of its own: moves must not hold up reads."""
        store = self.store
        if self._scanner is None:
            self._scanner = Worker(self._loop, "everwrite-scan", self._broken)

        def job() -> Callable[[], None]:
            try:
                found: Scanned | StorageError = _scan(store, scan)
            except StorageError as error:
                found = error
            return lambda: done(scan, found)

        self._scanner.do(job)

    def sync(self, acks: list[Ack]) -> None:
        """Give these acks back once all that is written by now is on the disk."""
        self._waiting += acks
        if not self._syncing:
            self._start_sync()

    @property
    def syncing(self) -> bool:
        """Whether acks wait for an fsync."""
        return self._sync_since >= 0 or bool(self._waiting)

    def sync_ms(self, now: int) -> int:
        """Return what an fsync takes, smoothed; -1 if there was none lately. One that hangs counts
        while it does.
        """
        runs = now - self._sync_since if self._sync_since >= 0 else -1
        known = self._sync_ms if now - self._synced_at <= SYNC_SAYS_MS else -1.0
        return round(max(known, runs if runs > SYNC_HANGS_MS else -1))

    def read(self, keys: list[bytes]) -> None:
        """Read these keys, on the thread where the engine may block."""
        store = self.store
        self.cold_reads += len(keys)
        if not store.blocking_reads:
            self._loaded(keys, store.get_many(keys))
            return
        loaded = self._loaded
        absent = [key for key in keys if self._surely_absent(key)]
        if absent:
            loaded(absent, [None] * len(absent))
            if len(absent) == len(keys):
                return
            gone = set(absent)
            self.cold_reads -= len(absent)
            keys = [key for key in keys if key not in gone]

        def job() -> Callable[[], None]:
            found = store.get_many(keys)
            return lambda: loaded(keys, found)

        self._reader.do(job)

    def _surely_absent(self, key: bytes) -> bool:
        """Say whether memory alone proves that a key is absent: then no thread is asked. A first
        write to a key comes here on every replica.
        """
        try:
            return not self.store.may_have(key)
        except StorageError:
            return False  # the thread will hear the same, key by key

    def write_at_last(self, key: bytes, value: bytes) -> None:
        """Write what must be on the disk by the time that this is closed."""
        self.store.write([(key, value)])
        self._owes_sync = True

    def close(self) -> None:
        """Finish what runs and close the store."""
        self._syncer.stop()
        self._reader.stop()
        if self._scanner is not None:
            self._scanner.stop()
        try:
            if self._owes_sync:
                self.store.sync()
        finally:
            self.store.close()

    def _start_sync(self) -> None:
        self._syncing = True
        acks, self._waiting = self._waiting, []
        sync = self.store.sync
        self._sync_since = _now_ms()

        def job() -> Callable[[], None]:
            began = time.monotonic()  # on this thread: a busy loop is not the disk's doing
            try:
                sync()
            except StorageError as error:
                failure = error
                return lambda: self._failed(failure)
            took_ms = (time.monotonic() - began) * 1000
            return lambda: self._end_sync(acks, took_ms)

        self._syncer.do(job)

    def _end_sync(self, acks: list[Ack], took_ms: float) -> None:
        self._sync_since, now = -1, _now_ms()
        self.syncs.add(round(took_ms * 1000))
        self.acks += len(acks)
        if self._sync_ms < 0 or now - self._synced_at > SYNC_SAYS_MS:
            self._sync_ms = took_ms
        else:
            self._sync_ms += (took_ms - self._sync_ms) / 4
        self._synced_at = now
        if len(acks) >= BUSY_ACKS:
            self._loop.call_later(GATHER_S, self._gathered)
        else:
            self._gathered()
        self._synced(acks)

    def _gathered(self) -> None:
        self._syncing = False
        if self._waiting:
            self._start_sync()


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _scan(store: Store, scan: Scan) -> Scanned:
    pairs: list[tuple[bytes, bytes | Damaged]] = []
    start, size = scan.start, 0
    page_keys = SCAN_PAGE_QUICK if scan.quick else SCAN_PAGE
    while len(pairs) < scan.keys and size < scan.size:
        page = store.scan(start, scan.end, min(page_keys, scan.keys - len(pairs)))
        if not page:
            return Scanned(pairs, False)
        payloads = [payload for _, payload in page]
        whole = Unreadable not in map(type, payloads)
        if whole and (fits := size + sum(map(len, payloads))) < scan.size:  # type: ignore[arg-type]
            pairs += page  # type: ignore[arg-type]
            size = fits
        else:
            for at, (key, payload) in enumerate(page):
                if isinstance(payload, Unreadable):
                    pairs.append((key, Damaged(payload.reason, payload.corrupt)))
                else:
                    pairs.append((key, payload))
                    size += len(payload)
                if size >= scan.size:
                    page = page[: at + 1]
                    break
        start = page[-1][0] + b"\0"
        if not scan.quick:
            time.sleep(SCAN_REST_S)
    return Scanned(pairs, bool(store.scan(start, scan.end, 1)))
