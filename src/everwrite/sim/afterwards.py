"""What comes to a cluster that has come to rest: frames of an hour ago, and clients of before.

Costs: an hour in which all machines are down is one step; some tens of operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from everwrite.sim.truth import Violation
from everwrite.sim.typed.workload import share_out

if TYPE_CHECKING:
    from everwrite.sim.world import World

HOUR_US = 3_600_000_000
CALM_WITHIN_US = 120_000_000


def an_hour_later(world: World) -> None:
    """If frames were kept: all machines are down for an hour, and then those come once more."""
    if not world.network.kept:
        return
    off = [machine for machine in world.machines if not machine.gone]
    for machine in off:
        machine.gone = True  # whatever was to start it again
        machine.stop()
    world.run(world.now + HOUR_US)
    for machine in off:
        machine.gone = False
        machine.start()
    world.health.all_changed()
    _come_to_rest(world, "an hour later, after all started,")
    world.network.bring_kept()
    world.run(world.network.quiet_at)
    _come_to_rest(world, "an hour later, after old frames came,")


def clients_come_back(world: World) -> None:
    """Clients go on, with all that they knew before: of keys that were collected meanwhile, too."""
    if not world.options.encore:
        return
    share_out(world, world.options.encore)
    for client in world.clients:
        client.begin()
    if not world.run(world.now + CALM_WITHIN_US, world.clients_done):
        raise Violation("calm", "clients came back, and not all were answered")
    _come_to_rest(world, "after the clients came back")


def _come_to_rest(world: World, when: str) -> None:
    if not world.come_to_rest(CALM_WITHIN_US):
        raise Violation("calm", f"{when} {world.unrest()}")
