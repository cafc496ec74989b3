"""What the judges spare: each leniency beside the nearest case in which they must still speak."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from tests.sim.judged import CALM, actor_of, broken, minted

from everwrite.core.data import context, versions
from everwrite.core.data.epochs import SALT_BITS
from everwrite.core.data.versions import Record, Seen, Version
from everwrite.core.messages.requests import Failure, Put
from everwrite.core.node import Node
from everwrite.core.records import OWN
from everwrite.core.repair.turns import Round
from everwrite.core.tombstones.collect import Page
from everwrite.sim import rest
from everwrite.sim import world as world_room
from everwrite.sim.bounds import judge_emptied, judge_epoch, judge_tables
from everwrite.sim.history import Operation
from everwrite.sim.machine import STALL_TAIL_US
from everwrite.sim.options import draw
from everwrite.sim.truth import Knowledge, Source, Violation
from everwrite.sim.world import World

SECOND = 1_000_000


@pytest.fixture
def up() -> World:
    """Return a cluster that runs, with little to do."""
    world = World(msgspec.structs.replace(draw(CALM), nodes=5, knobs={}, operations=10))
    world.boot()
    world.run(SECOND)
    return world


@pytest.fixture
def well(up: World) -> World:
    """Return one that has been well for so long that everybody must have noticed."""
    up.run(10 * SECOND)
    return up


# -- a write that was superseded, of which a coordinator has not heard -----------------------------


def put_knowing(
    world: World, name: str, actor: bytes, *, known: int = 0, named: int = 0, token: bytes = b""
) -> Version:
    """Return the version of a put whose client has seen these writes."""
    ledger = world.keys[0]
    operation = Operation(name, "c", "put", ledger.name, 0)
    world.ledger.invoked(ledger, operation, Knowledge(token, known, named))
    return Version(actor, 1, b"value", 0, name.encode())


def write_on(world: World, machine: int, record: Record, before: Record | None = None) -> None:
    had = bytes(8) + versions.encode(before) if before is not None else None
    disk_key = OWN + world.keys[0].data_key
    world.ledger.wrote(machine, disk_key, bytes(8) + versions.encode(record), had)


def superseded_twice(world: World, *, by_dot: bool, heard: bool) -> Record:
    """Let b supersede a, and c both, each minted by another machine; return the record in which a
    stands beside c.

    ``by_dot``: b's context names a by its single dot. ``heard``: who mints c knows of a's dot.
    """
    one, two, three = (actor_of(world, 1, machine) for machine in range(3))
    a = minted(world, "a", one, 1)
    first = Record({one: 1}, [a])
    write_on(world, 0, first)
    if by_dot:
        token = context.sign(b"k" * 32, world.keys[0].data_key, Seen({}, [(one, 1)]))
        b = put_knowing(world, "b", two, named=0b01, token=token)
    else:
        b = put_knowing(world, "b", two, known=0b01)
    write_on(world, 1, Record({one: 1, two: 1}, [b]), first)
    c = put_knowing(world, "c", three, known=0b11)
    clock = {one: 1, two: 1, three: 1} if heard else {two: 1, three: 1}
    write_on(world, 2, Record(clock, [c]))
    siblings = sorted((a, c), key=lambda version: version.actor)
    return Record({one: 1, two: 1, three: 1}, siblings)


def test_what_was_named_by_a_dot_may_stand_beside_a_write_minted_without_it(fresh: World) -> None:
    write_on(fresh, 2, superseded_twice(fresh, by_dot=True, heard=False))

    assert fresh.keys[0].lingering == 0b001, "only what was superseded"


@pytest.mark.parametrize(
    ("by_dot", "heard"),
    [
        pytest.param(True, True, id="who minted c had heard of a"),
        pytest.param(False, False, id="no context ever named a by its dot"),
    ],
)
def test_else_it_may_not(fresh: World, by_dot: bool, heard: bool) -> None:
    both = superseded_twice(fresh, by_dot=by_dot, heard=heard)

    with pytest.raises(Violation, match="a is still there, though a later write knew") as violation:
        write_on(fresh, 2, both)
    assert violation.value.rule == "frontier"


# -- epochs ----------------------------------------------------------------------------------------


def judge_put_over(up: World, *values: bytes | None, epochs: tuple[int, int] = (1, 2)) -> None:
    """Judge the epoch of a put over a copy with these siblings, which was minted in this life."""
    machine = up.machines[0]
    assert machine.node is not None
    kept, used = (number << SALT_BITS | machine.node.local.epochs.salt for number in epochs)
    siblings = [
        Version(actor_of(up, kept), counter, value, 0, b"%d" % counter)
        for counter, value in enumerate(values, 1)
    ]
    record = Record({actor_of(up, kept): len(siblings)}, siblings)
    disk_key = OWN + up.keys[0].data_key
    machine.disk.visible[disk_key] = kept.to_bytes(8, "big") + versions.encode(record)
    judge_epoch(machine, Source(0, disk_key, b""), Version(actor_of(up, used), 1, b"v", 0, b"p"))


def test_an_epoch_may_begin_over_a_tombstone(up: World) -> None:
    judge_put_over(up, None)
    judge_put_over(up, None, None)


@pytest.mark.parametrize("values", [(b"value",), (b"",), (None, b"value")])
def test_no_epoch_may_begin_over_a_value(up: World, values: tuple[bytes | None, ...]) -> None:
    judge_put_over(up, *values, epochs=(1, 1))

    with pytest.raises(Violation, match="mints p under a new epoch") as violation:
        judge_put_over(up, *values)
    assert violation.value.rule == "metadata"


# -- hints -----------------------------------------------------------------------------------------


def test_bytes_of_hints_over_the_cap_are_spared_after_a_batch_that_was_not_written(
    up: World,
) -> None:
    node = up.machines[0].node
    assert node is not None
    node.hints.kept.bytes = node.local.config.hints_bytes_max + 1
    broken(up, "bounds", "bytes of hints; hints_bytes_max is")

    node.local.counters.writes_failed = 1
    judge_tables(up.machines[0])


def test_a_batch_that_was_not_written_excuses_no_wrong_count_of_hints(up: World) -> None:
    node = up.machines[0].node
    assert node is not None
    node.local.counters.writes_failed = 1
    node.hints.kept.bytes = node.local.config.hints_bytes_max + 1
    node.hints.kept.notes = 1

    broken(up, "bounds", "counts 1 hints; by key they are 0")


# -- strict puts -----------------------------------------------------------------------------------


def owners_of(world: World) -> list[int]:
    return world.owners(world.keys[0].data_key, 0)


def strangers_to(world: World) -> list[int]:
    """Return the machines that do not own the key."""
    return [each.index for each in world.machines if each.index not in owners_of(world)]


def unheard(world: World, machine: int, owner: int) -> None:
    """Let a machine not have heard that an owner serves."""
    node = world.machines[machine].node
    assert node is not None
    routes = node.local.routes
    routes.hold({**routes._serves, world.machines[owner].me.node_id: 0})


def refuse(world: World, machine: int, *, strict: bool) -> None:
    """Let a put that was asked of a machine fail for no reason that is spared."""
    put = Put(1, world.keys[0].data_key, b"v", b"", b"p", 5_000, strict=strict)
    world.health.requested(7, machine, put)
    world.health.answering(7, Failure(1, "quorum_not_met", "too few", "", "unknown", 1, 2))


def test_a_strict_put_may_fail_through_who_has_not_heard_that_an_owner_serves(well: World) -> None:
    coordinator, owner, _ = owners_of(well)
    unheard(well, coordinator, owner)

    refuse(well, coordinator, strict=True)


def test_a_strict_put_may_fail_if_an_owner_it_may_be_handed_to_has_not_heard(well: World) -> None:
    first, owner, _ = owners_of(well)
    unheard(well, first, owner)

    refuse(well, strangers_to(well)[0], strict=True)


def test_a_put_that_is_not_strict_may_not_fail_through_who_has_not_heard(well: World) -> None:
    coordinator, owner, _ = owners_of(well)
    unheard(well, coordinator, owner)

    with pytest.raises(Violation, match=f"was asked of n{coordinator + 1} and failed"):
        refuse(well, coordinator, strict=False)


def test_a_strict_put_may_not_fail_where_all_who_may_coordinate_it_have_heard(well: World) -> None:
    coordinator, owner, _ = owners_of(well)
    asked, other = strangers_to(well)[:2]
    unheard(well, other, owner)

    for machine in (coordinator, asked):
        with pytest.raises(Violation, match=f"was asked of n{machine + 1} and failed") as violation:
            refuse(well, machine, strict=True)
        assert violation.value.rule == "available"


# -- rest ------------------------------------------------------------------------------------------


def test_the_heal_waits_for_who_hears_late_that_all_owners_serve(well: World) -> None:
    machine, owner, _ = owners_of(well)
    node = well.machines[machine].node
    assert node is not None
    routes = node.local.routes
    right = routes._serves
    unheard(well, machine, owner)
    assert well.unrest() == f"node {machine + 1} has not heard that all owners serve"
    heard = well.now + 2 * STALL_TAIL_US + 20 * SECOND
    well.later(heard - well.now, routes.hold, right)

    well.heal()

    assert heard <= well.now < heard + SECOND
    assert not well.unrest()


def test_who_never_hears_that_all_owners_serve_is_found(
    well: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world_room, "CALM_WITHIN_US", 20 * SECOND)
    machine, owner, _ = owners_of(well)
    unheard(well, machine, owner)

    with pytest.raises(Violation, match="has not heard that all owners serve") as violation:
        well.heal()
    assert violation.value.rule == "calm"


# -- what is asked again and again -----------------------------------------------------------------


def at_rest(world: World) -> Node:
    """Return a node of a cluster that has nothing to do, none of whose requests is open."""
    assert world.come_to_rest(60 * SECOND)
    node = world.machines[0].node
    assert node is not None
    node.local.requests.clear()
    return node


def ask_roots(node: Node, partitions: list[int], *, of: int = 0) -> None:
    """Ask one of the peers for the roots of these."""
    peer = sorted(node.local.liveness.up)[of]
    Round(node.local, node.repairs, peer, partitions).begin()
    node.local.out.sends.clear()


def page(node: Node) -> None:
    """Begin to read a part of the list of tombstones."""
    Page(node.collect, b"")
    node.local.out.scans.clear()


def walk(node: Node) -> None:
    """Begin to go through what ends."""
    node.local.open_request(node.expiry, node.local.now + 1000)


def test_what_is_asked_again_and_again_may_be_open_at_rest(world: World) -> None:
    node = at_rest(world)
    ask_roots(node, [0])
    ask_roots(node, [0], of=1)
    page(node)
    walk(node)

    judge_emptied(world.machines[0], world.asked_before)


@pytest.mark.parametrize("ask", [lambda node: ask_roots(node, [0]), page, walk])
def test_at_rest_nothing_may_be_open_that_was_asked_before(
    world: World, ask: Callable[[Node], object]
) -> None:
    node = at_rest(world)
    ask(node)
    world.asked_before = set(node.local.requests)

    with pytest.raises(Violation, match="still counts 1 requests") as violation:
        rest.judge_end(world)
    assert violation.value.rule == "bounds"


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (
            lambda node: ask_roots(node, [0]),
            "asked again for 1 roots for which it is still waiting",
        ),
        (page, "has 2 parts of its list of tombstones under way"),
        (walk, "has 2 walks of what ends under way"),
    ],
)
def test_nothing_of_it_may_be_asked_twice_at_a_time(
    world: World, ask: Callable[[Node], object], words: str
) -> None:
    node = at_rest(world)
    ask(node)
    judge_emptied(world.machines[0], world.asked_before)
    ask(node)

    with pytest.raises(Violation, match=words) as violation:
        judge_emptied(world.machines[0], world.asked_before)
    assert violation.value.rule == "bounds"


def test_no_question_may_be_open_that_asks_for_no_root(world: World) -> None:
    node = at_rest(world)
    ask_roots(node, [])

    with pytest.raises(Violation, match="asks for no root at all"):
        judge_emptied(world.machines[0], world.asked_before)
