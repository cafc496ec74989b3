"""How long the judge of histories takes for a million operations, and how much memory.

    python bench/micro/history_check.py [--operations 1000000] [--shape uniform|zipf|one]

The history is of a store without a fault: clients read a key, then write it in knowledge of what
they read, some of them at once, so that siblings come and go; a twentieth of the writes ends
unknown, and half of those did happen. ``uniform`` has 10,000 keys, ``zipf`` as many with the first
one taking a tenth of all, ``one`` a single key. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import json
import random
import resource
import time

from everwrite.sim.checkers import assumed, check_history
from everwrite.sim.history import Operation, dump, load

KEYS = {"uniform": 10_000, "zipf": 10_000, "one": 1}
WRITERS_MAX = 6


class Key:
    """What a key shows, and which clients have read it and are about to write."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.shown: list[str] = []
        self.readers: list[list[str]] = []


def make(shape: str, operations: int, rng: random.Random) -> list[Operation]:
    """Return a history of a store that keeps its promises."""
    keys = [Key(f"cart{number}") for number in range(KEYS[shape])]
    weights = [1 / number if shape == "zipf" else 1.0 for number in range(1, len(keys) + 1)]
    steps = list(itertools.accumulate(weights))
    history: list[Operation] = []
    now = 0
    while len(history) < operations:
        now += 10
        key = keys[min(bisect.bisect(steps, rng.random() * steps[-1]), len(keys) - 1)]
        if not key.readers or (len(key.readers) < WRITERS_MAX and rng.random() < 0.5):
            history.append(_read(key, len(history), now, rng))
            key.readers.append(key.shown)
        else:
            history.append(_write(key, len(history), now, rng))
    for key in keys:
        now += 10
        history.append(_read(key, len(history), now, rng))
    return history


def _read(key: Key, number: int, now: int, rng: random.Random) -> Operation:
    operation = Operation(f"r{number}", f"c{rng.randrange(50)}", "get", key.name, now)
    operation.completed, operation.outcome, operation.found = now + 5, "ok", key.shown
    return operation


def _write(key: Key, number: int, now: int, rng: random.Random) -> Operation:
    seen = key.readers.pop(rng.randrange(len(key.readers)))
    kind = "delete" if rng.random() < 0.02 else "put"
    operation = Operation(f"w{number}", f"c{rng.randrange(50)}", kind, key.name, now, seen)  # type: ignore[arg-type]
    unknown = rng.random() < 0.05
    operation.completed, operation.outcome = now + 5, "unknown" if unknown else "ok"
    operation.q = 2
    if not unknown or rng.random() < 0.5:
        gone = set(seen)
        shown = [each for each in key.shown if each not in gone]
        key.shown = shown if kind == "delete" else [*shown, operation.id]
    return operation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--shape", choices=KEYS, default="uniform")
    arguments = parser.parse_args()
    history = make(arguments.shape, arguments.operations, random.Random(1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    breaches = check_history(history, assumed(history), replicas=3)
    checked = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = dump(history)
    dumped = time.process_time()
    again = sum(1 for _ in load(lines))
    loaded = time.process_time()
    assert not breaches, breaches[0]
    assert again == len(history)
    figures = {
        "shape": arguments.shape,
        "operations": len(history),
        "check_s": round(checked - began, 2),
        "history_mib": before >> 10,
        "peak_mib": peak >> 10,
        "dump_s": round(dumped - checked, 2),
        "load_s": round(loaded - dumped, 2),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
