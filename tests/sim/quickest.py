"""The seeds by which each deliberate bug is caught quickest: ``quickest.txt``, and how it is made.

    python -m tests.sim.quickest [--processes 2] [BUG...]

makes the table anew, of all bugs or of these, and says of each seed how long it takes. That is due
when the tests warn that the kept seeds do not catch a bug any more: whatever changes what nodes say
to each other makes each seed another run. Nothing is lost until then but time, since a bug that no
kept seed catches is hunted over all seeds, as if there were no table.

A seed is worth keeping if its rule breaks early, and if that is no luck: the same options, with
other random numbers for all that happens, catch the bug too. So it will mostly be a good seed after
the sources changed: with all other numbers new, 96 of 117 bugs are still caught by a kept seed. And
without the bug it must break no rule that counts for it.

Runs are cut short, and the limit grows from pass to pass, so short runs are found first: 1 to 60 s
for a bug, about 25 minutes for all on one core. To hunt as if nothing had been kept, and so to see
whether any seed would do: ``everwrite simulate --bug all --seeds 300``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import msgspec

from everwrite.sim.bugs import BUGS, planted, seeds_for
from everwrite.sim.bugs.hunt import Hunt, hunt
from everwrite.sim.bugs.registry import find
from everwrite.sim.options import Options, draw
from everwrite.sim.run import Finding, judge, run_seed
from everwrite.sim.world import World

TABLE = Path(__file__).with_name("quickest.txt")
TITLE = (
    "# The seeds by which each deliberate bug is caught quickest. Made by tests/sim/quickest.py.\n"
)

KEPT_MAX = 3
"""Seeds of one bug: more would make a hunt slower that finds nothing by them."""
OTHERS = range(1_000_000, 1_000_003)
"""Whose random numbers a candidate is tried with."""
SURE_MIN = 2
"""With how many of these it must catch the bug to be no luck."""
CANDIDATES_MAX = 6
PASSES = ((4_000, 60_000), (16_000, 150_000))
"""Events of one run, and of all runs together, in each pass. Half of all whole runs have fewer than
16,000, and a core does 28,000 a second."""
WHOLE_RUNS = 400
WHOLE_FEW = 20
WHOLE_EVENTS = 200_000


def kept_seeds() -> dict[str, list[int]]:
    """Return the table."""
    lines = TABLE.read_text().splitlines() if TABLE.exists() else []
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    return {name: [int(seed) for seed in seeds] for name, *seeds in rows}


def hunt_by(name: str, kept: Sequence[int], within: int) -> Hunt:
    """Look for a bug by seeds that are known to catch it, and only then by so many others."""
    rules, others = find(name).rules, list[Finding]()
    for tried, seed in enumerate(kept, 1):
        with planted(name):
            findings = run_seed(seed).findings
        for finding in findings:
            if finding.rule in rules:
                return Hunt(name, find(name).area, tried, finding, others)
        others += findings
    hunted = hunt(name, within)
    return msgspec.structs.replace(
        hunted, seeds=len(kept) + hunted.seeds, others=others + hunted.others
    )


# -- the table made anew ---------------------------------------------------------------------------


class Candidate(NamedTuple):
    """A seed that catches a bug."""

    seed: int
    events: int
    """Until its rule breaks."""
    sure: int
    """With how many other random numbers the bug is caught as well."""

    @property
    def worth(self) -> float:
        """What it may cost until the bug is caught; less is better."""
        return self.events / (self.sure + 0.5)


class TooLong(BaseException):
    """A run had as many events as it may have; no error that a judge would take for a finding."""


class ShortWorld(World):
    """Ends when it has had so many events."""

    events_max = 0

    def ticked(self, index: int) -> None:
        if self.events > self.events_max:
            raise TooLong
        super().ticked(index)


class Search:
    """Looks for the best seeds of one bug."""

    def __init__(self, name: str, known: Iterable[int]) -> None:
        self._name = name
        self._bug = find(name)
        self._known = list(known)
        self._spent = 0
        self.found: dict[int, Candidate] = {}

    def best(self) -> list[Candidate]:
        """Return the seeds to keep, the best one first."""
        for limit, budget in PASSES:
            self._spent = 0
            for seed in self._seeds():
                self._try(seed, limit)
                if self._spent > budget or self._enough():
                    break
            if len(self.found) >= KEPT_MAX:
                break
        if not self.found:
            self._by_whole_runs()
        return sorted(self.found.values(), key=lambda each: each.worth)[:KEPT_MAX]

    def _seeds(self) -> Iterator[int]:
        yield from self._known
        yield from (seed for seed in seeds_for(self._bug) if seed not in self._known)

    def _enough(self) -> bool:
        sure = sum(each.sure >= SURE_MIN for each in self.found.values())
        return sure >= KEPT_MAX or len(self.found) >= CANDIDATES_MAX

    def _by_whole_runs(self) -> None:
        """For what is so rare, or shows so late, that the passes do not come to it: the first seed
        that does, and for a while those that are quicker. Small clusters first, a few at a time.
        """
        quickest, seeds = 1 << 40, islice(self._seeds(), WHOLE_RUNS)
        while few := sorted(islice(seeds, WHOLE_FEW), key=lambda seed: draw(seed).machines):
            for seed in few:
                self._try(seed, quickest)
                best = min((each.events for each in self.found.values()), default=quickest)
                if best < quickest:
                    self._spent = 0
                elif self.found and (self._spent > WHOLE_EVENTS or self._enough()):
                    return
                quickest = best

    def _try(self, seed: int, limit: int) -> None:
        if seed in self.found:
            return
        options = draw(seed)
        events = self._caught(options, limit)
        if not events or self._caught(options, 2 * events, right=True):
            return
        again = [msgspec.structs.replace(options, seed=other) for other in OTHERS]
        sure = sum(bool(self._caught(each, 4 * events)) for each in again)
        self.found[seed] = Candidate(seed, events, sure)

    def _caught(self, options: Options, limit: int, *, right: bool = False) -> int:
        """Return after how many events a run breaks a rule that counts; 0 if it does not so soon.

        ``right``: without the bug.
        """
        with nullcontext() if right else planted(self._name):
            world = ShortWorld(options)
            world.events_max = limit
            try:
                findings = judge(world).findings
            except TooLong:
                findings = []
        self._spent += world.events
        return world.events if any(each.rule in self._bug.rules for each in findings) else 0


def search(name: str, known: Iterable[int]) -> list[Candidate]:
    """Return the best seeds for a bug."""
    return Search(name, known).best()


def search_all(
    names: Iterable[str], processes: int, seen: Callable[[str, list[Candidate]], None]
) -> None:
    """Search for all of these bugs; ``seen`` hears of each."""
    kept = kept_seeds()
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        searches = {name: pool.submit(search, name, kept.get(name, ())) for name in names}
        for name, each in searches.items():
            seen(name, each.result())


def write_table(kept: dict[str, list[int]]) -> None:
    """Write the table, in the order of the register."""
    rows = [f"{name} {' '.join(map(str, kept[name]))}\n" for name in BUGS if kept.get(name)]
    TABLE.write_text(TITLE + "\n" + "".join(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description="Find the quickest seeds for deliberate bugs.")
    parser.add_argument("bugs", nargs="*", metavar="BUG", choices=[[], *BUGS], help="all if none")
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    kept = kept_seeds()

    def seen(name: str, found: list[Candidate]) -> None:
        kept[name] = [each.seed for each in found]
        write_table(kept)  # each time: a long search may be ended
        told = ", ".join(
            f"{each.seed} ({each.events} events, {each.sure} of {len(OTHERS)})" for each in found
        )
        print(f"{name}: {told or 'NOT CAUGHT'}", flush=True)

    search_all(asked.bugs or BUGS, asked.processes, seen)


if __name__ == "__main__":
    main()
