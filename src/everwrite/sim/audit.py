"""The audit: once the cluster is healed and calm, every key is read from all its owners until they
answer as one, and then the disks are compared.

It reads like any client, so it also holds the cluster to its word that after the heal everything
can be reached again. What it reads goes into the history as the last reads of each key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from everwrite.core.messages.requests import Failure, Get, GetReply, Put, PutReply
from everwrite.core.records import HINT, OWN
from everwrite.sim.answers import hidden, learn_read, learn_write
from everwrite.sim.asking import Answer, Asker
from everwrite.sim.causality import indices
from everwrite.sim.disk import Rotten
from everwrite.sim.history import Operation
from everwrite.sim.truth import KeyLedger, Knowledge, Violation, as_of, record_in
from everwrite.sim.typed.judge import judge_typed, read_all

if TYPE_CHECKING:
    from everwrite.sim.world import World

NAME = "audit"
ROUNDS_MAX = 60
ANSWER_WITHIN_US = 3_000_000
PAUSE_US = 100_000


class Auditor:
    """Reads every key of a calm cluster."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._asker = Asker(world, NAME, within_us=ANSWER_WITHIN_US, pause_us=PAUSE_US)
        self._known: dict[bytes, Knowledge] = {}

    def audit(self) -> None:
        """Read, wait, read again; Violation if the owners do not come to agree."""
        for again in (False, True):
            for key in self.world.keys:
                self._read(key, again=again)
            for typed in self.world.typed_keys:
                shown = read_all(self.world, self._asker, typed)
                if again:
                    judge_typed(typed, shown)
            self._wait("the audit's reads")
        for key in self.world.all_keys:
            self._compare(key)
        self._count_hints()

    def try_all(self) -> None:
        """Write through every node to all owners of a key; Violation if a healed cluster cannot."""
        for machine in self.world.members:
            self._write(self.world.keys[machine.index % len(self.world.keys)], machine.index)
        self._wait("the audit's writes")
        for key in self.world.keys[: len(self.world.machines)]:
            self._compare(key)

    def _wait(self, what: str) -> None:
        world = self.world
        if not world.come_to_rest(ROUNDS_MAX * 1_000_000):
            raise Violation("calm", f"after {what} {world.unrest()}")

    def _read(self, key: KeyLedger, *, again: bool) -> None:
        """Read a key from all its owners."""
        world = self.world
        n = world.placement.replicas
        last = ""
        for turn in range(ROUNDS_MAX):
            rid = self._asker.rid + 1
            operation = Operation(
                f"{NAME}.{rid}", NAME, "get", key.name, world.now, n=n, q=n, tries=1
            )
            members = world.members
            through = members[(rid + turn) % len(members)]
            get = Get(0, key.data_key, 2000, n, n, True)
            answer = self._asker.ask(through.index, get)
            if isinstance(answer, GetReply) and answer.quality.owners == n:
                operation.found = [value.partition(b"|")[0].decode() for _, value in answer.values]
                operation.owners = n
                operation.outcome, operation.completed = "ok", world.now
                who = f"the audit's read {operation.id}"
                known = learn_read(key, answer.context, operation.found, who)
                self._known[key.data_key] = known
                operation.hidden = [
                    key.causality.ids[place] for place in indices(hidden(key, known))
                ]
                if again:
                    world.history.append(operation)
                return
            last = repr(answer)
            self._asker.pause()
        raise Violation("reachable", f"{key.name} cannot be read from its {n} owners: {last}")

    def _write(self, key: KeyLedger, index: int) -> None:
        """Write a key in knowledge of all that it holds, through this machine."""
        world = self.world
        copies = world.placement.replicas
        known = self._known[key.data_key]
        operation = Operation(f"{NAME}.w{index}", NAME, "put", key.name, world.now)
        operation.q, operation.strict, operation.tries = copies, True, 1
        place = world.ledger.invoked(key, operation, known)
        op = operation.id.encode()
        put = Put(0, key.data_key, op + b"|", known.token, op, 2000, 0, 0, copies, 0, True)
        answer = self._asker.ask_again(ROUNDS_MAX, index, put, key, place)
        while self._was_busy(answer) and operation.tries < ROUNDS_MAX:
            self._asker.pause()
            operation.tries += 1
            put = replace(put, retry=True)
            answer = self._asker.ask_again(ROUNDS_MAX, index, put, key, place)
        if not isinstance(answer, PutReply):
            raise Violation(
                "reachable",
                f"node {index + 1} cannot write {key.name} to its {copies} owners: {answer}",
            )
        operation.outcome, operation.completed = "ok", world.now
        operation.owners, operation.durable = answer.owners, answer.durable
        world.ledger.finished(key, place, operation)
        self._known[key.data_key] = learn_write(key, place, answer.context)

    def _was_busy(self, answer: Answer) -> bool:
        """Say whether a put may have failed since an owner had no room for what waits for its disk:
        that refusal comes back as a quorum that was not met, which no node calls transient.
        """
        few = self.world.machines[0].parks_few
        return few and isinstance(answer, Failure) and answer.code == "quorum_not_met"

    def _compare(self, key: KeyLedger) -> None:
        """All owners hold the same bytes, but for what has ended: no read gives that to who lacks
        it (``GetRequest._repair``), long before the horizon takes it from who has it. And but for a
        tombstone that was on its way to an owner while the copies went: it goes once more.
        """
        world = self.world
        node = world.members[0].node
        if node is None:
            raise Violation("reachable", "a node went down after the heal")
        held: dict[bytes, list[str]] = {}
        nodes = [machine.node for machine in world.members if machine.node is not None]
        ended = max(each.local.time_ms for each in nodes) + 1
        for owner in node.local.routes.route(key.data_key, 0).owners:
            machine = next(each for each in world.machines if each.me.node_id == owner)
            payload = machine.disk.visible.get(OWN + key.data_key, b"")
            if isinstance(payload, Rotten):  # not found out yet, since its cache is whole
                continue
            record = record_in(OWN, payload) if payload else b""
            collected = record and not key.known_of[record] & ~key.collected
            record = b"" if collected else as_of(record, ended)
            held.setdefault(record, []).append(machine.me.name)
        if len(held) > 1:
            causality = key.causality
            parts = [
                f"{', '.join(names)} know {causality.names(key.known_of.get(record, 0))}"
                for record, names in held.items()
            ]
            raise Violation(
                "convergence", f"the owners of {key.name} hold different bytes: {'; '.join(parts)}"
            )

    def _count_hints(self) -> None:
        """No hint is left on any disk, and no node thinks that one is."""
        for machine in self.world.members:
            # A damaged hint says no more whom it was for, so nobody can deliver it.
            left = [key for key in machine.disk.keys(HINT) if machine.disk.readable(key)]
            if left:
                raise Violation(
                    "hint",
                    f"{machine.me.name} has delivered all its hints, and still has "
                    f"{len(left)} on its disk",
                )
