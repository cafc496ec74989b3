"""What `everwrite simulate` says of the deliberate bugs: the list, and how each was caught."""

from __future__ import annotations

from typing import TYPE_CHECKING

from everwrite.cli.exits import Exit
from everwrite.cli.output import count, emit, emit_json, say, table

if TYPE_CHECKING:
    from everwrite.sim.bugs.hunt import Hunt


def list_bugs(form: str) -> int:
    """Write the bugs by area, each in one sentence."""
    from everwrite.sim.bugs import BUGS

    if form == "json":
        emit_json({name: bug.sentence for name, bug in BUGS.items()})
        return Exit.OK
    rows = [[bug.area, name, bug.sentence] for name, bug in BUGS.items()]
    emit(table(["area", "bug", "what is wrong"], rows))
    return Exit.OK


def hunt_all(seeds: int, processes: int, form: str) -> int:
    """Hunt every bug in so many seeds; exit code 0 only if all are caught."""
    from everwrite.sim.bugs.hunt import check_all

    def speak(hunt: Hunt) -> None:
        if hunt.caught is None:
            say(f"{hunt.name}: not caught by {count(hunt.seeds, 'seed')}")

    hunts = check_all(seeds, processes, speak)
    caught = [hunt for hunt in hunts if hunt.caught is not None]
    if form == "json":
        emit_json({hunt.name: hunt for hunt in hunts})
    else:
        rows = [
            [
                hunt.area,
                hunt.name,
                hunt.caught.rule if hunt.caught is not None else "NOT CAUGHT",
                f"{hunt.seeds}",
                f"{hunt.caught.seed}" if hunt.caught is not None else "",
            ]
            for hunt in hunts
        ]
        emit(table(["area", "bug", "caught by the rule", "seeds", "seed"], rows, right=[3, 4]))
        emit("")
        emit(f"{len(caught)} of {count(len(hunts), 'bug')} caught")
    return Exit.OK if len(caught) == len(hunts) else Exit.ERROR
