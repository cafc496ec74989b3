"""What a get would answer now, and which owners it would repair: worked out, not done.

Which nodes answer first is chance, so a get of R among N may have several answers. Here all sets of
answers are gone through at which ``GetRequest`` (read.py) would stop: it has R that count, and it
does not wait on for an owner because all that it heard is "nothing". What each set comes to is one
answer; where all come to the same, that is the answer.

A node that is up and says nothing, or cannot read its copy, gets the next one asked in its stead,
as in a read.

Costs: nodes that count alike and have the same record make no difference, so sets are told apart by
how many of each they have: some dozens mostly, 2^targets at most, and SETS_MAX in any case. Values
are decoded once, and joined once for each set of records.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import product
from math import prod
from typing import Literal, NamedTuple

from everwrite.core.cluster.holdings import SERVES
from everwrite.core.cluster.routes import Route
from everwrite.core.data import versions
from everwrite.core.data.versions import Dot, Record
from everwrite.core.messages.explain import Shown
from everwrite.core.messages.requests import FOUND, UNREADABLE

Kind = Literal["owner", "fallback", "nothing", "strange", "unreadable", "silent"]
"""How a node's answer counts: as an owner's; as a stand-in's; not, since a stand-in that has
nothing says nothing; not, since it serves the partition no more; not; there is none."""

SETS_MAX = 1024
"""So many are gone through in a twentieth of a second. 9 nodes that all differ make 512; there are
more only where spares that differ, too, answer for owners that cannot."""


class Voice(NamedTuple):
    """What one node would say."""

    node: bytes
    kind: Kind
    record: bytes


class Answer(NamedTuple):
    """What a get would answer, and after whom it might."""

    nodes: tuple[bytes, ...]
    absent: Literal["", "never", "deleted", "expired", "unknown"]
    live: tuple[Dot, ...]


class Outlook(NamedTuple):
    """What a get may answer."""

    answers: list[Answer]
    whole: bool
    """Whether these are all."""


def voices(route: Route, found: Mapping[bytes, Shown | None]) -> list[Voice]:
    """Return what those would say whom a get would ask, the spares that it comes to among them."""
    heard = [_voice(route, node, found.get(node)) for node, _ in route.targets]
    spares = list(route.spares)
    lacking = sum(voice.kind in ("strange", "unreadable", "silent") for voice in heard)
    while lacking and spares:
        node = spares.pop(0)
        voice = _voice(route, node, found.get(node))
        lacking -= voice.kind in ("owner", "fallback", "nothing")
        heard.append(voice)
    return heard


def answers(
    heard: Sequence[Voice], r: int, *, all_owners: Collection[bytes], time_ms: int
) -> Outlook:
    """Return all that a get with this R may answer; nothing: too few nodes would. ``all_owners``:
    if these have nothing, nobody has; empty: that cannot be said.

    Where there are over SETS_MAX sets, only the answer after all of them is told, and that this is
    not ``whole``.
    """
    speaking = [voice for voice in heard if voice.kind != "silent"]
    owners = {voice.node for voice in speaking if voice.kind in ("owner", "unreadable", "strange")}
    joins = Joins(time_ms)
    alike: dict[tuple[Kind, int, bool], list[Voice]] = {}
    for voice in speaking:
        is_owner = voice.node in all_owners
        alike.setdefault((voice.kind, joins.number(voice), is_owner), []).append(voice)
    if prod(len(voices) + 1 for voices in alike.values()) > SETS_MAX:
        stops = _stops(speaking, owners, r)
        return Outlook([_answer(speaking, all_owners, joins)] if stops else [], whole=False)
    counts = product(*(range(len(voices) + 1) for voices in alike.values()))
    found: dict[tuple[str, tuple[Dot, ...]], Answer] = {}
    for each in sorted(counts, key=sum):
        chosen = zip(alike.values(), each, strict=True)
        heard_by = [voice for voices, count in chosen for voice in voices[:count]]
        if not _stops(heard_by, owners, r):
            continue
        if any(_stops([v for v in heard_by if v is not last], owners, r) for last in heard_by):
            continue  # it would have stopped before the last of them
        answer = _answer(heard_by, all_owners, joins)
        found.setdefault((answer.absent, answer.live), answer)
    return Outlook(list(found.values()), whole=True)


class Joins:
    """The joins of sets of records, each made once: values are large, and many sets have the same
    records.
    """

    def __init__(self, time_ms: int) -> None:
        self._time_ms = time_ms
        self._numbers: dict[bytes, int] = {}
        self._made: dict[int, Record] = {}
        """By the sum of 1 << number of its records."""

    def number(self, voice: Voice) -> int:
        """Return the number of a voice's record; -1: it counts for nothing."""
        if not voice.record or voice.kind in ("unreadable", "silent"):
            return -1
        number = self._numbers.setdefault(voice.record, len(self._numbers))
        if 1 << number not in self._made:
            self._made[1 << number] = versions.decode(voice.record)
        return number

    def of(self, heard: Sequence[Voice]) -> Record | None:
        """Return what all that these say comes to; None: nothing."""
        done, whole = 0, None
        for number in sorted({self.number(voice) for voice in heard} - {-1}):
            done |= 1 << number
            if done not in self._made and whole is not None:
                self._made[done] = versions.merge(whole, self._made[1 << number])
            whole = self._made[done]
        return whole

    def live(self, record: Record) -> tuple[Dot, ...]:
        """Return the dots of what a get would show."""
        return tuple(
            (version.actor, version.counter)
            for version in versions.live(record, self._time_ms)
            if version.value is not None
        )


def joined(heard: Sequence[Voice]) -> bytes:
    """Return what all that would be heard comes to."""
    whole = b""
    for voice in heard:
        if voice.record and voice.kind not in ("unreadable", "silent"):
            whole = versions.merge_bytes(whole, voice.record) if whole else voice.record
    return whole


def lacking(record: bytes, whole: bytes) -> list[Dot]:
    """Return the dots of live and dead versions that a copy lacks of the join of all."""
    mine = versions.decode(record).clock if record else {}
    return [
        (version.actor, version.counter)
        for version in versions.decode(whole).siblings
        if not versions.covers(mine, version.actor, version.counter)
    ]


def _voice(route: Route, node: bytes, shown: Shown | None) -> Voice:
    """Return what a node would say to a Fetch: as Replica.fetch answers, and a read counts it."""
    if shown is None:
        return Voice(node, "silent", b"")
    own, kept = shown.own, shown.kept
    owner, fills = node in route.owners, (node, node) in route.targets
    lost_hint = kept.corrupt and (own.record or shown.role == SERVES)
    if own.status == UNREADABLE or (kept.status == UNREADABLE and not lost_hint):
        return Voice(node, "unreadable", b"")
    record = own.record
    if kept.record:
        record = versions.merge_bytes(record, kept.record) if record else kept.record
    adds = record != own.record
    if shown.role != SERVES and not adds:
        if record and fills:
            return Voice(node, "fallback", record)
        return Voice(node, "strange" if owner else "nothing", record)
    here = own.status == FOUND
    if not (here or record or owner):
        return Voice(node, "nothing", b"")
    stands_in = adds if shown.role != SERVES else not here and bool(record)
    return Voice(node, "fallback" if stands_in or not owner else "owner", record)


def _stops(heard: Sequence[Voice], owners: set[bytes], r: int) -> bool:
    """Say whether a get answers once it has heard these."""
    pending = owners - {voice.node for voice in heard}
    count = sum(voice.kind in ("owner", "fallback") for voice in heard)
    empty = sum(voice.kind == "nothing" for voice in heard)
    if count < r and empty and not pending:
        count += empty
    if count < r:
        return False
    return any(voice.record for voice in heard) or not pending


def _answer(heard: Sequence[Voice], all_owners: Collection[bytes], joins: Joins) -> Answer:
    nodes = tuple(voice.node for voice in heard)
    record = joins.of(heard)
    if record is None:
        said = {voice.node for voice in heard if voice.kind == "owner"}
        never = all_owners and said.issuperset(all_owners)
        return Answer(nodes, "never" if never else "unknown", ())
    dots = joins.live(record)
    return Answer(nodes, "" if dots else _gone(record), dots)


def _gone(record: Record) -> Literal["deleted", "expired"]:
    return "expired" if versions.has_end(record) else "deleted"
