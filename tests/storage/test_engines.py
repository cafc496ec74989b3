"""The contract of ``storage/engine.py``, on every engine."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.storage.stores import ALL, ON_DISK, batch, engine_in, key

from everwrite.core.errors import StorageError
from everwrite.storage.engine import Engine


@pytest.fixture(params=ALL)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    opened = engine_in(tmp_path, request.param)
    yield opened
    opened.close()


def test_absent_key_is_none(engine: Engine) -> None:
    assert engine.get(b"a") is None


def test_written_values_are_read_byte_for_byte(engine: Engine) -> None:
    values = {b"\x00": b"", b"\xff\xff": bytes(range(256)), b"a": b"x" * 1_000_000, b"b": b"\x00"}

    engine.write(list(values.items()))

    assert {name: engine.get(name) for name in values} == values


def test_none_deletes_and_deleting_what_is_not_there_is_fine(engine: Engine) -> None:
    engine.write([(b"a", b"1"), (b"b", b"2")])

    engine.write([(b"a", None), (b"never", None)])

    assert engine.get(b"a") is None
    assert engine.scan(b"", b"\xff", 10) == [(b"b", b"2")]


def test_the_later_entry_of_a_batch_counts(engine: Engine) -> None:
    engine.write([(b"a", b"1"), (b"a", None), (b"b", None), (b"b", b"2"), (b"b", b"3")])

    assert engine.get_many([b"a", b"b"]) == [None, b"3"]


def test_an_empty_batch_changes_nothing(engine: Engine) -> None:
    engine.write([])

    assert engine.scan(b"", b"\xff", 10) == []


def test_get_many_answers_in_the_order_of_the_keys_doubles_too(engine: Engine) -> None:
    engine.write([(b"a", b"1"), (b"b", b"2")])

    assert engine.get_many((b"b", b"x", b"a", b"b")) == [b"2", None, b"1", b"2"]
    assert engine.get_many([]) == []


def test_may_have_is_never_false_for_a_key_that_is_there(engine: Engine) -> None:
    engine.write([(b"%d" % n, b"x") for n in range(2000)])
    engine.write([(b"1", None), (b"2", b"y")])

    assert all(engine.may_have(b"%d" % n) for n in range(2, 2000))


def test_may_have_spares_reads_of_absent_keys_where_the_engine_can_tell(engine: Engine) -> None:
    engine.write([(b"%d" % n, b"x") for n in range(2000)])

    guesses = sum(engine.may_have(b"absent %d" % n) for n in range(1000))

    assert guesses <= (1000 if engine.name == "sqlite" else 50)


def test_scan_is_sorted_by_bytes_and_half_open(engine: Engine) -> None:
    names = [b"\x00", b"a", b"a\x00", b"aa", b"b", b"\x7f", b"\x80", b"\xff", b"\xff\xff"]
    engine.write([(name, name) for name in reversed(names)])

    assert [name for name, _ in engine.scan(b"", b"\xff" * 3, 100)] == names
    assert [name for name, _ in engine.scan(b"a", b"b", 100)] == [b"a", b"a\x00", b"aa"]
    assert [name for name, _ in engine.scan(b"a\x00", b"aa", 100)] == [b"a\x00"]


@pytest.mark.parametrize(("start", "end"), [(b"b", b"b"), (b"c", b"a"), (b"x", b"z")])
def test_scan_of_an_empty_range_is_empty(engine: Engine, start: bytes, end: bytes) -> None:
    engine.write([(b"a", b"1"), (b"b", b"2"), (b"c", b"3")])

    assert engine.scan(start, end, 10) == []


def test_scan_pages_over_a_range_by_its_limit(engine: Engine) -> None:
    engine.write(batch(0, 1000))

    found: list[bytes] = []
    start = key(0)
    while page := engine.scan(start, key(1000), 7):
        assert len(page) <= 7
        found += [name for name, _ in page]
        start = page[-1][0] + b"\x00"

    assert found == [key(number) for number in range(1000)]


def test_scan_sees_keys_written_deleted_and_written_again(engine: Engine) -> None:
    engine.write(batch(0, 10))
    assert len(engine.scan(b"", b"\xff", 100)) == 10

    engine.write([(key(3), None), (key(4), None)])
    engine.write([(key(4), b"new"), (key(2) + b"x", b"new")])

    expected = sorted([key(number) for number in range(10) if number != 3] + [key(2) + b"x"])
    assert [name for name, _ in engine.scan(b"", b"\xff", 100)] == expected


def test_delete_range_takes_its_start_and_spares_its_end(engine: Engine) -> None:
    engine.write(batch(0, 10))

    engine.delete_range(key(2), key(5))

    assert [name for name, _ in engine.scan(b"", b"\xff", 100)] == [
        key(number) for number in (0, 1, 5, 6, 7, 8, 9)
    ]
    assert engine.get(key(2)) is None


def test_delete_range_of_an_empty_or_reversed_range_changes_nothing(engine: Engine) -> None:
    engine.write(batch(0, 10))

    engine.delete_range(key(5), key(5))
    engine.delete_range(key(5), key(2))

    assert len(engine.scan(b"", b"\xff", 100)) == 10


def test_keys_written_after_a_delete_range_are_there(engine: Engine) -> None:
    engine.write(batch(0, 3))
    engine.delete_range(key(0), key(3))

    engine.write([(key(1), b"again")])

    assert engine.scan(b"", b"\xff", 10) == [(key(1), b"again")]


def test_snapshot_does_not_show_later_writes(engine: Engine) -> None:
    engine.write([(b"a", b"1"), (b"b", b"2")])
    snapshot = engine.snapshot()

    engine.write([(b"a", b"changed"), (b"b", None), (b"c", b"new")])
    engine.delete_range(b"a", b"z")

    assert [snapshot.get(name) for name in (b"a", b"b", b"c")] == [b"1", b"2", None]
    assert snapshot.scan(b"", b"\xff", 10) == [(b"a", b"1"), (b"b", b"2")]
    assert snapshot.scan(b"", b"\xff", 1) == [(b"a", b"1")]
    assert engine.scan(b"", b"\xff", 10) == []
    snapshot.close()
    snapshot.close()


def test_a_closed_snapshot_refuses_to_answer(engine: Engine) -> None:
    engine.write([(b"a", b"1")])
    snapshot = engine.snapshot()

    snapshot.close()

    for call in (lambda: snapshot.get(b"a"), lambda: snapshot.scan(b"", b"\xff", 1)):
        with pytest.raises(StorageError):
            call()


def test_a_closed_engine_refuses_everything_and_never_says_absent(engine: Engine) -> None:
    engine.write([(b"a", b"1")])
    snapshot = engine.snapshot()
    engine.close()
    engine.close()

    calls = [
        lambda: engine.get(b"a"),
        lambda: engine.get_many([b"a"]),
        lambda: engine.may_have(b"a") and engine.get(b"a"),
        lambda: engine.scan(b"", b"\xff", 1),
        lambda: engine.write([(b"a", b"2")]),
        lambda: engine.delete_range(b"a", b"b"),
        engine.sync,
        engine.snapshot,
        lambda: snapshot.get(b"a"),
    ]
    for call in calls:
        with pytest.raises(StorageError):
            call()
    snapshot.close()


@pytest.fixture
def restless_threads() -> Iterator[None]:
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("restless_threads")
def test_readers_see_all_of_a_batch_or_none_while_another_thread_writes(engine: Engine) -> None:
    names = [key(number) for number in range(20)]
    engine.write([(name, b"0") for name in names])
    done = threading.Event()
    torn: list[object] = []

    def read() -> None:
        while not done.is_set():
            together = [
                set(engine.get_many(names)),
                {value for _, value in engine.scan(b"k", b"l", 99)},
            ]
            torn.extend(seen for seen in together if len(seen) != 1)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(200):
        engine.write([(name, b"%d" % number) for name in names])
        if number % 20 == 0:
            engine.sync()
    done.set()
    reader.join()

    assert torn == []


def test_sync_runs_beside_writes(engine: Engine) -> None:
    done = threading.Event()
    failures: list[BaseException] = []

    def sync() -> None:
        try:
            while not done.is_set():
                engine.sync()
        except StorageError as error:
            failures.append(error)

    syncer = threading.Thread(target=sync)
    syncer.start()
    for number in range(300):
        engine.write(batch(number * 10, 10))
    done.set()
    syncer.join()

    assert failures == []
    assert len(engine.scan(b"", b"\xff", 10_000)) == 3000


@pytest.mark.parametrize("name", ON_DISK)
def test_closing_waits_for_reads_in_other_threads(name: str, tmp_path: Path) -> None:
    engine = engine_in(tmp_path, name)
    engine.write(batch(0, 2000, b"v" * 200))
    names = [key(number) for number in range(2000)]
    started = threading.Barrier(3)
    wrong: list[object] = []

    def read() -> None:
        started.wait()
        try:
            while True:
                wrong.extend(set(engine.get_many(names)) - {b"v" * 200})
                wrong.extend({len(engine.scan(b"k", b"l", 500))} - {500})
        except StorageError:
            return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    started.wait()
    engine.close()
    for reader in readers:
        reader.join()

    assert [what for what in wrong if not isinstance(what, StorageError)] == []
    reopened = engine_in(tmp_path, name)
    assert reopened.get(key(1999)) == b"v" * 200
    reopened.close()


@pytest.mark.parametrize("name", ON_DISK)
def test_what_was_written_is_there_after_opening_again(name: str, tmp_path: Path) -> None:
    engine = engine_in(tmp_path, name)
    engine.write([(b"a", b"1"), (b"b", b"2")])
    engine.write([(b"a", None)])
    engine.close()

    engine = engine_in(tmp_path, name)

    assert engine.get_many([b"a", b"b"]) == [None, b"2"]
    engine.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_DISK)
def test_more_than_the_write_buffers_hold_comes_back(name: str, tmp_path: Path) -> None:
    engine = engine_in(tmp_path, name)
    value = bytes(range(256)) * 400
    for start in range(0, 500, 50):
        engine.write(batch(start, 50, value))
        engine.sync()
    engine.close()

    engine = engine_in(tmp_path, name)

    assert [stored == value for _, stored in engine.scan(b"", b"\xff", 1000)] == [True] * 500
    engine.close()


@pytest.mark.parametrize("name", ON_DISK)
def test_closing_with_an_open_snapshot_lets_go_of_the_directory(name: str, tmp_path: Path) -> None:
    engine = engine_in(tmp_path, name)
    engine.write([(b"a", b"1")])
    snapshot = engine.snapshot()

    engine.close()

    again = engine_in(tmp_path, name)
    assert again.get(b"a") == b"1"
    with pytest.raises(StorageError):
        snapshot.get(b"a")
    again.close()
