"""Shrinking: from a run that breaks a rule to the few events that it takes.

    all that a seed drew -> what came after the breach is left out -> classes of faults, knobs,
    nodes, faults, operations are left out as long as the same rule breaks -> the same again, until
    nothing more can go or the budget is spent

A smaller run is another run: with an operation less, the network draws other delays. So most of
what is left out breaks the rule by chance or not at all, and the answer is a short list, not the
shortest. What counts is that it is repeated to the byte, and short enough to be read.

Costs: one run for each try, 10 to 150 ms; a case of 40 faults and 300 operations takes 100 to 400.
Source: Zeller and Hildebrandt 2002 (ddmin); here only complements are tried, from half to single.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Literal, TypeVar

import msgspec
from msgspec.structs import replace

from everwrite.sim.audit import NAME as AUDIT
from everwrite.sim.case import Case, run_case, same_kind
from everwrite.sim.history import Operation
from everwrite.sim.options import CHANGES, Options
from everwrite.sim.run import Finding, Verdict

Item = TypeVar("Item")

RUNS_MAX = 400
SECONDS_MAX = 60.0

End = Literal["minimal", "runs", "seconds"]


class Size(msgspec.Struct, frozen=True):
    """How much there is in a case."""

    faults: int
    """Of the plan, and one for each class of faults besides."""
    operations: int
    nodes: int
    knobs: int

    @property
    def events(self) -> int:
        """What a person has to read."""
        return self.faults + self.operations


class Shrunk(msgspec.Struct, frozen=True):
    """What shrinking came to."""

    case: Case
    finding: Finding
    operations: list[Operation]
    """Those of the smaller run, as its clients saw them."""
    before: Size
    after: Size
    runs: int
    ended: End
    """Whether nothing more could be left out, or which part of the budget was spent."""


class NothingBroken(Exception):
    """The run to be shrunk breaks no rule."""


def ddmin(items: Sequence[Item], fails: Callable[[list[Item]], bool]) -> list[Item]:
    """Return some of the items, in their order, that still fail, and of which no single one can be
    left out.

    The items as they come are known to fail, and are not tried. ``fails`` must say the same of the
    same items each time. Parts are left out from the end on: what comes early decides what follows.
    """
    kept = list(items)
    size = len(kept)
    while size:
        end, left_out = len(kept), False
        while end > 0:
            rest = kept[: max(end - size, 0)] + kept[end:]
            if fails(rest):
                kept, left_out = rest, True
            end -= size
        if size > 1:
            size = min(ceil(size / 2), len(kept))
        elif not left_out:
            break
    return kept


class Shrinker:
    """Leaves out what is not needed. ``clock`` tells seconds, for the budget."""

    def __init__(
        self,
        case: Case,
        clock: Callable[[], float],
        *,
        runs_max: int = RUNS_MAX,
        seconds_max: float = SECONDS_MAX,
        run: Callable[[Case], tuple[Verdict, list[Operation]]] = run_case,
        seen: Callable[[Shrinker], None] = lambda shrinker: None,
    ) -> None:
        self._clock = clock
        self._until = clock() + seconds_max
        self._runs_max = runs_max
        self._run = run
        self._seen = seen
        self.runs = 1
        self.spent: End = "minimal"
        verdict, history = run(case)
        if not verdict.findings:
            raise NothingBroken
        found = verdict.findings[0]
        self.case = replace(case, rule=found.rule, sentence=found.sentence)
        self.finding = found
        self.history = history
        self.before = self.size

    @property
    def size(self) -> Size:
        """How much there is in the smallest case so far."""
        case = self.case
        return Size(
            len(case.faults) + len(case.classes),
            len(self._by_clients()),
            case.options.machines,
            len(case.options.knobs),
        )

    def shrink(self) -> Shrunk:
        """Leave out all that can be left out within the budget."""
        self._leave_out_what_came_after()
        while True:
            before = self.size
            for leave_out in (
                self._classes,
                self._knobs,
                self._members,
                self._nodes,
                self._faults,
                self._operations,
            ):
                leave_out()
            if self.size == before or self.spent != "minimal":
                break
        return Shrunk(
            self.case,
            self.finding,
            self._by_clients(),
            self.before,
            self.size,
            self.runs,
            self.spent,
        )

    def _by_clients(self) -> list[Operation]:
        """Return the operations that can be left out: the audit's are no client's."""
        return [operation for operation in self.history if operation.client != AUDIT]

    # -- tries -------------------------------------------------------------------------------------

    def _fails(self, case: Case) -> bool:
        """Run a smaller case if the budget allows; keep it if it breaks the same rule."""
        if self.spent != "minimal":
            return False
        if self.runs >= self._runs_max:
            self.spent = "runs"
            return False
        if self._clock() >= self._until:
            self.spent = "seconds"
            return False
        self.runs += 1
        verdict, history = self._run(case)
        found = next((each for each in verdict.findings if same_kind(each, self.case)), None)
        if found is None:
            return False
        self.case = replace(case, sentence=found.sentence)
        self.finding = found
        self.history = history
        self._seen(self)
        return True

    def _options(self, **changed: object) -> Case:
        return replace(self.case, options=replace(self.case.options, **changed))

    def _leave_out_what_came_after(self) -> None:
        """In one go: faults after the breach, and the plan's classes, which only drew the plan."""
        case, at = self.case, self.finding.at_us
        faults = [fault for fault in case.faults if fault.at_us <= at]
        rates = {name: case.options.faults[name] for name in case.classes}
        options = replace(case.options, faults=rates)
        self._fails(replace(case, faults=faults, options=options))

    def _classes(self) -> None:
        rates = self.case.options.faults
        ddmin(
            list(rates),
            lambda kept: self._fails(self._options(faults={name: rates[name] for name in kept})),
        )

    def _knobs(self) -> None:
        knobs = self.case.options.knobs
        ddmin(
            list(knobs),
            lambda kept: self._fails(self._options(knobs={name: knobs[name] for name in kept})),
        )

    def _members(self) -> None:
        """Do without changes of members altogether, or with fewer spare machines."""
        options, faults = self.case.options, self.case.faults
        if not options.changing:
            return
        still = [fault for fault in faults if fault.kind not in CHANGES]
        tries = [
            (0, 0, still),
            *((spares, options.changes_ms, faults) for spares in range(options.spares)),
        ]
        for spares, changes_ms, kept in tries:
            smaller = replace(options, spares=spares, changes_ms=changes_ms)
            moved = [replace(fault, on=fault.on % smaller.machines) for fault in kept]
            if self._fails(replace(self.case, options=smaller, faults=moved)):
                return

    def _nodes(self) -> None:
        """Try the smallest cluster first; faults of nodes that it has not strike others, or are
        left out.
        """
        for nodes in range(1, self.case.options.nodes):
            options = _smaller(self.case.options, nodes)
            kept = [fault for fault in self.case.faults if fault.on < nodes]
            moved = [replace(fault, on=fault.on % nodes) for fault in self.case.faults]
            for faults in (kept, moved) if len(kept) < len(moved) else (kept,):
                if self._fails(replace(self.case, options=options, faults=faults)):
                    return

    def _faults(self) -> None:
        ddmin(self.case.faults, lambda kept: self._fails(replace(self.case, faults=kept)))

    def _operations(self) -> None:
        """The first try fixes when each begins."""
        begun = {each.id: each.invoked for each in self._by_clients()}
        if self.case.operations is None and not self._fails(replace(self.case, operations=begun)):
            return
        begun = self.case.operations or begun
        ddmin(
            list(begun),
            lambda kept: self._fails(
                replace(self.case, operations={name: begun[name] for name in kept})
            ),
        )


def _smaller(options: Options, nodes: int) -> Options:
    return replace(options, nodes=nodes, zones=min(options.zones, nodes))
