"""The tree is what the disk comes to: after any writes, and while it is made anew under them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from everwrite.core.config import NodeConfig
from everwrite.core.data.keys import data_key
from everwrite.core.local import Counters
from everwrite.core.outbox import Outbox
from everwrite.core.recent import RecentPuts
from everwrite.core.records import MISSING, OWN, Damaged, Records
from everwrite.core.trees.trees import Trees
from everwrite.core.trees.walk import Walk

BITS = 5
PARTITIONS = 8
KEYS = [OWN + data_key(b"b", b"%d" % number) for number in range(40)]
DAMAGED = Damaged("the checksum is wrong", True)
EPOCH = bytes(8)


class Bench:
    """Records and trees over a disk: a dictionary."""

    def __init__(self, bits: int = BITS) -> None:
        self.out = Outbox()
        self.trees = Trees(self.out, 7, PARTITIONS, bits)
        self.records = Records(self.out, NodeConfig(), self.trees)
        self.disk: dict[bytes, bytes] = {}
        self.rotten: set[bytes] = set()
        self.unseen: set[bytes] = set()
        """Rotten copies that nobody has come upon: their leaves cannot be told right from wrong."""
        self.trees.empty()

    def write(self, key: bytes, record: bytes | None) -> None:
        """As all writers do: look first."""
        if self.records.look(key) is MISSING:
            if key in self.rotten:
                self.records.loaded(key, DAMAGED)
                self.found(key)
            else:
                self.records.loaded(key, self.disk.get(key))
        self.records.write(key, EPOCH + record if record is not None else None)

    def rot(self, key: bytes) -> None:
        """Damage what stands on the disk, whatever memory has of it."""
        self.rotten.add(key)
        self.unseen.add(key)

    def found(self, key: bytes) -> None:
        """A read came upon a rotten copy, as ``Node.unreadable``."""
        if key in self.unseen:
            self.unseen.discard(key)
            self.trees.doubt(self.trees.leaf_of(key[1:]))

    def listed(self, data_key: bytes) -> bool:
        """The walk came upon a rotten copy, as ``Quarantine.found``."""
        news = OWN + data_key in self.unseen
        self.unseen.discard(OWN + data_key)
        return news

    def counted(self, pairs: list[tuple]) -> list[tuple]:
        """Return what the walk counts of what a range has shown."""
        local: Any = SimpleNamespace(
            config=NodeConfig(),
            counters=Counters(),
            now=0,
            recent_puts=RecentPuts(),
            records=self.records,
            trees=self.trees,
        )
        walk = Walk(local, SimpleNamespace(found=self.listed), self.rotten.discard)  # type: ignore[arg-type]
        return [(key, walk._whole(key, payload)) for key, payload in pairs]

    def commit(self) -> None:
        writes, self.out.writes = self.out.writes, {}
        for key, payload in writes.items():
            self.rotten.discard(key)
            self.unseen.discard(key)
            if payload is None:
                self.disk.pop(key, None)
            else:
                self.disk[key] = payload

    def fail(self) -> None:
        writes, self.out.writes = self.out.writes, {}
        self.records.take_back(writes)

    def scan(self, start: bytes, end: bytes, limit: int) -> tuple[list[tuple], bool]:
        found = sorted(key for key in self.disk if start <= key < end)
        pairs = [(key, DAMAGED if key in self.rotten else self.disk[key]) for key in found[:limit]]
        return pairs, len(found) > limit

    def walk(self, first: int, until: int) -> None:
        self.trees.begin(first, until)
        over = False
        while not over:
            self.trees.scanning()
            pairs, more = self.scan(self.trees.position, self.trees.end, 3)
            over = self.trees.take(self.counted(pairs), more=more)

    def made_anew(self) -> list[int]:
        """Return the leaves of a tree that is made of what is on the disk."""
        sums = [0] * self.trees.size
        for key, payload in self.disk.items():
            if key not in self.rotten:
                sums[self.trees.leaf_of(key[1:])] += self.trees.entry(key[1:], payload[8:])
        return [each % (1 << 64) for each in sums]

    def is_right(self) -> bool:
        anew = self.made_anew()
        unsure = {self.trees.leaf_of(key[1:]) for key in self.unseen}
        for partition in range(PARTITIONS):
            leaves = self.trees.leaves(partition)
            assert self.trees.root(partition) == sum(leaves) % (1 << 64)
        return all(
            self.trees.leaf(leaf) == anew[leaf] or not self.trees.is_right(leaf)
            for leaf in range(self.trees.size)
            if leaf not in unsure
        )


def test_equal_copies_come_to_equal_roots_in_any_order() -> None:
    one, other = Bench(), Bench()
    for key in KEYS:
        one.write(key, b"r" + key)
    for key in reversed(KEYS):
        other.write(key, b"before")
        other.write(key, b"r" + key)
    one.commit()
    other.commit()

    assert [one.trees.root(p) for p in range(8)] == [other.trees.root(p) for p in range(8)]
    assert one.trees.leaves(3) == other.trees.leaves(3)


def test_the_own_epoch_beside_a_record_is_no_part_of_the_tree() -> None:
    one, other = Bench(), Bench()
    one.records.loaded(KEYS[0], None)
    one.records.write(KEYS[0], b"epoch 1!" + b"record")
    other.write(KEYS[0], b"record")
    one.commit()
    other.commit()

    partition = one.trees.partition_of(one.trees.leaf_of(KEYS[0][1:]))
    assert one.trees.root(partition) == other.trees.root(partition) != 0


def test_what_is_removed_leaves_nothing_in_the_tree() -> None:
    bench = Bench()
    for key in KEYS:
        bench.write(key, b"r")
    for key in KEYS:
        bench.write(key, None)
    bench.commit()

    assert all(bench.trees.root(partition) == 0 for partition in range(PARTITIONS))


def test_a_batch_that_is_not_written_leaves_no_trace() -> None:
    bench = Bench()
    bench.write(KEYS[0], b"stays")
    bench.commit()
    bench.write(KEYS[0], b"goes")
    bench.write(KEYS[0], b"goes too")
    bench.write(KEYS[1], b"new")
    bench.fail()

    assert bench.is_right()
    assert bench.trees.wrong == 0


def test_a_copy_that_takes_the_place_of_a_damaged_one_makes_its_leaf_doubtful() -> None:
    bench = Bench()
    bench.write(KEYS[0], b"r")
    bench.commit()
    bench.rotten.add(KEYS[0])
    bench.records.forget([KEYS[0]])
    bench.write(KEYS[0], b"r")
    bench.commit()
    leaf = bench.trees.leaf_of(KEYS[0][1:])

    assert not bench.trees.is_right(leaf)
    assert not bench.trees.whole(bench.trees.partition_of(leaf))
    assert bench.trees.next_wrong(0) == (leaf, leaf + 1)
    bench.walk(leaf, leaf + 1)
    assert bench.trees.wrong == 0
    assert bench.is_right()


def test_a_damaged_copy_that_is_being_written_anew_counts_as_what_memory_has_of_it() -> None:
    bench = Bench()
    bench.write(KEYS[0], b"old")
    bench.commit()
    bench.rot(KEYS[0])
    trees, leaf = bench.trees, bench.trees.leaf_of(KEYS[0][1:])
    trees.begin(leaf, leaf + 1)
    trees.scanning()
    pairs, _ = bench.scan(trees.position, trees.end, 9)
    assert pairs == [(KEYS[0], DAMAGED)]
    bench.write(KEYS[0], b"new")  # in the tick in which the range comes
    trees.take(bench.counted(pairs), more=False)
    bench.commit()

    assert trees.is_right(leaf)
    assert trees.leaf(leaf) == trees.entry(KEYS[0][1:], b"new")
    assert trees.mismatches == 0


def test_all_leaves_are_right_after_one_walk_over_few_copies() -> None:
    bench = Bench(10)
    for key in KEYS[:5]:
        bench.write(key, b"r")
    bench.commit()
    bench.trees = Trees(bench.out, 7, PARTITIONS, 10)
    bench.walk(0, 1024)

    assert bench.trees.wrong == 0
    assert bench.is_right()


def test_a_leaf_is_a_range_of_disk_keys_for_every_number_of_leaves() -> None:
    for bits in (3, 5, 18, 24):
        trees = Trees(Outbox(), 0, PARTITIONS, bits)
        for key in KEYS:
            leaf = trees.leaf_of(key[1:])
            start, end = trees.first_key(leaf), trees.first_key(leaf + 1)
            assert start <= key[1:] < end
        assert trees.first_key(trees.size) > b"\xff" * 8 + b"\x80"
        assert trees.first_key(0) == bytes(8)


def test_trees_of_another_seed_or_size_have_another_shape() -> None:
    shapes = {Trees(Outbox(), seed, PARTITIONS, bits).shape for seed in (1, 2) for bits in (4, 5)}

    assert len(shapes) == 4
    assert {len(shape) for shape in shapes} == {8}


def test_there_are_never_fewer_leaves_than_partitions() -> None:
    assert Trees(Outbox(), 0, 65536, 4).size == 65536


def test_what_is_saved_is_loaded_again_with_what_was_wrong_in_it() -> None:
    bench = Bench()
    for key in KEYS:
        bench.write(key, b"r")
    bench.commit()
    bench.trees.doubt(3)
    saved = bench.trees.save()
    after = Trees(Outbox(), 7, PARTITIONS, BITS)

    assert after.load(saved)
    assert after.wrong == 1
    assert not after.is_right(3)
    assert [after.leaf(n) for n in range(32)] == [bench.trees.leaf(n) for n in range(32)]


def test_what_another_shape_has_saved_is_not_loaded() -> None:
    saved = Trees(Outbox(), 7, PARTITIONS, BITS).save()

    assert not Trees(Outbox(), 8, PARTITIONS, BITS).load(saved)
    assert not Trees(Outbox(), 7, PARTITIONS, BITS + 1).load(saved)
    assert not Trees(Outbox(), 7, PARTITIONS, BITS).load(saved[:-1])
    assert not Trees(Outbox(), 7, PARTITIONS, BITS).load(b"")


def test_a_watched_leaf_that_is_not_what_the_disk_has_is_counted_and_mended() -> None:
    bench = Bench()
    bench.write(KEYS[0], b"r")
    bench.commit()
    bench.disk[KEYS[0]] = EPOCH + b"another"
    bench.walk(0, bench.trees.size)

    assert bench.trees.mismatches == 1
    assert bench.trees.wrong == 0
    assert bench.is_right()


def test_a_watched_leaf_that_came_into_doubt_meanwhile_stays_wrong() -> None:
    bench = Bench()
    bench.trees.begin(4, 8)
    bench.trees.scanning()
    bench.trees.doubt(5)
    bench.trees.take([], more=False)

    assert bench.trees.mismatches == 0
    assert bench.trees.next_wrong(0) == (5, 6)


def test_a_walk_that_is_given_up_leaves_what_was_wrong_wrong() -> None:
    bench = Bench()
    bench.trees.doubt(5)
    bench.trees.begin(4, 8)
    bench.trees.scanning()
    bench.trees.give_up()

    assert bench.trees.wrong == 1
    assert bench.trees.next_wrong(7) == (5, 6)


FEW = sorted(KEYS)[:12]
OPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(FEW), st.sampled_from([b"a", b"bb", None])),
        st.tuples(st.sampled_from(["rot", "rot unseen"]), st.sampled_from(FEW)),
        st.tuples(st.sampled_from(["commit", "fail"])),
        st.tuples(st.just("doubt"), st.integers(0, 3)),
    ),
    max_size=5,
)


def play(bench: Bench, ops: list[tuple]) -> None:
    for op in ops:
        match op:
            case ("write", key, record):
                bench.write(key, record)
            case ("rot", key) if key in bench.disk and key not in bench.out.writes:
                bench.rot(key)
                bench.records.forget([key])
                bench.found(key)
            case ("rot unseen", key) if key in bench.disk:
                bench.rot(key)
            case ("doubt", leaf):
                bench.trees.doubt(leaf)
            case ("commit",):
                bench.commit()
            case ("fail",):
                bench.fail()
        assert bench.is_right()


@given(
    st.sets(st.sampled_from(FEW)),
    st.booleans(),
    st.integers(1, 4),
    st.lists(st.tuples(OPS, OPS, OPS, OPS), max_size=12),
)
@settings(max_examples=400, deadline=None)
def test_a_right_leaf_is_what_the_disk_has_whatever_is_written_while_it_is_read(
    at_first: set[bytes], fresh: bool, page: int, rounds: list[tuple]
) -> None:
    bench = Bench(3)
    for key in sorted(at_first):
        bench.write(key, b"first")
    bench.commit()
    if fresh:  # as after an unclean stop
        bench.trees = Trees(bench.out, 7, PARTITIONS, 3)
        bench.records = Records(bench.out, NodeConfig(), bench.trees)
    trees = bench.trees
    walking = False
    for before, asked, read, taken in rounds:
        play(bench, before)
        if not walking:
            first, until = trees.next_wrong(0)
            first, until = (first, until) if first < until else (0, 4)
            trees.begin(first, until)
            walking = True
        trees.scanning()
        play(bench, asked)
        bench.commit()  # what is in the batch when it is asked for is on the disk when it is read
        play(bench, read)
        pairs, more = bench.scan(trees.position, trees.end, page)
        play(bench, taken)
        walking = not trees.take(bench.counted(pairs), more=more)
        assert bench.is_right()

    bench.commit()
    assert bench.is_right()
    if walking:
        trees.give_up()
    bench.walk(0, trees.size)
    bench.commit()
    assert not bench.unseen
    while (run := trees.next_wrong(0)) != (0, 0):
        bench.walk(*run)
        bench.commit()
    assert trees.wrong == 0
    assert bench.is_right()
    assert trees.mismatches == 0
