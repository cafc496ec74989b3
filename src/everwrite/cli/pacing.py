"""What `everwrite status` says of background work and of overload: who has how much, and why."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from everwrite.cli.output import duration

JUST_MS = 10_000
"""A node that refused requests so lately is called overloaded."""


class Sort(msgspec.Struct, frozen=True):
    """How long requests of a sort take, beside background work and without it."""

    p99_ms: float | None = None
    quiet_ms: float | None = None
    target_ms: float | None = None


class Kind(msgspec.Struct, frozen=True):
    """What one kind of background work gets."""

    per_s: float = 0.0
    granted: int = 0
    waited: int = 0
    wants: bool = False


class Pace(msgspec.Struct, frozen=True):
    """What a node's background work may have; ``rate`` None: all that it asks for."""

    on: bool = True
    rate: float | None = None
    per_s: float = 0.0
    strain: float | None = None
    why: str = ""
    requests: dict[str, Sort] = {}
    kinds: dict[str, Kind] = {}


class Requests(msgspec.Struct, frozen=True):
    """What clients asked a node for."""

    in_flight: int = 0
    waiting: int = 0
    oldest_ms: float = 0
    turned_away: int = 0
    turned_away_ago_ms: float | None = None


def pace_rows(paces: Iterable[tuple[str, Pace | None]]) -> list[list[str]]:
    """Return a row for each node that does background work, or wants to."""
    rows = []
    for name, pace in paces:
        if pace is None:
            continue
        busy = {kind: said for kind, said in pace.kinds.items() if said.wants or said.per_s >= 0.1}
        if not busy:
            continue
        may = "all it asks for" if pace.rate is None else f"{pace.rate:,.0f} slices/s"
        done = {kind: said.per_s for kind, said in busy.items() if said.per_s >= 0.5}
        does = ", ".join(f"{kind} {per_s:,.0f}/s" for kind, per_s in done.items()) or "-"
        rows.append([name, may, does, _p99(pace), pace.why])
    return rows


def overload_lines(found: Iterable[tuple[str, Requests | None]]) -> list[str]:
    """Return a line for each node that refuses requests, or did so just now."""
    lines = []
    for name, said in found:
        ago_ms = said.turned_away_ago_ms if said is not None else None
        if said is None or ago_ms is None or ago_ms > JUST_MS:
            continue
        lines.append(
            f"{name} is asked for more than it can do: {said.turned_away:,} requests were refused "
            f"since its start, the last one {duration(ago_ms)} ago; {said.waiting:,} wait."
        )
    return lines


def _p99(pace: Pace) -> str:
    """Return the p99 of the sort of requests that is nearest to what it may be."""
    known = [
        (said.p99_ms / said.target_ms, sort, said)
        for sort, said in pace.requests.items()
        if said.p99_ms is not None and said.quiet_ms is not None and said.target_ms
    ]
    if not known:
        return "-"
    _, sort, said = max(known, key=lambda each: each[0])
    return f"{sort} {said.p99_ms:.1f} ms, may be {said.target_ms:.1f} (alone {said.quiet_ms:.1f})"
