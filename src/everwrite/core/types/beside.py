"""A plain value that was put beside a data type: it is the newer one, so it hides that from who
would change it.

Whoever removes what stands there removes both; the value alone goes by its own dots.
"""

from __future__ import annotations

from everwrite.core.data.labels import KIND_PIECE
from everwrite.core.data.versions import Dot
from everwrite.core.errors import WrongType
from everwrite.core.types.composing import TYPE_NAMES, Place, shown_at
from everwrite.core.types.pieces import REGISTER


class PlainBeside(WrongType):
    """A plain value hides the data type that a change is for."""

    dots: tuple[Dot, ...] = ()
    """What was put beside it: a context of these, and no other, takes that alone away."""


def plain_beside(key: Place, wanted: int) -> PlainBeside | None:
    """Return why a key of this type can't be changed if only plain puts keep it from being shown;
    None: something else does, or nothing.
    """
    shown, _ = shown_at(key)
    if shown != REGISTER or wanted == REGISTER or wanted not in key.types():
        return None
    dots: list[Dot] = []
    for held in key.registers:
        if held.version is None or held.version.kind == KIND_PIECE:
            return None  # one that was assigned, by this very change perhaps
        dots.append((held.version.actor, held.version.counter))
    error = PlainBeside(
        f"A plain value was put beside the {TYPE_NAMES[wanted]} that stands there, and hides it.",
        hint="Nothing was changed. Take that value away first.",
    )
    error.dots = tuple(dots)
    return error
