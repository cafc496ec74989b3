"""Changes of a map over their caps: some are refused as they are noted, others by the node."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import everwrite
from everwrite.core.config import RECORD_BYTES_MAX
from everwrite.core.data.keys import VALUE_BYTES_MAX
from everwrite.core.types.operations import (
    AMOUNT_MAX,
    DEPTH_MAX,
    ELEMENTS_MAX,
    OPERATIONS_MAX,
    PATH_BYTES_MAX,
)


def too_deep(changes: everwrite.Changes) -> None:
    for _ in range(DEPTH_MAX):
        changes = changes.map("below")
    changes.flag("raised").enable()


def too_many(changes: everwrite.Changes) -> None:
    changes.remove(*(str(number) for number in range(OPERATIONS_MAX)))


def too_many_elements(changes: everwrite.Changes) -> None:
    for tags in ("some", "others"):
        changes.set(tags).add(*(str(number) for number in range(ELEMENTS_MAX // 2 + 1)))


def too_long_a_path(changes: everwrite.Changes) -> None:
    half = "x" * (PATH_BYTES_MAX // 2)
    changes.map(half).map(half).flag("raised").enable()


def too_long_a_value(changes: everwrite.Changes) -> None:
    changes.register("note").assign(b"x" * (VALUE_BYTES_MAX + 1))


def too_long_in_all(changes: everwrite.Changes) -> None:
    for number in range(RECORD_BYTES_MAX // VALUE_BYTES_MAX):
        changes.register(str(number)).assign(b"x" * VALUE_BYTES_MAX)


def too_large_a_sum(changes: everwrite.Changes) -> None:
    changes.counter("sum").add(AMOUNT_MAX)
    changes.counter("sum").add(1)


@pytest.mark.parametrize(
    ("note", "why"),
    [
        (too_deep, f"A field {DEPTH_MAX + 1} maps below its key"),
        (too_many, f"{OPERATIONS_MAX + 1} operations are not possible in one put"),
        (too_many_elements, f"{ELEMENTS_MAX + 2} elements are not possible in one put"),
        (too_long_a_path, f"A path of 3 names and {PATH_BYTES_MAX + 6} bytes"),
        (too_long_a_value, f"The value has {VALUE_BYTES_MAX + 1} bytes"),
        (
            too_long_in_all,
            f"At carts/alice, the change has .* bytes; the most is {RECORD_BYTES_MAX}",
        ),
        (too_large_a_sum, "64 bits"),
    ],
)
def test_of_changes_over_a_cap_none_is_carried_out(
    note: Callable[[everwrite.Changes], None], why: str
) -> None:
    with everwrite.open(None, engine="memory", fsync=False) as db:
        cart = db.bucket("carts").map("alice")
        cart.flag("stays").enable()
        changes = everwrite.Changes()
        changes.counter("tea").add(1)

        def note_and_send() -> None:  # some of it is refused as it is noted
            note(changes)
            cart.change(changes)

        with pytest.raises(everwrite.RequestError, match=why):
            note_and_send()
        assert cart.value() == {"stays": True}
