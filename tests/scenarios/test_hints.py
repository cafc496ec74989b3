"""E: hints, the copies that stand-ins keep. tests/core/repair has how they are kept and paced."""

from __future__ import annotations

import pytest
from tests.scenarios.stage import DAY, HOUR, MINUTE, Stage, scenario

from everwrite.core.messages.requests import Failure, Store, StoreReply
from everwrite.core.records import HINT
from everwrite.core.wire import decode_payload


@scenario(53)
def test_hints_for_a_node_that_stays_away_are_kept_for_ever_and_never_exceed_their_cap() -> None:
    rounds = ("ping", "hint_pass", "gossip", "move", "repair", "collect", "mend")
    slow = dict.fromkeys((f"{name}_every_ms" for name in rounds), HOUR)
    slow |= {"down_after_ms": 3 * HOUR, "expiry_slot_ms": DAY, "scrub_cycle_ms": 100 * DAY}
    stage = Stage(4, keys=8, hints_max=4, **slow)
    gone = stage.owners()[0]
    stage.kill(gone)
    rest = [node for node in (1, 2, 3, 4) if node != gone]
    for turn in range(5):
        for key in range(8):
            stage.put(f"{turn} on {key}", rest[turn % 3], key=key)
    stage.run(MINUTE)
    kept = stage.hints()
    assert kept > 0 and all(stage.node(node).hints.notes <= 4 for node in rest)

    stage.run(3 * DAY)
    assert stage.hints() == kept, "time alone takes no hint away"

    stage.restart(gone)
    assert stage.until(lambda: stage.hints() == 0, within_ms=4 * HOUR)
    stage.settle()


@scenario(54)
def test_a_full_store_of_hints_refuses_and_the_write_finds_another_holder_or_fails() -> None:
    stage = Stage(4, keys=24, hints_max=1)
    away = stage.owners(0)[0]
    stage.kill(away)
    rest = [node for node in (1, 2, 3, 4) if node != away]
    puts = [stage.put(f"w{key}", rest[key % 3], key=key, w=3, timeout_ms=500) for key in range(24)]

    refused = sum(stage.node(node).local.counters.hints_refused for node in rest)
    assert refused > 0, "the cap was met"
    assert stage.hints() <= 3
    failed = [put.failure for put in puts if isinstance(put.answer, Failure)]
    assert failed and all(
        failure.acked < failure.required or not failure.required for failure in failed
    )
    assert len(failed) < len(puts), "others found a holder, or had all their owners"
    stage.settle()


@scenario(55)
def test_a_write_outlives_the_stand_in_that_died_for_good_before_it_delivered() -> None:
    stage = Stage(5)
    a, b, c, spare, _ = stage.owners()
    stage.kill(c)
    put = stage.put("a", a, w=3)
    assert (put.stored.fallbacks, stage.hints(spare)) == (1, 1)
    stage.kill(spare)
    stage.lose_disk(spare)
    assert stage.hints() == 0, "the only note is gone"

    stage.restart(c)
    assert stage.held(c) == []
    assert stage.get(b, r=3).values == ["a"]
    stage.run(100)

    assert stage.held(c) == ["a"], "the read repaired it"
    stage.settle()


@scenario(56)
@pytest.mark.parametrize("power", [False, True])
def test_a_stand_in_that_dies_between_the_ack_and_striking_out_delivers_again(power: bool) -> None:
    stage = Stage(4)
    a, b, c, spare = stage.owners()
    stage.kill(c)
    stage.put("a", a, w=3)
    assert stage.hints(spare) == 1

    stage.machine(c).start()
    assert stage.until(lambda: stage.held(c) == ["a"])
    assert stage.hints(spare) == 1, "it is delivered and not yet struck out"
    before = stage.record(c)
    stage.cut_power(spare) if power else stage.kill(spare)
    delivered = _deliveries(stage)
    assert stage.hints(spare) == 1, "the fault: it died in between"

    stage.restart(spare)
    assert stage.until(lambda: stage.hints() == 0)

    assert _deliveries(stage) > delivered, "it came once more"
    assert stage.record(c) == before == stage.record(b)
    stage.settle()


@scenario(57)
def test_a_returning_node_is_brought_its_hints_by_the_batch_while_others_are_served() -> None:
    stage = Stage(4, keys=150, hint_batch=8)
    away = 1
    stage.kill(away)
    for key in range(150):
        stage.put(f"w{key}", 2 + key % 3, key=key)
    kept = stage.hints()
    assert kept > 80
    calm = max(stage.get(2 + key % 3, key=key).took_ms for key in range(50))

    began = len(stage.world.carried)
    stage.machine(away).start()
    busy = 0.0
    key = 0
    while stage.hints():
        busy = max(busy, stage.get(2 + key % 3, key=key % 150).took_ms)
        key += 1
    assert key > 5, "reads went on during the delivery"

    flying = most = 0
    for frame in stage.world.carried[began:]:
        for message in decode_payload(frame.data[4:]):
            if frame.to == away - 1 and isinstance(message, Store) and message.rid:
                flying += 1
            elif frame.source == away - 1 and isinstance(message, StoreReply):
                flying -= 1
            most = max(most, flying)
    assert 8 <= most <= 3 * 8, "three nodes, each with no more than a batch under way"
    assert busy < 3 * calm + 5
    stage.settle()


@scenario(8)
def test_a_stand_in_whose_disk_is_full_keeps_what_it_has_and_another_takes_the_new_hint() -> None:
    stage = Stage(5)
    a, _, c, spare, second = stage.owners()
    stage.kill(c)
    seen = stage.put("first", a, w=3).seen
    stage.fill_disk(spare)

    put = stage.put("second", a, seen=seen, w=3)

    assert stage.node(spare).local.counters.writes_failed > 0, "the disk refused"
    assert put.stored.fallbacks == 1 and stage.hints(second) == 1
    assert stage.machine(spare).disk.keys(HINT), "the old hint is whole"
    stage.free_disk(spare)
    stage.restart(c)
    assert stage.until(lambda: stage.hints() == 0)
    assert stage.held(c) == ["second"]
    stage.settle()


def _deliveries(stage: Stage) -> int:
    """Return how many copies came with a request for an ack from one that stands in."""
    return sum(
        isinstance(message, Store) and message.rid != 0
        for frame in stage.world.carried
        for message in decode_payload(frame.data[4:])
    )
