"""Ready-made merges: ways to make one value of siblings (semantic reconciliation, Dynamo 4.4).

Give one to a bucket: ``db.bucket("carts", merge=union_of_items)``. A merge gets the siblings'
values, two or more, in no order that means anything, and must give the same value for every order;
it must not change them.

A union keeps what anybody added, so an item that one sibling took out while another kept it comes
back: the paper's shopping cart. Where that is wrong, keep what was taken out in the value as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from everwrite.client.arguments import a, check_merge
from everwrite.core.errors import RequestError

_canonical = msgspec.json.Encoder(order="sorted").encode


def union_of_items(values: list[Any]) -> Any:
    """Return a list of all items of all lists, each once, in the order of their JSON text: the
    paper's cart.

    >>> union_of_items([["book", "pen"], ["book", "ink"]])
    ['book', 'ink', 'pen']
    """
    items: dict[bytes, Any] = {}
    for value in values:
        if not isinstance(value, list):
            raise _cannot("union_of_items", "lists", value)
        items.update((_canonical(item), item) for item in value)
    return [items[text] for text in sorted(items)]


def union_of_maps(merge: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
    """Return a merge of dicts: all their keys; ``merge`` makes one value where several dicts differ
    in one.

    >>> union_of_maps(largest)([{"pen": 1, "ink": 2}, {"pen": 3}])
    {'ink': 2, 'pen': 3}
    """
    check_ready(merge)

    def merged(values: list[Any]) -> Any:
        found: dict[Any, dict[bytes, Any]] = {}
        for value in values:
            if not isinstance(value, dict):
                raise _cannot("union_of_maps", "dicts", value)
            for name, item in value.items():
                found.setdefault(name, {})[_canonical(item)] = item
        return {
            name: merge(list(items.values())) if len(items) > 1 else next(iter(items.values()))
            for name, items in sorted(found.items())
        }

    return merged


def largest(values: list[Any]) -> Any:
    """Return the largest: for numbers or texts that only ever grow. Lossy where they do not."""
    try:
        return max(values)
    except TypeError as error:
        raise _cannot("largest", "values that can be compared", values[0]) from error


def newest(field: str) -> Callable[[list[Any]], Any]:
    """Return a merge of dicts that keeps the one with the largest ``field`` (a time, say) and LOSES
    the others.

    As good as the clocks that filled the field in: for values of which only the last one matters.

    >>> newest("at")([{"at": 1, "name": "Ann"}, {"at": 2, "name": "Anne"}])
    {'at': 2, 'name': 'Anne'}
    """
    if not isinstance(field, str):
        raise RequestError(
            f"{field!r} is no field's name.", hint="Use text, as in everwrite.newest('at')."
        )

    def merged(values: list[Any]) -> Any:
        for value in values:
            if not isinstance(value, dict) or field not in value:
                lacks = f" without {field!r}" if isinstance(value, dict) else ""
                raise _cannot(f"newest({field!r})", f"dicts with {field!r}", value, lacks)
        try:
            return max(values, key=lambda value: (value[field], _canonical(value)))
        except TypeError as error:
            raise _cannot(f"newest({field!r})", "times that can be compared", values[0]) from error

    return merged


def check_ready(merge: object) -> None:
    """Raise RequestError for what cannot be a merge, or is yet to make one."""
    makes = {id(newest): "newest('at')", id(union_of_maps): "union_of_maps(everwrite.largest)"}
    check_merge(merge, makes.get(id(merge), ""))


def _cannot(name: str, what: str, value: Any, lacks: str = "") -> RequestError:
    article, kind = a(type(value).__name__).split(" ", 1)
    return RequestError(
        f"{name} merges {what}; one sibling is {article.lower()} {kind}{lacks}.",
        hint="Read .values, and put what they should be with .context.",
    )
