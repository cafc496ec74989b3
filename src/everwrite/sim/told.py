"""The judge of what nodes tell each other, and tell clients of each other: it hears every message.

    coverage    a replica's answer knows all that its disk has held since it was asked; and what it
                says that it stored lately, it knows, unless that was collected
    quorum      a read counts no more nodes than have answered since it was asked, and at least R
    absent      "never written" is said only where no owner holds anything
    forward     what a node was handed is not handed on again
    retry       a put that may be a retry is minted only after the others were asked for it
    dots        a single dot that a coordinator does not know is looked for before it goes on
    lease       no dot is minted under an epoch whose lease is not durable

Each rule asks for what must hold whatever was lost, late or damaged meanwhile: copies that a disk
has lost are spared, and so is whoever lost sight of others after it was asked.

Costs: two look-ups on a disk for each Fetch, and one decoding for each answer to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from everwrite.core.data import versions
from everwrite.core.data.epochs import SALT_BITS
from everwrite.core.data.versions import Version
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import (
    ABSENT,
    FOUND,
    NOT_HERE,
    Fetch,
    FetchReply,
    Get,
    GetReply,
    Put,
    Store,
)
from everwrite.core.records import HINT, OWN
from everwrite.core.request.making import LEASE
from everwrite.sim.bounds import judge_epoch
from everwrite.sim.disk import Held, Rotten
from everwrite.sim.tries import FIRST_TRY, Retry
from everwrite.sim.truth import KeyLedger, Source, Violation, held_record

if TYPE_CHECKING:
    from everwrite.sim.machine import Machine
    from everwrite.sim.world import World


class Asked(NamedTuple):
    """A Fetch, and what its receiver's disk held when it was sent."""

    key: KeyLedger
    op: bytes
    own: Held | None
    kept: Held | None


class Reading(NamedTuple):
    """A client's get: when it was sent, and what each owner's own copy knew then."""

    get: Get
    at: int
    owners: set[int]
    known: dict[int, int]


class Told:
    """See the module. Machines are numbered; a client's connection is its number, negative."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._fetches: dict[tuple[int, int, int], Asked] = {}
        """(who asks, who is asked, rid)."""
        self._handed: dict[tuple[int, int, int], bytes] = {}
        self._heard: dict[tuple[bytes, int], int] = {}
        """(data key, machine) -> when it last answered for this key, or asked others for it."""
        self._readings: dict[tuple[int, int], Reading] = {}
        self._given: set[tuple[int, bytes]] = set()
        """(machine, op): puts that a client gave to this machine."""
        self._looked: set[tuple[int, bytes]] = set()
        """(machine, op): puts for which this machine has asked others."""

    # -- what is said ------------------------------------------------------------------------------

    def sent(self, source: int, to: int, messages: Sequence[Message]) -> None:
        """A node says this to another."""
        for message in messages:
            if isinstance(message, Fetch):
                self._fetch(source, to, message)
                self._heard[message.key, source] = self._world.now
                if message.op:
                    self._looked.add((source, message.op))
            elif isinstance(message, FetchReply):
                self._fetched(source, to, message)
            elif isinstance(message, Get):
                self._handed[source, to, message.rid] = message.key
            elif isinstance(message, GetReply):
                data_key = self._handed.get((to, source, message.rid))
                if data_key is not None:
                    self._heard[data_key, source] = self._world.now
            elif isinstance(message, Store):
                if message.op and (typed := self._world.ledger.typed.get(message.key)):
                    typed.sent(message.op, message.record)
            elif isinstance(message, Put) and (source, message.op) not in self._given:
                raise Violation(
                    "forward",
                    f"node {source + 1} hands on the put {message.op.decode()}, which no client "
                    "gave to it",
                )

    def requested(self, connection: int, machine: int, message: Message) -> None:
        """A client asks this of a node."""
        if isinstance(message, Put):
            self._given.add((machine, message.op))
        elif isinstance(message, Fetch):
            self._fetch(-connection, machine, message)
        elif isinstance(message, Get):
            key = self._world.ledger.keys[message.key]
            known = {
                index: _known(key, OWN, self._holds(index, OWN, key))
                for index in self._world.serving(key.data_key, message.n)
            }
            owners = set(self._world.owners(key.data_key, message.n))
            reading = Reading(message, self._world.now, owners, known)
            self._readings[connection, message.rid] = reading

    def answering(self, source: int, connection: int, message: Message) -> None:
        """A node says this to a client."""
        if isinstance(message, FetchReply):
            self._fetched(source, -connection, message)
        elif isinstance(message, GetReply):
            reading = self._readings.pop((connection, message.rid), None)
            if reading is not None:
                self._judge_read(source, reading, message)

    # -- replicas ----------------------------------------------------------------------------------

    def _fetch(self, asker: int, machine: int, message: Fetch) -> None:
        key = self._world.ledger.keys[message.key]
        self._fetches[asker, machine, message.rid] = Asked(
            key, message.op, self._holds(machine, OWN, key), self._holds(machine, HINT, key)
        )

    def _holds(self, machine: int, prefix: bytes, key: KeyLedger) -> Held | None:
        return self._world.machines[machine].disk.visible.get(prefix + key.data_key)

    def _fetched(self, source: int, asker: int, reply: FetchReply) -> None:
        asked = self._fetches.get((asker, source, reply.rid))
        if asked is None or reply.status not in (FOUND, ABSENT, NOT_HERE):
            return
        key, causality = asked.key, asked.key.causality
        self._heard[key.data_key, source] = self._world.now
        known = key.known(versions.decode(reply.record).clock) if reply.record else 0
        held = 0
        if isinstance(self._holds(source, OWN, key), bytes):  # it only grows, unless it is lost
            held |= _known(key, OWN, asked.own) & ~key.weakened
        # A hint may have been struck out meanwhile: in vain, where the disk takes no writes.
        strikes = self._world.now >= self._world.machines[source].disk.full_until
        if strikes and self._holds(source, HINT, key) is asked.kept:
            held |= _known(key, HINT, asked.kept)
        if missing := held & ~known & ~key.doubtful & ~key.collected:
            raise Violation(
                "coverage",
                f"node {source + 1} answers for {key.name} with {causality.names(known)}, and "
                f"not with {causality.names(missing)}, which it held when it was asked",
            )
        place = causality.place.get(asked.op.decode()) if reply.op_known else None
        if place is not None and not (known | key.collected) >> place & 1:
            raise Violation(
                "coverage",
                f"node {source + 1} says that it stored {causality.ids[place]} on {key.name} "
                "lately, and the copy that it gives does not know it",
            )

    # -- reads -------------------------------------------------------------------------------------

    def _judge_read(self, source: int, reading: Reading, reply: GetReply) -> None:
        world, get, quality = self._world, reading.get, reply.quality
        key = world.ledger.keys[get.key]
        owners, fallbacks = quality.owners, quality.fallbacks
        copies = 1 if world.options.changes_ms else world.options.copies
        need = get.r or (get.n or copies) // 2 + 1
        said = f"a get of {key.name} was answered with {owners} owners and {fallbacks} fallbacks"
        if (owners if get.strict else owners + fallbacks) < need:
            raise Violation("quorum", f"{said}; asked for was r = {need}")
        heard = {
            index
            for index in range(world.options.machines)
            if index == source or self._heard.get((get.key, index), -1) >= reading.at
        }
        theirs = heard & reading.owners
        if world.options.changes_ms:  # who serves may have changed since
            theirs = heard
        if owners > len(theirs) or owners + fallbacks > len(heard):
            raise Violation(
                "quorum",
                f"{said}, but only {len(heard)} nodes, {len(theirs)} of them owners, "
                "have said anything since",
            )
        if quality.absent != "never":
            return
        for owner, known in reading.known.items():
            if not isinstance(self._holds(owner, OWN, key), bytes):
                continue
            if there := known & ~key.weakened & ~key.collected:
                raise Violation(
                    "absent",
                    f"a get of {key.name} was told that it was never written, though its owner "
                    f"node {owner + 1} held {key.causality.names(there)}",
                )

    # -- mints -------------------------------------------------------------------------------------

    def minted(self, key: KeyLedger, place: int, source: Source, version: Version) -> None:
        """A machine gives a dot to a write."""
        machine = self._world.machines[source.machine]
        self._judge_lease(machine, version)
        judge_epoch(machine, source, version)
        arrived = machine.tries.retries.get(version.op)
        if arrived is None:
            return
        who = f"node {source.machine + 1} mints {version.op.decode()} on {key.name}"
        if arrived is not FIRST_TRY and self._blind(machine, key, place, arrived):
            raise Violation("retry", f"{who}, a retry, and never asked the others for it")

    def unfound(self, key: KeyLedger, place: int, source: Source, version: Version) -> None:
        """A machine gave a dot to a write of which it did not know all single dots."""
        machine = self._world.machines[source.machine]
        arrived = machine.tries.dotted.get(version.op)
        if arrived is not None and self._blind(machine, key, place, arrived):
            raise Violation(
                "dots",
                f"node {source.machine + 1} mints {version.op.decode()} on {key.name} without "
                "what its context names by a dot, and never asked the others for that",
            )

    def _blind(self, machine: Machine, key: KeyLedger, place: int, arrived: Retry) -> bool:
        """Say whether a machine did not look around though there were others to ask: when the put
        came, and still now.
        """
        node, (at, targets) = machine.node, arrived
        if node is None or self._world.options.changing:  # whom it could ask may have changed
            return False
        operation = key.operations[place]
        looked = (machine.index, operation.id.encode()) in self._looked
        if looked or machine.lost_at >= at:
            return False
        now = node.local.routes.route(key.data_key, operation.n).targets
        others = {target for target, _ in targets} & {target for target, _ in now}
        return bool(others - {machine.me.node_id})

    def _judge_lease(self, machine: Machine, version: Version) -> None:
        epoch = int.from_bytes(version.actor[8:], "big")
        node = machine.node
        if node is None or epoch & ((1 << SALT_BITS) - 1) != node.local.epochs.salt:
            return  # of an earlier life, and only seen now
        lease = machine.disk.safe.get(LEASE)
        if isinstance(lease, bytes) and epoch >> SALT_BITS >= int.from_bytes(lease, "big"):
            raise Violation(
                "lease",
                f"{machine.me.name} mints under the epoch {epoch >> SALT_BITS}, and its durable "
                f"lease ends before {int.from_bytes(lease, 'big')}",
            )


def _known(key: KeyLedger, prefix: bytes, held: Held | None) -> int:
    if held is None or isinstance(held, Rotten):
        return 0
    return key.known_of.get(held_record(prefix, held), 0)
