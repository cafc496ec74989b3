"""A case: one run written out as data, so that parts of it can be left out and the rest repeated.

A seed says everything of its run, but only as a whole. A case says what was drawn from it: the
options, the faults that strike, the operations that are carried out. What is in a case is repeated
to the byte; a case made smaller is another run, that need not break the rule its model broke.

A case is kept as JSON. One that lacks an option which came later gets it as its seed draws it now;
one that says nothing of changes of members, of what ends, or of data types, has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import msgspec

from everwrite.core.errors import ConfigError
from everwrite.sim.bugs import planted
from everwrite.sim.changes import Changes
from everwrite.sim.clients import Client
from everwrite.sim.history import Operation
from everwrite.sim.nemesis import Nemesis
from everwrite.sim.options import CHANGES, FAULTS, PER_MESSAGE, TIMED, Fault, Options, draw, plan
from everwrite.sim.run import Finding, Verdict, judge
from everwrite.sim.truth import KeyLedger, Knowledge
from everwrite.sim.typed.clients import TypedClient
from everwrite.sim.world import World

FORMAT = 1
NO_CHANGES = {"spares": 0, "changes_ms": 0}
NO_TYPES = {"typed_share": 0.0, "typed_keys": 0}
NO_ENDS = {
    "ttl_share": 0.0,
    "touch_share": 0.0,
    "delete_share": 0.05,
    "encore": 0,
    "repairs": False,
}
BOOT_US = 100_000
"""Faults of a plan are timed from the end of the boot."""
LASTS_SHOWN_MAX_US = 600_000_000
"""What lasts longer lasts until the heal."""

UNPLANNED = {
    "clock_drift": "The clocks of the nodes run at different speeds.",
    "foreign_context": "Now and then a client hands in a context that is not for its key.",
    "blackout": "When the faults end the power of all machines goes.",
    "hour_late": "After the heal all nodes are down for an hour, and some frames come once more.",
}


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One run as data, and the rule that it breaks."""

    options: Options
    faults: list[Fault]
    operations: dict[str, int] | None = None
    """The operations that are carried out, and when each begins; None: all, as they come."""
    bug: str = ""
    rule: str = ""
    sentence: str = ""
    format: int = FORMAT

    @property
    def classes(self) -> list[str]:
        """The classes of faults that are on besides the plan: of messages, clocks, clients."""
        return [name for name in self.options.faults if name not in TIMED]


class Script(Client):
    """A client that does some of the operations that it would do, each when it did it then.

    So what is left out before an operation does not move it in time, and a fault finds it where it
    did. Only a client that is still busy begins late.
    """

    def follow(self, operations: dict[str, int]) -> None:
        """Do these operations, and no other."""
        self._kept = operations
        self._script = sorted(
            (at_us, int(name.rpartition(".")[2]))
            for name, at_us in operations.items()
            if name.rpartition(".")[0] == self.name
        )

    def begin(self) -> None:
        """Do the next operation of the script when its time has come."""
        self.left = len(self._script)
        if not self._script or self.busy:
            return
        at_us, serial = self._script[0]
        if self.world.now < at_us:
            self.world.later(at_us - self.world.now, self.begin)
            return
        del self._script[0]
        self.left -= 1
        if serial > self._serial:  # else it was the merge of a read, and is done
            self._serial = serial - 1
            self._do_next()
        else:
            self.begin()


class Scripted(Script):
    """Such a client of plain values: the merge of a read may be left out by itself."""

    def _write(self, key: KeyLedger, used: Knowledge, *, delete: bool = False) -> None:
        if f"{self.name}.{self._serial + 1}" in self._kept:
            super()._write(key, used, delete=delete)


class ScriptedTyped(Script, TypedClient):
    """Such a client of data types."""


def scripted(world: World, client: Client, operations: dict[str, int]) -> Client:
    """Return a client that does of what this one would do only these operations."""
    made: Script
    if isinstance(client, TypedClient):
        made = ScriptedTyped(world, client.name, client.rng, client.typed)
    else:
        made = Scripted(world, client.name, client.rng, client.keys)
    made.follow(operations)
    return made


def whole(seed: int, bug: str = "") -> Case:
    """Return the case of everything that a seed drew."""
    options = draw(seed)
    return Case(options=options, faults=plan(options), bug=bug)


def run_case(case: Case) -> tuple[Verdict, list[Operation]]:
    """Run a case; return its verdict and its history."""
    with planted(case.bug) if case.bug else nullcontext():
        world = World(case.options, case.faults)
        if case.operations is not None:
            world.clients = [scripted(world, each, case.operations) for each in world.clients]
        return judge(world), world.history


def same_kind(finding: Finding, case: Case) -> bool:
    """Say whether a finding is what the case is about: a rule; of a node that stopped, its error
    and the place.
    """
    if finding.rule != case.rule:
        return False
    return case.rule != "stopped" or _head(finding.sentence) == _head(case.sentence)


def _head(sentence: str) -> str:
    return sentence.partition(": ")[0]


# -- for a person ----------------------------------------------------------------------------------


def describe(case: Case, operations: Sequence[Operation] = ()) -> str:
    """Return a case for a person, line by line; ``operations`` as they went in a run of it."""
    options = case.options
    lines = [describe_cluster(options)]
    lines += [f"fault: {describe_class(name, options)}" for name in case.classes]
    lines += [f"fault: {describe_fault(fault)}" for fault in case.faults]
    if operations:
        lines += [operation.describe() for operation in operations]
    elif case.operations is not None:
        lines.append("operations: " + (" ".join(case.operations) or "only those of the audit"))
    return "\n".join(lines)


def describe_cluster(options: Options) -> str:
    """Return the cluster and its clients in one line."""
    words = [
        _count(options.nodes, "node"),
        f"in {_count(min(options.zones, options.nodes), 'zone')},",
        f"n {options.copies},",
        f"{_count(options.partitions, 'partition')},",
        *([f"{_count(options.spares, 'spare machine')},"] if options.spares else []),
        f"fsync {'on' if options.fsync else 'off'};",
        f"{_count(options.clients, 'client')},",
        _count(options.keys, "key"),
    ]
    knobs = ", ".join(f"{name} {value}" for name, value in options.knobs.items())
    return " ".join(words) + (f"; {knobs}" if knobs else "")


def describe_fault(fault: Fault) -> str:
    """Return one fault of a plan, with its time, in words."""
    of = Changes if fault.kind in CHANGES else Nemesis
    said = (getattr(of, fault.kind).__doc__ or "").partition("\n")[0]
    lasts = fault.lasts_us
    span = f" for {lasts / 1e6:g} s" if lasts < LASTS_SHOWN_MAX_US else " until the heal"
    at = f"at {(BOOT_US + fault.at_us) / 1e6:.3f} s{span if lasts else ''}"
    return f"{fault.kind} on node {fault.on + 1} {at}: {said}".rstrip(": ")


def describe_class(name: str, options: Options) -> str:
    """Return a class of faults that has no plan, in words."""
    rate = f"by a chance of {options.faults[name]:g}"
    if name in PER_MESSAGE:
        return f"{name}, of each frame between nodes {rate}"
    return f"{name}: {UNPLANNED[name]}" if name in UNPLANNED else f"{name}, {rate}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


# -- as a file -------------------------------------------------------------------------------------


def dump_case(case: Case) -> bytes:
    """Return a case as JSON, to be kept."""
    return msgspec.json.format(msgspec.json.encode(case, order=None), indent=1) + b"\n"


def load_case(data: bytes) -> Case:
    """Return the case in these bytes; ConfigError if they are none that can be run."""
    try:
        found: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
        if found.get("format") != FORMAT:
            raise ConfigError(
                f"This case has format {found.get('format')!r}; known is {FORMAT}.",
                hint="Shrink its seed again, with --save.",
            )
        options = dict(found["options"])
        drawn = msgspec.to_builtins(draw(int(options["seed"])))
        case = msgspec.convert(
            {**found, "options": {**drawn, **NO_CHANGES, **NO_ENDS, **NO_TYPES, **options}}, Case
        )
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"This is not a case of a simulation: {error}.",
            hint="Give a file that `everwrite simulate --seed N --shrink --save FILE` wrote.",
        ) from error
    _check(case)
    return case


def _check(case: Case) -> None:
    """Raise ConfigError for a case that another version of the simulator wrote, or nobody."""
    options = case.options
    unknown = [
        kind
        for kind in (*options.faults, *(fault.kind for fault in case.faults))
        if kind not in (*FAULTS, *CHANGES)
    ]
    if unknown:
        raise ConfigError(
            f"The case has a fault of the class {unknown[0]!r}, which there is not.",
            hint="Shrink its seed again, with --save.",
        )
    if (
        min(options.nodes, options.replicas, options.partitions, options.zones) < 1
        or min(options.clients, options.keys) < 1
    ):
        raise ConfigError("The case has no nodes, clients or keys.", hint="Shrink its seed again.")
    if any(not 0 <= fault.on < options.machines for fault in case.faults):
        raise ConfigError(
            "A fault of the case strikes a node that its cluster has not.",
            hint="Shrink its seed again, with --save.",
        )
