"""The judges of the simulator can fail: each meets a world in which its rule is broken by hand."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.sim.judged import CALM, actor_of, broken, minted, write

from everwrite.core.cluster.liveness import Liveness
from everwrite.core.data import context
from everwrite.core.data.epochs import Epochs
from everwrite.core.data.versions import Record, Seen
from everwrite.core.errors import QuorumNotMet
from everwrite.core.hints.kept import join_hint
from everwrite.core.local import Request
from everwrite.core.messages.requests import Ask
from everwrite.core.node import Node
from everwrite.core.records import HINT, OWN
from everwrite.core.repair.turns import Round
from everwrite.core.request.spread import PutRequest
from everwrite.sim import audit, rest
from everwrite.sim.bounds import judge_context, judge_emptied
from everwrite.sim.options import draw
from everwrite.sim.run import run_seed
from everwrite.sim.truth import Violation
from everwrite.sim.world import World

ROOT = Path(__file__).parents[2]


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
        judge_emptied(world.machines[0], world.asked_before)


# -- rest ------------------------------------------------------------------------------------------


def asking_all_the_time() -> World:
    """Return a cluster in which each node asks a peer for its roots before the last has answered:
    the pace lets it ask each twenty milliseconds, and an answer takes forty.
    """
    drawn = draw(CALM)
    knobs = {**drawn.knobs, "repair_every_ms": 10, "repair_round_ms": 10}
    far = msgspec.structs.replace(drawn, partitions=64, near_us=20_000, repairs=True, knobs=knobs)
    world = World(far)
    world.boot()
    world.chaos()
    return world


def rounds_of(world: World) -> list[Request]:
    """Return the questions for roots that are under way."""
    nodes = [machine.node for machine in world.machines]
    requests = [row for node in nodes if node is not None for row in node.local.requests.values()]
    return [request for request in requests if isinstance(request, Round)]


def test_a_cluster_that_never_ceases_to_ask_for_roots_is_at_rest() -> None:
    world = asking_all_the_time()

    world.heal()
    rest.judge_rest(world)

    open_now = rounds_of(world)
    assert open_now
    assert world.come_to_rest(1_000_000)
    assert rounds_of(world) and not set(open_now) & set(rounds_of(world)), "each of them has ended"


def test_a_question_for_roots_that_never_ends_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    world = asking_all_the_time()
    world.heal()
    stuck = rounds_of(world)[0]

    def wait_on(self: Round) -> None:
        self._local.wake_at(self.rid, self._local.now + 1_000)

    monkeypatch.setattr(audit, "ROUNDS_MAX", 5)
    monkeypatch.setattr(Round, "wake", wait_on)
    monkeypatch.setattr(Round, "replied", lambda self, *reply: None)

    with pytest.raises(Violation, match=r"still has \d+ open requests") as violation:
        audit.Auditor(world)._wait("the audit's reads")
    assert violation.value.rule == "calm"
    assert stuck in rounds_of(world)


def test_a_request_of_another_kind_is_no_rest_whenever_it_was_made(world: World) -> None:
    assert world.come_to_rest(1_000_000)
    node = node_of(world)
    node.local.open_request(Waiting(), node.local.now + 1000)

    assert world.unrest() == "node 1 still has 1 open requests"
    with pytest.raises(Violation, match="still counts 1 requests"):
        judge_emptied(world.machines[0], world.asked_before)


# -- placement -------------------------------------------------------------------------------------


def test_a_copy_on_a_node_that_does_not_own_it_is_found(world: World) -> None:
    key = next(key for key in world.keys if key.operations)
    owners = world.owners(key.data_key, 0)
    stranger = next(each for each in world.machines if each.index not in owners)
    record = world.machines[owners[0]].disk.visible[OWN + key.data_key]
    stranger.disk.visible[OWN + key.data_key] = record
    trees = stranger.node.local.trees
    # The tree knows of it, or its own judge would speak first.
    trees._leaves[trees.leaf_of(key.data_key)] += trees.entry(key.data_key, record[8:])

    for judge in (rest.judge_rest, rest.judge_end):
        with pytest.raises(Violation, match="owns it not"):
            judge(world)


@pytest.mark.parametrize("prefix", [OWN, HINT])
def test_a_node_that_leaves_with_a_copy_is_found(world: World, prefix: bytes) -> None:
    machine, node = world.machines[0], node_of(world)
    for key in machine.disk.keys(OWN):
        del machine.disk.visible[key]
    node.rounds.left = True
    world.members_changed(0)
    machine.disk.visible[prefix + world.keys[0].data_key] = b"a copy"

    with pytest.raises(Violation, match="has left the cluster, and 1 copies with it"):
        world.members_changed(0)


# -- metadata --------------------------------------------------------------------------------------


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


def rules_of(seeds: Iterable[int]) -> Iterator[str]:
    """Yield the rules that these seeds break; each seed is run when it is asked for."""
    return (finding.rule for seed in seeds for finding in run_seed(seed).findings)


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
