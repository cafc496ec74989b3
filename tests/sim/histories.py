"""Builders of histories, as short as what they tell."""

from __future__ import annotations

from itertools import count
from typing import Any

from everwrite.sim.history import Operation

_clock = count(1)


def put(name: str, *seen: str, **options: Any) -> Operation:
    """An acknowledged put whose writer had seen these."""
    return _operation(name, "put", list(seen), [], options)


def delete(name: str, *seen: str, **options: Any) -> Operation:
    return _operation(name, "delete", list(seen), [], options)


def get(*found: str, **options: Any) -> Operation:
    """A read that found these."""
    return _operation(f"get{next(_clock)}", "get", options.pop("seen", []), list(found), options)


def _operation(
    name: str, kind: Any, seen: list[str], found: list[str], options: dict[str, Any]
) -> Operation:
    began = next(_clock) * 10
    fields = {"invoked": began, "completed": began + 5, "outcome": "ok", "q": 2, "tries": 1}
    return Operation(name, "c", kind, "cart", seen=seen, found=found, **{**fields, **options})
