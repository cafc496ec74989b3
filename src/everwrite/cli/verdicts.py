"""What `everwrite simulate` prints: the counts, what broke, and the short list it was shrunk to."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from everwrite.cli.output import count, emit, emit_json, table

if TYPE_CHECKING:
    from everwrite.sim.campaign import Campaign
    from everwrite.sim.run import Finding
    from everwrite.sim.shrink import Shrunk, Size

SHOWN_MAX = 10

ENDED = {
    "minimal": "nothing more can be left out",
    "runs": "the budget of runs is spent",
    "seconds": "the budget of time is spent",
}


class Outcome(NamedTuple):
    """What one run of the command came to."""

    campaign: Campaign
    bug: str
    path: Path | None = None
    """The case that was run, if it was one."""
    invalid: list[str] = []  # noqa: RUF012 - nobody appends
    seconds: float | None = None
    cores: int = 1
    first: int | None = None


def report(outcome: Outcome, shrunk: Shrunk | None, save: Path | None, form: str) -> None:
    """Write the verdict."""
    if form == "json":
        emit_json(_as_json(outcome, shrunk, save))
        return
    _show_counts(outcome.campaign)
    _show_findings(outcome)
    if shrunk is not None:
        _show_shrunk(outcome, shrunk, save)
    _show_end(outcome)


def sizes(before: Size, after: Size) -> str:
    """Return how much was left out of how much."""
    return ", ".join(
        f"{what} {getattr(before, what)} -> {getattr(after, what)}"
        for what in ("faults", "operations", "nodes", "knobs")
    )


# -- as data ---------------------------------------------------------------------------------------


def _as_json(outcome: Outcome, shrunk: Shrunk | None, save: Path | None) -> dict[str, object]:
    campaign, seconds = outcome.campaign, outcome.seconds
    rate = campaign.events / seconds if seconds else None
    never = campaign.never_hit()
    return {
        "seeds": campaign.seeds,
        "first": outcome.first,
        "events": campaign.events,
        "faults": campaign.fault_count,
        "operations": campaign.operation_count,
        "violations": [_finding_as_json(finding, outcome) for finding in campaign.findings],
        "shrunk": _shrunk_as_json(outcome, shrunk, save) if shrunk is not None else None,
        "invalid": outcome.invalid,
        "seconds": seconds,
        "events_per_s": round(rate) if rate else None,
        "events_per_s_and_core": round(rate / outcome.cores) if rate else None,
        "virtual_s": round(campaign.virtual_s, 3),
        "faults_by_class": dict(sorted(campaign.faults.items())),
        "operations_by_kind": campaign.operations,
        "probes": {
            "hit": dict(sorted(campaign.probes.items())),
            "never": never,
            "placed": len(campaign.probes) + len(never),
        },
        "traces": {str(seed): trace for seed, trace in campaign.traces.items()}
        if campaign.seeds == 1
        else {},
    }


def _finding_as_json(finding: Finding, outcome: Outcome) -> dict[str, object]:
    from everwrite.sim.options import draw

    return {
        "seed": finding.seed,
        "rule": finding.rule,
        "sentence": finding.sentence,
        "at_s": finding.at_us / 1e6,
        "repeat": _command(finding.seed, outcome),
        "options": draw(finding.seed),
    }


def _shrunk_as_json(outcome: Outcome, shrunk: Shrunk, save: Path | None) -> dict[str, object]:
    from everwrite.sim.case import describe_class, describe_cluster, describe_fault

    case = shrunk.case
    return {
        "seed": case.options.seed,
        "rule": shrunk.finding.rule,
        "sentence": shrunk.finding.sentence,
        "at_s": shrunk.finding.at_us / 1e6,
        "cluster": describe_cluster(case.options),
        "faults": [
            *(describe_class(name, case.options) for name in case.classes),
            *map(describe_fault, case.faults),
        ],
        "operations": [operation.describe() for operation in shrunk.operations],
        "before": shrunk.before,
        "after": shrunk.after,
        "runs": shrunk.runs,
        "ended": shrunk.ended,
        "repeat": _command_of_shrunk(outcome, shrunk, save),
        "case": case,
    }


# -- for a person ----------------------------------------------------------------------------------


def _show_counts(campaign: Campaign) -> None:
    rows = [
        [kind, *(f"{outcomes.get(each, 0):,}" for each in ("ok", "fail", "unknown"))]
        for kind, outcomes in campaign.operations.items()
    ]
    emit(table(["operation", "ok", "fail", "unknown"], rows, right=[1, 2, 3]))
    emit("")
    faults = [[name, f"{number:,}"] for name, number in sorted(campaign.faults.items())]
    emit(table(["fault", "struck"], faults, right=[1]))
    emit("")


def _show_findings(outcome: Outcome) -> None:
    from everwrite.sim.options import draw

    for finding in outcome.campaign.findings[:SHOWN_MAX]:
        emit(f"seed {finding.seed}: {finding.rule} at {finding.at_us / 1e6:.6f} s")
        emit(f"  {finding.sentence}")
        emit(f"  repeat it: {_command(finding.seed, outcome)}")
        if outcome.campaign.seeds > 1:  # one seed alone has said what it drew
            emit(textwrap.indent(draw(finding.seed).describe(), "  "))


def _show_shrunk(outcome: Outcome, shrunk: Shrunk, save: Path | None) -> None:
    from everwrite.sim.case import describe

    emit("")
    emit(f"shrunk: {sizes(shrunk.before, shrunk.after)}")
    emit(f"  after {count(shrunk.runs, 'run')}; {ENDED[shrunk.ended]}")
    emit(textwrap.indent(describe(shrunk.case, shrunk.operations), "  "))
    emit(f"  {shrunk.finding.rule} at {shrunk.finding.at_us / 1e6:.6f} s")
    emit(f"    {shrunk.finding.sentence}")
    emit(f"  repeat it: {_command_of_shrunk(outcome, shrunk, save)}")
    emit("")


def _show_end(outcome: Outcome) -> None:
    campaign, seconds = outcome.campaign, outcome.seconds
    for reason in outcome.invalid:
        emit(f"invalid: {reason}")
    never = campaign.never_hit()
    if campaign.seeds == 1:
        emit(f"trace {next(iter(campaign.traces.values()))}")
    elif not outcome.invalid:
        for name in never[:SHOWN_MAX]:
            emit(f"never happened: {name}")
        if len(never) > SHOWN_MAX:
            emit(f"never happened: {len(never) - SHOWN_MAX} more; -o json names them")
    parts = [
        count(campaign.seeds, "seed"),
        count(campaign.events, "event"),
        count(campaign.fault_count, "fault"),
        count(campaign.operation_count, "operation"),
        f"{len(campaign.probes)} of {len(campaign.probes) + len(never)} probes hit",
        count(len(campaign.findings), "violation"),
    ]
    if seconds:
        rate = campaign.events / seconds
        parts.append(f"{rate:,.0f} events/s, {rate / outcome.cores:,.0f} per core")
    emit(", ".join(parts))
    if outcome.bug and outcome.path is None:
        caught = len(campaign.caught())
        emit(f"{outcome.bug}: caught by {caught} of {count(campaign.seeds, 'seed')}")


# -- how to repeat it ------------------------------------------------------------------------------


def _command(seed: int, outcome: Outcome) -> str:
    if outcome.path is not None:
        return f"everwrite simulate --case {outcome.path}"
    return f"everwrite simulate --seed {seed}" + (f" --bug {outcome.bug}" if outcome.bug else "")


def _command_of_shrunk(outcome: Outcome, shrunk: Shrunk, save: Path | None) -> str:
    if save is not None:
        return f"everwrite simulate --case {save}"
    return f"{_command(shrunk.case.options.seed, outcome)} --shrink"
