"""What the engines do with the kernel's own errors: full disks, failed fsyncs, failed reads,
stalls.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
from tests.storage.broken_disk import can_break
from tests.storage.stores import ON_DISK, batch, key, run_child, store_in

from everwrite.core.errors import StorageStalled
from everwrite.storage.rocksdb import RocksEngine
from everwrite.storage.store import Store

pytestmark = pytest.mark.process

SMALL_DISK = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")

needs_filter = pytest.mark.skipif(not can_break(), reason="needs seccomp on x86-64 or arm64")


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        [*SMALL_DISK, "mount -t tmpfs none /mnt"], capture_output=True, check=False
    )
    return tried.returncode == 0


@pytest.mark.scenario(9)
@needs_filter
@pytest.mark.parametrize("engine", ON_DISK)
def test_a_failed_fsync_is_told_once_and_nothing_is_taken_after_it(
    engine: str, tmp_path: Path
) -> None:
    assert "done" in run_child("fail_fsync", engine, tmp_path)


@needs_filter
@pytest.mark.parametrize("engine", ON_DISK)
def test_a_full_disk_refuses_writes_whole_and_keeps_serving_reads(
    engine: str, tmp_path: Path
) -> None:
    assert "done" in run_child("fail_writes", engine, tmp_path)

    with store_in(tmp_path, engine) as store:
        assert len(store.scan(b"", b"\xff", 100)) == 10


@needs_filter
@pytest.mark.parametrize("engine", ON_DISK)
def test_a_write_that_the_disk_fails_is_refused_whole(engine: str, tmp_path: Path) -> None:
    assert "done" in run_child("fail_writes_for_good", engine, tmp_path)

    with store_in(tmp_path, engine) as store:
        assert len(store.scan(b"", b"\xff", 100)) == 10


@pytest.mark.scenario(10)
@needs_filter
@pytest.mark.parametrize("engine", ON_DISK)
def test_a_key_that_the_disk_will_not_give_is_unreadable_not_absent(
    engine: str, tmp_path: Path
) -> None:
    with store_in(tmp_path, engine) as store:
        store.write(batch(0, 100, b"v" * 1000))

    assert "done" in run_child("fail_reads", engine, tmp_path)


@pytest.mark.parametrize("engine", ON_DISK)
def test_a_file_that_may_not_grow_refuses_writes_and_loses_none(
    engine: str, tmp_path: Path
) -> None:
    said = run_child("outgrow_limit", engine, tmp_path).split()

    acked = max([int(word) for word in said if word.isdigit()], default=9)
    with store_in(tmp_path, engine) as store:
        kept = [name for name, _ in store.scan(b"k", b"l", 1 << 30)]
    assert kept == [key(number) for number in range(acked + 1)]


@pytest.mark.scenario(7)
@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="needs a user namespace that may mount a tmpfs")
@pytest.mark.parametrize("engine", ON_DISK)
def test_writes_go_on_without_a_restart_once_a_full_disk_has_room(
    engine: str, tmp_path: Path
) -> None:
    mounted = f'mount -t tmpfs -o size=64m none {tmp_path} && exec "$@"'

    said = run_child("fill_disk", engine, tmp_path, before=(*SMALL_DISK, mounted, "sh"))

    assert "full after" in said


def test_a_stalled_rocksdb_refuses_a_write_whole(tmp_path: Path) -> None:
    store = store_in(tmp_path, "rocksdb")
    store.write([(b"a", b"1")])
    stop_rocksdb(store)

    with pytest.raises(StorageStalled) as refused:
        store.write([(b"a", b"2"), (b"b", b"2")])

    assert refused.value.retry_after_ms > 0
    assert store.get_many([b"a", b"b"]) == [b"1", None]
    store.close()


def stop_rocksdb(store: Store) -> None:
    """Let one flushed file be already too many."""
    engine = store.engine
    assert isinstance(engine, RocksEngine)
    database = engine._db
    database.set_options(
        {
            "level0_file_num_compaction_trigger": "100",
            "level0_slowdown_writes_trigger": "1",
            "level0_stop_writes_trigger": "1",
        }
    )
    database.flush()


def test_a_sqlite_file_that_another_program_locks_refuses_a_write_whole(tmp_path: Path) -> None:
    store = store_in(tmp_path, "sqlite")
    store.write([(b"a", b"1")])
    other = sqlite3.connect(tmp_path / "everwrite.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StorageStalled):
        store.write([(b"a", b"2")])

    assert store.get(b"a") == b"1"
    other.close()
    store.write([(b"a", b"2")])
    assert store.get(b"a") == b"2"
    store.close()
