"""A plain value that was put beside a data type: it is the newer one, so it hides that from who
would change it.

Whoever removes what stands there removes both; the value alone goes by its own dots.
"""

from __future__ import annotations

import re

from everwrite.core.data.base64url import encode64
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
        hint=f"{_NOTHING_CHANGED} Take that value away first.",
    )
    error.dots = tuple(dots)
    return error


def way_out(context: bytes) -> str:
    """Return the hint that gives a context of what was put beside a data type."""
    return f"{_NOTHING_CHANGED} A delete with the context {encode64(context).decode()} {_ALONE}"


def context_in(hint: str) -> str:
    """Return the context that such a hint gives; empty if it is another hint.

    >>> context_in(way_out(bytes(3)))
    'AAAA'
    """
    found = _WAY_OUT.search(hint)
    return found[1] if found is not None else ""


_NOTHING_CHANGED = "Nothing was changed."
_ALONE = "takes that value alone away."
_WAY_OUT = re.compile(rf"A delete with the context (\S+) {re.escape(_ALONE)}")
