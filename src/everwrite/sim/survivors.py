"""The survivors: some nodes are healed, the others never come back, and those that are left serve.

A heal that ends every fault hides what a cluster needs others for: a request that waits for a node
which is gone for good, a link that is open in one direction for ever, a hint that blocks another.
So in many seeds, before the heal of all, a few nodes drawn at random are made well, and the rest is
lost for as long as the phase lasts:

    dead      not running         paused    running, and standing still
    cut       links dead          deaf      hears nothing of the survivors    mute   is not heard

Then within a bounded time every request of a client must end, the survivors must see each other and
owe each other no hint, and a put and a get through any of them must succeed as long as W and R of
them there are. What one wrote the next must find, if W + R is more than all of them. Last, all
survivors that own a key must hold the same bytes once it was read. Violations are of the rule
"survivors".

Costs: some seconds of virtual time, a few hundred events for each survivor.
Source: TigerBeetle's VOPR (the liveness phase, and why healing at random is not enough).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from everwrite.core.data import versions
from everwrite.core.data.keys import data_key
from everwrite.core.hints.kept import split_hint
from everwrite.core.messages.requests import Get, GetReply, Put, PutReply
from everwrite.core.records import HINT, OWN
from everwrite.sim.answers import learn_read, learn_write
from everwrite.sim.asking import Answer, Asker
from everwrite.sim.disk import Rotten
from everwrite.sim.history import Operation
from everwrite.sim.options import stream
from everwrite.sim.truth import (
    CLOCK_ERROR_MS,
    NO_KNOWLEDGE,
    KeyLedger,
    Knowledge,
    Violation,
    as_of,
    time_ms,
)

if TYPE_CHECKING:
    from everwrite.core.node import Node
    from everwrite.sim.machine import Machine
    from everwrite.sim.world import World

NAME = "survivor"
BUCKET = b"survivors"
SETTLE_US = 60_000_000
"""Many times the longest time-out of a request, and the patience of the failure detector."""
BREATH_US = 1_000_000
"""In which a node that stood still has read, and answered as late, all that came meanwhile."""
TIMEOUT_MS = 5000
ANSWER_WITHIN_US = TIMEOUT_MS * 1000 + 1_000_000
PAUSE_US = 200_000
TRIES_MAX = 50
"""Of a request that is refused for want of room: ten seconds, in which all that was open ends."""


class Survivors:
    """One such phase of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        options = world.options
        machines = world.machines
        rng = stream(options.seed, "survivors")
        chosen = set(rng.sample(range(len(machines)), min(options.survivors, len(machines))))
        self.left = [machine for machine in machines if machine.index in chosen]
        self.lost = [machine for machine in machines if machine.index not in chosen]
        majority = options.copies // 2 + 1
        self._quorum = min(majority, len(self.left))
        self._serial = 0
        self._asker = Asker(world, NAME, within_us=ANSWER_WITHIN_US, pause_us=PAUSE_US)

    def serve(self) -> None:
        """Lose the others, and hold the survivors to what they owe; then all may come back."""
        if not self.left or not self.lost:
            return
        world = self.world
        world.count(f"others_{world.options.lost_by}")
        self._lose_the_others()
        world.run(world.now + BREATH_US)
        self._settle("before a request")
        for turn in range(len(self.left)):
            self._write_and_read(turn)
        for key in world.keys:
            self._read_all(key)
        world.run(world.now + TIMEOUT_MS * 1000)  # in which repairs come that follow an answer
        self._settle("after the requests")
        for key in world.keys:
            self._compare(key)
        for machine in self.lost:
            machine.gone = False

    def _lose_the_others(self) -> None:
        world, network = self.world, self.world.network
        world.healed = True  # no other fault begins
        network.calm()
        for machine in self.left:
            for other in self.left:
                network.clear(machine.index, other.index)
            machine.heal()
        how = world.options.lost_by
        for machine in self.lost:
            machine.gone = True
            if how == "dead":
                machine.stop()
            elif how == "paused":
                machine.pause()
            for other in self.left:
                if how in ("cut", "deaf"):
                    network.cut_link(other.index, machine.index)
                if how in ("cut", "mute"):
                    network.cut_link(machine.index, other.index)
        world.health.all_changed()

    # -- what they owe -----------------------------------------------------------------------------

    def _settle(self, when: str) -> None:
        world = self.world
        if not world.run(world.now + SETTLE_US, lambda: not self._unrest()):
            raise self._violation(f"{when} {self._unrest()} for {SETTLE_US / 1e6:.0f} s")

    def _unrest(self) -> str:
        """Return what is not as it should be, in words; empty if nothing is."""
        for client in self.world.clients:
            if client.busy:
                return f"the client {client.name} waits for an answer"
        ids = {machine.me.node_id for machine in self.left}
        for machine in self.left:
            node = machine.node
            if node is None:
                return f"{machine.me.name} is down"
            up = node.local.liveness.up
            if not ids - {machine.me.node_id} <= up:
                return f"{machine.me.name} does not see the others that are left"
            if self.world.options.lost_by != "deaf" and not up <= ids:
                return f"{machine.me.name} takes a node for up that is gone"
            for other in self.left:
                if self._undelivered(node, other):
                    return f"{machine.me.name} keeps hints for {other.me.name}, which is there"
            if node.local.records.parked_count:
                return f"{machine.me.name} has messages that wait for its disk"
        return ""

    def _undelivered(self, node: Node, other: Machine) -> bool:
        """Say whether a node keeps a hint that another could have by now. Not where its copy is
        damaged: to be mended that takes all owners of the key.
        """
        waiting = node.hints.waiting.get(other.me.node_id, ())
        held = other.disk.visible
        return any(not isinstance(held.get(OWN + key), Rotten) for key in waiting)

    def _write_and_read(self, turn: int) -> None:
        """Write a fresh key, read it, write it in knowledge of that, and read it again, each
        through the next of the survivors.
        """
        left = self.left
        name = f"{NAME}{turn}"
        key = self.world.ledger.open_key(data_key(BUCKET, name.encode()), name)
        self.world.keys.append(key)
        found: list[str] = []
        knowledge = NO_KNOWLEDGE
        for again in range(2):
            through = left[(turn + 2 * again) % len(left)]
            wrote, _ = self._put(key, through, found, knowledge)
            reader = left[(turn + 2 * again + 1) % len(left)]
            found, knowledge = self._get(key, reader)
            if found != [wrote] and self._must_meet():
                raise self._violation(
                    f"{through.me.name} took {wrote}, and {reader.me.name} then found {found}"
                )

    def _must_meet(self) -> bool:
        """Say whether W nodes and R nodes surely have one in common, whoever was asked in vain."""
        return 2 * self._quorum > len(self.left)

    def _put(
        self, key: KeyLedger, machine: Machine, seen: list[str], known: Knowledge
    ) -> tuple[str, Knowledge]:
        world = self.world
        operation = self._open("put", key)
        operation.seen = seen
        place = world.ledger.invoked(key, operation, known)
        op = operation.id.encode()
        put = Put(0, key.data_key, op + b"|", known.token, op, TIMEOUT_MS, 0, 0, self._quorum)
        answer = self._ask(machine, put, key, place)
        if not isinstance(answer, PutReply):
            raise self._violation(f"{machine.me.name} cannot write {key.name}: {answer}")
        operation.outcome, operation.completed = "ok", world.now
        operation.owners, operation.fallbacks = answer.owners, answer.fallbacks
        operation.durable = answer.durable
        world.ledger.finished(key, place, operation)
        return operation.id, learn_write(key, place, answer.context)

    def _get(self, key: KeyLedger, machine: Machine) -> tuple[list[str], Knowledge]:
        operation = self._open("get", key)
        get = Get(0, key.data_key, TIMEOUT_MS, 0, self._quorum)
        answer = self._ask(machine, get)
        if not isinstance(answer, GetReply):
            raise self._violation(f"{machine.me.name} cannot read {key.name}: {answer}")
        operation.found = [value.partition(b"|")[0].decode() for _, value in answer.values]
        operation.outcome, operation.completed = "ok", self.world.now
        known = learn_read(key, answer.context, operation.found, f"the get {operation.id}")
        return operation.found, known

    def _open(self, kind: str, key: KeyLedger) -> Operation:
        self._serial += 1
        operation = Operation(f"{NAME}.{self._serial}", NAME, kind, key.name, self.world.now)  # type: ignore[arg-type]
        operation.q, operation.tries = self._quorum, 1
        self.world.history.append(operation)
        return operation

    def _read_all(self, key: KeyLedger) -> None:
        """Read a key through two survivors, from all who own it and are left: a read mends the
        owners that answer it with less. One that asks for fewer may be over before the last answer
        comes; one that fails, where too few have a copy, mends nothing, and there is nothing to
        agree on.
        """
        owners = self._owners_left(key)
        for machine in self.left[:2]:
            self._ask(machine, Get(0, key.data_key, TIMEOUT_MS, 0, max(len(owners), 1)))

    def _owners_left(self, key: KeyLedger) -> list[Machine]:
        """Return who owns a key and serves it: one whose disk was lost may need who is gone."""
        owners = self.world.owners(key.data_key, self.world.options.copies)
        return [
            machine
            for machine in self.left
            if machine.index in owners and self.world.serves(machine.index, key.data_key)
        ]

    def _compare(self, key: KeyLedger) -> None:
        held: dict[bytes, list[str]] = {}
        for machine in self._owners_left(key):
            record = _held(machine, key.data_key)
            if record is not None:
                record = as_of(record, time_ms(self.world.now) + CLOCK_ERROR_MS)
                held.setdefault(record, []).append(machine.me.name)
        if len(held) > 1:
            parts = [
                f"{', '.join(names)} know {key.causality.names(key.known_of.get(record, 0))}"
                for record, names in held.items()
            ]
            raise self._violation(
                f"the owners of {key.name} that are left hold different bytes after reads: "
                f"{'; '.join(parts)}"
            )

    def _ask(
        self, machine: Machine, message: Get | Put, key: KeyLedger | None = None, place: int = -1
    ) -> Answer:
        return self._asker.ask_again(TRIES_MAX, machine.index, message, key, place)

    def _violation(self, what: str) -> Violation:
        names = ", ".join(machine.me.name for machine in self.left)
        how = self.world.options.lost_by
        return Violation("survivors", f"{names} are left, all others {how}: {what}")


def _held(machine: Machine, data_key: bytes) -> bytes | None:
    """Return what a machine has of a key: its own copy, joined with one that it keeps for others
    as any of its answers is; None if one of them is damaged.
    """
    own = machine.disk.visible.get(OWN + data_key, b"")
    kept = machine.disk.visible.get(HINT + data_key, b"")
    if isinstance(own, Rotten) or isinstance(kept, Rotten):
        return None
    record = own[8:]
    if not kept:
        return record
    hint = split_hint(kept)[2]
    return versions.merge_bytes(record, hint) if record else hint
