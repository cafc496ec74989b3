"""H: more than a node can take. It says so early, goes on, and is well when it is over.

Virtual time counts what waits for messages and disks, not what the processor does: bench/ measures
that. Hostile frames and connections are in test_connections.py and tests/server.
"""

from __future__ import annotations

from tests.scenarios.stage import SECOND, Stage, scenario

from everwrite.core.data.keys import data_key
from everwrite.core.messages.requests import Failure
from everwrite.sim.world import BUCKET


@scenario(74)
def test_ten_times_the_load_is_refused_early_and_everything_is_well_right_after() -> None:
    stage = Stage(3, keys=50, in_flight_max=20)
    calm = max(stage.put(f"calm {key}", 1, key=key).took_ms for key in range(50))

    served = 0
    for wave in range(20):
        puts = [
            stage.ask_put(f"{wave} {key} {i}", 1, key=key) for key in range(50) for i in range(4)
        ]
        stage.answered(*puts)
        shed = [put.failure for put in puts if isinstance(put.answer, Failure)]
        taken = [put for put in puts if not isinstance(put.answer, Failure)]
        assert len(shed) > 100, "ten times of what it takes"
        assert {(each.code, each.outcome) for each in shed} == {("overloaded", "none")}
        assert all(each.retry_after_ms > 0 for each in shed)
        assert all(put.took_ms <= calm + 5 for put in puts), "a refusal is quick too"
        assert all(len(stage.up_in_the_eyes_of(node)) == 2 for node in (1, 2, 3))
        served += len(taken)
        for key in range(50):
            stage.put(f"merged {wave} {key}", 2, key=key, seen=stage.get(2, key=key, r=3).seen)

    assert served >= 20 * 15, "what it takes it serves"
    after = [stage.put(f"after {key}", 1, key=key) for key in range(50)]
    assert all(put.ok and put.took_ms <= 2 * calm for put in after)
    stage.settle()


@scenario(81)
def test_keys_chosen_to_fall_into_one_partition_are_served_as_fast_as_any() -> None:
    def slowest(names: list[bytes]) -> float:
        stage = Stage(5, keys=len(names))
        world = stage.world
        world.keys = [world.ledger.open_key(data_key(BUCKET, name), name.hex()) for name in names]
        placement = stage.node(1).local.routes.placement
        hit = {placement.partition_of(key.data_key) for key in world.keys}
        assert (len(hit) == 1) == names[0].startswith(b"flood"), "the fault: one partition"
        puts = [stage.ask_put(f"w{at}", 1 + at % 5, key=at) for at in range(len(names))]
        stage.answered(*puts)
        reads = [stage.ask_get(1 + at % 5, key=at) for at in range(len(names))]
        stage.answered(*reads)
        assert all(read.values == [f"w{at}"] for at, read in enumerate(reads))
        stage.settle()
        return max(call.took_ms for call in puts + reads)

    flood = [
        name
        for name in (b"flood %d" % number for number in range(5000))
        if data_key(BUCKET, name)[0] >> 4 == 7
    ]
    spread = [b"spread %d" % number for number in range(200)]
    assert slowest(flood[:200]) <= 2 * slowest(spread)


@scenario(81)
def test_a_hot_key_is_served_within_its_deadline_and_holds_up_no_other() -> None:
    stage = Stage(3, keys=2)
    cold = max(stage.put(f"cold {turn}", 1, key=1).took_ms for turn in range(10))
    hot = [stage.ask_get(1 + turn % 3, key=0) for turn in range(1000)]
    beside = stage.answered(stage.ask_put("beside", 1, key=1))
    stage.answered(*hot)

    assert all(read.ok and read.took_ms < SECOND for read in hot)
    assert beside.took_ms <= 2 * cold
    stage.settle()
