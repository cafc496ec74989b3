"""One seed from its first event to its verdict."""

from __future__ import annotations

import traceback

import msgspec

from everwrite.core.errors import EverwriteError
from everwrite.core.probes import HITS
from everwrite.sim.afterwards import an_hour_later, clients_come_back
from everwrite.sim.audit import Auditor
from everwrite.sim.causality import indices
from everwrite.sim.checkers import Allowed, check_history
from everwrite.sim.history import Operation
from everwrite.sim.options import Fault, Options, draw
from everwrite.sim.quiet import Quiet
from everwrite.sim.rest import judge_end, judge_rest
from everwrite.sim.survivors import Survivors
from everwrite.sim.touches import judge_touches
from everwrite.sim.truth import Violation, bounds_us
from everwrite.sim.world import World

CORE_BUGS = (EverwriteError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a bug in a core raises; a node that raises stops, and that is a violation."""


class Finding(msgspec.Struct, frozen=True):
    """A violation of one seed, in words."""

    seed: int
    rule: str
    sentence: str
    at_us: int


class Verdict(msgspec.Struct):
    """What one seed came to."""

    seed: int
    events: int = 0
    virtual_us: int = 0
    trace: str = ""
    faults: dict[str, int] = {}
    switched_on: list[str] = []
    operations: dict[str, dict[str, int]] = {}
    """kind -> outcome -> how many."""
    findings: list[Finding] = []
    probes: dict[str, int] = {}
    """How often each rare branch was taken."""


def run_seed(
    seed: int, options: Options | None = None, faults: list[Fault] | None = None
) -> Verdict:
    """Run one seed; the verdict says what it did and which rules were broken."""
    world = World(options or draw(seed), faults)
    return judge(world)


def judge(world: World) -> Verdict:
    """Run a world to its end, and judge it."""
    seed = world.options.seed
    findings: list[Finding] = []
    HITS.clear()
    try:
        world.boot()
        world.chaos()
        Survivors(world).serve()
        world.heal()
        judge_rest(world)
        Quiet(world).agree()
        an_hour_later(world)
        clients_come_back(world)
        quiet = Quiet(world)
        quiet.agree()
        quiet.rest()
        auditor = Auditor(world)
        auditor.audit()
        judge_touches(world)
        for breach in check_history(
            world.history, allowed(world), min(world.options.replicas, world.options.machines)
        ):
            findings.append(Finding(seed, breach.rule, breach.sentence, world.now))
        auditor.try_all()
        judge_end(world)
    except Violation as violation:
        findings.append(Finding(seed, violation.rule, violation.sentence, world.now))
    except CORE_BUGS as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename.rpartition('everwrite/')[2]}:{last.lineno} in {last.name}"
        findings.append(
            Finding(seed, "stopped", f"{type(error).__name__} at {where}: {error}", world.now)
        )
    return Verdict(
        seed,
        world.events,
        world.now,
        world.trace,
        dict(sorted(world.faults.items())),
        list(world.options.faults),
        count_operations(world.history),
        findings,
        dict(sorted(HITS.items())),
    )


def allowed(world: World) -> Allowed:
    """Return what the history's judge has to spare in this world, exactly."""
    spared = Allowed(executed=set())
    for key in world.keys:
        ids = key.causality.ids
        spared.lost |= {ids[place] for place in indices(key.soft & key.weakened | key.doubtful)}
        spared.lingering |= {ids[place] for place in indices(key.lingering | key.doubtful)}
        spared.stale |= {ids[place] for place in indices(key.weakened | key.doubtful)}
        for place, end in key.ends.items():
            spared.ends[ids[place]] = bounds_us(end)
        if spared.executed is not None:
            spared.executed |= {ids[place] for place in indices(world.ledger.stood(key))}
    return spared


def count_operations(history: list[Operation]) -> dict[str, dict[str, int]]:
    """Return how many operations of each kind ended in which way."""
    counts: dict[str, dict[str, int]] = {}
    for operation in history:
        outcomes = counts.setdefault(operation.kind, {})
        outcomes[operation.outcome] = outcomes.get(operation.outcome, 0) + 1
    return counts
