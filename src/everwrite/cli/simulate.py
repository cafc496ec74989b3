"""`everwrite simulate`: whole clusters under virtual time and faults, many seeds or one of them."""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Iterable
from itertools import count as count_from
from pathlib import Path
from typing import TYPE_CHECKING

import click

from everwrite.cli.connection import takes_a_format
from everwrite.cli.exits import Exit
from everwrite.cli.output import count, emit, emit_json, say, table
from everwrite.core.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from everwrite.sim.campaign import Campaign
    from everwrite.sim.run import Finding, Verdict

PROCESSES_MAX = 2
"""Of a run with a number of seeds; ``--hours`` takes every core."""

SHOWN_MAX = 10
PROGRESS_EVERY_S = 5.0


@click.command()
@click.option("--seeds", type=click.IntRange(1), help="How many seeds to run.  [default: 200]")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="First seed.")
@click.option("--seed", type=click.IntRange(0), help="Run this one seed, and say what it drew.")
@click.option("--hours", type=click.FloatRange(0, min_open=True), help="Run fresh seeds for hours.")
@click.option("--bug", metavar="NAME", default="", help="Put a deliberate bug into the core first.")
@click.option("--bugs", is_flag=True, help="List the deliberate bugs.")
@click.option(
    "--history",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With --seed: write what the clients saw there, as JSON lines.",
)
@click.option("--processes", type=click.IntRange(1), help="How many processes.  [default: 1 or 2]")
@takes_a_format
def simulate(
    seeds: int | None,
    first: int,
    seed: int | None,
    hours: float | None,
    bug: str,
    bugs: bool,
    history: Path | None,
    processes: int | None,
    form: str,
) -> int:
    """Run simulated clusters with faults, and judge every one of them.

    A seed is a cluster, its workload and its faults; the same seed is the same run, to the byte.
    Exit code 0 means that no rule was broken, and that the run was worth something.
    """
    if sum(option is not None for option in (seeds, seed, hours)) > 1:
        raise click.UsageError("--seeds, --seed and --hours exclude each other.")
    if history is not None and seed is None:
        raise click.UsageError("--history goes with --seed.")
    if bugs:
        return _list_bugs(form)
    if seed is not None:
        return _run_one(seed, bug, history, form)
    cores = os.cpu_count() or 1
    if hours is not None:
        return _run_many(count_from(first), bug, processes or cores, hours, form)
    chosen = range(first, first + (seeds or 200))
    return _run_many(chosen, bug, processes or min(cores, PROCESSES_MAX), None, form)


def _list_bugs(form: str) -> int:
    from everwrite.sim.bugs import BUGS

    if form == "json":
        emit_json({name: bug.sentence for name, bug in BUGS.items()})
    else:
        emit(table(["bug", "what it does"], [[name, bug.sentence] for name, bug in BUGS.items()]))
    return Exit.OK


def _run_one(seed: int, bug: str, history: Path | None, form: str) -> int:
    from everwrite.sim.campaign import Campaign, simulate_seed
    from everwrite.sim.history import dump
    from everwrite.sim.options import draw

    say(draw(seed).describe())
    verdict, operations = simulate_seed(seed, bug)
    if history is not None:
        try:
            history.write_bytes(dump(operations))
        except OSError as error:
            raise StorageError(
                f"The history cannot be written to {history}: {error.strerror}.",
                hint="Name another file.",
            ) from error
    campaign = Campaign()
    campaign.add(verdict)
    return _report(campaign, bug, [], None, form)


def _run_many(
    seeds: Iterable[int], bug: str, processes: int, hours: float | None, form: str
) -> int:
    from everwrite.sim.bugs import BUGS
    from everwrite.sim.campaign import run_seeds

    if bug and bug not in BUGS:
        raise ConfigError(f"There is no deliberate bug {bug!r}.", hint="See --bugs for the list.")
    began = time.monotonic()
    end = began + hours * 3600 if hours is not None else None
    spoken = began

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
            say(f"{count(campaign.seeds, 'seed')}, {campaign.events:,} events, {rate:,.0f}/s")
        return end is not None and now >= end

    campaign = run_seeds(seeds, bug=bug, processes=processes, seen=speak, enough=enough)
    seconds = time.monotonic() - began
    return _report(campaign, bug, campaign.invalid(), seconds, form)


def _report(
    campaign: Campaign, bug: str, invalid: list[str], seconds: float | None, form: str
) -> int:
    """Write the verdict; return the exit code."""
    findings = campaign.findings
    if form == "json":
        emit_json(
            {
                "seeds": campaign.seeds,
                "events": campaign.events,
                "faults": campaign.fault_count,
                "operations": campaign.operation_count,
                "violations": [_as_json(finding, bug) for finding in findings],
                "invalid": invalid,
                "seconds": seconds,
                "events_per_s": round(campaign.events / seconds) if seconds else None,
                "virtual_s": round(campaign.virtual_s, 3),
                "faults_by_class": dict(sorted(campaign.faults.items())),
                "operations_by_kind": campaign.operations,
                "traces": {str(seed): trace for seed, trace in campaign.traces.items()}
                if campaign.seeds == 1
                else {},
            }
        )
    else:
        _show(campaign, bug, invalid, seconds)
    return Exit.ERROR if findings or invalid else Exit.OK


def _as_json(finding: Finding, bug: str) -> dict[str, object]:
    from everwrite.sim.options import draw

    return {
        "seed": finding.seed,
        "rule": finding.rule,
        "sentence": finding.sentence,
        "at_s": finding.at_us / 1e6,
        "repeat": _command(finding.seed, bug),
        "options": draw(finding.seed),
    }


def _command(seed: int, bug: str) -> str:
    return f"everwrite simulate --seed {seed}" + (f" --bug {bug}" if bug else "")


def _show(campaign: Campaign, bug: str, invalid: list[str], seconds: float | None) -> None:
    from everwrite.sim.options import draw

    rows = [
        [kind, *(f"{outcomes.get(each, 0):,}" for each in ("ok", "fail", "unknown"))]
        for kind, outcomes in campaign.operations.items()
    ]
    emit(table(["operation", "ok", "fail", "unknown"], rows, right=[1, 2, 3]))
    emit("")
    faults = [[name, f"{number:,}"] for name, number in sorted(campaign.faults.items())]
    emit(table(["fault", "struck"], faults, right=[1]))
    emit("")
    for finding in campaign.findings[:SHOWN_MAX]:
        emit(f"seed {finding.seed}: {finding.rule} at {finding.at_us / 1e6:.6f} s")
        emit(f"  {finding.sentence}")
        emit(f"  repeat it: {_command(finding.seed, bug)}")
        if campaign.seeds > 1:  # one seed alone has said what it drew
            emit(textwrap.indent(draw(finding.seed).describe(), "  "))
    for reason in invalid:
        emit(f"invalid: {reason}")
    speed = f", {campaign.events / seconds:,.0f} events/s" if seconds else ""
    if campaign.seeds == 1:
        emit(f"trace {next(iter(campaign.traces.values()))}")
    emit(
        f"{count(campaign.seeds, 'seed')}, {count(campaign.events, 'event')}, "
        f"{count(campaign.fault_count, 'fault')}, {count(campaign.operation_count, 'operation')}, "
        f"{count(len(campaign.findings), 'violation')}{speed}"
    )
    if bug:
        emit(f"{bug}: caught by {len(campaign.caught())} of {count(campaign.seeds, 'seed')}")
