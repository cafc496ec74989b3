"""The judges of what owners agree on, forget and end, each in a world that was broken by hand."""

from __future__ import annotations

import msgspec
import pytest
from tests.sim.judged import actor_of, minted, write

from everwrite.core.data import versions
from everwrite.core.data.versions import Record, Version
from everwrite.core.hints.kept import join_hint
from everwrite.core.messages.requests import PutReply, Store
from everwrite.core.records import HINT, OWN
from everwrite.core.repair.repairs import Repairs
from everwrite.sim import quiet
from everwrite.sim.bounds import judge_lists
from everwrite.sim.history import Operation
from everwrite.sim.touches import judge_touches
from everwrite.sim.truth import TIME_ZERO_MS, End, Violation, time_ms
from everwrite.sim.world import World


def held_by(world: World, machine: int, key: int = 0) -> bytes:
    """Return the payload of an own copy."""
    held = world.machines[machine].disk.visible[OWN + world.keys[key].data_key]
    assert isinstance(held, bytes)
    return held


def written_key(world: World) -> int:
    """Return the number of a key of which all owners have a value."""
    for number, key in enumerate(world.keys):
        held = [
            world.machines[owner].disk.visible.get(OWN + key.data_key)
            for owner in world.owners(key.data_key, 0)
        ]
        if all(isinstance(each, bytes) and live_in(each) for each in held):
            return number
    raise AssertionError("no key has a value")


def live_in(held: object) -> bool:
    return isinstance(held, bytes) and bool(versions.live(versions.decode(held[8:])))


def test_an_owner_that_removes_a_value_that_lives_is_found(world: World) -> None:
    number = written_key(world)
    key = world.keys[number]
    owner = world.owners(key.data_key, 0)[0]

    with pytest.raises(Violation, match="which has not ended") as violation:
        world.ledger.wrote(owner, OWN + key.data_key, None, held_by(world, owner, number))
    assert violation.value.rule == "collected"


def test_a_tombstone_that_goes_while_somebody_has_what_it_superseded_is_found(fresh: World) -> None:
    key, actor = fresh.keys[0], actor_of(fresh, 1)
    owner, other = fresh.owners(key.data_key, 0)[:2]
    old = Record({actor: 1}, [minted(fresh, "a", actor, 1)])
    write(fresh, old)
    stale = bytes(8) + versions.encode(old)
    fresh.machines[other].disk.safe[OWN + key.data_key] = stale
    tomb = msgspec.structs.replace(minted(fresh, "d", actor, 2), value=None)
    gone = bytes(8) + versions.encode(Record({actor: 2}, [tomb]))

    with pytest.raises(Violation, match="which it superseded") as violation:
        fresh.ledger.wrote(owner, OWN + key.data_key, None, gone)
    assert violation.value.rule == "collected"

    del fresh.machines[other].disk.safe[OWN + key.data_key]
    fresh.ledger.wrote(owner, OWN + key.data_key, None, gone)


def test_a_value_that_comes_back_after_it_was_collected_is_found(fresh: World) -> None:
    key, actor = fresh.keys[0], actor_of(fresh, 1)
    record = Record({actor: 1}, [minted(fresh, "a", actor, 1)])
    write(fresh, record)
    fresh.ledger.collected.gone(key, 1, record)

    with pytest.raises(Violation, match="everything had been collected") as violation:
        write(fresh, record)
    assert violation.value.rule == "resurrection"


def ending(world: World, actor: bytes, in_ms: int) -> Record:
    """Return the record of a blind put that ends so long after the beginning."""
    version = minted(world, "a", actor, 1)
    ends = msgspec.structs.replace(version, expires=TIME_ZERO_MS + in_ms, pure=True)
    return Record({actor: 1}, [ends])


def test_a_copy_that_a_touch_never_reached_may_go_at_its_end(fresh: World) -> None:
    key, actor = fresh.keys[0], actor_of(fresh, 1)
    owner, holder = fresh.owners(key.data_key, 0)[0], 1
    short, long = ending(fresh, actor, 2_000), ending(fresh, actor, 30_000)
    write(fresh, short)
    write(fresh, long)
    node = fresh.machines[owner].me.node_id
    kept = join_hint(bytes(8), {node: 0}, versions.encode(long))
    fresh.machines[holder].disk.safe[HINT + key.data_key] = kept
    fresh.now = 5_000_000

    fresh.ledger.wrote(owner, OWN + key.data_key, None, bytes(8) + versions.encode(short))
    write(fresh, long)

    assert fresh.ledger.collected.count == 1


def test_a_value_that_ended_and_is_given_a_later_end_is_found(fresh: World) -> None:
    actor = actor_of(fresh, 1)
    write(fresh, ending(fresh, actor, 2_000))
    fresh.now = 5_000_000

    with pytest.raises(Violation, match="had ended everywhere") as violation:
        write(fresh, ending(fresh, actor, 30_000))
    assert violation.value.rule == "resurrection"


def test_a_tombstone_that_is_in_no_list_is_found(world: World) -> None:
    machine, actor = world.machines[0], actor_of(world, 1)
    tomb = Version(actor, 1, None, 0, b"d")
    payload = bytes(8) + versions.encode(Record({actor: 1}, [tomb]))
    machine.disk.visible[OWN + b"12345678key"] = payload

    with pytest.raises(Violation, match="is a tombstone and is in no list") as violation:
        judge_lists(machine)
    assert violation.value.rule == "lists"


def test_a_copy_that_ends_and_is_in_no_list_is_found(world: World) -> None:
    machine, actor = world.machines[0], actor_of(world, 1)
    version = Version(actor, 1, b"value", 0, b"a", expires=1_700_000_000_000)
    payload = bytes(8) + versions.encode(Record({actor: 1}, [version]))
    machine.disk.visible[OWN + b"12345678key"] = payload

    with pytest.raises(Violation, match="in no list of what ends"):
        judge_lists(machine)


def test_owners_that_do_not_come_to_agree_are_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiet, "AGREE_WITHIN_US", 1_000_000)
    monkeypatch.setattr(Repairs, "_ask_next", lambda self: None)
    world.options = msgspec.structs.replace(world.options, repairs=True)
    number = written_key(world)
    key = world.keys[number]
    quiet.Quiet(world).agree()
    behind = world.machines[world.owners(key.data_key, 0)[1]]
    del behind.disk.visible[OWN + key.data_key]
    assert behind.node is not None
    behind.node.local.trees.doubt(behind.node.local.trees.leaf_of(key.data_key))

    with pytest.raises(Violation, match="hold different bytes") as violation:
        quiet.Quiet(world).agree()
    assert violation.value.rule == "agreement"


def test_whoever_says_more_than_roots_at_rest_is_found(world: World) -> None:
    said = Store(1, world.keys[0].data_key, b"record", 100, 0)

    with pytest.raises(Violation, match="all owners agree, and n1 says to n2: Store"):
        quiet.Quiet(world)._judge_rest(0, 1, [said])


def test_a_key_that_is_handed_on_again_and_again_is_found(world: World) -> None:
    phase = quiet.Quiet(world)
    phase._count(0, 1, [Store(1, world.keys[0].data_key, b"record", 100, 0)] * 1000)

    with pytest.raises(Violation, match="was handed on 1000 times"):
        phase._judge_proportion(world.keys[0])


def twins(world: World, *ends_ms: int) -> bytes:
    """Return the payload of a copy of a write that two nodes minted, the ends of its two dots so
    long after the beginning.
    """
    actors = sorted(actor_of(world, 1, machine) for machine in (0, 1))
    siblings = [
        msgspec.structs.replace(minted(world, "a", actor, 1), expires=TIME_ZERO_MS + end)
        for actor, end in zip(actors, ends_ms, strict=True)
    ]
    return bytes(8) + versions.encode(Record(dict.fromkeys(actors, 1), siblings))


def touch(world: World, copies: dict[int, bytes]) -> None:
    """Let these machines write copies, and a touch be told that all of them let the key live for
    30 s.
    """
    key, acks = world.keys[0], len(copies)
    for machine, payload in copies.items():
        world.ledger.wrote(machine, OWN + key.data_key, payload, None)
        world.machines[machine].disk.visible[OWN + key.data_key] = payload
    operation = Operation("t", "c", "touch", key.name, 0, q=acks, ttl_ms=1_000)
    world.touches.asked(1, 1, key, operation)
    reply = PutReply(1, b"", acks, 0, acks, 1, acks, ends=TIME_ZERO_MS + 30_000)
    world.touches.answering(1, reply)


def test_a_touch_of_a_write_that_was_minted_twice_goes_by_the_dot_that_lives_longer(
    fresh: World,
) -> None:
    copy = twins(fresh, 30_000, 20_000)

    touch(fresh, {2: copy, 3: copy})


def test_the_end_of_one_dot_does_not_stand_for_the_other_of_the_same_write(fresh: World) -> None:
    copies = {2: twins(fresh, 30_000, 20_000), 3: twins(fresh, 20_000, 30_000)}

    with pytest.raises(Violation, match="live longer, and 1 machines") as found:
        touch(fresh, copies)
    assert found.value.rule == "quorum"


def test_at_rest_each_dot_of_a_write_that_was_minted_twice_has_its_own_end(fresh: World) -> None:
    data_key = fresh.keys[0].data_key
    owners = fresh.owners(data_key, 0)
    touch(fresh, dict.fromkeys(owners, twins(fresh, 30_000, 20_000)))
    judge_touches(fresh)
    other = twins(fresh, 20_000, 30_000)
    fresh.ledger.wrote(owners[0], OWN + data_key, other, None)
    fresh.machines[owners[0]].disk.visible[OWN + data_key] = other

    with pytest.raises(Violation, match="end 10000 ms before the end that was acknowledged"):
        judge_touches(fresh)


def without_first_twin(world: World) -> bytes:
    """Return a copy that has the write of ``twins`` under its second dot alone."""
    both = versions.decode(twins(world, 30_000, 20_000)[8:])
    second = both.siblings[1]
    return bytes(8) + versions.encode(Record({second.actor: 1}, [second]))


@pytest.mark.parametrize("left", ["the other dot", "nothing"])
def test_an_owner_that_has_the_write_without_the_dot_that_was_touched_is_found(
    fresh: World, left: str
) -> None:
    key = fresh.keys[0]
    owners = fresh.owners(key.data_key, 0)
    both, visible = twins(fresh, 30_000, 20_000), fresh.machines[owners[0]].disk.visible
    touch(fresh, dict.fromkeys(owners, both))
    if left == "nothing":
        del visible[OWN + key.data_key]
    else:
        visible[OWN + key.data_key] = without_first_twin(fresh)

    with pytest.raises(Violation, match=f"node {owners[0] + 1} knows nothing of the dot") as found:
        judge_touches(fresh)
    assert found.value.rule == "touched"


def test_a_dot_that_was_touched_may_be_gone_once_it_was_collected(fresh: World) -> None:
    key = fresh.keys[0]
    owners = fresh.owners(key.data_key, 0)
    touch(fresh, dict.fromkeys(owners, twins(fresh, 30_000, 20_000)))
    dot = next(iter(key.owed))
    key.collected |= key.named_by([dot])
    for owner in owners:
        del fresh.machines[owner].disk.visible[OWN + key.data_key]
    judge_touches(fresh)

    # But who still has it must have its end.
    fresh.machines[owners[0]].disk.visible[OWN + key.data_key] = twins(fresh, 20_000, 20_000)
    with pytest.raises(Violation, match="end 10000 ms before the end that was acknowledged"):
        judge_touches(fresh)


def test_an_owner_that_never_heard_of_an_acknowledged_touch_is_found(world: World) -> None:
    number = written_key(world)
    key = world.keys[number]
    record = versions.decode(held_by(world, world.owners(key.data_key, 0)[0], number)[8:])
    place = key.causality.place[record.siblings[0].op.decode()]
    key.ends[place] = End(time_ms(world.now) + 60_000)
    judge_touches(world)
    key.owed[key.dots[place][0]] = time_ms(world.now) + 120_000

    with pytest.raises(Violation, match="before the end that was acknowledged"):
        judge_touches(world)
