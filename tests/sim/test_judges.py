"""The judges of the simulator can fail: each meets a world in which its rule is broken by hand."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from everwrite.core.cluster.liveness import Liveness
from everwrite.core.data import context, versions
from everwrite.core.data.epochs import Epochs
from everwrite.core.data.versions import Record, Seen, Version
from everwrite.core.errors import QuorumNotMet
from everwrite.core.local import Request
from everwrite.core.messages import Ask, Store
from everwrite.core.node import Node
from everwrite.core.records import HINT, OWN
from everwrite.core.repair.kept import join_hint
from everwrite.core.repair.repairs import Repairs
from everwrite.core.request.spread import PutRequest
from everwrite.sim import quiet, rest
from everwrite.sim.bounds import judge_context, judge_emptied, judge_lists, judge_tables
from everwrite.sim.history import Operation
from everwrite.sim.options import draw
from everwrite.sim.run import run_seed
from everwrite.sim.touches import judge_touches
from everwrite.sim.truth import NO_KNOWLEDGE, TIME_ZERO_MS, End, Violation, time_ms
from everwrite.sim.world import World

ROOT = Path(__file__).parents[2]

CALM = next(
    seed
    for seed in range(1000)
    if not draw(seed).faults
    and draw(seed).nodes >= 5
    and draw(seed).copies == 3
    and not draw(seed).wide_puts
)
"""A seed without faults, of a cluster in which some nodes own none of a key."""


@pytest.fixture
def world() -> World:
    """Return a cluster that has done its work, and is at rest."""
    world = World(draw(CALM))
    world.boot()
    world.chaos()
    world.heal()
    return world


def broken(world: World, rule: str, words: str) -> None:
    """Say that the judge of the tables finds this, and nothing before."""
    with pytest.raises(Violation, match=words) as violation:
        judge_tables(world.machines[0])
    assert violation.value.rule == rule


def test_a_cluster_at_rest_breaks_no_rule(world: World) -> None:
    rest.judge_rest(world)
    rest.judge_end(world)


# -- tables ----------------------------------------------------------------------------------------


class Waiting(Request):
    """A request of a client that nobody ends."""

    _source = 7


def node_of(world: World) -> Node:
    """Return the node whose tables are broken."""
    node = world.machines[0].node
    assert node is not None
    return node


def test_more_requests_than_there_may_be_are_found(world: World) -> None:
    node = node_of(world)
    config = node.local.config
    for _ in range(2 * config.in_flight_max + config.parked_max + 1):
        node.local.open_request(Waiting(), node.local.now + 1000)

    broken(world, "bounds", "requests of clients open")


def test_a_request_that_nothing_ends_is_found(world: World) -> None:
    node = node_of(world)
    node.local.requests[1] = Waiting()

    broken(world, "bounds", "wait for no time")


def test_bytes_that_no_request_holds_are_found(world: World) -> None:
    node = node_of(world)
    node.local.held_bytes = 10

    broken(world, "bounds", "counts 10 bytes held by 0 requests")


def test_an_outbox_that_was_not_emptied_is_found(world: World) -> None:
    node = node_of(world)
    node.out.send(node.local.me, Ask(1, "status", b""))

    broken(world, "bounds", "has not emptied its outbox")


def test_a_wrong_count_of_parked_messages_is_found(world: World) -> None:
    node = node_of(world)
    node.local.records.parked_count = 1

    broken(world, "bounds", "counts 1 messages parked")


def test_more_hints_than_there_may_be_are_found(world: World) -> None:
    node = node_of(world)
    owner, most = world.machines[1].me.node_id, node.local.config.hints_max
    for number in range(most + 1):
        node.hints.kept.note(number.to_bytes(3, "big"), owner, 0, "stored")

    broken(world, "bounds", f"keeps {most + 1} hints")


def test_a_wrong_count_of_hints_is_found(world: World) -> None:
    node = node_of(world)
    node.hints.kept.notes = 1

    broken(world, "bounds", "counts 1 hints; by key they are 0")


def test_a_burst_of_hints_to_one_owner_is_found(world: World) -> None:
    node = node_of(world)
    batch = node.local.config.hint_batch
    way = node.hints.deliveries._way(b"owner")
    way.flying = {bytes((number,)): 1 for number in range(batch + 1)}

    broken(world, "bounds", "on their way to one owner")


def test_a_cache_that_does_not_turn_over_is_found(world: World) -> None:
    node = node_of(world)
    node.local.records._size = node.local.records._cap + 1

    broken(world, "bounds", "in a cache of")


def test_a_hint_on_the_disk_that_no_index_knows_is_found(world: World) -> None:
    machine, key = world.machines[0], world.keys[0]
    owner = world.machines[1].me.node_id
    machine.disk.visible[HINT + key.data_key] = join_hint(bytes(8), {owner: 0}, b"record")

    broken(world, "hint", "its index says 0")


def test_damage_that_is_not_counted_is_found(world: World) -> None:
    world.machines[0].unread = 1

    broken(world, "silent", "and counts 0")


def test_a_table_that_is_not_back_where_it_began_is_found(world: World) -> None:
    node = node_of(world)
    node.hints.uncertain[b"key"] = None

    with pytest.raises(Violation, match="still counts 1 hints in doubt"):
        judge_emptied(world.machines[0])


# -- placement -------------------------------------------------------------------------------------


def test_a_copy_on_a_node_that_does_not_own_it_is_found(world: World) -> None:
    key = next(key for key in world.keys if key.operations)
    owners = world.owners(key.data_key, 0)
    stranger = next(each for each in world.machines if each.index not in owners)
    record = world.machines[owners[0]].disk.visible[OWN + key.data_key]
    stranger.disk.visible[OWN + key.data_key] = record

    for judge in (rest.judge_rest, rest.judge_end):
        with pytest.raises(Violation, match="owns it not"):
            judge(world)


# -- metadata --------------------------------------------------------------------------------------


def write(world: World, record: Record, *, before: Record | None = None, key: int = 0) -> None:
    """Let a disk take a record that the first machine made."""
    data_key = world.keys[key].data_key
    had = bytes(8) + versions.encode(before) if before is not None else None
    world.ledger.wrote(0, OWN + data_key, bytes(8) + versions.encode(record), had)


def minted(world: World, name: str, actor: bytes, counter: int, *, key: int = 0) -> Version:
    """Return the version of a blind put that a client has asked for."""
    ledger = world.keys[key]
    if name not in ledger.causality.place:
        operation = Operation(name, "c", "put", ledger.name, 0)
        world.ledger.invoked(ledger, operation, NO_KNOWLEDGE)
    return Version(actor, counter, b"value", 0, name.encode())


@pytest.fixture
def fresh() -> World:
    """Return a cluster in which nothing has happened yet."""
    return World(draw(CALM))


def actor_of(world: World, epoch: int, machine: int = 0) -> bytes:
    return world.machines[machine].me.node_id + epoch.to_bytes(8, "big")


def test_a_clock_that_knows_more_than_was_minted_is_found(fresh: World) -> None:
    actor = actor_of(fresh, 1)
    version = minted(fresh, "a", actor, 1)
    write(fresh, Record({actor: 1}, [version]))

    with pytest.raises(Violation, match="has minted 1 there"):
        write(fresh, Record({actor: 2}, [version]))


def test_an_actor_that_mints_on_two_keys_is_found(fresh: World) -> None:
    actor = actor_of(fresh, 1)
    write(fresh, Record({actor: 1}, [minted(fresh, "a", actor, 1)]))

    with pytest.raises(Violation, match="an epoch is for one key"):
        write(fresh, Record({actor: 1}, [minted(fresh, "b", actor, 1, key=1)]), key=1)


def test_a_put_over_the_cap_of_siblings_is_found(fresh: World) -> None:
    fresh.ledger.siblings_max = 2
    actor = actor_of(fresh, 1)
    siblings = [minted(fresh, name, actor, i + 1) for i, name in enumerate("abc")]
    two = Record({actor: 2}, siblings[:2])
    write(fresh, two)

    with pytest.raises(Violation, match="leaves 3 siblings"):
        write(fresh, Record({actor: 3}, siblings), before=two)


def test_a_merge_may_go_over_the_cap_of_siblings(fresh: World) -> None:
    fresh.ledger.siblings_max = 2
    mine, theirs = sorted((actor_of(fresh, 1), actor_of(fresh, 1, machine=1)))
    siblings = [minted(fresh, name, mine, i + 1) for i, name in enumerate("ab")]
    other = minted(fresh, "c", theirs, 1)
    write(fresh, Record({mine: 2}, siblings))
    write(fresh, Record({theirs: 1}, [other]))

    write(
        fresh, Record({mine: 2, theirs: 1}, [*siblings, other]), before=Record({mine: 2}, siblings)
    )


def test_a_context_that_names_what_was_not_minted_is_found(fresh: World) -> None:
    key, actor = fresh.keys[0], actor_of(fresh, 1)
    write(fresh, Record({actor: 1}, [minted(fresh, "a", actor, 1)]))
    good = context.sign(b"k" * 32, key.data_key, Seen({actor: 1}, []))
    bad = context.sign(b"k" * 32, key.data_key, Seen({}, [(actor, 2)]))

    judge_context(key, good, "a read")
    with pytest.raises(Violation, match="has minted 1 there"):
        judge_context(key, bad, "a read")


def test_a_context_longer_than_documented_is_found(fresh: World) -> None:
    with pytest.raises(Violation, match="the most is"):
        judge_context(fresh.keys[0], bytes(context.CONTEXT_BYTES_MAX + 1), "a read")


def test_a_node_that_begins_an_epoch_with_each_put_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Epochs, "continues", lambda self, own_epoch: False)

    findings = run_seed(CALM).findings

    assert [finding.rule for finding in findings] == ["metadata"]
    assert "under a new epoch" in findings[0].sentence


# -- availability and views ------------------------------------------------------------------------


def rules_of(seeds: Iterable[int]) -> set[str]:
    return {finding.rule for seed in seeds for finding in run_seed(seed).findings}


def all_owners_must_be_up(self: PutRequest) -> None:
    owners = [node for node, owner in self.pending.items() if not owner]
    if len(owners) < self._local.routes.placement.replicas:
        raise QuorumNotMet("Not all owners can be reached.", hint="Wait.", required=1)


def test_a_put_that_fails_among_nodes_that_are_well_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PutRequest, "check_reach", all_owners_must_be_up)

    assert "available" in rules_of(range(20))


def test_a_put_that_is_never_answered_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PutRequest, "_answer", lambda self: setattr(self, "_answered", True))

    assert "available" in rules_of(range(10))


def test_a_node_that_takes_its_neighbours_for_down_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Liveness, "patience", lambda self, known: 100)

    assert "detector" in rules_of(range(5))


def test_a_node_that_takes_nobody_for_down_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Liveness, "patience", lambda self, known: 1 << 40)

    drawn = [(seed, draw(seed)) for seed in range(300)]
    same = [(seed, each) for seed, each in drawn if not (each.survivors or each.changing)]
    split = [seed for seed, each in same if "split" in each.faults]
    assert "detector" in rules_of(split[:20])


def test_whoever_is_well_and_whoever_is_not_is_told_apart(world: World) -> None:
    health, machines, long = world.health, world.machines, 5_000_000
    count = len(machines)
    world.run(world.now + long)
    assert health.group(0, world.now) == set(range(count))

    machines[1].stop()
    assert health.group(0, world.now) is None  # nobody can have noticed yet
    world.run(world.now + long)
    assert health.group(0, world.now) == {0, *range(2, count)}

    world.network.cut_link(0, 2)
    world.run(world.now + long)
    assert health.neighbours(0, world.now) == {0, *range(3, count)}
    assert health.group(0, world.now) is None  # half open

    world.network.cut_link(2, 0)
    world.run(world.now + long)
    assert health.group(0, world.now) is None  # others reach that one yet

    machines[0].pause()
    assert health.neighbours(0, world.now) is None


# -- the page --------------------------------------------------------------------------------------


def test_every_judge_that_the_page_names_exists() -> None:
    page = (ROOT / "docs/design/judges.md").read_text()
    named = re.findall(r"`(\w+)\.py:(\w+)`", page)

    assert len(named) > 30
    for room, name in named:
        module = importlib.import_module(f"everwrite.sim.{room}")
        assert callable(getattr(module, name, None)), f"{room}.py has no {name}"
    for path in re.findall(r"`(tests/[\w/.]+)`", page):
        assert (ROOT / path).exists(), path


def test_the_page_has_a_row_for_every_invariant() -> None:
    page = (ROOT / "docs/design/judges.md").read_text()

    assert re.findall(r"^\| I(\d+) ", page, re.MULTILINE) == [str(i) for i in range(1, 23)]


# -- what is forgotten, and owners that agree ------------------------------------------------------


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


def test_an_owner_that_never_heard_of_an_acknowledged_touch_is_found(world: World) -> None:
    number = written_key(world)
    key = world.keys[number]
    record = versions.decode(held_by(world, world.owners(key.data_key, 0)[0], number)[8:])
    place = key.causality.place[record.siblings[0].op.decode()]
    end = key.ends[place] = End(time_ms(world.now) + 60_000)
    judge_touches(world)
    end.owed = end.first + 60_000

    with pytest.raises(Violation, match="before the end that was acknowledged"):
        judge_touches(world)
