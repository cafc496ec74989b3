"""The hunt: for each deliberate bug the first seed that catches it, and the rule that does.

A finding counts only if its rule is one of those that the bug is known to break: a node that stops
because a patch no longer fits has caught nothing.

Costs: most bugs take one to ten seeds of about 0.15 s; each is hunted in one process.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import islice

import msgspec

from everwrite.sim.bugs.registry import BUGS, find, planted, seeds_for
from everwrite.sim.run import Finding, run_seed


class Hunt(msgspec.Struct, frozen=True):
    """What became of the search for one bug."""

    name: str
    area: str
    seeds: int
    """How many seeds were run, the one that caught it among them."""
    caught: Finding | None
    others: list[Finding] = []
    """Findings by rules that do not count for this bug."""


def hunt(name: str, seeds: int) -> Hunt:
    """Look for a bug in the first so many seeds that have what it needs."""
    bug = find(name)
    tried, others = 0, list[Finding]()
    for seed in islice(seeds_for(bug), seeds):
        tried += 1
        with planted(name):
            findings = run_seed(seed).findings
        for finding in findings:
            if finding.rule in bug.rules:
                return Hunt(name, bug.area, tried, finding, others)
        others += findings
    return Hunt(name, bug.area, tried, None, others)


def check_all(
    seeds: int, processes: int = 1, seen: Callable[[Hunt], None] = lambda hunt: None
) -> list[Hunt]:
    """Hunt every bug; return the hunts in the order of the register. ``seen`` hears of each."""
    hunts: dict[str, Hunt] = {}
    for ended in _here(BUGS, seeds) if processes == 1 else _apart(BUGS, seeds, processes):
        hunts[ended.name] = ended
        seen(ended)
    return [hunts[name] for name in BUGS]


def _here(names: Iterable[str], seeds: int) -> Iterator[Hunt]:
    for name in names:
        yield hunt(name, seeds)


def _apart(names: Iterable[str], seeds: int, processes: int) -> Iterator[Hunt]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool:
        hunts = [pool.submit(hunt, name, seeds) for name in names]
        try:
            for each in as_completed(hunts):
                yield each.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
