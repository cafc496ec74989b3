"""Bugs in what becomes of counters, sets, maps and flags: how they change, fold and are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from everwrite.core.data import versions
from everwrite.core.data.labels import KIND_PIECE
from everwrite.core.data.versions import Record, Seen, Version
from everwrite.core.messages.requests import Put
from everwrite.core.request import making, write
from everwrite.core.request.look import LookAround
from everwrite.core.request.making import Made, Making
from everwrite.core.types import changing, composing
from everwrite.core.types.changing import _Change
from everwrite.core.types.composing import Held
from everwrite.core.types.operations import Name
from everwrite.core.types.pieces import Added, Written, decode, encode
from everwrite.sim.bugs.registry import Patch, area

bug = area("types")
TYPED = ("typed",)

Fold = Callable[[_Change, list[Name]], None]


def _folding(after: Fold) -> list[Patch]:
    """Return a patch by which something more is done after a fold."""
    right = _Change._fold

    def fold(self: _Change, path: list[Name]) -> None:
        right(self, path)
        after(self, path)

    return [(_Change, "_fold", fold)]


def _own_increment(self: _Change, path: list[Name]) -> Held[Added]:
    """Return the increment that a change has just minted at a place."""
    place = self._root.at(path)
    assert place is not None
    return next(held for held in place.counters if held.version is None)


def _add(held: Held[Added], amount: int) -> None:
    held.piece = Added(held.piece.path, held.piece.payload + amount)


def _amount(version: Version) -> int:
    payload = decode(version.value or b"").payload
    assert isinstance(payload, int)
    return payload


@bug(
    "fold-drops-one",
    "a fold counts one less than what it takes in",
    rules=("sum",),
    needs=TYPED,
)
def _fold_drops_one() -> list[Patch]:
    def after(self: _Change, path: list[Name]) -> None:
        for counter, version in self._folded.items():
            value = encode(Added(path, _amount(version) - 1))
            self._folded[counter] = replace(version, value=value)

    return _folding(after)


@bug(
    "fold-under-fresh-dot",
    "a fold stands under the dot of the new increment, and a remove of the others brings it back",
    rules=("pieces", "sum"),
    needs=TYPED,
)
def _fold_under_fresh_dot() -> list[Patch]:
    def after(self: _Change, path: list[Name]) -> None:
        for version in self._folded.values():
            _add(_own_increment(self, path), _amount(version))
            self._superseded.add((version.actor, version.counter))
        self._folded.clear()

    return _folding(after)


@bug(
    "fold-of-earlier-lives",
    "a coordinator takes in what it minted in an earlier life, too",
    rules=("pieces", "exact", "sum"),
    needs=TYPED,
)
def _fold_of_earlier_lives() -> list[Patch]:
    def after(self: _Change, path: list[Name]) -> None:
        actor = self._writer.actor
        place = self._root.at(path)
        for held in place.counters if place is not None else ():
            version = held.version
            if version is None or version.actor == actor or version.actor[:8] != actor[:8]:
                continue
            _add(_own_increment(self, path), _amount(version))
            self._superseded.add((version.actor, version.counter))

    return _folding(after)


@bug(
    "fold-not-later",
    "a fold keeps the time of the oldest increment, so a merge cannot tell which is the fold",
    rules=("fold",),
    needs=TYPED,
)
def _fold_not_later() -> list[Patch]:
    def after(self: _Change, path: list[Name]) -> None:
        for counter, version in self._folded.items():
            old = next(
                each
                for each in self._record.siblings
                if (each.actor, each.counter) == (version.actor, counter)
            )
            self._folded[counter] = replace(version, time_ms=old.time_ms)

    return _folding(after)


@bug(
    "fold-keeps-its-id",
    "a fold keeps the request id of the oldest increment, and counts once with a copy of that",
    rules=("fold",),
    needs=TYPED,
)
def _fold_keeps_its_id() -> list[Patch]:
    def after(self: _Change, path: list[Name]) -> None:
        ops = {(each.actor, each.counter): each.op for each in self._record.siblings}
        for counter, version in self._folded.items():
            self._folded[counter] = replace(version, op=ops[version.actor, counter])

    return _folding(after)


@bug(
    "merge-undoes-folds",
    "of two copies of one increment a merge keeps its own, folded or not",
    rules=("fold",),
    needs=TYPED,
)
def _merge_undoes_folds() -> list[Patch]:
    right = versions._outlives

    def outlives(one: Version, other: Version) -> bool:
        return one.kind != KIND_PIECE and right(one, other)

    return [(versions, "_outlives", outlives)]


@bug(
    "increments-never-folded",
    "a counter grows by a piece with each increment, for ever",
    rules=("fold",),
    needs=TYPED,
)
def _increments_never_folded() -> list[Patch]:
    def fold(self: _Change, path: list[Name]) -> None:
        pass

    return [(_Change, "_fold", fold)]


@bug(
    "change-minted-again",
    "a retry of a change is carried out once more, though the first try stands there",
    rules=("retry", "result", "sum"),
    needs=TYPED,
)
def _change_minted_again() -> list[Patch]:
    right = making._earlier_try

    def earlier_try(base: Record, put: Put, looked: Any) -> tuple[bool, Version | None]:
        return (False, None) if put.change else right(base, put, looked)

    return [(making, "_earlier_try", earlier_try)]


@bug(
    "retry-under-another-id",
    "each try of a change mints its pieces under ids of its own",
    rules=("pieces", "phantom"),
    needs=TYPED,
)
def _retry_under_another_id() -> list[Patch]:
    right = Making._change

    def change(self: Making, put: Put, base: Record, epoch: bytes, seen: Seen) -> Made:
        if put.retry:
            put = replace(put, op=put.op + b"r")
        return right(self, put, base, epoch, seen)

    return [(Making, "_change", change)]


@bug(
    "pieces-share-an-id",
    "all pieces of a put have its own request id, so readers are shown one of them",
    rules=("pieces",),
    needs=TYPED,
)
def _pieces_share_an_id() -> list[Patch]:
    return [(changing, "_id", lambda op, index: op)]


@bug(
    "remove-takes-unseen",
    "of what a remove had not seen, what is older goes with it",
    rules=("frontier",),
    needs=TYPED,
)
def _remove_takes_unseen() -> list[Patch]:
    right = versions.merge

    def merge(mine: Record, theirs: Record) -> Record:
        merged = right(mine, theirs)
        removes = [
            each.time_ms
            for each in merged.siblings
            if each.value is None and each.kind == KIND_PIECE
        ]
        if not removes or merged is mine or merged is theirs:
            return merged
        left = [each for each in merged.siblings if each.time_ms >= max(removes)]
        return Record(merged.clock, left)

    return [(versions, "merge", merge)]


@bug(
    "remove-takes-all",
    "a change that only takes away leaves nothing else of the key",
    rules=("exact",),
    needs=TYPED,
)
def _remove_takes_all() -> list[Patch]:
    right = versions.write

    def write_(record: Record, seen: Seen, written: list[Version]) -> Record:
        if written[0].value is None and written[0].kind == KIND_PIECE:
            seen = Seen(record.clock, [])
        return right(record, seen, written)

    return [(versions, "write", write_)]


@bug(
    "remove-leaves-one",
    "a remove takes the first of several away, and leaves the others",
    rules=("complete",),
    needs=TYPED,
)
def _remove_leaves_one() -> list[Patch]:
    right = _Change._exclude

    def exclude(self: _Change, path: list[Name], elements: list[Name]) -> int:
        return right(self, path, elements[:1])

    return [(_Change, "_exclude", exclude)]


@bug(
    "add-keeps-the-old",
    "an add of an element leaves those that stand there: each add is one more piece",
    rules=("complete",),
    needs=TYPED,
)
def _add_keeps_the_old() -> list[Patch]:
    right = _Change._include

    def include(self: _Change, path: list[Name], elements: list[Name]) -> int:
        place = self._root.at(path)
        known = dict(place.elements) if place is not None else {}
        if place is not None:
            place.elements.clear()
        result = right(self, path, elements)
        there = self._root.at(path)
        for name, twins in known.items():
            if there is not None:
                there.elements.setdefault(name, []).extend(twins)
        return result

    return [(_Change, "_include", include)]


@bug(
    "change-supersedes-by-context",
    "a change takes away all that its writer had read, like a put",
    rules=("exact",),
    needs=TYPED,
)
def _change_supersedes_by_context() -> list[Patch]:
    right = Making._change

    def change(self: Making, put: Put, base: Record, epoch: bytes, seen: Seen) -> Made:
        made = right(self, put, base, epoch, seen)
        if made.record is base:
            return made
        left = [
            each
            for each in made.record.siblings
            if not versions.covers(seen.clock, each.actor, each.counter)
        ]
        return made._replace(record=Record(made.record.clock, left))

    return [(Making, "_change", change)]


@bug(
    "change-does-not-look",
    "a node that stands in, or does not know what a change's writer does, begins anew",
    rules=("stale change", "session"),
    needs=TYPED,
)
def _change_does_not_look() -> list[Patch]:
    right = making.must_look

    def must_look(put: Put, seen: Seen, base: Record, mine: bytes) -> bool:
        return (put.retry or not put.change) and right(put, seen, base, mine)

    return [(write, "must_look", must_look)]


@bug(
    "change-knows-less",
    "a change is carried out though nobody who was asked knows what its writer does",
    rules=("stale change", "session"),
    needs=TYPED,
)
def _change_knows_less() -> list[Patch]:
    def check_known(self: Making, *asked: object) -> None:
        pass

    return [(Making, "_check_known", check_known)]


@bug(
    "owners-are-all",
    "what no owner knows is taken for forgotten, though a stand-in may be about to bring it",
    rules=("stale change",),
    needs=TYPED,
)
def _owners_are_all() -> list[Patch]:
    right = LookAround._done

    def done(self: LookAround, *, nobody_knows: bool) -> None:
        right(self, nobody_knows=nobody_knows or not self._pending)

    return [
        (LookAround, "_done", done),
        (LookAround, "_is_unknown", lambda self: False),
    ]


@bug(
    "over-leaves-what-it-knows",
    "a put over all there is supersedes what its writer has seen, and nothing else",
    rules=("complete",),
    needs=TYPED,
)
def _over_leaves_what_it_knows() -> list[Patch]:
    return [(Making, "_all_known", lambda self, base, seen: seen)]


@bug(
    "change-makes-immortal",
    "a change without an end of its own gives what it adds none, whatever lives there",
    rules=("end",),
    needs=TYPED,
)
def _change_makes_immortal() -> list[Patch]:
    def expires(self: _Change) -> int:
        return self._writer.time_ms + self._writer.ttl_ms if self._writer.ttl_ms else 0

    return [(_Change, "_expires", expires)]


@bug(
    "change-by-wall-clock",
    "a change is of the time of day, though it has seen what is later",
    rules=("late",),
    needs=TYPED,
)
def _change_by_wall_clock() -> list[Patch]:
    return [(changing, "later_than", lambda record, time_ms: time_ms)]


@bug(
    "twins-shown-twice",
    "a reader is shown each copy of a put that was minted twice",
    rules=("duplicate", "false sibling"),
    needs=TYPED,
)
def _twins_shown_twice() -> list[Patch]:
    def live(record: Record, time_ms: int = 0) -> list[Version]:
        return [
            each
            for each in record.siblings
            if each.value is not None and not 0 < each.expires <= time_ms
        ]

    return [(versions, "live", live)]


@bug(
    "first-register-wins",
    "of several registers at one place the first one is shown",
    rules=("composed",),
    needs=TYPED,
)
def _first_register_wins() -> list[Patch]:
    def first_of(registers: list[Held[Written]]) -> Any:
        return min(registers, key=lambda held: held.mark).piece.payload

    return [(composing, "last_of", first_of)]
