"""The judges of a history: against plain sets, perfect stores, and planted anomalies.

The judge walks through each key once, and keeps what writers knew in a short form (sim/known.py).
The reference here keeps every set as it is, and asks for each read and each write again.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sim.histories import PerfectStore

from everwrite.sim.checkers import Allowed, assumed, check_history
from everwrite.sim.history import Operation
from everwrite.sim.known import NOTHING, Known, knows, lacking, union, with_place

N = 3


# -- closed sets in a short form -------------------------------------------------------------------


def known(places: set[int]) -> Known:
    """Return these places, whatever their past."""
    base = next(place for place in range(65) if place not in places)
    return base, sum(1 << (place - base) for place in places if place > base)


places = st.sets(st.integers(0, 40))


@given(places, places, st.integers(0, 40))
def test_known_writes_are_a_set_in_its_shortest_form(
    one: set[int], other: set[int], place: int
) -> None:
    assert union(known(one), known(other)) == known(one | other)
    assert with_place(known(one), place) == known(one | {place})
    assert knows(known(one), place) == (place in one)
    assert lacking(known(one), known(other), 41) == sorted(other - one)
    assert union(NOTHING, known(one)) == known(one)


# -- the reference ---------------------------------------------------------------------------------


def plain_rules(history: list[Operation], allowed: Allowed) -> set[str]:
    """Return the rules that the history of one key breaks, by sets and by the book."""
    writes = sorted((each for each in history if each.is_write), key=lambda each: each.invoked)
    past: dict[str, set[str]] = {}
    rules: set[str] = set()
    for write in writes:
        if any(each not in past for each in write.seen):
            rules.add("phantom")
        there = [each for each in write.seen if each in past]
        past[write.id] = set(there).union(*(past[each] for each in there))
    by_id = {write.id: write for write in writes}

    def cover(ids: list[str]) -> set[str]:
        return set(ids).union(*(past[each] for each in ids))

    def gone(at: int) -> set[str]:
        executed = allowed.executed
        return cover(
            [
                each.id
                for each in writes
                if each.outcome != "fail" and each.invoked <= at
                if each.kind == "delete" or allowed.ends.get(each.id, (at + 1, 0))[0] <= at
                if executed is None or each.id in executed
            ]
        )

    def ghosts(read: Operation) -> bool:
        return any(
            each not in by_id
            or by_id[each].invoked > read.completed
            or by_id[each].outcome == "fail"
            for each in read.found
        )

    reads = [each for each in history if each.is_read and each.outcome == "ok"]
    for read in reads:
        if ghosts(read):
            rules.add("phantom")
            continue
        if any(allowed.ends.get(each, (0, read.invoked))[1] < read.invoked for each in read.found):
            rules.add("ended")
        if len(set(read.found)) < len(read.found):
            rules.add("duplicate")
        pasts = set[str]().union(*(past[each] for each in read.found))
        if set(read.found) & pasts - allowed.lingering:
            rules.add("false sibling")
        covered = cover(read.found) | gone(read.completed)
        begun = {each.id for each in writes if each.invoked <= read.completed}
        if (set(read.seen) & begun) - covered - allowed.lost:
            rules.add("session")
        if read.strict and any(
            each.strict and each.kind == "put" and each.outcome == "ok"
            for each in writes
            if each.completed < read.invoked and each.q + read.q > N
            if each.id not in covered | allowed.stale
        ):
            rules.add("overlap")
    last = max(reads, key=lambda each: each.completed, default=None)
    if any(
        each.kind == "put" and each.outcome == "ok" and each.id not in allowed.lost
        for each in writes
        if last is None or each.completed > last.invoked
    ):
        rules.add("unread")
    if last is not None and not ghosts(last):
        acknowledged = [
            each for each in writes if each.outcome == "ok" and each.completed <= last.invoked
        ]
        covered = cover(last.found) | gone(last.completed)
        lost = {each.id for each in acknowledged if each.kind == "put"} - covered - allowed.lost
        if lost:
            rules.add("lost")
        superseded = set[str]().union(
            *(past[each.id] for each in acknowledged if each.id not in allowed.lost)
        )
        if set(last.found) & superseded - allowed.lingering:
            rules.add("resurrection")
    return rules


@st.composite
def wild_histories(draw: st.DrawFn) -> list[Operation]:
    """Return a history of one key in which anything may have happened, and mostly did not."""
    count = draw(st.integers(1, 12))
    ids = [f"w{number}" for number in range(count)]
    some = st.lists(st.sampled_from(ids), max_size=2)
    history = []
    for number, name in enumerate(ids):
        kinds = ("put", "put", "put", "put", "delete", "get", "get", "get", "get", "touch")
        kind = draw(st.sampled_from(kinds))
        earlier = ids[max(0, number - 4) : number]
        near = st.lists(st.sampled_from(earlier), max_size=2) if earlier else st.just([])
        mostly_near = draw(st.one_of(near, near, near, some))
        invoked = 10 * number + draw(st.integers(0, 15))
        operation = Operation(
            name,
            "c",
            kind,
            "cart",
            invoked,
            completed=invoked + draw(st.integers(0, 15)),
            outcome=draw(st.sampled_from(("ok", "ok", "ok", "unknown", "fail"))),
            strict=draw(st.booleans()),
            q=draw(st.integers(1, 3)),
            tries=draw(st.sampled_from((1, 1, 2))),
        )
        if operation.kind in ("put", "touch"):
            operation.ttl_ms = draw(st.sampled_from((0, 0, 0, 10, 60)))
        if operation.is_write:
            operation.seen = mostly_near
        elif operation.is_read:
            operation.found = mostly_near
            operation.seen = draw(near)
        history.append(operation)
    return history


@settings(max_examples=1000)
@given(wild_histories(), st.booleans(), st.sets(st.sampled_from([f"w{n}" for n in range(12)])))
def test_the_judge_finds_what_plain_sets_find(
    history: list[Operation], executed: bool, spared: set[str]
) -> None:
    allowed = assumed(history)
    for each in history:
        if each.kind == "put" and each.ttl_ms:
            allowed.ends[each.id] = each.invoked + each.ttl_ms, each.completed + 2 * each.ttl_ms
    if executed:
        allowed.executed = spared
        allowed.lost = set(sorted(spared)[:1])
        allowed.stale = set(sorted(spared)[1:2])

    found = {breach.rule for breach in check_history(history, allowed, N)}

    assert found == plain_rules(history, allowed)


# -- perfect stores, and what may go wrong with them -----------------------------------------------


def rules(history: list[Operation]) -> set[str]:
    return {breach.rule for breach in check_history(history, assumed(history), N)}


@settings(max_examples=300)
@given(st.integers(0, 2**32), st.integers(0, 120))
def test_a_store_without_a_fault_breaks_no_rule(seed: int, operations: int) -> None:
    assert rules(PerfectStore(random.Random(seed)).work(operations)) == set()


Anomaly = Callable[[PerfectStore], None]
KEY, CLIENT = "cart0", "planted"


def acknowledged_put(store: PerfectStore, *seen: str, client: str = CLIENT) -> Operation:
    """A put that is acknowledged and found by nobody, unless its planter says so."""
    write = store._begin(client, "put", KEY)
    write.seen, write.strict = list(seen), True
    return write


def read_of(store: PerfectStore, *found: str, seen: tuple[str, ...] = ()) -> Operation:
    read = store._begin(CLIENT, "get", KEY)
    read.found, read.seen, read.strict = list(found), list(seen), False
    return read


def shown_put(store: PerfectStore, *seen: str) -> Operation:
    """A put that all later reads find beside the siblings that its writer had not seen."""
    write = acknowledged_put(store, *seen)
    store.shown[KEY] = [each for each in store.shown[KEY] if each not in seen] + [write.id]
    return write


def lost_write(store: PerfectStore) -> None:
    acknowledged_put(store)


def never_read_after(store: PerfectStore) -> None:
    late = acknowledged_put(store)
    late.completed = 10**9


def lost_with_its_successor(store: PerfectStore) -> None:
    acknowledged_put(store, shown_put(store).id)
    store.shown[KEY] = []


def resurrected(store: PerfectStore) -> None:
    old = shown_put(store)
    shown_put(store, *store.shown[KEY])
    store.shown[KEY].append(old.id)


def resurrected_by_a_delete_undone(store: PerfectStore) -> None:
    old = shown_put(store)
    delete = store._begin(CLIENT, "delete", KEY)
    delete.seen = list(store.shown[KEY])
    store.shown[KEY] = [old.id]


def invented(store: PerfectStore) -> None:
    read_of(store, "nobody wrote this")


def refused_and_found(store: PerfectStore) -> None:
    refused = acknowledged_put(store)
    refused.outcome = "fail"
    read_of(store, refused.id)


def of_another_key(store: PerfectStore) -> None:
    other = acknowledged_put(store)
    other.key, other.outcome = "cart1", "unknown"
    read_of(store, other.id)


def of_the_future(store: PerfectStore) -> None:
    early = read_of(store)
    early.found = [shown_put(store).id]


def false_sibling(store: PerfectStore) -> None:
    old = shown_put(store)
    new = shown_put(store, *store.shown[KEY])
    read_of(store, old.id, new.id)


def false_sibling_through_a_chain(store: PerfectStore) -> None:
    old = shown_put(store)
    for _ in range(3):
        new = shown_put(store, *store.shown[KEY])
    read_of(store, old.id, new.id)


def twice(store: PerfectStore) -> None:
    write = shown_put(store)
    read_of(store, write.id, write.id)


def session_went_back(store: PerfectStore) -> None:
    old = shown_put(store)
    new = shown_put(store, *store.shown[KEY])
    read_of(store, old.id, seen=(new.id,))


def own_write_unseen(store: PerfectStore) -> None:
    before = store.shown[KEY]
    write = shown_put(store)
    read_of(store, *before, seen=(write.id,))


def stale_strict_read(store: PerfectStore) -> None:
    before = list(store.shown[KEY])
    shown_put(store)
    read_of(store, *before).strict = True


def knew_too_early(store: PerfectStore) -> None:
    early = shown_put(store)
    early.seen = [shown_put(store).id]


ANOMALIES: list[tuple[Anomaly, str]] = [
    (lost_write, "lost"),
    (never_read_after, "unread"),
    (lost_with_its_successor, "lost"),
    (resurrected, "resurrection"),
    (resurrected_by_a_delete_undone, "resurrection"),
    (invented, "phantom"),
    (refused_and_found, "phantom"),
    (of_another_key, "phantom"),
    (of_the_future, "phantom"),
    (knew_too_early, "phantom"),
    (false_sibling, "false sibling"),
    (false_sibling_through_a_chain, "false sibling"),
    (twice, "duplicate"),
    (session_went_back, "session"),
    (own_write_unseen, "session"),
    (stale_strict_read, "overlap"),
]


@pytest.mark.parametrize(("plant", "rule"), ANOMALIES, ids=[p.__name__ for p, _ in ANOMALIES])
def test_one_anomaly_among_many_operations_is_found(plant: Anomaly, rule: str) -> None:
    for seed in range(60):
        store = PerfectStore(random.Random(seed))
        store.work(seed)
        plant(store)

        assert rule in rules(store.work(0)), f"seed {seed}"
