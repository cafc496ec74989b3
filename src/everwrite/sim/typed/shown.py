"""What a reader is shown of pieces, said once more: the value as plain Python objects.

    register    ("register", kind, bytes)       counter    ("counter", sum)
    set         ("set", {names})                flag       ("flag",)
    map         ("map", {name: value})

Of several types at one place that of the last piece by its mark is shown; an integer in a register
and increments beside it are one number.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from everwrite.core.types import composed
from everwrite.sim.typed.pieces import Standing
from everwrite.sim.typed.rules import COUNTER, ELEMENT, FLAG, REGISTER, integer_in, mark


def shown(pieces: Iterable[Standing], depth: int = 0) -> Any:
    """Return the value at one place; None: nothing is there."""
    pieces = [each for each in pieces if each.type >= 0]
    if not pieces:
        return None
    here = [each for each in pieces if len(each.path) == depth]
    below = [each for each in pieces if len(each.path) > depth]
    registers = [each for each in here if each.type == REGISTER]
    last = max(registers, key=mark).payload if registers else None
    number = integer_in(last[1]) if last is not None else None

    def what(piece: Standing) -> int:
        if len(piece.path) > depth:
            return FLAG + 1
        numeric = number is not None and any(each.type == COUNTER for each in here)
        return COUNTER if numeric and piece.type == REGISTER else piece.type

    kind = what(max([*here, *below], key=mark))
    if kind == REGISTER and last is not None:
        return ("register", last[0], last[1])
    if kind == COUNTER:
        amounts: dict[Any, int] = {}
        for each in sorted(here, key=lambda each: (each.version.actor, each.version.counter)):
            if each.type == COUNTER:
                amounts.setdefault(each.version.op or (each.place,), each.payload)
        return ("counter", sum(amounts.values()) + (number or 0))
    if kind == ELEMENT:
        return ("set", {each.payload for each in here if each.type == ELEMENT})
    if kind == FLAG:
        return ("flag",)
    fields: dict[Any, list[Standing]] = {}
    for each in below:
        fields.setdefault(each.path[depth], []).append(each)
    return ("map", {name: shown(each, depth + 1) for name, each in fields.items()})


def plain(value: composed.Composed | None) -> Any:
    """Return what core/types composed in the same form."""
    if value is None:
        return None
    if isinstance(value, composed.Register):
        return ("register", value.kind, value.value)
    if isinstance(value, composed.Counter):
        return ("counter", value.value)
    if isinstance(value, composed.Set):
        return ("set", set(value.elements))
    if isinstance(value, composed.Flag):
        return ("flag",)
    return ("map", {name: plain(each) for name, each in value.fields.items()})


def at(value: Any, path: Iterable[Any]) -> Any:
    """Return what is at a path in a value; None: nothing."""
    for name in path:
        if value is None or value[0] != "map":
            return None
        value = value[1].get(name)
    return value
