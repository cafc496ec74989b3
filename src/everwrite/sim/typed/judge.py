"""The judge of the end: what is in each data type once all is healed, against what was asked.

It goes by the history alone, but for what a power cut may have taken, and who carried a put out
twice:

    lost        every acknowledged add of an element stands, unless a remove that may have seen it
                took it
    sum         a counter that is never removed is the sum of all acknowledged increments, and of
                some of those whose end is not known
    returned    nothing is there that its remover had seen
    made up     nothing is there that nobody has added

A retry counts once unless one of its minters has folded its increment, which then has no request id
any more (docs/design/types.md): so of such a put, and of no other, each copy may count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from everwrite.core.messages.requests import Get, GetReply
from everwrite.sim.asking import Asker
from everwrite.sim.history import Operation
from everwrite.sim.truth import Violation
from everwrite.sim.typed.answers import Shown, learn
from everwrite.sim.typed.clients import kind_of
from everwrite.sim.typed.pieces import Asked, Standing, mask_of
from everwrite.sim.typed.rules import ELEMENT, takes
from everwrite.sim.typed.truth import TypedKey

if TYPE_CHECKING:
    from everwrite.sim.world import World

ROUNDS_MAX = 60
NAME = "audit"


def read_all(world: World, asker: Asker, key: TypedKey) -> Shown:
    """Return what a key shows to who reads all its owners; Violation if that cannot be done."""
    n = world.placement.replicas
    last = ""
    for turn in range(ROUNDS_MAX):
        members = world.members
        through = members[(asker.rid + 1 + turn) % len(members)]
        answer = asker.ask(through.index, Get(0, key.data_key, 2000, n, n, True, marks=True))
        if isinstance(answer, GetReply) and answer.quality.owners == n:
            return learn(key, answer, f"the audit's read of {key.name}")
        last = repr(answer)
        asker.pause()
    raise Violation("reachable", f"{key.name} cannot be read from its {n} owners: {last}")


def judge_typed(key: TypedKey, shown: Shown) -> None:
    """Raise Violation for what is not in the end as it must be."""
    puts = list(key.asked.values())
    _judge_known(key, puts, shown)
    _judge_returned(key, puts, shown)
    if kind_of(key) == "tally":
        _judge_sum(key, puts, shown)
    if kind_of(key) != "session":  # of which most ends
        _judge_elements(key, puts, shown)


def _promised(key: TypedKey, asked: Asked) -> bool:
    """Say whether a put must stand: acknowledged, and no power cut may have taken it."""
    bits = mask_of(asked.places)
    return asked.operation.outcome == "ok" and not (
        key.soft & bits & ~key.hard and bits & key.weakened
    )


def _judge_known(key: TypedKey, puts: list[Asked], shown: Shown) -> None:
    for asked in puts:
        bits = mask_of(asked.places)
        promised = _promised(key, asked) and not asked.elsewhere
        if bits and promised and not bits & (shown.known | key.forgettable()):
            raise Violation(
                "lost", f"{asked.operation.describe()}: acknowledged, and in the end not known"
            )


def _judge_returned(key: TypedKey, puts: list[Asked], shown: Shown) -> None:
    for asked in puts:
        if not asked.firsts or not _promised(key, asked):
            continue
        for piece in shown.pieces:
            if asked.used >> piece.place & 1 and _took(key, asked, piece):
                raise Violation(
                    "returned",
                    f"{asked.operation.describe()}: it took {key.causality.ids[piece.place]} "
                    "away, which it had seen, and in the end that is there",
                )


def _took(key: TypedKey, asked: Asked, piece: Standing) -> bool:
    """Say whether a put has taken a piece away. One over all there is takes what its minter knows:
    a stand-in may know nothing of what its context names, and then it stands beside that.
    """
    if asked.over:
        return any(key.knew[first] >> piece.place & 1 for first in asked.firsts)
    return _removes(asked, piece)


def _removes(asked: Asked, piece: Standing) -> bool:
    return any(
        takes(verb, path, what, (piece.type, piece.path, piece.payload))
        for verb, path, what in asked.changes
    )


def _judge_sum(key: TypedKey, puts: list[Asked], shown: Shown) -> None:
    least = most = 0
    for asked in puts:
        amount = sum(what for _, _, what in asked.changes)
        if _promised(key, asked):
            least += amount
        if asked.operation.outcome == "fail":
            continue
        copies = 1
        if key.folded & mask_of(asked.places):
            copies = max(1, len(asked.firsts))
        most += amount * copies
    value = shown.value[1] if shown.value else 0
    kind = shown.value[0] if shown.value else "counter"
    if kind != "counter" or not least <= value <= most:
        raise Violation(
            "sum",
            f"{key.name} is a {kind} of {value}; acknowledged are {least}, and with all that may "
            f"have happened it is {most}",
        )


def _judge_elements(key: TypedKey, puts: list[Asked], shown: Shown) -> None:
    """Adds of elements stand, and nothing else does."""
    standing = {(each.path, each.payload) for each in shown.pieces if each.type == ELEMENT}
    added = set()
    for asked in puts:
        for at, (verb, path, what) in enumerate(asked.changes):
            if verb != "include" or asked.operation.outcome == "fail":
                continue
            for name in what:
                added.add((path, name))
                if (path, name) in standing or not _promised(key, asked):
                    continue
                piece = (ELEMENT, path, name)
                if any(
                    takes(v, where, names, piece) for v, where, names in asked.changes[at + 1 :]
                ):
                    continue
                if not any(_may_have_taken(other, asked, path, name) for other in puts):
                    raise Violation(
                        "lost",
                        f"{asked.operation.describe()}: {name!r} is not there in the end, and "
                        "nobody took it away",
                    )
    if made_up := standing - added:
        raise Violation("made up", f"{key.name} has {made_up!r}, which nobody has added")


def _may_have_taken(other: Asked, asked: Asked, path: tuple[object, ...], name: object) -> bool:
    """Say whether a put may have taken an element away after another had added it."""
    operation: Operation = other.operation
    if other is asked or operation.outcome == "fail":
        return False
    if operation.outcome == "ok" and operation.completed < asked.operation.invoked:
        return False
    if other.over:
        return True
    for verb, where, what in other.changes:
        if verb == "exclude" and where == path and name in what:
            return True
        if verb == "remove" and path[: len(where)] == where:
            return True
        if kind_clashes(verb, where, path):
            return True
    return False


def kind_clashes(verb: str, where: tuple[object, ...], path: tuple[object, ...]) -> bool:
    """Say whether an operation needs another type where a set is, or on the way to it or below."""
    if len(where) > len(path):
        return where[: len(path)] == path
    if verb in ("include", "exclude") and where == path:
        return False
    return path[: len(where)] == where
