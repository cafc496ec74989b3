"""A disk that was put back is told by what the others know of its starts, and by nothing else."""

from __future__ import annotations

import msgspec
import pytest
from tests.sim.judged import CALM

from everwrite.core.cluster.holdings import bits
from everwrite.core.messages.members import News
from everwrite.sim import rest
from everwrite.sim.machine import Machine
from everwrite.sim.options import draw
from everwrite.sim.truth import Violation
from everwrite.sim.world import World

SECOND = 1_000_000


@pytest.fixture
def up() -> World:
    """Return a cluster that runs, with little to do, in which disks may have been put back."""
    world = World(msgspec.structs.replace(draw(CALM), nodes=5, knobs={}, operations=10))
    world.boot()
    world.run(3 * SECOND)
    world.fences.up = True
    return world


def start_again(world: World, machine: Machine) -> None:
    machine.crash(power=False, down_us=1000)
    world.run(world.now + SECOND // 2)


def put_back(world: World, machine: Machine) -> None:
    """Put the last backup back, and start from it; nobody has answered yet."""
    machine.crash(power=False, down_us=10**12)
    machine.disk.restore()
    machine.start()


def cut_off(world: World, machine: Machine) -> None:
    for other in world.machines:
        world.network.cut_link(machine.index, other.index)
        world.network.cut_link(other.index, machine.index)


def start_of(machine: Machine) -> int:
    """Return as which of its starts a node runs."""
    assert machine.node is not None
    return machine.node.local.members.me.incarnation


def entries_of(world: World, machine: Machine) -> set[tuple[int, bytes]]:
    """Return by which start the others know a node."""
    known = set()
    for other in world.machines:
        assert other.node is not None
        entry = other.node.local.members.get(machine.me.node_id)
        if other is not machine and entry is not None:
            known.add((entry.incarnation, entry.life))
    return known


def test_a_disk_of_an_earlier_start_is_refused_and_rejoins_with_nothing_it_serves(
    up: World,
) -> None:
    machine = up.machines[0]
    machine.disk.back_up()
    start_again(up, machine)
    assert start_of(machine) == 2

    put_back(up, machine)
    assert (start_of(machine), machine.rejoins) == (2, False), "its disk knows no better"
    assert machine.node is not None
    assert machine.node.local.serves == bits(machine.me.serves)
    up.run(up.now + 50_000)
    assert (machine.node, machine.rejoins) == (None, True)

    up.run(up.now + 60_000)
    assert (start_of(machine), machine.rejoins) == (3, False)
    assert machine.node is not None
    assert machine.node.local.serves == 0
    up.run(up.now + 20 * SECOND)
    assert machine.node.local.serves == bits(machine.me.serves), "it has proved them anew"
    rest.judge_rest(up)


def test_a_disk_of_the_last_start_is_let_in(up: World) -> None:
    machine = up.machines[0]
    machine.disk.back_up()

    put_back(up, machine)
    up.run(up.now + SECOND)

    assert (start_of(machine), machine.rejoins) == (2, False)
    assert machine.node is not None
    assert machine.node.local.serves == bits(machine.me.serves)


def test_a_start_of_which_nobody_has_heard_is_repeated_by_another_life(up: World) -> None:
    machine = up.machines[0]
    machine.disk.back_up()
    cut_off(up, machine)
    start_again(up, machine)
    assert machine.node is not None
    unheard = machine.node.local.members.me
    up.network.heal()

    put_back(up, machine)
    up.run(up.now + SECOND)

    assert start_of(machine) == unheard.incarnation == 2
    assert machine.node is not None
    assert entries_of(up, machine) == {(2, machine.node.local.members.me.life)}
    assert machine.node.local.members.me.life != unheard.life
    assert machine.node.local.serves == bits(machine.me.serves)


def test_who_is_let_in_by_some_stops_when_it_meets_one_that_knows_the_other_life(
    up: World,
) -> None:
    machine, witness = up.machines[:2]
    machine.disk.back_up()
    cut_off(up, machine)
    up.network.clear(0, 1)
    up.network.clear(1, 0)
    cut_off(up, witness)
    up.network.clear(0, 1)
    up.network.clear(1, 0)
    start_again(up, machine)
    cut_off(up, witness)
    for other in up.machines[2:]:
        up.network.clear(0, other.index)
        up.network.clear(other.index, 0)

    put_back(up, machine)
    up.run(up.now + SECOND)
    assert (start_of(machine), machine.rejoins) == (2, False), "nobody whom it meets knows better"

    up.network.heal()
    up.run(up.now + 20 * SECOND)
    assert start_of(machine) == 3
    rest.judge_rest(up)


@pytest.mark.parametrize("told", [True, False])
def test_who_is_refused_over_a_link_that_is_dead_one_way_is_not_told(up: World, told: bool) -> None:
    machine, peer = up.machines[:2]
    machine.disk.back_up()
    start_again(up, machine)
    cut_off(up, machine)
    up.network.clear(0, 1)
    if told:
        up.network.clear(1, 0)

    put_back(up, machine)
    up.run(up.now + 50_000)

    assert (machine.node is None) is told
    assert machine.rejoins is told
    assert peer.node is not None
    assert machine.me.node_id not in peer.node.local.liveness.up, "and it is not heard"


def test_who_has_confirmed_what_its_disk_knows_nothing_of_is_refused(up: World) -> None:
    machine, peer = up.machines[:2]
    assert machine.node is not None
    assert peer.node is not None
    machine.disk.back_up()
    put_back(up, machine)
    peer.node.local.floors[machine.me.node_id] = machine.node.confirmations.given + 1

    up.run(up.now + 50_000)
    assert machine.rejoins

    up.run(up.now + SECOND)
    assert (start_of(machine), machine.rejoins) == (3, False), "what is new has confirmed nothing"


def test_who_hears_of_another_life_of_its_own_stops_and_starts_again(up: World) -> None:
    machine = up.machines[0]
    assert machine.node is not None
    me = machine.node.local.members.me
    other = msgspec.structs.replace(me, life=b"another!")
    machine.node.local.members.merge(News([other], []))

    up.run(up.now + SECOND)

    assert (start_of(machine), machine.rejoins) == (2, False)
    assert machine.node.local.serves == bits(machine.me.serves), "as it was"


def test_nodes_that_go_by_another_life_of_the_same_number_are_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "AGREE_WITHIN_US", SECOND)
    one, other = world.machines[:2]
    assert one.node is not None
    assert other.node is not None
    known = one.node.local.members.get(other.me.node_id)
    assert known is not None
    one.node.local.members._entries[other.me.node_id] = msgspec.structs.replace(
        known, life=b"another!"
    )

    with pytest.raises(Violation, match=r"n1 knows start 1 of n2 \(life 616e6f74") as violation:
        rest.judge_rest(world)
    assert violation.value.rule == "members"
