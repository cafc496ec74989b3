"""Many seeds, in several processes, and what they come to together.

A run is worth what it did. So it is *invalid*, though no rule was broken, if some kind of
operation never succeeded, if a class of faults that many seeds had switched on never struck, or if
a long run never took some rare branch that has a probe: then the rules were not put to the test
(Jepsen's ``stats``, Antithesis' ``sometimes``).

Costs: one process per core; seeds go out in small batches, so that all cores end together.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import nullcontext
from itertools import islice

import msgspec

from everwrite.sim.bugs import planted
from everwrite.sim.history import Operation
from everwrite.sim.options import FAULTS, draw
from everwrite.sim.probed import probes_placed
from everwrite.sim.run import Finding, Verdict, judge, run_seed
from everwrite.sim.world import World

BATCH = 5
SWITCHED_ON_MIN = 10
"""Seeds with a class of faults switched on, from which it must have struck in one of them."""
TRIED_MIN = 50
"""Operations of a kind, from which one must have succeeded."""
PROBED_MIN = 1000
"""Seeds from which every probe must have been hit: the rarest are by one seed in a hundred."""

KINDS = ("put", "delete", "get", "fetch", "change", "over", "compose")


class Campaign(msgspec.Struct):
    """What many seeds came to."""

    seeds: int = 0
    events: int = 0
    virtual_s: float = 0.0
    faults: dict[str, int] = msgspec.field(default_factory=dict)
    switched_on: dict[str, int] = msgspec.field(default_factory=dict)
    operations: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    findings: list[Finding] = msgspec.field(default_factory=list)
    traces: dict[int, str] = msgspec.field(default_factory=dict)
    probes: dict[str, int] = msgspec.field(default_factory=dict)

    def add(self, verdict: Verdict) -> None:
        """Count one seed in."""
        self.seeds += 1
        self.events += verdict.events
        self.virtual_s += verdict.virtual_us / 1e6
        self.findings += verdict.findings
        self.traces[verdict.seed] = verdict.trace
        _add(self.faults, verdict.faults)
        _add(self.probes, verdict.probes)
        _add(self.switched_on, dict.fromkeys(verdict.switched_on, 1))
        for kind, outcomes in verdict.operations.items():
            _add(self.operations.setdefault(kind, {}), outcomes)

    @property
    def fault_count(self) -> int:
        return sum(self.faults.values())

    @property
    def operation_count(self) -> int:
        return sum(sum(outcomes.values()) for outcomes in self.operations.values())

    def caught(self) -> list[int]:
        """Return the seeds that broke a rule, in order."""
        return sorted({finding.seed for finding in self.findings})

    def never_hit(self) -> list[str]:
        """Return the probes on branches that no seed took."""
        return [name for name in probes_placed() if name not in self.probes]

    def invalid(self) -> list[str]:
        """Return why this run proves nothing, in words; empty if it may be believed."""
        reasons = []
        for kind in KINDS:
            outcomes = self.operations.get(kind, {})
            if sum(outcomes.values()) >= TRIED_MIN and not outcomes.get("ok"):
                reasons.append(f"no {kind} ever succeeded")
        for name in FAULTS:
            seeds = self.switched_on.get(name, 0)
            if seeds >= SWITCHED_ON_MIN and not self.faults.get(name):
                reasons.append(f"{name} was switched on in {seeds} seeds and never struck")
        if self.seeds >= PROBED_MIN:
            reasons += [f"in {self.seeds} seeds never: {name}" for name in self.never_hit()]
        return reasons


def _add(counts: dict[str, int], more: dict[str, int]) -> None:
    for name, count in more.items():
        counts[name] = counts.get(name, 0) + count


def run_seeds(
    seeds: Iterable[int],
    *,
    bug: str = "",
    processes: int = 1,
    seen: Callable[[Verdict], None] = lambda verdict: None,
    enough: Callable[[Campaign], bool] = lambda campaign: False,
) -> Campaign:
    """Run seeds until there are no more or ``enough`` says so; ``seen`` hears of each verdict."""
    campaign = Campaign()
    probes_placed()  # read now: the source may change while a long run goes on
    batches = _batches(iter(seeds))
    verdicts = _run_here(batches, bug) if processes == 1 else _run_apart(batches, bug, processes)
    for verdict in verdicts:
        campaign.add(verdict)
        seen(verdict)
        if enough(campaign):
            break
    campaign.findings.sort(key=lambda finding: finding.seed)
    return campaign


def _batches(seeds: Iterator[int]) -> Iterator[list[int]]:
    while batch := list(islice(seeds, BATCH)):
        yield batch


def _run_here(batches: Iterator[list[int]], bug: str) -> Iterator[Verdict]:
    for batch in batches:
        for seed in batch:
            yield from run_batch([seed], bug)


def _run_apart(batches: Iterator[list[int]], bug: str, processes: int) -> Iterator[Verdict]:
    # Spawned, not forked: a child starts from nothing, so nothing of this process leaks into a run.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_end_with_parent) as pool:
        running: set[Future[list[Verdict]]] = set()
        try:
            while True:
                for batch in islice(batches, 2 * processes - len(running)):
                    running.add(pool.submit(run_batch, batch, bug))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield from future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _end_with_parent() -> None:
    """End this worker when whoever wanted its results is killed: the pool itself would not notice,
    since a worker that waits for work holds the other end of the queue too.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="everwrite-sim-parent", daemon=True).start()


def run_batch(seeds: list[int], bug: str) -> list[Verdict]:
    """Run these seeds, with a deliberate bug or without."""
    with planted(bug) if bug else nullcontext():
        return [run_seed(seed) for seed in seeds]


def simulate_seed(seed: int, bug: str = "") -> tuple[Verdict, list[Operation]]:
    """Run one seed; return its verdict and its history."""
    world = World(draw(seed))
    with planted(bug) if bug else nullcontext():
        return judge(world), world.history
