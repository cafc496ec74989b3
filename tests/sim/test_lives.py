"""The lives of a simulated machine: what a node leaves on its disk for the next one."""

from __future__ import annotations

from everwrite.core.cluster.holdings import decode_held
from everwrite.core.records import HELD
from everwrite.sim.world import World

TICK_US = 1_000


def test_what_a_node_writes_while_it_is_made_goes_to_its_disk_with_its_first_tick(
    world: World,
) -> None:
    machine = world.machines[world.owners(world.keys[0].data_key, 0)[0]]
    machine.stop()
    machine.disk.lose()

    machine.start()
    assert machine.disk.readable(HELD) is None
    world.run(world.now + TICK_US)

    held = machine.disk.readable(HELD)
    assert held is not None
    assert machine.node is not None
    owned = machine.node.local.routes.owned
    assert owned
    assert decode_held(held) == (0, owned)
