"""The disk's side of a tick: batches on the loop, fsyncs and cold reads on two threads.

A write into the engine's log is a memory copy and a system call, so it is done on the loop; what
takes long is the fsync, and a read that misses every cache. Each has one thread. All acks that ask
for durability while one fsync runs share the next one: group commit for free.
"""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
from collections.abc import Callable

from everwrite.core.errors import StorageError
from everwrite.core.messages import Message
from everwrite.core.outbox import Place
from everwrite.storage.store import Store, Unreadable

BUSY_ACKS = 4
GATHER_S = 0.002
"""After an fsync that served so many acks, the next one waits so long for more to share it: under
load that takes less time than the fsyncs that it saves. A client that writes one thing after the
other does not wait.
"""

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
        self._waiting: list[Ack] = []
        self._syncing = False
        self._loop = loop
        self._syncer = Worker(loop, "everwrite-sync", broken)
        self._reader = Worker(loop, "everwrite-read", broken)

    def sync(self, acks: list[Ack]) -> None:
        """Give these acks back once all that is written by now is on the disk."""
        self._waiting += acks
        if not self._syncing:
            self._start_sync()

    def read(self, keys: list[bytes]) -> None:
        """Read these keys, on the thread where the engine may block."""
        store = self.store
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

    def close(self) -> None:
        """Finish what runs and close the store."""
        self._syncer.stop()
        self._reader.stop()
        self.store.close()

    def _start_sync(self) -> None:
        self._syncing = True
        acks, self._waiting = self._waiting, []
        sync = self.store.sync

        def job() -> Callable[[], None]:
            try:
                sync()
            except StorageError as error:
                failure = error
                return lambda: self._failed(failure)
            return lambda: self._end_sync(acks)

        self._syncer.do(job)

    def _end_sync(self, acks: list[Ack]) -> None:
        if len(acks) >= BUSY_ACKS:
            self._loop.call_later(GATHER_S, self._gathered)
        else:
            self._gathered()
        self._synced(acks)

    def _gathered(self) -> None:
        self._syncing = False
        if self._waiting:
            self._start_sync()
