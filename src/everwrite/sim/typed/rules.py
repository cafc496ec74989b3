"""What a change may do to a key, said once more, in other words than core/types says it.

A change is a list of (verb, path, what):

    add 5 | include, exclude [names] | assign bytes | enable | disable | remove

    pieces      the put mints just the pieces that its operations come to, under its own ids
    late        all of them later than whatever stood there
    exact       what it supersedes, some operation of it takes away: elements by their names, a
                place by its path, a number by what is written there
    complete    and all of that which its coordinator knew is gone
    sum         an increment changes the sum of what stands there by its amount, whatever is folded
    fold        an increment takes in others of its own actor only, and only younger ones; few are
                left apart
    end         without an end of its own it ends with the last of what lives there

A place at which several types stand is a clash: what does not fit there any more may go. A register
fits a counter if the last one there is an integer; else all of them are a text, and another type.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

from everwrite.sim.truth import CLOCK_ERROR_MS, Source, Violation
from everwrite.sim.typed.pieces import Asked, Path, Standing

if TYPE_CHECKING:
    from everwrite.sim.typed.truth import TypedKey

REGISTER, COUNTER, ELEMENT, FLAG = range(4)

FIT = {
    "add": (COUNTER, REGISTER),
    "assign": (REGISTER, COUNTER),
    "include": (ELEMENT,),
    "exclude": (ELEMENT,),
    "enable": (FLAG,),
    "disable": (FLAG,),
}
"""Which types may stand at a place for an operation."""

APART_MAX = 9 + 64
"""Increments of one actor and counter after a change: eight, the oldest with all before, and those
that another node may have made too."""

INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")

New = tuple[int, Path, Any]
"""(type, path, payload) of a piece."""


def ids_of(op: bytes, count: int) -> list[bytes]:
    """Return the request ids of a put's pieces."""
    return [
        op if not index else blake2b(index.to_bytes(4, "big") + op, digest_size=16).digest()
        for index in range(count)
    ]


def new_pieces(changes: Iterable[tuple[Any, ...]]) -> list[New]:
    """Return the pieces that some operations come to, whatever stood there before."""
    new: list[New] = []
    for verb, path, what in changes:
        if verb == "add":
            old = next((each for each in new if each[:2] == (COUNTER, path)), None)
            if old is not None:
                new.remove(old)
            new.append((COUNTER, path, what + (old[2] if old is not None else 0)))
            continue
        new = [each for each in new if not takes(verb, path, what, each)]
        if verb == "include":
            new += [(ELEMENT, path, name) for name in dict.fromkeys(what)]
        elif verb == "assign":
            new.append((REGISTER, path, what))
        elif verb == "enable":
            new.append((FLAG, path, None))
    return new


def takes(verb: str, path: Path, what: Any, piece: New) -> bool:
    """Say whether an operation takes a piece away that its coordinator knows."""
    kind, where, payload = piece
    if verb == "remove":
        return where[: len(path)] == path
    if verb == "add" or where != path:
        return False
    if verb in ("include", "exclude"):
        return kind == ELEMENT and payload in what
    return kind in FIT[verb]


def _clashes(verb: str, path: Path, kind: int, where: Path) -> bool:
    """Say whether a piece is of another type than what an operation needs on its way."""
    depth = len(where)
    if depth < len(path):
        return path[:depth] == where
    if where[: len(path)] != path or verb == "remove":
        return False
    return depth > len(path) or kind not in FIT[verb]


def _texts(key: TypedKey, base: Iterable[Standing]) -> set[Path]:
    """Return the places at which the last register may be a text, by which of them have ended."""
    texts: set[Path] = set()
    decided: set[Path] = set()
    registers = [each for each in base if each.type == REGISTER and key.may_live(each.version)]
    for each in sorted(registers, key=mark, reverse=True):
        if each.path not in decided and integer_in(each.payload[1]) is None:
            texts.add(each.path)
        if key.surely_lives(each.version):
            decided.add(each.path)
    return texts


def judge_mint(
    key: TypedKey,
    source: Source,
    asked: Asked,
    base: list[Standing],
    gone: set[int],
    after: list[Standing],
    new: list[Standing],
) -> None:
    """Raise Violation for what a put should not have made of what stood there.

    ``base`` is what stood there by all that was known, ``after`` what is left of it, as it stands.
    """
    who = f"{asked.operation.describe()}: node {source.machine + 1}"

    def wrong(rule: str, what: str) -> Violation:
        return Violation(rule, f"{who} {what}")

    _judge_new(asked, new, base, wrong)
    _judge_end(key, asked, base, new, wrong)
    if asked.over:
        left = [each for each in base if each.place not in gone]
        if left := [each for each in left if key.surely_lives(each.version)]:
            raise wrong("complete", f"puts over all there is, and leaves {_names(key, left)}")
        return
    _judge_gone(key, asked, base, gone, new, wrong)
    _judge_folds(key, asked, base, gone, after, new, wrong)
    _judge_sums(key, asked, base, after, new, wrong)


def _judge_new(asked: Asked, new: list[Standing], base: list[Standing], wrong: Any) -> None:
    op = asked.operation.id.encode()
    if [each.version.op for each in new] != ids_of(op, len(new)):
        raise wrong("pieces", "mints pieces whose ids do not follow from the put's")
    if asked.over:
        expected = [(-1, (), None)] if asked.value is None else [(REGISTER, (), [0, asked.value])]
    else:
        expected = new_pieces(asked.changes) or [(-1, (), None)]
    made = [(each.type, each.path, each.payload) for each in new]
    if Counter(map(repr, made)) != Counter(map(repr, expected)):
        raise wrong("pieces", f"mints {made!r:.300}; its operations come to {expected!r:.300}")
    times = {each.version.time_ms for each in new}
    last = max((each.version.time_ms for each in base), default=0)
    if len(times) > 1 or min(times) <= last:
        raise wrong("late", f"mints pieces of {times}, and something of {last} stood there")


def _judge_end(
    key: TypedKey, asked: Asked, base: list[Standing], new: list[Standing], wrong: Any
) -> None:
    """What a change adds ends as it was asked, or with the last of what lives there."""
    ends = {each.version.expires for each in new}
    ttl_ms = asked.operation.ttl_ms
    if new[0].type < 0:
        low = high = 0
    elif ttl_ms:
        now = key.time_ms()
        low, high = now + ttl_ms - 2 * CLOCK_ERROR_MS, now + ttl_ms + 2 * CLOCK_ERROR_MS
    elif asked.over or ("remove", ()) in [each[:2] for each in asked.changes]:
        low = high = 0
    else:
        there = [each.version for each in base if each.version.value is not None]
        sure = [each.expires for each in there if key.surely_lives(each)]
        maybe = [each.expires for each in there if key.may_live(each)]
        if len(sure) < len(maybe):
            return
        low = high = max(sure, default=0) if all(sure) else 0
    if not all(low <= end <= high for end in ends):
        raise wrong("end", f"mints pieces that end at {ends}, not between {low} and {high}")


def _judge_gone(
    key: TypedKey,
    asked: Asked,
    base: list[Standing],
    gone: set[int],
    new: list[Standing],
    wrong: Any,
) -> None:
    """What is gone some operation took away, and what one takes away is gone."""
    actor = new[0].version.actor
    adds = {path for verb, path, _ in asked.changes if verb == "add"}
    texts = adds & _texts(key, base)
    for each in base:
        taken = any(
            takes(verb, path, what, (each.type, each.path, each.payload))
            for verb, path, what in asked.changes
        )
        if each.place not in gone:
            if taken and each.type >= 0 and key.surely_lives(each.version):
                raise wrong("complete", f"knew {_names(key, [each])} and leaves it there")
            continue
        if taken or each.type < 0 or not key.surely_lives(each.version):
            continue
        own = each.type == COUNTER and each.version.actor == actor and not each.version.expires
        if own and each.path in adds:
            continue  # taken in: see the sums
        if each.type == REGISTER and each.path in texts:
            continue
        if any(_clashes(verb, path, each.type, each.path) for verb, path, _ in asked.changes):
            continue
        raise wrong("exact", f"takes {_names(key, [each])} away, of which it says nothing")


def _judge_folds(
    key: TypedKey,
    asked: Asked,
    base: list[Standing],
    gone: set[int],
    after: list[Standing],
    new: list[Standing],
    wrong: Any,
) -> None:
    """Take note of the increments that stand otherwise now, and were right to."""
    before = {each.place: each for each in base}
    adds = {path for verb, path, _ in asked.changes if verb == "add"}
    own = new[0].version.actor
    for each in after:
        old = before[each.place]
        if each.version == old.version or each.version.value is None:
            continue
        right = each.type == old.type == COUNTER and each.path == old.path and each.path in adds
        right = right and each.version.actor == own and not each.version.expires
        right = right and not each.version.op and each.version.time_ms == new[0].version.time_ms
        if not right:
            raise wrong("fold", f"changes {_names(key, [each])}, which is no fold of its own")
        taken = [
            other
            for other in base
            if other.place in gone
            and (other.type, other.path, other.version.actor) == (COUNTER, each.path, own)
        ]
        if any(other.version.counter < each.version.counter for other in taken):
            raise wrong("fold", f"folds older increments into {_names(key, [each])}")
        key.fold(each.place, new[0].place, each.version)
        key.folded |= 1 << each.place
        for other in taken:
            key.folded |= 1 << other.place


def _judge_sums(
    key: TypedKey,
    asked: Asked,
    base: list[Standing],
    after: list[Standing],
    new: list[Standing],
    wrong: Any,
) -> None:
    """Whatever is folded, an increment changes the sum by its amount."""
    own = new[0].version.actor
    values: dict[Path, int] = {}
    asked.values.append(values)
    for path in {path for verb, path, _ in asked.changes if verb == "add"}:
        if any(verb != "add" and _meets(path, where) for verb, where, _ in asked.changes):
            continue
        if any(each.version.expires for each in new):
            continue
        amount = sum(what for verb, where, what in asked.changes if (verb, where) == ("add", path))
        was, is_now = _sum(key, base, path), _sum(key, [*after, *new], path)
        if is_now != was + amount:
            raise wrong("sum", f"adds {amount} to {was} at {path!r}, and then it is {is_now}")
        if all(not each.version.expires for each in base):
            values[path] = is_now + _number(base, path)
        increments = [
            each
            for each in [*after, *new]
            if each.type == COUNTER and each.path == path and not each.version.expires
        ]
        ops = Counter(each.version.op for each in increments)
        mine = [
            each
            for each in increments
            if each.version.actor == own and not (each.version.op and ops[each.version.op] > 1)
        ]
        if len(mine) > APART_MAX:
            raise wrong("fold", f"leaves {len(mine)} increments of its own at {path!r}")


def _meets(path: Path, where: Path) -> bool:
    return path[: len(where)] == where


def _sum(key: TypedKey, pieces: Iterable[Standing], path: Path) -> int:
    """Return the sum of increments that have no end, each request id once."""
    total, ops = 0, set[bytes]()
    for each in sorted(pieces, key=lambda each: (each.version.actor, each.version.counter)):
        if each.type != COUNTER or each.path != path or each.version.expires:
            continue
        if each.version.op and each.version.op in ops:
            continue
        ops.add(each.version.op)
        total += each.payload
    return total


def _number(pieces: Iterable[Standing], path: Path) -> int:
    """Return the integer that the last register at a place says; 0: there is none, or a text, which
    an increment takes away.
    """
    registers = [each for each in pieces if (each.type, each.path) == (REGISTER, path)]
    if not registers:
        return 0
    return integer_in(max(registers, key=mark).payload[1]) or 0


def integer_in(raw: bytes) -> int | None:
    """Return the integer of 64 bits that these bytes say; None: another text."""
    number = int(raw) if INTEGER.fullmatch(raw) else None
    return number if number is not None and -(1 << 63) <= number < 1 << 63 else None


def mark(piece: Standing) -> tuple[int, bytes, int]:
    """Return by what the later of two pieces is told."""
    return piece.version.time_ms, piece.version.actor, piece.version.counter


def _names(key: TypedKey, pieces: Iterable[Standing]) -> str:
    return " ".join(
        f"{key.causality.ids[each.place]} ({each.type} {each.path!r} {each.payload!r})"
        for each in pieces
    )


def encode(changes: Iterable[tuple[Any, ...]]) -> bytes:
    """Return changes as a put carries them."""
    return msgspec.msgpack.encode([_wire(*each) for each in changes])


def _wire(verb: str, path: Path, what: Any) -> list[Any]:
    where = [verb, list(path)]
    if verb in ("enable", "disable", "remove"):
        return where
    if verb in ("include", "exclude"):
        return [*where, list(what)]
    return [*where, what] if verb == "add" else [*where, what[1], what[0]]
