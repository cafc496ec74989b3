"""The simulated disk: what stays, what goes, and who hears of it."""

from __future__ import annotations

import random

import pytest

from everwrite.core.errors import StorageFull
from everwrite.sim.disk import Disk, Held, Payload, ReadFailed


class Silent:
    """A witness that knows nothing and remembers what was dropped."""

    def __init__(self) -> None:
        self.gone: list[bytes] = []

    def wrote(self, index: int, key: bytes, payload: Payload, before: Held | None) -> int:
        return 1

    def refused(self, index: int, key: bytes, payload: Payload, before: Held | None) -> None:
        self.gone.append(key)

    def synced(self, index: int, key: bytes, known: int) -> None:
        assert known == 1

    def dropped(self, index: int, key: bytes, held: Held | None) -> None:
        self.gone.append(key)


def disk_of(seed: int = 1) -> tuple[Disk, Silent]:
    witness = Silent()
    return Disk(0, witness, random.Random(seed)), witness


def read(disk: Disk, *keys: bytes) -> list[Payload]:
    return [disk.read(key, now=0) for key in keys]


def test_a_write_is_seen_at_once_and_safe_after_a_sync_that_began_later() -> None:
    disk, _ = disk_of()
    disk.write({b"da": b"1"}, now=0)
    mark = disk.mark()
    disk.write({b"db": b"2"}, now=0)

    disk.sync(mark)

    assert read(disk, b"da", b"db") == [b"1", b"2"]
    assert disk.safe == {b"da": b"1"}


@pytest.mark.scenario(5)
@pytest.mark.parametrize("seed", range(20))
def test_a_power_cut_keeps_what_was_synced_and_some_first_batches_of_the_rest(seed: int) -> None:
    disk, witness = disk_of(seed)
    disk.write({b"da": b"0"}, now=0)
    disk.sync(disk.mark())
    for number in range(1, 6):
        disk.write({b"da": b"%d" % number, b"d%d" % number: b"x"}, now=0)

    lost = disk.cut_power()

    (payload,) = read(disk, b"da")
    kept = int(payload or b"-1")
    assert [b"d%d" % number in disk.visible for number in range(1, 6)] == [
        number <= kept for number in range(1, 6)
    ]
    assert disk.safe == disk.visible
    assert lost == (kept < 5) == bool(witness.gone)


def test_a_write_to_a_full_disk_is_refused_and_changes_nothing() -> None:
    disk, witness = disk_of()
    disk.full_until = 10

    with pytest.raises(StorageFull):
        disk.write({b"da": b"1"}, now=9)

    assert witness.gone == [b"da"]
    assert read(disk, b"da") == [None]
    disk.write({b"da": b"1"}, now=10)


def test_a_rotten_value_is_unreadable_until_it_is_written_anew() -> None:
    disk, _ = disk_of()
    disk.write({b"da": b"1"}, now=0)
    disk.sync(disk.mark())

    disk.rot(b"da")

    with pytest.raises(ReadFailed) as failed:
        disk.read(b"da", now=0)
    assert failed.value.corrupt
    disk.write({b"da": b"2"}, now=0)
    assert read(disk, b"da") == [b"2"]


def test_a_disk_that_answers_no_reads_says_so_and_not_that_there_is_nothing() -> None:
    disk, _ = disk_of()
    disk.errors_until = 10

    outcomes: set[object] = set()
    for _ in range(50):
        try:
            outcomes.add(disk.read(b"da", now=0))
        except ReadFailed as failed:
            outcomes.add(failed.reason)
            corrupt = failed.corrupt

    assert outcomes == {None, "the simulated disk did not answer"}
    assert not corrupt


def test_a_lost_disk_is_empty_and_a_restored_one_is_as_it_was() -> None:
    disk, _ = disk_of()
    disk.write({b"da": b"1"}, now=0)
    disk.sync(disk.mark())
    disk.back_up()
    disk.write({b"da": b"2", b"db": b"2"}, now=0)

    assert disk.restore()
    assert disk.visible == disk.safe == {b"da": b"1"}
    disk.lose()
    assert disk.visible == disk.safe == {}
    assert not disk.restore()
