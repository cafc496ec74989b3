"""The nemesis carries out a plan of faults, each with its end, and undoes them all at the heal.

A fault that would do nothing (the node is down already, the disk is empty) or that would destroy
what nobody promised to keep (``atlas.py``) is skipped, and not counted: the counts say what
happened, not what was meant.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Protocol

from everwrite.sim.atlas import may_lose
from everwrite.sim.changes import Changes
from everwrite.sim.fences import Fences
from everwrite.sim.fuse import CRASH_POINTS, NO_FUSE, Fuse
from everwrite.sim.ledger import Ledger
from everwrite.sim.machine import Machine
from everwrite.sim.network import Network
from everwrite.sim.options import CHANGES, Fault, Options

BLACKOUT_US = 200_000
LOOP_DOWN_US = 2_000
DOWN_US_MAX = 3_000_000
CLOG_US_MAX = 500_000
FLAP_US = (20_000, 400_000)
MACHINES_OF_A_TRIANGLE = 3
TEN_YEARS_MS = 10 * 365 * 86_400_000


class World(Protocol):
    """What the nemesis needs of the world."""

    now: int
    machines: list[Machine]
    network: Network
    ledger: Ledger
    options: Options
    changes: Changes
    fences: Fences
    healed: bool

    @property
    def members(self) -> list[Machine]:
        """The machines that belong to the cluster."""
        ...

    def later(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        """Have something done after a delay."""

    def count(self, what: str) -> None:
        """Count a fault that happened."""

    def struck(self, fault: Fault) -> None:
        """Take note of a fault that began."""

    def break_link(self, one: int, other: int) -> None:
        """Break the connection between two machines."""


CLEAN_SHARE = 0.5
"""Of processes that end between two ticks, so many end in good order."""


class Nemesis:
    """See the module. Each method named like a class of faults returns whether it struck."""

    def __init__(self, world: World) -> None:
        self.world = world

    def strike(self, fault: Fault) -> None:
        """Begin a fault of the plan."""
        world = self.world
        if world.healed:
            return
        of = self.world.changes if fault.kind in CHANGES else self
        strike: Callable[[Fault, Machine, random.Random], bool] = getattr(of, fault.kind)
        if strike(fault, world.machines[fault.on], random.Random(fault.salt)):
            world.count(fault.kind)
            world.struck(fault)

    def heal(self) -> None:
        """End all faults; whoever is down comes back."""
        world = self.world
        world.network.heal()
        if world.options.faults.get("blackout"):
            world.count("blackout")
            for machine in world.machines:
                machine.crash(power=True, down_us=BLACKOUT_US)
        for machine in world.machines:
            machine.disk.full_until = machine.disk.errors_until = machine.disk.slow_until = 0
            machine.slow_until = 0
            machine.fuse = NO_FUSE
            machine.resume()
            if not world.options.faults.get("blackout"):
                machine.start()

    # -- processes and machines --------------------------------------------------------------------

    def kill(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """The process dies; what it wrote stays, synced or not."""
        return self._crash(fault, machine, rng, power=False)

    def power_cut(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """The machine dies; of what was not synced some first batches stay."""
        return self._crash(fault, machine, rng, power=True)

    def crash_loop(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """The process dies again and again, soon after each start."""
        at_us = 0
        for _ in range(rng.randint(3, 8)):
            self.world.later(at_us, self._kill_again, machine)
            at_us += LOOP_DOWN_US + rng.randint(1_000, 100_000)
        return True

    def _kill_again(self, machine: Machine) -> None:
        if not self.world.healed:
            machine.crash(power=False, down_us=LOOP_DOWN_US)

    def _crash(self, fault: Fault, machine: Machine, rng: random.Random, *, power: bool) -> bool:
        if machine.node is None:
            return False
        point = rng.choice(CRASH_POINTS)
        down_us = min(fault.lasts_us, DOWN_US_MAX)
        if point == "now" and not power and rng.random() < CLEAN_SHARE:
            machine.end(down_us=down_us)
        elif point == "now":
            machine.crash(power=power, down_us=down_us)
        else:
            machine.fuse = Fuse(point, power, down_us)
        return True

    def fsync_error(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """An fsync fails: the node stops at once, and finds its disk as after a power cut."""
        if machine.node is None:
            return False
        machine.crash(power=True, down_us=min(fault.lasts_us, DOWN_US_MAX))
        return True

    def pause(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """The process stands still (SIGSTOP, a long collection) and goes on later."""
        if machine.node is None or machine.paused:
            return False
        machine.pause()
        self.world.later(min(fault.lasts_us, DOWN_US_MAX), machine.resume)
        return True

    def slow_node(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """Everything takes long on this machine, and nothing fails."""
        machine.slow_until = self.world.now + fault.lasts_us
        return True

    def wall_jump(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """The wall clock jumps by up to ten years; a minority of such clocks moves nobody."""
        members = self.world.members
        wrong = sum(each.wall_jump_ms != 0 for each in members if each is not machine)
        if machine not in members or 2 * (wrong + 1) >= len(members):
            return False
        if self.world.options.changing:  # whoever leaves may leave a majority of wrong ones
            return False
        machine.wall_jump_ms = rng.randint(-TEN_YEARS_MS, TEN_YEARS_MS)
        return True

    # -- disks -------------------------------------------------------------------------------------

    def lost_disk(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """The disk is gone; the node comes back with the same id and nothing else."""
        disk = machine.disk
        if not disk.visible or not self._may_lose(machine, sorted(disk.visible)):
            return False
        machine.crash(power=False, down_us=min(fault.lasts_us, DOWN_US_MAX))
        disk.lose()
        return True

    def old_disk(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """The disk is as it was some time ago: a backup or a snapshot was put back.

        With it goes back all that the node knows of itself, its count of starts too: fences.py.
        """
        disk = machine.disk
        if disk.old is None or rng.random() < 0.3:
            disk.back_up()
            return False
        keys = sorted({*disk.visible, *disk.safe})
        if not may_lose(self.world.ledger, self._disks(), disk.index, keys, disk.old):
            return False
        machine.crash(power=False, down_us=min(fault.lasts_us, DOWN_US_MAX))
        disk.restore()
        self.world.fences.up = True
        return True

    def bit_rot(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """Some values are damaged where they lie."""
        keys = machine.disk.settled_keys()
        struck = False
        for key in rng.sample(keys, min(len(keys), rng.randint(1, 4))):
            # Where all copies are damaged nobody can say what the key held, and a read of all
            # owners fails for ever, rightly: so a copy rots while another has all that it knew. Two
            # damaged ones are not mended either: each may hold what the others lack.
            if any(disk.is_damaged(key[1:]) for disk in self._disks()):
                continue
            if may_lose(self.world.ledger, self._disks(), machine.index, [key], {}, spare_all=True):
                machine.disk.rot(key)
                struck = True
        return struck

    def read_errors(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """Half of all reads fail for a while."""
        machine.disk.errors_until = self.world.now + min(fault.lasts_us, DOWN_US_MAX)
        return True

    def full_disk(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """Writes are refused for a while."""
        machine.disk.full_until = self.world.now + min(fault.lasts_us, DOWN_US_MAX)
        return True

    def slow_disk(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """Reads and syncs take a hundred times as long."""
        machine.disk.slow_until = self.world.now + fault.lasts_us
        return True

    def _disks(self) -> list[Any]:
        return [machine.disk for machine in self.world.machines]

    def _may_lose(self, machine: Machine, keys: list[bytes]) -> bool:
        return may_lose(self.world.ledger, self._disks(), machine.index, keys, {})

    # -- links -------------------------------------------------------------------------------------

    def split(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """The machines fall into two groups that cannot talk."""
        groups = [rng.random() < 0.5 for _ in self.world.machines]
        return self._cut(
            fault,
            [
                (one, other)
                for one, group in enumerate(groups)
                for other, its in enumerate(groups)
                if group != its
            ],
        )

    def one_way(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """Some directions are dead, and their opposites alive."""
        count = len(self.world.machines)
        links = [(one, other) for one in range(count) for other in range(count) if one != other]
        return self._cut(fault, rng.sample(links, min(len(links), rng.randint(1, 4))))

    def triangle(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """Two machines cannot talk to each other, and both can to all others."""
        other = rng.randrange(len(self.world.machines))
        if len(self.world.machines) < MACHINES_OF_A_TRIANGLE or other == machine.index:
            return False
        return self._cut(fault, [(machine.index, other), (other, machine.index)])

    def flapping(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """A link is dead and alive by turns, several times a second."""
        other = rng.randrange(len(self.world.machines))
        if other == machine.index:
            return False
        links = [(machine.index, other), (other, machine.index)]
        until = self.world.now + min(fault.lasts_us, DOWN_US_MAX)
        self._flap(links, until, rng.randint(*FLAP_US))
        return True

    def _flap(self, links: list[tuple[int, int]], until: int, every_us: int) -> None:
        world = self.world
        if world.healed or world.now >= until:
            return
        for link in links:
            world.network.cut_link(*link)
        world.later(every_us, self._mend, links)
        world.later(2 * every_us, self._flap, links, until, every_us)

    def _cut(self, fault: Fault, links: list[tuple[int, int]]) -> bool:
        network = self.world.network
        for one, other in links:
            network.cut_link(one, other)
        if links:
            self.world.later(fault.lasts_us, self._mend, links)
        return bool(links)

    def _mend(self, links: list[tuple[int, int]]) -> None:
        for one, other in links:
            self.world.network.mend_link(one, other)

    def broken_link(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """The connection between two machines breaks, and is made again."""
        other = rng.randrange(len(self.world.machines))
        if other == machine.index:
            return False
        self.world.break_link(machine.index, other)
        return True

    def clog(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """Links are clogged one by one, and freed in another order (FoundationDB's swizzle)."""
        count = len(self.world.machines)
        links = [(one, other) for one in range(count) for other in range(count) if one != other]
        chosen = rng.sample(links, min(len(links), rng.randint(1, 6)))
        for step, link in enumerate(chosen):
            self.world.later(step * 20_000, self._clog, link, rng.randint(10_000, CLOG_US_MAX))
        rng.shuffle(chosen)
        for step, link in enumerate(chosen):
            self.world.later(fault.lasts_us + step * 20_000, self._free, link)
        return bool(chosen)

    def _clog(self, link: tuple[int, int], delay_us: int) -> None:
        if not self.world.healed:
            self.world.network.clogged[link] = delay_us

    def _free(self, link: tuple[int, int]) -> None:
        self.world.network.clogged.pop(link, None)
        self.world.network.upset(link)
