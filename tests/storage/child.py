"""What the storage tests do in a process of its own: ``python -m tests.storage.child WHAT ENGINE
DIRECTORY ...``.

Each function below is one WHAT. It asserts for itself and ends with an exit code; what it prints,
the test reads.
"""

from __future__ import annotations

import errno
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from tests.storage.broken_disk import READS, SYNCS, WRITES, let_fail
from tests.storage.stores import batch, key

from everwrite.core.errors import EverwriteError, StorageError, StorageFull, SyncFailed
from everwrite.storage.store import Store, Unreadable, open_store

GROUP = [b"group%d" % number for number in range(8)]


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


def raised(act: Callable[[], object]) -> EverwriteError:
    try:
        act()
    except EverwriteError as error:
        return error
    raise AssertionError("no error was raised")


def write_for_ever(store: Store, first: int) -> None:
    """Write batch after batch, each with its number in all of a group of keys; say each
    acknowledgement.
    """
    number = first
    while True:
        padding = b"." * (number % 37 * 100)
        group = [(name, b"%d" % number + padding) for name in GROUP]
        store.write([*group, (key(number), b"%d" % number)])
        say(f"written {number}")
        if number % 3 == 0:
            store.sync()
            say(f"synced {number}")
        number += 1


def hold(store: Store) -> None:
    """Keep the store open until the parent closes this process's input."""
    say("open")
    sys.stdin.read()


def try_to_open(engine: str, directory: Path) -> None:
    """Say how opening ends."""
    try:
        open_store(directory, engine).close()
    except EverwriteError as error:
        say(f"{type(error).__name__}: {error}")
    else:
        say("opened")


def try_to_open_as_nobody(engine: str, directory: Path) -> None:
    """The same without root's power to read everything."""
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    try_to_open(engine, directory)


def fail_fsync(store: Store) -> None:
    """A failed fsync is told once as unknown, and nothing is taken after it; reads go on."""
    store.write(batch(0, 10))
    store.sync()
    store.write([(b"unsynced", b"v")])
    let_fail(SYNCS, errno.EIO)

    failure = raised(store.sync)
    assert isinstance(failure, SyncFailed), failure
    assert failure.outcome == "unknown"
    for act in (
        lambda: store.write([(b"late", b"v")]),
        lambda: store.delete_range(key(0), key(10)),
    ):
        refusal = raised(act)
        assert isinstance(refusal, SyncFailed), refusal
        assert refusal.outcome == "none"
    assert isinstance(raised(store.sync), SyncFailed)
    assert store.get(b"late") is None
    assert store.get(key(9)) == b"v"
    assert store.get(b"unsynced") == b"v"


def fail_writes_for_good(store: Store) -> None:
    """A write that the disk fails is refused whole, and not called a matter of room."""
    store.write(batch(0, 10))
    let_fail(WRITES, errno.EIO)

    for _ in range(3):
        failure = raised(lambda: store.write([(key(0), b"changed"), (b"new", b"v")]))
        assert type(failure) is StorageError, failure
        assert failure.outcome == "none"
        assert store.get_many([key(0), b"new"]) == [b"v", None]


def fail_writes(store: Store) -> None:
    """On a full disk a write is refused whole; reads go on, and what was written before can be
    synced.
    """
    store.write(batch(0, 10))
    let_fail(WRITES, errno.ENOSPC)

    for _ in range(3):
        failure = raised(lambda: store.write([(key(0), b"changed"), (b"new", b"v")]))
        assert isinstance(failure, StorageFull), failure
        assert failure.outcome == "none"
        assert failure.hint
        assert store.get_many([key(0), b"new"]) == [b"v", None]
    store.sync()
    let_fail(SYNCS, errno.EIO)
    # So the sync above did go to the disk.
    assert isinstance(raised(store.sync), SyncFailed)


def fail_reads(store: Store) -> None:
    """What the disk will not give is unreadable, not absent; and not taken for damage."""
    let_fail(READS, errno.EIO)

    for answer in [store.get(key(5)), *store.get_many([key(5), key(7)])]:
        assert isinstance(answer, Unreadable), answer
        assert not answer.corrupt
        assert "error" in answer.reason
    raised(lambda: store.scan(key(0), key(100), 100))
    with_snapshot(store)


def with_snapshot(store: Store) -> None:
    try:
        answer = store.snapshot().get(key(5))
    except StorageError:
        return
    assert isinstance(answer, Unreadable), answer


def outgrow_limit(store: Store) -> None:
    """A file that may not grow refuses writes; with SQLite it is enough to lift the limit."""
    store.write(batch(0, 10))
    store.sync()
    here = store.directory
    assert here is not None
    largest = max(path.stat().st_size for path in here.rglob("*") if path.is_file())
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))

    failure = raised(lambda: write_until_refused(store, 10))
    # SQLite does not tell this from any other failed write.
    assert isinstance(failure, StorageFull if store.name == "rocksdb" else StorageError), failure
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    if store.name == "sqlite":
        store.write([(b"more", b"v")])
        store.sync()


def write_until_refused(store: Store, first: int) -> None:
    """Write until an error comes, and let it through; what was acknowledged is on the output."""
    while True:
        store.write(batch(first, 10, b"v" * 1000))
        first += 10
        say(f"written {first - 1}")


def fill_disk(engine: str, directory: Path) -> None:
    """On a small file system of its own: full, refused, readable, durable; and it goes on once
    there is room.
    """
    ballast = directory / "ballast"
    store = open_store(directory / "data", engine)
    store.write(batch(0, 10))
    ballast.write_bytes(bytes(40 << 20))
    acked = 10
    value = os.urandom(1000)
    while True:
        try:
            store.write(batch(acked, 50, value))
        except StorageFull:
            break
        acked += 50
    assert store.get(key(acked)) is None
    assert store.get(key(acked - 1)) == value
    store.sync()
    ballast.unlink()
    refusals = 0
    while True:
        try:
            store.write(batch(acked, 50, value))
        except StorageFull:
            refusals += 1
            os.sched_yield()
        else:
            break
    store.sync()
    assert store.get_many([key(acked), key(acked + 50)]) == [value, None]
    store.close()
    with open_store(directory / "data", engine) as again:
        assert [name for name, _ in again.scan(b"", b"\xff", 1 << 30)] == [
            key(number) for number in range(acked + 50)
        ]
    say(f"full after {acked} keys, refused {refusals} times more")


def main() -> None:
    what, engine, directory, *rest = sys.argv[1:]
    act = globals()[what]
    if what in ("try_to_open", "try_to_open_as_nobody", "fill_disk"):
        act(engine, Path(directory))
        return
    act(open_store(Path(directory), engine), *map(int, rest))
    say("done")
    # Not closed: some of these disks would not let it.
    os._exit(0)


if __name__ == "__main__":
    main()
