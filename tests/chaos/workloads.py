"""What the clients do, and what must be true of it in the end, told by the values alone.

The judge of histories (``sim/checkers.py``) knows ids, and is the same for all. Each workload adds
a sentence that a user would say, from what it wrote and what is found in the end:

    set        unique elements into shared sets. None that was acknowledged is missing.
    cart       items into and out of shared carts, merged by union (Dynamo 4.4). No added item is
               missing unless somebody took it out who had seen it; an item that was taken out is
               there only if somebody kept it who did not know of that, or if a put that held it
               was retried through another node: that one may have a copy which nobody knew
               (docs/design/put.md).
    counter    a map of client to count, merged by the larger. Each client's count is between what
               was acknowledged and what was tried.
    register   read, write, read, write in a session, with contexts; now and then a delete, a write
               that has seen nothing, strict quorums. Its sentences are the judge's: read your
               writes, monotonic reads, no false sibling, overlap of strict quorums.

A key is used for some dozens of writes, then the next: so values and siblings stay small however
long it runs. Source: Jepsen's set-full, counter and register workloads; Dynamo 4.4.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tests.chaos.clients import Client, ids_in

from everwrite.sim.causality import Causality, indices
from everwrite.sim.checkers import Breach
from everwrite.sim.history import Operation

WRITES_PER_KEY = 40
KEYS_AT_ONCE = 3

Ends = Mapping[str, Sequence[Any]]
"""What the last read of each key found: key -> values of its siblings."""


class Workload(Protocol):
    """One way to use the store; several clients share it."""

    name: str

    async def step(self, client: Client, rng: random.Random) -> None:
        """Do one thing as this client."""

    def judge(self, history: Sequence[Operation], ends: Ends) -> list[Breach]:
        """Return what is wrong in the end with the keys of this workload."""


class Keys:
    """A few keys in use, each retired after so many writes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._writes = [0] * KEYS_AT_ONCE
        self._turns = [0] * KEYS_AT_ONCE

    def draw(self, rng: random.Random, *, write: bool) -> str:
        """Return one of the keys in use."""
        place = rng.randrange(KEYS_AT_ONCE)
        self._writes[place] += write
        if self._writes[place] > WRITES_PER_KEY:
            self._writes[place] = 1
            self._turns[place] += 1
        return f"{self._name}{place}-{self._turns[place]}"


def union(values: list[Any]) -> dict[str, Any]:
    """Merge sets or carts: all that any of them holds."""
    items = sorted({item for value in values for item in value["items"]})
    return {"ops": ids_in(values), "items": items}


def larger(values: list[Any]) -> dict[str, Any]:
    """Merge counters: each client's larger count."""
    counts: dict[str, int] = {}
    for value in values:
        for name, count in value["counts"].items():
            counts[name] = max(count, counts.get(name, 0))
    return {"ops": ids_in(values), "counts": counts}


class SetLoad:
    """Unique elements into shared sets."""

    name = "set"

    def __init__(self) -> None:
        self._keys = Keys("s")
        self.elements: Counter[str] = Counter()
        """What became of them: stable, stale, lost, never acknowledged."""

    async def step(self, client: Client, rng: random.Random) -> None:
        bucket = client.bucket(self.name, union)
        if rng.random() < 0.3:
            await client.get(bucket, self._keys.draw(rng, write=False))
            return

        def add(value: Any, element: str) -> dict[str, Any]:
            return {"items": [*(value["items"] if value else []), element]}

        await client.update(bucket, self._keys.draw(rng, write=True), add, verb="add")

    def judge(self, history: Sequence[Operation], ends: Ends) -> list[Breach]:
        """An element is its write's id, so a read that found a write found its element, too, or
        one that had taken it over: which the last value tells.
        """
        breaches = []
        for key, operations in of_workload(history, self.name).items():
            items = {item for value in ends.get(key, []) for item in value["items"]}
            tried = {each.id: each for each in operations if each.is_write}
            for element in sorted(items - set(tried)):
                breaches.append(Breach("phantom element", f"{element} in {key}: nobody added it"))
            seen_by = _elements_seen(operations)
            for element, write in tried.items():
                state = _state(write, element in items, seen_by)
                self.elements[state] += 1
                if state == "lost":
                    breaches.append(
                        Breach("lost", f"{element} in {key}: acknowledged, and not there")
                    )
                elif write.outcome == "fail" and element in items:
                    breaches.append(
                        Breach("phantom element", f"{element} in {key}: refused, and there")
                    )
        return breaches


def _elements_seen(operations: Sequence[Operation]) -> list[tuple[int, set[str]]]:
    """Return, for each read but the last, when it began and which elements it found."""
    holds: dict[str, set[str]] = {}
    reads = []
    for each in sorted(operations, key=lambda one: (one.invoked, one.id)):
        if each.is_write:
            holds[each.id] = {each.id}.union(*(holds.get(seen, set()) for seen in each.seen))
        elif each.outcome == "ok":
            found: set[str] = set()
            reads.append(
                (each.invoked, found.union(*(holds.get(one, set()) for one in each.found)))
            )
    return reads[:-1]


def _state(write: Operation, there: bool, reads: Sequence[tuple[int, set[str]]]) -> str:
    """Say what became of an element, as Jepsen's set-full does."""
    if write.outcome != "ok":
        return "never acknowledged"
    if not there:
        return "lost"
    late = any(began > write.completed and write.id not in elements for began, elements in reads)
    return "stale" if late else "stable"


class CartLoad:
    """Items into and out of shared carts."""

    name = "cart"

    def __init__(self) -> None:
        self._keys = Keys("c")
        self.added: dict[str, str] = {}
        """Write -> the item that it put in."""
        self.removed: dict[str, str] = {}
        """Write -> the item that it took out."""

    async def step(self, client: Client, rng: random.Random) -> None:
        bucket = client.bucket(self.name, union)
        key = self._keys.draw(rng, write=True)
        if rng.random() < 0.2:
            await client.get(bucket, key)
            return
        chance = rng.random()

        def change(value: Any, write: str) -> dict[str, Any]:
            items = list(value["items"]) if value else []
            if items and chance < 0.3:
                item = items.pop(int(chance / 0.3 * len(items)))
                self.removed[write] = item
            else:
                items.append(f"item-of-{write}")
                self.added[write] = items[-1]
            return {"items": items}

        done = await client.update(bucket, key, change, verb="")
        if done is not None and done.outcome == "ok":
            verb = "remove" if done.id in self.removed else "add"
            client.log.verbs[f"cart {verb}"] += 1

    def judge(self, history: Sequence[Operation], ends: Ends) -> list[Breach]:
        breaches = []
        for key, operations in of_workload(history, self.name).items():
            items = {item for value in ends.get(key, []) for item in value["items"]}
            breaches += self._judge_key(key, operations, items)
        return breaches

    def _judge_key(self, key: str, operations: list[Operation], items: set[str]) -> list[Breach]:
        writes = {each.id: each for each in operations if each.is_write}
        causality = causality_of(writes.values())
        removals: dict[str, list[str]] = defaultdict(list)
        for write, operation in writes.items():
            if write in self.removed and operation.outcome != "fail":
                removals[self.removed[write]].append(write)
        holds = self._holders(writes)
        breaches = []
        for write, operation in writes.items():
            item = self.added.get(write)
            if item is None:
                continue
            taken_out = [each for each in removals[item] if write in _past(causality, each)]
            if operation.outcome == "ok" and item not in items and not taken_out:
                breaches.append(Breach("lost", f"{item} in {key}: added, and nobody took it out"))
            for removal in taken_out:
                if item in items and writes[removal].outcome == "ok":
                    kept = any(
                        writes[each].may_stand_twice or _apart(causality, each, removal)
                        for each in holds[item]
                    )
                    if not kept:
                        breaches.append(
                            Breach(
                                "back", f"{item} in {key}: {removal} took it out, nobody kept it"
                            )
                        )
        for item in items - set(self.added.values()):
            breaches.append(Breach("phantom item", f"{item} in {key}: nobody added it"))
        return breaches

    def _holders(self, writes: Mapping[str, Operation]) -> dict[str, list[str]]:
        """Return, for each item, the writes whose value has it: what clients made of what they
        had seen.
        """
        held: dict[str, set[str]] = {}
        holders: dict[str, list[str]] = defaultdict(list)
        for write, operation in writes.items():
            items: set[str] = set().union(*(held.get(each, set()) for each in operation.seen))
            items.discard(self.removed.get(write, ""))
            if write in self.added:
                items.add(self.added[write])
            held[write] = items
            for item in items:
                holders[item].append(write)
        return holders


class CounterLoad:
    """Each client counts in its own place."""

    name = "counter"

    def __init__(self) -> None:
        self._keys = Keys("n")
        self._tried: Counter[tuple[str, str]] = Counter()
        self._acked: Counter[tuple[str, str]] = Counter()

    async def step(self, client: Client, rng: random.Random) -> None:
        bucket = client.bucket(self.name, larger)
        if rng.random() < 0.2:
            await client.get(bucket, self._keys.draw(rng, write=False))
            return
        key = self._keys.draw(rng, write=True)
        mine = (f"{self.name}/{key}", client.name)
        count = self._tried[mine] + 1

        def increment(value: Any, _: str) -> dict[str, Any]:
            self._tried[mine] = count
            return {"counts": {**(value["counts"] if value else {}), client.name: count}}

        done = await client.update(bucket, key, increment, verb="increment")
        if done is None:
            return
        if done.outcome == "ok":
            self._acked[mine] = count
        elif done.outcome == "fail":
            self._tried[mine] = count - 1

    def judge(self, history: Sequence[Operation], ends: Ends) -> list[Breach]:
        breaches = []
        for (key, client), tried in self._tried.items():
            counts = larger(list(ends.get(key, [])))["counts"]
            count, acked = counts.get(client, 0), self._acked[key, client]
            if count < acked:
                breaches.append(
                    Breach("lost", f"{key}: {client} counted to {acked}, and {count} is there")
                )
            elif count > tried:
                breaches.append(
                    Breach("phantom count", f"{key}: {client} tried {tried}, and {count} is there")
                )
        return breaches


class RegisterLoad:
    """Read, write, read, write, in a session of each client."""

    name = "register"

    def __init__(self) -> None:
        self._keys = Keys("r")

    async def step(self, client: Client, rng: random.Random) -> None:
        """One session: some rounds of a read and a write of one key."""
        bucket = client.bucket(self.name)
        key = self._keys.draw(rng, write=True)
        session, seen = client.session(), set[str]()
        for _ in range(rng.randint(1, 3)):
            strict = rng.random() < 0.3
            found = await client.get(
                bucket, key, verb="session read", session=session, seen=seen, strict=strict
            )
            if found is None:
                return
            known = ids_in(found.values)
            seen.update(known)
            chance = rng.random()
            blind = chance < 0.1
            delete = 0.1 <= chance < 0.2 and bool(known)
            done = await client.put(
                bucket,
                key,
                None if delete else {"text": f"by {client.name}"},
                verb="delete" if delete else "blind put" if blind else "put",
                context=b"" if blind else found.context,
                seen=() if blind else known,
                session=session,
                strict=strict,
            )
            if done.outcome == "ok":
                seen.add(done.id)

    def judge(self, history: Sequence[Operation], ends: Ends) -> list[Breach]:
        """The judge of histories says it all."""
        return []


def of_workload(history: Sequence[Operation], name: str) -> dict[str, list[Operation]]:
    """Return the operations of a workload by key, in the order in which they began."""
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        if operation.key.startswith(f"{name}/"):
            by_key[operation.key].append(operation)
    for operations in by_key.values():
        operations.sort(key=lambda each: (each.invoked, each.id))
    return by_key


def causality_of(writes: Any) -> Causality:
    """Return who knew what among the writes of one key, given in order."""
    causality = Causality()
    for write in writes:
        known = causality.mask(each for each in write.seen if each in causality.place)
        causality.add(write.id, causality.cover(known), delete=write.kind == "delete")
    return causality


def _past(causality: Causality, write: str) -> set[str]:
    past = causality.past[causality.place[write]]
    return {causality.ids[place] for place in indices(past)}


def _apart(causality: Causality, one: str, other: str) -> bool:
    """Say whether neither of two writes knew the other."""
    return (
        one != other and one not in _past(causality, other) and other not in _past(causality, one)
    )
