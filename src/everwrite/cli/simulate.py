"""`everwrite simulate`: whole clusters under virtual time and faults, many seeds or one of them.

What is printed is in verdicts.py.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable
from itertools import count as count_from
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from everwrite.cli.connection import takes_a_format
from everwrite.cli.exits import Exit
from everwrite.cli.hunts import hunt_all, list_bugs
from everwrite.cli.output import count, say
from everwrite.cli.verdicts import Outcome, report, sizes
from everwrite.core.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from everwrite.sim.campaign import Campaign
    from everwrite.sim.case import Case
    from everwrite.sim.run import Verdict
    from everwrite.sim.shrink import Shrinker, Shrunk

ALL_BUGS = "all"
PROCESSES_MAX = 2
"""Of a run that ends by a number; ``--hours`` takes every core."""

SEEDS = 200
FRESH_BELOW = 10**9
PROGRESS_EVERY_S = 5.0


class Goal(NamedTuple):
    """When many seeds are enough: all numbers reached, or the time over."""

    seeds: int
    events: int
    faults: int
    hours: float | None

    def is_met(self, campaign: Campaign, seconds: float) -> bool:
        if self.hours is not None:
            return seconds >= self.hours * 3600
        return (
            campaign.seeds >= self.seeds
            and campaign.events >= self.events
            and campaign.fault_count >= self.faults
        )


class Budget(NamedTuple):
    """What shrinking may take."""

    runs: int
    seconds: float


FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--seeds", type=click.IntRange(1), help="Run at least so many.  [default: 200]")
@click.option("--events", type=click.IntRange(1), help="Go on until so many events have happened.")
@click.option("--faults", type=click.IntRange(1), help="Go on until so many faults have struck.")
@click.option("--hours", type=click.FloatRange(0, min_open=True), help="Go on for so many hours.")
@click.option("--first", type=click.IntRange(0), help="First seed.  [default: 0]")
@click.option("--fresh", is_flag=True, help="Draw the first seed at random, and say it.")
@click.option("--seed", type=click.IntRange(0), help="Run this one seed, and say what it drew.")
@click.option("--case", type=FILE, metavar="FILE", help="Run a case that --save kept.")
@click.option(
    "--shrink/--no-shrink",
    default=None,
    help="Make what breaks a rule as small as can be read.  [default: the first of many seeds]",
)
@click.option("--save", type=FILE, metavar="FILE", help="Keep the shrunk case, for --case.")
@click.option(
    "--shrink-runs",
    type=click.IntRange(1),
    default=400,
    show_default=True,
    help="At most so many tries to leave something out.",
)
@click.option(
    "--shrink-seconds",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="At most so long.",
)
@click.option("--bug", metavar="NAME", default="", help="Plant a deliberate bug; all: each.")
@click.option("--bugs", is_flag=True, help="List the deliberate bugs.")
@click.option(
    "--history",
    type=FILE,
    metavar="FILE",
    help="With --seed or --case: write what the clients saw there, as JSON lines.",
)
@click.option("--processes", type=click.IntRange(1), help="How many processes.  [default: 1 or 2]")
@takes_a_format
def simulate(
    seeds: int | None,
    events: int | None,
    faults: int | None,
    hours: float | None,
    first: int | None,
    fresh: bool,
    seed: int | None,
    case: Path | None,
    shrink: bool | None,
    save: Path | None,
    shrink_runs: int,
    shrink_seconds: float,
    bug: str,
    bugs: bool,
    history: Path | None,
    processes: int | None,
    form: str,
) -> int:
    """Run simulated clusters with faults, and judge every one of them.

    A seed is a cluster, its workload and its faults; the same seed is the same run, to the byte.
    With several of --seeds, --events and --faults the run goes on until all are reached.
    Exit code 0 means that no rule was broken, and that the run was worth something.
    """
    if bugs:
        return list_bugs(form)
    if bug == ALL_BUGS:
        return hunt_all(seeds or SEEDS, processes or PROCESSES_MAX, form)
    numbers = any(option is not None for option in (seeds, events, faults))
    one = seed is not None or case is not None
    if sum((numbers, seed is not None, case is not None, hours is not None)) > 1:
        raise click.UsageError(
            "--seed, --case, --hours and numbers (--seeds, --events, --faults) exclude each other."
        )
    if one and (fresh or first is not None or processes is not None):
        raise click.UsageError("--first, --fresh and --processes are for many seeds.")
    if fresh and first is not None:
        raise click.UsageError("--fresh draws the first seed: leave out --first.")
    if history is not None and not one:
        raise click.UsageError("--history goes with --seed or --case.")
    if save is not None and not (shrink if one else shrink is not False):
        raise click.UsageError("--save keeps what was shrunk: it goes with --shrink.")
    if case is not None and bug:
        raise click.UsageError("A case says itself which bug it is about: leave out --bug.")
    _check_bug(bug)
    budget = Budget(shrink_runs, shrink_seconds)
    if one:
        return _run_one(seed, case, bug, history, budget if shrink else None, save, form)
    if fresh or (hours is not None and first is None):
        first = secrets.randbelow(FRESH_BELOW)
        say(f"first seed {first}")
    goal = Goal(seeds or (1 if numbers else SEEDS), events or 0, faults or 0, hours)
    cores = os.cpu_count() or 1
    processes = processes or (cores if hours is not None else min(cores, PROCESSES_MAX))
    return _run_many(
        first or 0, goal, bug, processes, None if shrink is False else budget, save, form
    )


def _check_bug(bug: str) -> None:
    from everwrite.sim.bugs import BUGS

    if bug and bug not in BUGS:
        raise ConfigError(f"There is no deliberate bug {bug!r}.", hint="See --bugs for the list.")


# -- one seed, or one case -------------------------------------------------------------------------


def _run_one(
    seed: int | None,
    path: Path | None,
    bug: str,
    history: Path | None,
    budget: Budget | None,
    save: Path | None,
    form: str,
) -> int:
    from everwrite.sim.campaign import Campaign
    from everwrite.sim.case import describe, run_case, whole
    from everwrite.sim.history import dump

    if path is not None:
        case = _load(path)
        say(describe(case))
    else:
        case = whole(seed or 0, bug)
        say(case.options.describe())
    verdict, operations = run_case(case)
    if history is not None:
        _write(history, dump(operations), "history")
    campaign = Campaign()
    campaign.add(verdict)
    shrunk = _shrink(case, budget) if budget and verdict.findings else None
    if shrunk is None and save is not None:
        say(f"No rule was broken, so there is nothing to shrink, and {save} was not written.")
    return _end(Outcome(campaign, case.bug, path=path), shrunk, save, form)


def _load(path: Path) -> Case:
    from everwrite.sim.case import load_case

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The case {path} cannot be read: {error.strerror}.",
            hint="Give a file that `everwrite simulate --seed N --shrink --save FILE` wrote.",
        ) from error
    return load_case(data)


def _write(path: Path, data: bytes, what: str) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise StorageError(
            f"The {what} cannot be written to {path}: {error.strerror}.", hint="Name another file."
        ) from error


# -- many seeds ------------------------------------------------------------------------------------


def _run_many(
    first: int,
    goal: Goal,
    bug: str,
    processes: int,
    budget: Budget | None,
    save: Path | None,
    form: str,
) -> int:
    from everwrite.sim.campaign import run_seeds
    from everwrite.sim.case import whole

    began = spoken = time.monotonic()

    def speak(verdict: Verdict) -> None:
        for finding in verdict.findings[:1]:
            if not bug:
                say(f"seed {finding.seed}: {finding.rule}: {finding.sentence}")

    def enough(campaign: Campaign) -> bool:
        nonlocal spoken
        now = time.monotonic()
        if now - spoken >= PROGRESS_EVERY_S:
            spoken = now
            rate = campaign.events / (now - began)
            say(
                f"{count(campaign.seeds, 'seed')}, {campaign.events:,} events, "
                f"{campaign.fault_count:,} faults, {rate:,.0f} events/s"
            )
        return goal.is_met(campaign, now - began)

    seeds = _seeds(first, goal)
    campaign = run_seeds(seeds, bug=bug, processes=processes, seen=speak, enough=enough)
    seconds = time.monotonic() - began
    caught = campaign.caught()
    shrunk = _shrink(whole(caught[0], bug), budget) if budget and caught else None
    outcome = Outcome(
        campaign,
        bug,
        invalid=campaign.invalid(),
        seconds=seconds,
        cores=min(processes, os.cpu_count() or 1),
        first=first,
    )
    return _end(outcome, shrunk, save, form)


def _seeds(first: int, goal: Goal) -> Iterable[int]:
    if goal.hours is None and not goal.events and not goal.faults:
        return range(first, first + goal.seeds)
    return count_from(first)


# -- shrinking -------------------------------------------------------------------------------------


def _shrink(case: Case, budget: Budget) -> Shrunk:
    from everwrite.sim.shrink import Shrinker

    spoken = time.monotonic()

    def seen(shrinker: Shrinker) -> None:
        nonlocal spoken
        if time.monotonic() - spoken >= PROGRESS_EVERY_S:
            spoken = time.monotonic()
            say(f"shrinking: {sizes(shrinker.before, shrinker.size)}, {shrinker.runs} runs")

    say(f"shrinking seed {case.options.seed}")
    return Shrinker(
        case, time.monotonic, runs_max=budget.runs, seconds_max=budget.seconds, seen=seen
    ).shrink()


def _end(outcome: Outcome, shrunk: Shrunk | None, save: Path | None, form: str) -> int:
    """Keep the case if that was asked for, write the verdict, return the exit code."""
    from everwrite.sim.case import dump_case

    if shrunk is not None and save is not None:
        _write(save, dump_case(shrunk.case), "case")
    report(outcome, shrunk, save, form)
    return Exit.ERROR if outcome.campaign.findings or outcome.invalid else Exit.OK
