"""The judge of availability: whoever is down, the nodes that are well serve puts among themselves.

It knows since when each machine and each link is as it is now. Where nothing has changed for so
long that all must have noticed, a node has neighbours: those that are well, and reach it as it
reaches them. Then

    available   a put with room for its W (the strict its W owners, the durable its DW disks) among
                the neighbours of its coordinator, and with time for the steps that it takes, does
                not fail and is not left without an answer, whatever all others do
    detector    a node takes no neighbour for down, and nobody for up that is gone

What is half broken (a slow disk, a link open in one direction, one that has just lost a message) is
no neighbour, and nobody need be reached through it. Spared are refusals that say why: too busy, too
many siblings, no epoch at hand; and caps so small that a replica or a stand-in may have no room.

Costs: a note for each fault and put; a look at the machines and links for each put that fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Failure, Put, PutReply
from everwrite.sim.fuse import NO_FUSE
from everwrite.sim.machine import STALL_TAIL_US
from everwrite.sim.nemesis import CLOG_US_MAX, DOWN_US_MAX
from everwrite.sim.options import Fault
from everwrite.sim.truth import Violation

if TYPE_CHECKING:
    from everwrite.sim.world import World

SPARED = ("overloaded", "hints_full", "unavailable", "too_large", "bad_context")
ON_MACHINES = ("pause", "fsync_error", "lost_disk", "old_disk", "bit_rot", "kill", "power_cut")
HOPS = 6
"""Ways of one put: from its client, handed on, looking around and back, stored and acknowledged."""
NEVER_LATER = 30
"""How many times the mean no delay of a whole run reaches (they are exponential)."""
LATE = 10
"""How many times the mean a delay is never longer, for all that is asked here."""
DISK_STEPS = 8
"""Reads of a put and fsyncs, its own and the one it has to wait for, each up to twice the mean."""


class Try(NamedTuple):
    """A put that a client has asked of a machine."""

    at: int
    due: int
    machine: int
    put: Put
    settled: bool
    """Whether all who may coordinate it had heard that all owners serve its partition."""


class Health:
    """See the module. Machines are numbered."""

    def __init__(self, world: World) -> None:
        self._world = world
        options = world.options
        config = options.config()
        self._config = config
        self._machines = [0] * options.machines
        self._links: dict[tuple[int, int], int] = {}
        """From when on each may be counted on to stay as it is, if nothing else happens to it."""
        self._lost: dict[tuple[int, int], int] = {}
        """When each link last lost or held up a message."""
        self._tries: dict[tuple[int, int], Try] = {}
        way_us = options.near_us + LATE * options.spread_us
        patience_us = 1000 * (config.down_after_ms - config.ping_every_ms)
        self._prompt = patience_us > 2 * (options.near_us + NEVER_LATER * options.spread_us)
        """Whether no delay of these lines is as long as the detector's patience."""
        self._soon_us = 100_000 + 2 * way_us
        """In which a node that comes or goes is noticed, or a broken connection made anew."""
        self._heard_us = 2200 * config.ping_every_ms + self._soon_us
        """In which each hears of each over links that are whole."""
        self._silence_us = 2200 * config.down_after_ms + self._heard_us
        """In which silence is noticed."""
        self._hold_us = 1000 * config.gray_back_max_ms + self._silence_us
        """In which a node that is well again is passed over no more."""
        self._disk_tail_us = 200 * options.disk_us
        """What a slow disk may still take when it is slow no more."""
        self._least_us = HOPS * way_us + DISK_STEPS * options.disk_us + 4000 * config.spare_after_ms
        """What a put may take where all that it needs is well."""

    # -- what changes ------------------------------------------------------------------------------

    def changed(self, machine: int) -> None:
        """A machine starts or stops. That its old connection broke may be noticed after its new one
        was made: then it counts as down until it is pinged.
        """
        self._unsettle(machine, self._world.now)
        for other in range(len(self._machines)):
            self.lost((machine, other))
            self.lost((other, machine))

    def struck(self, fault: Fault) -> None:
        """A fault began."""
        if fault.kind in ON_MACHINES:
            until = self._world.now + min(fault.lasts_us, DOWN_US_MAX)
            self._unsettle(fault.on, until + STALL_TAIL_US)

    def _unsettle(self, machine: int, until: int) -> None:
        self._machines[machine] = max(self._machines[machine], until + self._soon_us)

    def link_changed(self, link: tuple[int, int]) -> None:
        """A link is cut or mended, clogged or broken."""
        cut = link in self._world.network.cut
        # What a clogged link holds comes out after it is cut, too.
        settle_us = CLOG_US_MAX + (self._silence_us if cut else self._heard_us)
        self._links[link] = self._world.now + settle_us

    def lost(self, link: tuple[int, int]) -> None:
        """A link has lost or held up one message."""
        self._lost[link] = self._world.now

    def all_changed(self) -> None:
        """All faults end."""
        indices = range(len(self._machines))
        for one in indices:
            self.changed(one)
            for other in indices:
                self.link_changed((one, other))

    # -- what is true ------------------------------------------------------------------------------

    def group(self, machine: int, since: int) -> set[int] | None:
        """Return the machines that are well and reach each other, this one among them; None if that
        cannot be said of the whole time since then.
        """
        count = len(self._machines)
        states = [self._state(each, since) for each in range(count)]
        if states[machine] != "well":
            return None
        well = {machine}
        for other in range(count):
            if other == machine or states[other] == "down":
                continue
            between = self._between(machine, other, since)
            if not between or (between == "open" and not states[other]):
                return None
            if between == "open" and not self._hears(machine, other, since):
                return None
            if between == "open":
                well.add(other)
        for one in well:
            for other in range(count):
                if one == other or states[other] == "down":
                    continue
                if self._between(one, other, since) != ("open" if other in well else "cut"):
                    return None
        return well

    def neighbours(self, machine: int, since: int) -> set[int] | None:
        """Return the machines that are well and have reached this one, and it them, ever since
        then, whatever the others do; None if this one is not well.
        """
        if self._state(machine, since) != "well":
            return None
        return {
            other
            for other in range(len(self._machines))
            if other == machine
            or (
                self._state(other, since) == "well"
                and self._between(machine, other, since) == "open"
                and (self._hears(machine, other, since) or self._is_up(machine, other))
            )
        }

    def _hears(self, machine: int, other: int, since: int) -> bool:
        """Say whether nothing was lost between two for so long that none can be taken for down."""
        links = (machine, other), (other, machine)
        last = max(self._lost.get(link, -self._silence_us) for link in links)
        return last + self._silence_us <= since

    def _is_up(self, machine: int, other: int) -> bool:
        node = self._world.machines[machine].node
        return node is not None and self._world.machines[other].me.node_id in node.local.liveness.up

    def _state(self, index: int, since: int) -> str:
        machine = self._world.machines[index]
        if self._machines[index] > since:
            return ""
        if machine.node is None:
            return "down"
        disk = machine.disk
        slow = max(machine.slow_until, disk.slow_until) + self._disk_tail_us
        until = max(slow if slow > self._disk_tail_us else 0, disk.full_until, disk.errors_until)
        whole = until <= since and not machine.paused and machine.fuse == NO_FUSE
        return "well" if whole else ""

    def _between(self, one: int, other: int, since: int) -> str:
        network, cuts = self._world.network, 0
        for link in ((one, other), (other, one)):
            unsettled = self._links.get(link, 0) > since or link in network.clogged
            if unsettled or self._lost.get(link, -self._soon_us) + self._soon_us > since:
                return ""
            cuts += link in network.cut
        return ("open", "", "cut")[cuts]

    # -- puts --------------------------------------------------------------------------------------

    def requested(self, connection: int, machine: int, message: Message) -> None:
        """A client asks this of a node."""
        if not isinstance(message, Put) or message.retry or self._world.options.changes_ms:
            return
        if message.change or message.over:  # where a context is not known more must answer
            return
        now = self._world.now
        timeout_ms = message.timeout_ms or self._config.request_timeout_ms
        if timeout_ms * 1000 >= self._least_us:
            due = now + timeout_ms * 1100 + self._least_us
            settled = not message.strict or self._settled(machine, message)
            self._tries[connection, message.rid] = Try(now, due, machine, message, settled)

    def _settled(self, machine: int, put: Put) -> bool:
        world = self._world
        data_key = world.ledger.keys[put.key].data_key
        nodes = [world.machines[each].node for each in {machine, *world.owners(data_key, put.n)}]
        routes = [node.local.routes for node in nodes if node is not None]
        return all(each.settled(each.partition_of(data_key)) for each in routes)

    def answering(self, connection: int, message: Message) -> None:
        """A node says this to a client."""
        if not isinstance(message, Failure | PutReply):
            return
        tried = self._tries.pop((connection, message.rid), None)
        if tried is None or isinstance(message, PutReply) or message.code in SPARED:
            return
        self._judge(tried, f"{message.code}: {message.message}")

    def sweep(self) -> None:
        """Look for puts that should have been answered by now."""
        now = self._world.now
        for where, tried in list(self._tries.items()):
            if tried.due < now:
                del self._tries[where]
                self._judge(tried, "no answer")

    def _judge(self, tried: Try, said: str) -> None:
        well, put = self.owed(tried), tried.put
        if not well:
            return
        names = ", ".join(f"n{index + 1}" for index in sorted(well))
        raise Violation(
            "available",
            f"the put {put.op.decode()} (n {put.n}, w {put.w}, dw {put.dw}, strict {put.strict}) "
            f"was asked of n{tried.machine + 1} and failed ({said}), though {names} were well and "
            "reached each other all the time",
        )

    def owed(self, tried: Try) -> set[int]:
        """Return the machines that had to be enough for a put; none if it was not owed success.

        An owner coordinates by itself, so it is enough that it reaches the others. Whoever is no
        owner hands the put on, and must not meet one that itself reaches too few.
        """
        world, put = self._world, tried.put
        key = world.ledger.keys[put.key]
        owners = set(world.owners(key.data_key, put.n or world.options.copies))
        find = self.neighbours if tried.machine in owners else self.group
        well = find(tried.machine, tried.at)
        if well is None or world.machines[tried.machine].parks_few:
            return set()
        others = len(self._machines) - len(well)
        nodes = [world.machines[index].node for index in sorted(well)]
        if any(node is None or node.local.counters.hints_refused for node in nodes):
            return set()  # a stand-in may have had no room
        if any(world.machines[index].disk.is_damaged(key.data_key) for index in well):
            return set()
        if put.strict and not tried.settled:
            return set()  # one must prove first that it has everything, and be heard of
        n = put.n or world.options.replicas
        need = put.w or n // 2 + 1
        durable = put.dw if put.dw >= 0 else need
        if others and 0 < durable < need:  # who has written and does not fsync is waited for
            return set()
        timeout_us = 1000 * (put.timeout_ms or self._config.request_timeout_ms)
        if timeout_us < self._least_us + 1000 * others * self._config.spare_after_ms:
            return set()
        room = len(well & owners) if put.strict else len(well)
        return well if room >= need and min(len(well), n) >= max(durable, need) else set()

    # -- what nodes think of each other ------------------------------------------------------------

    def judge_views(self, index: int) -> None:
        """Raise Violation if a node's view of who is up is wrong, and has had time to be right."""
        world, since = self._world, self._world.now
        node = world.machines[index].node
        if node is None or self._state(index, since) != "well" or world.options.changes_ms:
            return
        for other in world.machines:
            if other.index == index or not (state := self._state(other.index, since)):
                continue
            between = self._between(index, other.index, since)
            up = other.me.node_id in node.local.liveness.up
            hears = self._hears(index, other.index, since)
            if node.local.liveness.state(other.me.node_id) == "slow":
                calm = since - self._hold_us
                hears = all(
                    (
                        self._hears(index, other.index, calm),
                        self._state(index, calm) == self._state(other.index, calm) == "well",
                        self._between(index, other.index, calm) == "open",
                    )
                )
            if state == "well" and between == "open" and hears and not up and self._prompt:
                raise Violation(
                    "detector",
                    f"n{index + 1} takes {other.me.name} for down, which is well and reaches it",
                )
            # What was under way, comes again, or lay unread here, is taken for a sign of life.
            long_ago = since - self._silence_us
            gone = (state == "down" and self._state(other.index, long_ago)) or between == "cut"
            gone = gone and self._state(index, long_ago) == "well"
            if gone and up and not world.options.faults.get("replay"):
                raise Violation(
                    "detector",
                    f"n{index + 1} takes {other.me.name} for up, which was gone "
                    "before its silence had to be noticed",
                )
