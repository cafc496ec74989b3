"""The judge of what clients of data types are told.

shown       a read shows what stands there for whoever knows what its context does: no piece
            is missing, and none is there that was superseded; each of them as it stands
composed    core/types makes of these what they come to (shown.py)
result      a change's results say what its counters came to where it was carried out
context     what it gives out knows the change
"""

from __future__ import annotations

from typing import Any, NamedTuple

from everwrite.core.data import context
from everwrite.core.messages.requests import GetReply, PutReply
from everwrite.core.types.composing import compose
from everwrite.sim.bounds import judge_context
from everwrite.sim.truth import Violation
from everwrite.sim.typed.pieces import Asked, Standing, mask_of
from everwrite.sim.typed.shown import plain, shown
from everwrite.sim.typed.truth import TypedKey


class Shown(NamedTuple):
    """What a read has shown."""

    known: int
    """The pieces of which its context knows."""
    pieces: list[Standing]
    value: Any


def learn(key: TypedKey, reply: GetReply, who: str) -> Shown:
    """Return what a reader has learnt; Violation if the answer is wrong."""
    judge_context(key, reply.context, who)
    clock = context.peek(reply.context).clock if reply.context else {}
    known = key.known(clock)
    there = {(each.version.actor, each.version.counter): each for each in key.standing(known)}
    pieces = []
    for (kind, value), (actor, counter, time_ms) in zip(reply.values, reply.marks, strict=True):
        piece = there.get((actor, counter))
        if piece is None:
            raise Violation(
                "shown",
                f"{who} found {key.causality.names(key.named_by([(actor, counter)]))} on "
                f"{key.name}, which does not stand there for whoever knows what its context does",
            )
        if (kind, value, time_ms) != (
            piece.version.kind,
            piece.version.value,
            piece.version.time_ms,
        ):
            raise Violation(
                "shown",
                f"{who} found {key.causality.ids[piece.place]} on {key.name} as {value!r} of "
                f"{time_ms}; it is {piece.version.value!r} of {piece.version.time_ms}",
            )
        if not key.may_live(piece.version):
            raise Violation(
                "ended", f"{who} found {key.causality.ids[piece.place]}, which had ended"
            )
        pieces.append(piece)
    found = mask_of(piece.place for piece in pieces)
    ops = {piece.version.op for piece in pieces if piece.version.op}
    if len(ops) < sum(piece.version.op != b"" for piece in pieces):
        raise Violation("duplicate", f"{who} found one piece of a put twice on {key.name}")
    for piece in there.values():
        version = piece.version
        if found >> piece.place & 1 or version.value is None or version.op in ops:
            continue
        if key.surely_lives(version):
            raise Violation(
                "shown",
                f"{who} did not find {key.causality.ids[piece.place]} on {key.name}, which stands "
                "there for whoever knows what its context does",
            )
    value = shown(pieces)
    made = plain(compose(reply.values, reply.marks))
    if made != value:
        raise Violation("composed", f"{who} is shown {made!r}, and what stands there is {value!r}")
    return Shown(known, pieces, value)


def counted(key: TypedKey, known: int) -> int:
    """Return what a counter comes to, at the least, for whoever knows these pieces.

    A change's session knows that, and not what its answer said: a try that finds an earlier one is
    told what is there now, and its context stands for what was there when that was carried out.
    """
    value = shown(key.standing(known))
    return value[1] if value is not None else 0


def judge_written(key: TypedKey, asked: Asked, reply: PutReply) -> None:
    """Raise Violation if a put's answer is wrong."""
    operation = asked.operation
    judge_context(key, reply.context, operation.id)
    if operation.tries > 1 or reply.retried or len(asked.firsts) != 1:
        return
    if not key.known_by(reply.context) >> asked.firsts[0] & 1:
        raise Violation(
            "context",
            f"{operation.describe()}: the context given out for it does not know its own pieces",
        )
    if asked.over:
        return
    for (verb, path, _), result in zip(asked.changes[::-1], reply.results[::-1], strict=True):
        expected = asked.values[0].pop(path, None) if verb == "add" else None
        if expected is not None and expected != result:
            raise Violation(
                "result",
                f"{operation.describe()}: it is told {result} of {path!r}, where it came to "
                f"{expected}",
            )
