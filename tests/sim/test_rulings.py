"""The judges compare rulings as the core does, and not by what the core does."""

from __future__ import annotations

from itertools import product

from everwrite.core.cluster import members
from everwrite.core.messages.members import IN, LEAVING, REMOVED, Ruling
from everwrite.sim import changes


def test_a_mistake_of_the_core_in_comparing_rulings_is_not_made_by_the_judges_too() -> None:
    rulings = [
        Ruling(b"n" * 8, "n1", standing, "z", 1.0, stamp, plan)
        for standing, stamp, plan in product((IN, LEAVING, REMOVED), (1, 2), (b"a", b"b"))
    ]

    for one, other in product(rulings, rulings):
        theirs = members._weight(one) > members._weight(other)
        assert (changes._overrules(one) > changes._overrules(other)) == theirs
    assert changes._overrules is not members._weight
