"""Builders of histories, as short as what they tell."""

from __future__ import annotations

import random
from itertools import count
from typing import Any

from everwrite.sim.history import Operation

_clock = count(1)


def put(name: str, *seen: str, **options: Any) -> Operation:
    """An acknowledged put whose writer had seen these."""
    return _operation(name, "put", list(seen), [], options)


def delete(name: str, *seen: str, **options: Any) -> Operation:
    return _operation(name, "delete", list(seen), [], options)


def get(*found: str, **options: Any) -> Operation:
    """A read that found these."""
    return _operation(f"get{next(_clock)}", "get", options.pop("seen", []), list(found), options)


def _operation(
    name: str, kind: Any, seen: list[str], found: list[str], options: dict[str, Any]
) -> Operation:
    began = next(_clock) * 10
    fields = {"invoked": began, "completed": began + 5, "outcome": "ok", "q": 2, "tries": 1}
    return Operation(name, "c", kind, "cart", seen=seen, found=found, **{**fields, **options})


class PerfectStore:
    """A store without a fault and without delays, and clients at work on it: its history breaks no
    rule.
    """

    def __init__(self, rng: random.Random, keys: int = 2, clients: int = 3) -> None:
        self.rng = rng
        self.keys = [f"cart{number}" for number in range(keys)]
        self.clients = [f"c{number}" for number in range(clients)]
        self.shown: dict[str, list[str]] = {key: [] for key in self.keys}
        self.context: dict[tuple[str, str], list[str]] = {}
        """What a client last read of a key, and has not written since."""
        self.token: dict[tuple[str, str], list[str]] = {}
        """What a client's session must find."""
        self.history: list[Operation] = []
        self.now = 0

    def work(self, operations: int) -> list[Operation]:
        """Let clients do so many operations, then read every key once more."""
        for _ in range(operations):
            key, client = self.rng.choice(self.keys), self.rng.choice(self.clients)
            if self.rng.random() < 0.5:
                self.read(client, key)
            else:
                self.write(client, key)
        for key in self.keys:
            self.read("auditor", key)
        return self.history

    def read(self, client: str, key: str) -> Operation:
        read = self._begin(client, "get", key)
        read.seen = self.token.get((client, key), [])
        read.found = list(self.shown[key])
        self.context[client, key] = self.token[client, key] = read.found
        return read

    def write(self, client: str, key: str) -> Operation:
        rng = self.rng
        write = self._begin(client, "delete" if rng.random() < 0.15 else "put", key)
        write.seen = self.context.pop((client, key), [])
        write.outcome = rng.choice(("ok", "ok", "ok", "unknown", "fail"))
        if write.outcome == "ok" or (write.outcome == "unknown" and rng.random() < 0.5):
            left = [each for each in self.shown[key] if each not in write.seen]
            self.shown[key] = left if write.kind == "delete" else [*left, write.id]
            if write.outcome == "ok" and write.kind == "put":
                self.token[client, key] = [*self.token.get((client, key), []), write.id]
        return write

    def _begin(self, client: str, kind: Any, key: str) -> Operation:
        self.now += self.rng.randrange(1, 10)
        fields = {"outcome": "ok", "q": 2, "tries": 1, "strict": self.rng.random() < 0.5}
        operation = Operation(f"{kind}{len(self.history)}", client, kind, key, self.now, **fields)
        operation.completed = self.now
        self.history.append(operation)
        return operation
