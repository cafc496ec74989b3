"""Whatever rots, moves or is torn on the disk is never served, and never passed off as absence."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.storage.stores import ALL, ON_DISK, key, store_in

from everwrite.core.errors import StorageError
from everwrite.storage.store import Store, Unreadable

VALUE = bytes(range(64)) * 2


@pytest.fixture(params=ALL)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with store_in(tmp_path, request.param) as opened:
        yield opened


def sealed(store: Store, name: bytes) -> bytes:
    found = store.engine.get(name)
    assert found is not None
    return found


def is_damage(answer: object) -> bool:
    return isinstance(answer, Unreadable) and answer.corrupt and bool(answer.reason)


@pytest.mark.scenario(11)
def test_no_flipped_byte_of_a_stored_value_is_ever_served(store: Store) -> None:
    store.write([(b"a", VALUE)])
    whole = sealed(store, b"a")

    for at in range(len(whole)):
        for flip in (0x01, 0x80, 0xFF):
            rotten = whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :]
            store.engine.write([(b"a", rotten)])
            assert is_damage(store.get(b"a")), at


def test_no_cut_or_lengthened_value_is_ever_served(store: Store) -> None:
    store.write([(b"a", VALUE)])
    whole = sealed(store, b"a")

    for other in [whole[:length] for length in range(len(whole))] + [whole + b"\x00", whole * 2]:
        store.engine.write([(b"a", other)])
        assert is_damage(store.get(b"a")), other


@pytest.mark.scenario(12)
def test_values_under_each_others_keys_are_found(store: Store) -> None:
    store.write([(b"a", b"1"), (b"b", b"2")])

    store.engine.write([(b"a", sealed(store, b"b")), (b"b", sealed(store, b"a"))])

    assert is_damage(store.get(b"a"))
    assert is_damage(store.get(b"b"))


def test_damage_spares_its_neighbours_and_shows_in_every_way_of_reading(store: Store) -> None:
    store.write([(b"a", b"1"), (b"b", b"2"), (b"c", b"3")])
    store.engine.write([(b"b", b"rubbish")])
    snapshot = store.snapshot()

    for one, bad, other, none in (
        [store.get(name) for name in (b"a", b"b", b"c", b"d")],
        store.get_many([b"a", b"b", b"c", b"d"]),
        [snapshot.get(name) for name in (b"a", b"b", b"c", b"d")],
    ):
        assert (one, other, none) == (b"1", b"3", None)
        assert is_damage(bad)
    for pairs in (store.scan(b"a", b"z", 9), snapshot.scan(b"a", b"z", 9)):
        assert [name for name, _ in pairs] == [b"a", b"b", b"c"]
        assert [is_damage(value) for _, value in pairs] == [False, True, False]


def test_a_damaged_key_can_be_written_over_and_deleted(store: Store) -> None:
    store.engine.write([(b"a", b"rubbish"), (b"b", b"")])

    store.write([(b"a", b"whole"), (b"b", None)])

    assert store.get_many([b"a", b"b"]) == [b"whole", None]


# -- on the disk itself ----------------------------------------------------------------------------


def answers_of(directory: Path, engine: str, names: list[bytes]) -> list[object]:
    """What a damaged directory says of these keys; a refusal to open is an answer for all of
    them.
    """
    try:
        store = store_in(directory, engine)
    except StorageError as error:
        return [error] * len(names)
    try:
        return [*store.get_many(names)]
    finally:
        store.close()


def flipped(path: Path, at: int, flip: int) -> Iterator[None]:
    raw = bytearray(path.read_bytes())
    raw[at] ^= flip
    path.write_bytes(raw)
    yield
    raw[at] ^= flip
    path.write_bytes(raw)


@pytest.mark.scenario(11)
@pytest.mark.slow
def test_a_flipped_byte_anywhere_in_a_rocksdb_table_is_found(tmp_path: Path) -> None:
    model = {key(number): VALUE + b"%d" % number for number in range(20)}
    with store_in(tmp_path / "whole", "rocksdb") as store:
        store.write(list(model.items()))
    table = next((tmp_path / "whole").rglob("*.sst"))
    size = table.stat().st_size
    seen = set()

    for at in sorted(random.Random(1).sample(range(size), 60)):
        shutil.copytree(tmp_path / "whole", tmp_path / "rotten")
        rotten = tmp_path / "rotten" / table.relative_to(tmp_path / "whole")
        raw = bytearray(rotten.read_bytes())
        raw[at] ^= 0xFF
        rotten.write_bytes(raw)
        for name, answer in zip(
            model, answers_of(tmp_path / "rotten", "rocksdb", list(model)), strict=True
        ):
            assert isinstance(answer, Unreadable | StorageError) or answer == model[name], at
            seen.add(type(answer))
        shutil.rmtree(tmp_path / "rotten")

    assert Unreadable in seen


@pytest.mark.slow
def test_a_flipped_byte_of_a_value_in_a_sqlite_file_is_found(tmp_path: Path) -> None:
    with store_in(tmp_path, "sqlite") as store:
        store.write([(b"a", b"before"), (b"b", VALUE), (b"c", b"after")])
    path = tmp_path / "everwrite.sqlite"
    start = path.read_bytes().index(VALUE) - 8

    for at in range(start, start + 8 + len(VALUE)):
        for _ in flipped(path, at, 0x10):
            before, bad, after = answers_of(tmp_path, "sqlite", [b"a", b"b", b"c"])
            assert is_damage(bad)
            assert (before, after) == (b"before", b"after")

    assert answers_of(tmp_path, "sqlite", [b"b"]) == [VALUE]


def test_one_rotten_block_of_rocksdb_spares_the_keys_of_others(tmp_path: Path) -> None:
    # Random bytes, so that they are neither compressed nor in one block.
    values = [random.Random(number).randbytes(20_000) for number in range(3)]
    with store_in(tmp_path, "rocksdb") as store:
        store.write([(key(number), value) for number, value in enumerate(values)])
    table = next(tmp_path.rglob("*.sst"))
    at = table.read_bytes().index(values[1][100:200])

    for _ in flipped(table, at, 0x01):
        with store_in(tmp_path, "rocksdb") as store:
            one, bad, other, none = store.get_many([key(0), key(1), key(2), key(3)])
            alone = store.get(key(1))
            with pytest.raises(StorageError):
                store.scan(key(0), key(9), 10)

    assert (one, other, none) == (values[0], values[2], None)
    assert is_damage(bad)
    assert is_damage(alone)
    assert "damaged" in bad.reason if isinstance(bad, Unreadable) else False


# -- logs cut short or damaged ---------------------------------------------------------------------

BATCHES = 12
MARKS = ("rocksdb/SYNCED", "everwrite.sqlite-synced")


def log_of(directory: Path) -> Path:
    logs = [*directory.rglob("*.log"), *directory.rglob("*-wal")]
    return max(logs, key=lambda path: (path.stat().st_size > 0, path.name))


def image_with_a_log(directory: Path, engine: str) -> list[int]:
    """A copy, as a power cut would leave it, of a store after BATCHES synced batches; the log's
    size at each.
    """
    live = directory / "live"
    with store_in(live, engine) as store:
        sizes = [log_of(live).stat().st_size]
        for number in range(1, BATCHES + 1):
            store.write([(name, b"%d" % number * number) for name in (b"a", b"b", b"c")])
            store.sync()
            sizes.append(log_of(live).stat().st_size)
        shutil.copytree(live, directory / "image")
    return sizes


def unmark(directory: Path) -> None:
    """As if none of the log had been synced."""
    for mark in MARKS:
        (directory / mark).unlink(missing_ok=True)


def batch_seen(directory: Path, engine: str) -> int | None:
    """The number of the one batch whose values are all there; None if the store will not open."""
    answers = answers_of(directory, engine, [b"a", b"b", b"c"])
    if isinstance(answers[0], StorageError):
        return None
    expected = [None, *(b"%d" % number * number for number in range(1, BATCHES + 1))]
    assert answers[0] == answers[1] == answers[2], "half a batch"
    return expected.index(answers[0])


def offsets_to_try(sizes: list[int], count: int) -> list[int]:
    near_ends = {size + step for size in sizes for step in (-1, 0, 1)}
    spread = random.Random(2).sample(range(sizes[-1]), min(count, sizes[-1]))
    return sorted(at for at in near_ends | set(spread) if 0 <= at < sizes[-1])


@pytest.mark.scenario(3)
@pytest.mark.slow
@pytest.mark.parametrize("engine", ON_DISK)
def test_a_log_cut_at_any_byte_opens_to_all_batches_before_the_cut(
    engine: str, tmp_path: Path
) -> None:
    sizes = image_with_a_log(tmp_path, engine)

    for length in offsets_to_try(sizes, 40):
        shutil.copytree(tmp_path / "image", tmp_path / "cut")
        log = log_of(tmp_path / "cut")
        log.write_bytes(log.read_bytes()[:length])
        unmark(tmp_path / "cut")
        whole = max(number for number, size in enumerate(sizes) if size <= length or not number)
        assert batch_seen(tmp_path / "cut", engine) == whole, length
        shutil.rmtree(tmp_path / "cut")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ON_DISK)
def test_a_log_with_a_flipped_byte_opens_to_a_prefix_or_not_at_all(
    engine: str, tmp_path: Path
) -> None:
    sizes = image_with_a_log(tmp_path, engine)
    seen = set()

    for at in offsets_to_try(sizes, 20):
        shutil.copytree(tmp_path / "image", tmp_path / "rotten")
        unmark(tmp_path / "rotten")
        log = log_of(tmp_path / "rotten")
        for _ in flipped(log, at, 0x40):
            # batch_seen itself fails for a batch that is half there or values that never were.
            seen.add(batch_seen(tmp_path / "rotten", engine))
            break
        shutil.rmtree(tmp_path / "rotten")

    assert len(seen) > 3


def opened_or_refused(directory: Path, engine: str) -> int | None:
    """As ``batch_seen``, but -1 if the store will not open and does not say what to do."""
    try:
        store_in(directory, engine).close()
    except StorageError as error:
        return None if error.hint else -1
    return batch_seen(directory, engine)


@pytest.mark.scenario(4)
@pytest.mark.slow
@pytest.mark.parametrize("engine", ON_DISK)
def test_a_synced_log_that_rots_or_is_cut_is_never_opened_as_if_it_had_less(
    engine: str, tmp_path: Path
) -> None:
    sizes = image_with_a_log(tmp_path, engine)
    rotten = tmp_path / "rotten"
    refused = 0

    for at in [*range(56), *offsets_to_try(sizes, 40)]:
        for flip in (True, False):
            shutil.copytree(tmp_path / "image", rotten)
            log = log_of(rotten)
            raw = bytearray(log.read_bytes())
            raw[at] ^= 0x40
            log.write_bytes(raw if flip else raw[:at])
            seen = opened_or_refused(rotten, engine)
            assert seen in (None, BATCHES), (at, flip)
            if seen is None:
                # Opening once more must not find the rest good enough.
                assert opened_or_refused(rotten, engine) is None, (at, flip)
                refused += 1
            shutil.rmtree(rotten)

    assert refused > 100


@pytest.mark.parametrize("engine", ON_DISK)
def test_writes_behind_the_last_sync_may_go_and_the_store_still_opens(
    engine: str, tmp_path: Path
) -> None:
    with store_in(tmp_path / "live", engine) as store:
        store.write([(b"a", b"synced")])
        store.sync()
        synced = log_of(tmp_path / "live").stat().st_size
        store.write([(b"a", b"not synced"), (b"b", b"neither")])
        shutil.copytree(tmp_path / "live", tmp_path / "image")
    log = log_of(tmp_path / "image")
    log.write_bytes(log.read_bytes()[: (synced + log.stat().st_size) // 2])

    assert answers_of(tmp_path / "image", engine, [b"a", b"b"]) == [b"synced", None]


@pytest.mark.parametrize("engine", ON_DISK)
def test_a_rotten_mark_refuses_the_store_and_says_which_file_it_is(
    engine: str, tmp_path: Path
) -> None:
    with store_in(tmp_path, engine) as store:
        store.write([(b"a", b"1")])
        store.sync()
    mark = next(tmp_path / name for name in MARKS if (tmp_path / name).exists())
    whole = mark.read_bytes()

    for at in range(len(whole)):
        for raw in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
            mark.write_bytes(raw)
            with pytest.raises(StorageError, match=mark.name) as refused:
                store_in(tmp_path, engine)
            assert "remove this one file" in refused.value.hint

    mark.write_bytes(whole)
    assert answers_of(tmp_path, engine, [b"a"]) == [b"1"]


@pytest.mark.parametrize("engine", ON_DISK)
def test_a_store_opens_after_any_number_of_synced_runs(engine: str, tmp_path: Path) -> None:
    for run in range(4):
        with store_in(tmp_path / "live", engine) as store:
            assert store.get(b"a") == (b"%d" % (run - 1) if run else None)
            for number in range(3):
                store.write([(b"a", b"%d" % run), (key(number), VALUE)])
                store.sync()
            shutil.copytree(tmp_path / "live", tmp_path / f"killed{run}")

        assert answers_of(tmp_path / f"killed{run}", engine, [b"a"]) == [b"%d" % run]


def test_a_sqlite_log_that_began_anew_behind_the_mark_is_opened(tmp_path: Path) -> None:
    with store_in(tmp_path / "live", "sqlite") as store:
        for number in range(6):
            # Two of these fill a log, so it is folded again and again; the last is not synced.
            store.write([(b"a", bytes([number]) * (5 << 20))])
            if number < 5:
                store.sync()
        shutil.copytree(tmp_path / "live", tmp_path / "killed")

    assert answers_of(tmp_path / "killed", "sqlite", [b"a"]) == [bytes([5]) * (5 << 20)]
