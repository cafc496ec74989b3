"""One process per directory, one engine per directory, and a clear word for all that is wrong with
one.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.storage.stores import ON_DISK, batch, key, run_child, start_child, store_in

from everwrite.core.errors import ConfigError, DirectoryInUse, StorageError, WrongFormat
from everwrite.storage.rocksdb import BLOCK_CACHE_BYTES, RocksEngine
from everwrite.storage.store import open_store

MANIFEST = "everwrite.json"


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file()}


# -- the lock --------------------------------------------------------------------------------------


@pytest.mark.process
@pytest.mark.parametrize("engine", ON_DISK)
def test_a_second_process_is_refused_until_the_first_is_gone(engine: str, tmp_path: Path) -> None:
    child = start_child("hold", engine, tmp_path)
    assert child.stdout is not None
    assert child.stdout.readline() == b"open\n"

    with pytest.raises(DirectoryInUse) as refused:
        store_in(tmp_path, engine)
    child.send_signal(signal.SIGKILL)
    child.communicate()

    assert str(child.pid) in str(refused.value)
    assert refused.value.hint
    store_in(tmp_path, engine).close()


@pytest.mark.parametrize("engine", ON_DISK)
def test_one_process_cannot_open_its_directory_twice(engine: str, tmp_path: Path) -> None:
    with store_in(tmp_path, engine) as store:
        store.write([(b"a", b"1")])
        with pytest.raises(DirectoryInUse):
            store_in(tmp_path, engine)
        assert store.get(b"a") == b"1"

    store_in(tmp_path, engine).close()


def test_a_store_that_could_not_open_lets_go_of_its_lock(tmp_path: Path) -> None:
    store_in(tmp_path, "sqlite").close()
    good = (tmp_path / "everwrite.sqlite").read_bytes()
    (tmp_path / "everwrite.sqlite").write_bytes(b"not a database, but long enough to be read" * 99)

    with pytest.raises(StorageError):
        store_in(tmp_path, "sqlite")

    (tmp_path / "everwrite.sqlite").write_bytes(good)
    store_in(tmp_path, "sqlite").close()


# -- the manifest ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("made_by", "asked"), [ON_DISK, ON_DISK[::-1]])
def test_another_engines_directory_is_refused_and_named(
    made_by: str, asked: str, tmp_path: Path
) -> None:
    store_in(tmp_path, made_by).close()

    with pytest.raises(WrongFormat, match=made_by):
        store_in(tmp_path, asked)

    store_in(tmp_path, made_by).close()


@pytest.mark.parametrize(
    "manifest",
    [
        b'{"format":3,"engine":"rocksdb"}',
        b'{"format":1,"engine":"rocksdb"}',
        b'{"format":0,"engine":"rocksdb"}',
        b'{"format":2,"engine":"leveldb"}',
        b'{"format":"2","engine":"rocksdb"}',
        b'{"format":2}',
        b"[]",
        b"",
        b"\xff\x00",
    ],
)
def test_a_manifest_that_is_not_this_versions_is_refused_and_kept(
    manifest: bytes, tmp_path: Path
) -> None:
    store_in(tmp_path, "rocksdb").close()
    (tmp_path / MANIFEST).write_bytes(manifest)
    before = contents(tmp_path)

    with pytest.raises(WrongFormat) as refused:
        store_in(tmp_path, "rocksdb")

    assert refused.value.hint
    assert contents(tmp_path) == before


def test_a_manifest_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    store_in(tmp_path, "rocksdb").close()
    whole = (tmp_path / MANIFEST).read_bytes()

    for length in range(len(whole.rstrip())):
        (tmp_path / MANIFEST).write_bytes(whole[:length])
        with pytest.raises(WrongFormat):
            store_in(tmp_path, "rocksdb")


def test_a_manifest_may_say_more_than_this_version_knows(tmp_path: Path) -> None:
    store_in(tmp_path, "sqlite").close()
    (tmp_path / MANIFEST).write_bytes(b'{"format":2,"engine":"sqlite","colour":"blue"}')

    store_in(tmp_path, "sqlite").close()


@pytest.mark.scenario(6)
def test_a_first_start_that_was_cut_short_is_taken_up_again(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(b"1234\n")
    (tmp_path / f"{MANIFEST}.new").write_bytes(b'{"form')
    (tmp_path / "lost+found").mkdir()

    store_in(tmp_path, "rocksdb").close()


@pytest.mark.parametrize("engine", ON_DISK)
def test_somebodys_documents_are_refused_and_left_as_they_were(engine: str, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_bytes(b"chapter one")
    tmp_path.chmod(0o755)

    with pytest.raises(WrongFormat, match=r"thesis\.txt"):
        store_in(tmp_path, engine)

    assert contents(tmp_path) == {"thesis.txt": b"chapter one"}
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_store_whose_manifest_was_lost_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    store_in(tmp_path, "rocksdb").close()
    manifest = (tmp_path / MANIFEST).read_bytes()
    (tmp_path / MANIFEST).unlink()

    with pytest.raises(WrongFormat, match="put it back"):
        store_in(tmp_path, "rocksdb")

    (tmp_path / MANIFEST).write_bytes(manifest)
    store_in(tmp_path, "rocksdb").close()


# -- the path --------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ON_DISK)
def test_the_directory_and_its_parents_are_made_for_this_user_only(
    engine: str, tmp_path: Path
) -> None:
    directory = tmp_path / "not" / "yet"

    store_in(directory, engine).close()

    assert directory.stat().st_mode & 0o777 == 0o700


def test_an_empty_directory_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    store_in(tmp_path, "sqlite").close()

    assert tmp_path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("below", ["", "below"])
def test_a_path_that_is_a_file_is_refused(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StorageError, match="is a file"):
        store_in(tmp_path / "file" / below, "rocksdb")


@pytest.mark.process
@pytest.mark.parametrize("engine", ON_DISK)
@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_a_directory_without_permission_is_refused(engine: str, mode: int, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    if os.geteuid() == 0:
        os.chown(directory, 65534, 65534)
        for parent in (tmp_path, *tmp_path.parents[:3]):
            parent.chmod(0o755)
    directory.chmod(mode)

    said = run_child("try_to_open_as_nobody", engine, directory)

    assert said.startswith("StorageError: ")
    assert "Permission denied" in said
    assert "Give this user" in said


def test_what_cannot_be_is_a_config_error(tmp_path: Path) -> None:
    for directory, engine in [(None, "rocksdb"), (tmp_path, "memory"), (tmp_path, "leveldb")]:
        with pytest.raises(ConfigError) as refused:
            open_store(directory, engine)
        assert refused.value.hint
    assert contents(tmp_path) == {}


# -- checkpoints -----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ON_DISK)
def test_a_checkpoint_opens_as_a_store_of_its_moment(engine: str, tmp_path: Path) -> None:
    with store_in(tmp_path / "a", engine) as store:
        store.write(batch(0, 100))
        store.checkpoint(tmp_path / "b")
        store.write([(key(0), b"changed"), (key(100), b"new"), (key(1), None)])

        with store_in(tmp_path / "b", engine) as copy:
            assert copy.scan(b"", b"\xff", 1000) == [(key(number), b"v") for number in range(100)]
            copy.write([(b"only here", b"v")])

        assert store.get(b"only here") is None
        assert store.get(key(0)) == b"changed"
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("engine", ON_DISK)
def test_a_checkpoint_writes_over_nothing(engine: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with store_in(tmp_path / "a", engine) as store:
        for path in (tmp_path / "there", tmp_path / "no" / "parent"):
            with pytest.raises(StorageError) as refused:
                store.checkpoint(path)
            assert refused.value.hint

    assert list((tmp_path / "there").iterdir()) == []


def test_a_checkpoint_without_its_manifest_is_not_opened(tmp_path: Path) -> None:
    with store_in(tmp_path / "a", "rocksdb") as store:
        store.write(batch(0, 10))
        store.engine.checkpoint(tmp_path / "b")

    with pytest.raises(WrongFormat):
        store_in(tmp_path / "b", "rocksdb")


def test_memory_makes_no_checkpoint(tmp_path: Path) -> None:
    with store_in(tmp_path, "memory") as store, pytest.raises(StorageError):
        store.checkpoint(tmp_path / "b")


# -- traps of the binding --------------------------------------------------------------------------


def test_rocksdb_keeps_its_memory_bounds_when_it_opens_again(tmp_path: Path) -> None:
    for _ in range(2):
        engine = RocksEngine(tmp_path)
        capacity = engine._db.property_int_value("rocksdb.block-cache-capacity")
        engine.write(batch(0, 10))
        engine.close()

        assert capacity == BLOCK_CACHE_BYTES
