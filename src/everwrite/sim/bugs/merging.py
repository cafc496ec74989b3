"""Bugs in what becomes of versions when two sides meet, or a write comes upon others."""

from __future__ import annotations

from collections.abc import Callable

from everwrite.core.config import NodeConfig
from everwrite.core.data import versions
from everwrite.core.data.versions import NOTHING, Clock, Record, Seen, Version
from everwrite.core.local import Local
from everwrite.sim.bugs.registry import Patch, area

bug = area("versions")

PRUNED_AT = 10
"""Where the paper cuts a clock (Dynamo 4.4)."""


def _merging(choose: Callable[[list[Version]], list[Version]]) -> Callable[..., Record]:
    right = versions.merge

    def merge(mine: Record, theirs: Record) -> Record:
        merged = right(mine, theirs)
        if merged is mine or merged is theirs or len(merged.siblings) < 2:
            return merged
        return Record(merged.clock, choose(merged.siblings))

    return merge


@bug("merge-drops-sibling", "a merge of two sides keeps one sibling", rules=("frontier",))
def _merge_drops_sibling() -> list[Patch]:
    return [(versions, "merge", _merging(lambda siblings: siblings[:1]))]


@bug("merge-by-wall-clock", "the last writer by wall clock wins", rules=("frontier",))
def _merge_by_wall_clock() -> list[Patch]:
    def last(siblings: list[Version]) -> list[Version]:
        return [max(siblings, key=lambda version: version.time_ms)]

    return [(versions, "merge", _merging(last))]


@bug(
    "merge-as-it-comes",
    "a merge lists siblings as they came, so equal knowledge is not equal bytes",
    rules=("calm", "reachable", "convergence"),
)
def _merge_as_it_comes() -> list[Patch]:
    return [(versions, "merge", _merging(lambda siblings: siblings[::-1]))]


@bug(
    "clocks-compared-by-sum",
    "the clock with more writes in it is taken for the newer one",
    rules=("frontier", "forgotten"),
)
def _clocks_compared_by_sum() -> list[Patch]:
    def descends(mine: Clock, theirs: Clock) -> bool:
        return sum(mine.values()) >= sum(theirs.values())

    return [(versions, "descends", descends)]


@bug(
    "clock-pruned",
    "a clock is cut to its ten last entries, as in the paper",
    rules=("forgotten", "frontier", "context"),
)
def _clock_pruned() -> list[Patch]:
    right = versions.put

    def put(record: Record, seen: Seen, written: Version) -> Record:
        made = right(record, seen, written)
        if len(made.clock) <= PRUNED_AT:
            return made
        needed = {version.actor for version in made.siblings}
        spare = [actor for actor in made.clock if actor not in needed]
        cut = set(spare[: len(made.clock) - PRUNED_AT])
        return Record(
            {actor: n for actor, n in made.clock.items() if actor not in cut}, made.siblings
        )

    return [(versions, "put", put)]


def _putting(seeing: Callable[[Record, Seen], Seen]) -> Callable[..., Record]:
    right = versions.put

    def put(record: Record, seen: Seen, written: Version) -> Record:
        return right(record, seeing(record, seen), written)

    return put


@bug("put-drops-unseen", "a put drops all siblings, seen or not", rules=("frontier",))
def _put_drops_unseen() -> list[Patch]:
    return [(versions, "put", _putting(lambda record, seen: Seen(record.clock, seen.dots)))]


@bug("put-ignores-context", "a put drops nothing, whatever its writer saw", rules=("frontier",))
def _put_ignores_context() -> list[Patch]:
    return [(versions, "put", _putting(lambda record, seen: NOTHING))]


@bug(
    "siblings-cut-at-cap",
    "a put that would leave too many siblings drops the oldest without a word",
    rules=("frontier",),
    needs=("siblings_max",),
)
def _siblings_cut_at_cap() -> list[Patch]:
    right = versions.put
    made = Local.__init__
    caps: list[int] = []

    def start(self: Local, config: NodeConfig, *others: object) -> None:
        made(self, config, *others)  # type: ignore[arg-type]
        caps.append(config.siblings_max)

    def put(record: Record, seen: Seen, written: Version) -> Record:
        result = right(record, seen, written)
        others = [version for version in result.siblings if version is not written]
        excess = len(result.siblings) - (caps[-1] if caps else len(result.siblings))
        if excess <= 0:
            return result
        kept = sorted(others, key=lambda version: version.time_ms)[excess:]
        siblings = sorted([*kept, written], key=lambda each: (each.actor, each.counter))
        return Record(result.clock, siblings)

    return [(versions, "put", put), (Local, "__init__", start)]


@bug(
    "delete-begins-anew",
    "a delete of all that its writer saw leaves a copy that knows only of the delete",
    rules=("forgotten", "frontier"),
)
def _delete_begins_anew() -> list[Patch]:
    right = versions.put

    def put(record: Record, seen: Seen, written: Version) -> Record:
        made = right(record, seen, written)
        if written.value is not None or len(made.siblings) > 1:
            return made
        return Record({written.actor: made.clock[written.actor]}, made.siblings)

    return [(versions, "put", put)]
