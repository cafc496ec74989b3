"""Which probes there are: read from the source, where each stands once, under a literal name.

A probe that is never hit cannot make itself known, so the list must come from somewhere else than
from the counts (``core/probes.py``).

Costs: parsing the core and the simulator takes about 0.2 s, once in a process.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from everwrite.core.errors import check

ROOMS = ("core", "sim")
PROBE = "sometimes"


@cache
def probes_placed() -> dict[str, str]:
    """Return the name of each probe, and where it stands; InvariantError if two have one name."""
    placed: dict[str, str] = {}
    root = Path(__file__).parent.parent
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            text = path.read_text("utf-8")
            if PROBE not in text:
                continue
            for name, line in probes_in(text):
                check(name not in placed, "a probe's name stands in one place", name=name)
                placed[name] = f"{path.relative_to(root).as_posix()}:{line}"
    return placed


def probes_in(text: str) -> Iterator[tuple[str, int]]:
    """Yield name and line of each probe in a source; InvariantError if a name is no literal."""
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id == PROBE:
            named = [each.value for each in node.args if isinstance(each, ast.Constant)]
            check(
                len(named) == len(node.args) == 1 and isinstance(named[0], str),
                "a probe's name is a literal",
                line=node.lineno,
            )
            yield str(named[0]), node.lineno
