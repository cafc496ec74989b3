"""A: processes that die and disks that fail, in whole clusters under virtual time.

What the engines make of real files, full disks and failed system calls is in tests/storage.
"""

from __future__ import annotations

import pytest
from tests.scenarios.stage import SECOND, Stage, scenario

from everwrite.core.messages.requests import Failure
from everwrite.core.request.making import LEASE


@scenario(1)
@pytest.mark.parametrize("power", [False, True], ids=["kill", "power cut"])
@pytest.mark.parametrize(
    ("who", "point"),
    [
        ("coordinator", "written"),
        ("coordinator", "sending"),  # one of two messages is out; a replica sends but one
        ("coordinator", "synced"),
        ("replica", "written"),
        ("replica", "synced"),
    ],
)
def test_a_put_whose_node_dies_at_any_boundary_is_whole_or_not_there(
    who: str, point: str, power: bool
) -> None:
    stage = Stage(3)
    a, b, c = stage.owners()
    victim = a if who == "coordinator" else b
    life = stage.machine(victim).incarnation

    for turn in range(10):
        stage.burn(victim, point, power=power, down_ms=300)
        first = stage.ask_put(f"w{turn}", a, timeout_ms=500)
        stage.answered(first)
        if first.broken:
            stage.answered(stage.ask_again(first, c, timeout_ms=500))
        stage.run(600)
        assert stage.is_up(victim)
    died = stage.machine(victim).incarnation - life

    assert died >= 10, "it died in the midst of each put"
    assert all(stage.get(node, r=3).ok for node in (a, b, c))
    stage.settle()


@scenario(2)
def test_a_put_whose_coordinator_dies_after_w_acks_is_retried_into_the_same_write() -> None:
    stage = Stage(3)
    a, b, c = stage.owners()
    put = stage.ask_put("once", a)
    assert stage.until(lambda: _safe_on(stage, "once") >= 2)
    stage.kill(a)
    assert put.broken and put.operation.outcome == "unknown", "nobody was told"

    again = stage.answered(stage.ask_again(put, b))
    stage.restart(a)

    assert again.ok
    assert stage.node(b).local.counters.retries_recognised == 1
    assert stage.get(c, r=3).values == ["once"]
    assert len(stage.record(c).siblings) == 1
    stage.settle()


@scenario(5)
def test_a_power_cut_of_all_machines_takes_what_was_not_synced_and_nothing_acknowledged() -> None:
    lost = 0
    for turn in range(20):
        stage = Stage(3, seed=turn)
        acknowledged = stage.put("acknowledged", 1)
        under_way = [stage.ask_put(f"under way {node}", node) for node in (1, 2, 3)]
        stage.run(0.5 + turn % 5 / 5)
        lost += stage.cut_power(1, 2, 3)
        assert all(call.done for call in under_way)

        stage.restart(1, 2, 3)

        assert acknowledged.stored.durable >= 2
        assert "acknowledged" in stage.get(1, r=3).values
        stage.settle()
    assert lost > 5, "some batches were lost"


@scenario(5)
def test_without_fsync_a_power_cut_may_take_what_was_acknowledged_as_not_durable() -> None:
    lost = gone = 0
    for seed in range(20):
        stage = Stage(3, fsync=False, seed=seed)
        safe = stage.put("safe", 1, w=3, dw=3)
        assert safe.stored.durable == 3
        put = stage.put("w", 2, w=3)
        assert (put.stored.owners, put.stored.durable) == (3, 0), "the answer says so"

        lost += stage.cut_power(1, 2, 3)
        stage.restart(1, 2, 3)

        found = stage.get(1, r=3).values
        assert found in (["safe", "w"], ["safe"])
        gone += found == ["safe"]
        stage.settle()
    assert lost > 5, "some disks lost what they had not synced"
    assert 0 < gone < 20, "sometimes all of them, and then the write is gone"


@scenario(7)
def test_a_node_whose_disk_is_full_refuses_serves_reads_and_recovers_by_itself() -> None:
    stage = Stage(4)
    a, b, c, spare = stage.owners()
    stage.put("before", a, w=3)
    for node in (a, b):
        stage.fill_disk(node)

    put = stage.put("during", c, w=2)
    assert put.stored.owners + put.stored.fallbacks >= 2, "others took it"
    assert stage.node(a).local.counters.writes_failed > 0
    assert "during" not in stage.held(a)
    alone = stage.put("alone", a, w=4, n=4, timeout_ms=500)
    assert alone.failure.acked < 4, "no full disk counts"
    assert "before" in stage.get(a, r=3).values

    stage.free_disk(a)
    stage.free_disk(b)
    assert stage.until(lambda: stage.hints() == 0, 30 * SECOND)
    assert stage.put("after", a, w=3).ok
    assert "during" in stage.held(a)
    assert spare and stage.machine(a).incarnation == 1, "nothing was restarted"
    stage.settle()


@scenario(9)
def test_a_node_that_an_fsync_failed_acknowledges_nothing_of_it() -> None:
    stage = Stage(3)
    a, b, c = stage.owners()
    put = stage.ask_put("w", a, w=1, dw=1, n=1)
    assert stage.until(lambda: stage.held(a) == ["w"]), "written, and not yet synced"
    lost = stage.cut_power(a)  # as the server does: it ends at once, and its disk has what it has

    stage.restart(a)

    assert put.broken and put.answer is None
    assert lost == (stage.held(a) == []), "the batch is there as a whole or not at all"
    assert stage.put("again", a, w=3).ok and b and c
    stage.settle()


@scenario(13)
def test_a_node_that_lost_its_disk_comes_back_under_its_id_and_repeats_no_dot() -> None:
    stage = Stage(3)
    a, b, c = stage.owners()
    stage.put("one", a, w=3)
    seen = stage.put("two", a, w=3).seen
    before = set(stage.record(b).clock)
    stage.kill(a)
    stage.lose_disk(a)
    stage.restart(a)
    assert stage.held(a) == []

    put = stage.put("three", a, seen=seen, w=3)

    fresh = set(stage.record(b).clock) - before
    assert len(fresh) == 1 and fresh.pop()[:8] == stage.machine(a).me.node_id, "a new epoch"
    assert put.ok and stage.get(a, r=3).values == ["one", "three"]
    assert stage.until(lambda: stage.record(a) == stage.record(b) == stage.record(c))
    stage.settle()


@scenario(14)
def test_a_node_whose_old_disk_was_put_back_repeats_no_dot_and_loses_nothing() -> None:
    stage = Stage(3)
    a, b, _ = stage.owners()
    stage.put("one", a, w=3)
    stage.run(100)
    stage.machine(a).disk.back_up()
    later = [stage.put(f"later {number}", a, w=3) for number in range(3)]
    clock = stage.record(b).clock
    stage.kill(a)
    assert stage.machine(a).disk.restore()
    assert stage.held(a) == ["one"], "the disk is as it was"
    leased = stage.machine(a).disk.readable(LEASE)
    stage.restart(a)

    stage.put("after", a, w=3)

    assert leased and all(put.ok for put in later)
    assert len(stage.record(b).clock) == len(clock) + 1, "a new epoch"
    names = ["after", "later 0", "later 1", "later 2", "one"]
    assert stage.get(a, r=3).values == names
    stage.settle()


@scenario(15)
def test_a_coordinator_that_forgot_one_key_erases_no_other_write_of_it() -> None:
    stage = Stage(3)
    a, b, c = stage.owners()
    stage.put("one", a, w=3)
    stage.put("two", a, w=3)
    stage.run(100)
    stage.forget(a)
    assert stage.held(a) == []

    stage.put("three", a, w=3)

    assert stage.get(b, r=3).values == ["one", "three", "two"]
    stage.run(100)
    assert [stage.held(node) for node in (a, b, c)] == [["one", "three", "two"]] * 3
    stage.settle()


@scenario(16)
def test_a_replica_that_forgot_a_key_and_a_late_hint_erase_nothing() -> None:
    """The seven steps of riak_kv 679, second part: a stand-in knows more than the replica that has
    forgotten, and hands it over late.
    """
    stage = Stage(4)
    a, b, c, spare = stage.owners()
    first = stage.put("one", a, w=3)
    stage.kill(c)
    second = stage.put("two", a, seen=first.seen, w=3)
    stage.put("three", a, seen=second.seen, w=3)
    assert stage.hints(spare) == 1
    stage.kill(spare)
    stage.run(100)
    stage.forget(a)
    stage.forget(b)
    stage.restart(c)
    stage.put("four", c, w=2)

    stage.restart(spare)
    assert stage.until(lambda: stage.hints() == 0)
    found = stage.get(b, r=3)
    assert found.values == ["four", "three"]
    stage.run(100)
    stage.put("five", b, seen=found.seen, w=3)
    assert stage.get(a, r=3).values == ["five"]
    stage.settle()


@scenario(17)
@pytest.mark.parametrize("synced", [False, True], ids=["before the sync", "after it"])
def test_a_crash_at_the_lease_of_epochs_repeats_none_of_them(synced: bool) -> None:
    stage = Stage(3, keys=40, epoch_block=16)
    disk = stage.machine(1).disk
    actors: set[bytes] = set()
    crashes = 0
    key = 0
    while crashes < 6:
        leased = disk.readable(LEASE)
        put = stage.ask_put(f"w{key}", 1, key=key % 40, n=3)
        assert stage.until(
            lambda put=put, leased=leased: put.done or disk.readable(LEASE) != leased
        )
        if disk.readable(LEASE) != leased:
            if synced:
                assert stage.until(lambda: disk.safe.get(LEASE) == disk.visible.get(LEASE))
            crashes += 1
            stage.cut_power(1)
            stage.restart(1)
        key += 1
    for number in range(40):
        for node in (1, 2, 3):
            actors |= set(stage.record(node, number).clock)

    assert crashes == 6 and len(actors) > 6
    # That no dot stands for two writes the judge has seen, at each record.
    stage.settle()


@scenario(20)
def test_a_node_that_stood_still_for_thirty_seconds_is_suspected_and_taken_back() -> None:
    stage = Stage(4)
    a, b, c, spare = stage.owners()
    put = stage.put("before", a, w=3)
    stage.pause(c)
    meanwhile = stage.ask_put("into the silence", c)
    stage.run(5 * SECOND)
    assert c not in stage.up_in_the_eyes_of(a), "suspected"
    stage.put("during", a, seen=put.seen, w=3)
    stage.run(25 * SECOND)
    hints = stage.hints()
    assert hints == 1

    stage.resume(c)
    assert stage.until(lambda: c in stage.up_in_the_eyes_of(a)), "taken back"
    assert stage.until(lambda: stage.hints() == 0)
    stage.answered(meanwhile)

    assert stage.held(c) == ["during"] and spare and b
    assert meanwhile.failure.code == "deadline_exceeded", "its time was over long ago"
    stage.settle()


@scenario(21)
def test_one_disk_a_hundred_times_slower_slows_no_request_that_others_can_serve() -> None:
    def slowest(slow: bool) -> float:
        stage = Stage(5)
        a, b, c, *_ = stage.owners()
        stage.put("w", a, w=3)
        if slow:
            stage.machine(c).disk.slow_until = stage.world.now + 3600 * 1_000_000
        times = []
        seen = stage.get(a, r=2).seen
        for turn in range(200):
            put = stage.put(f"w{turn}", (a, b)[turn % 2], seen=seen)
            seen = put.seen
            times += [put.took_ms, stage.get((a, b)[turn % 2]).took_ms]
        acks = sum(stage.node(node).local.counters.quorum_failures for node in (a, b))
        assert acks == 0
        stage.settle()
        return sorted(times)[-4]

    assert slowest(slow=True) <= 2 * slowest(slow=False)


@scenario(21)
def test_a_put_whose_time_was_over_while_a_slow_disk_was_read_is_not_carried_out() -> None:
    stage = Stage(1, replicas=1)
    stage.put("before", 1)
    stage.cool(1)
    stage.machine(1).disk.slow_until = stage.world.now + 3600 * 1_000_000
    puts = []
    for turn in range(10):
        stage.cool(1)
        puts.append(stage.put(f"late {turn}", 1, timeout_ms=5))
    stage.machine(1).disk.slow_until = 0
    stage.run(1000)

    late = [put.failure for put in puts if isinstance(put.answer, Failure)]
    refused = [failure for failure in late if failure.outcome == "none"]
    assert len(refused) > 5, "the time was over before anything was done"
    assert stage.node(1).local.counters.expired >= len(refused)
    stage.settle()


def _safe_on(stage: Stage, name: str) -> int:
    """Return on how many disks a write is for good."""
    key = stage.world.keys[0]
    place = key.causality.place[name]
    return sum(mask >> place & 1 for mask in stage.world.ledger._safe[key.data_key])
