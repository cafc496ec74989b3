"""The books of the demo: a loss is always found, and nothing else is called one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from everwrite.cli.demo.carts import Cart, Fate, Ledger, contents, union, with_item, without_item

EMPTY: Cart = {"added": {}, "removed": []}
ITEMS = st.dictionaries(st.sampled_from("abcdef"), st.just("tea"), max_size=6)
CARTS = st.builds(
    lambda added, removed: Cart(added=added, removed=sorted(removed & set(added))),
    ITEMS,
    st.sets(st.sampled_from("abcdef")),
)


def canonical(cart: Cart) -> tuple[list[tuple[str, str]], list[str]]:
    return sorted(cart["added"].items()), cart["removed"]


@given(CARTS, CARTS, CARTS)
def test_union_is_commutative_associative_and_idempotent(a: Cart, b: Cart, c: Cart) -> None:
    assert canonical(union([a, b])) == canonical(union([b, a]))
    assert canonical(union([union([a, b]), c])) == canonical(union([a, union([b, c])]))
    assert canonical(union([a, a])) == canonical(union([a]))


@given(CARTS, CARTS)
def test_a_removed_item_does_not_come_back_by_a_merge(a: Cart, b: Cart) -> None:
    merged = contents(union([a, b]))

    assert not set(merged) & {*a["removed"], *b["removed"]}


class Register(RuleBasedStateMachine):
    """One cart on a perfect store: shoppers read some siblings, and a put replaces those."""

    def __init__(self) -> None:
        super().__init__()
        self.siblings: list[Cart] = []
        self.reads: list[list[Cart]] = [[]]
        self.ledger = Ledger()
        self.items = 0

    @rule()
    def read(self) -> None:
        self.reads.append(list(self.siblings))

    @rule(data=st.data(), fate=st.sampled_from(Fate), happened=st.booleans(), remove=st.booleans())
    def change(self, data: st.DataObject, fate: Fate, happened: bool, remove: bool) -> None:
        seen = data.draw(st.sampled_from(self.reads))
        cart = union(seen)
        inside = sorted(contents(cart))
        removes = remove and bool(inside)
        if removes:
            item = data.draw(st.sampled_from(inside))
            changed = without_item(cart, item)
        else:
            self.items += 1
            item = f"1.{self.items}"
            changed = with_item(cart, item, "tea")
        self.ledger.begin("cart", item, removes=removes).fate = fate
        if fate is Fate.ACKNOWLEDGED or (fate is Fate.UNKNOWN and happened):
            self.siblings = [kept for kept in self.siblings if kept not in seen] + [changed]

    @invariant()
    def a_store_that_keeps_its_word_is_never_blamed(self) -> None:
        findings = self.ledger.judge("cart", union(self.siblings))
        assert not findings.missing
        assert not findings.returned
        assert not findings.impossible

    @invariant()
    def whatever_is_lost_is_found(self) -> None:
        for lost in self.siblings:
            rest = union([kept for kept in self.siblings if kept is not lost])
            gone = set(lost["added"]) - set(rest["added"])
            acknowledged = {
                attempt.item
                for attempt in self.ledger.carts.get("cart", [])
                if attempt.fate is Fate.ACKNOWLEDGED and not attempt.removes
            }
            assert self.ledger.judge("cart", rest).missing == gone & acknowledged


def test_the_books_blame_a_store_exactly_when_it_is_to_blame() -> None:
    run_state_machine_as_test(
        Register, settings=settings(max_examples=30, stateful_step_count=30, deadline=None)
    )


def test_an_acknowledged_addition_that_is_nowhere_is_missing() -> None:
    ledger = Ledger()
    ledger.begin("c", "1.1", removes=False).fate = Fate.ACKNOWLEDGED

    assert ledger.judge("c", EMPTY).missing == {"1.1"}


def test_a_removed_item_is_not_missing() -> None:
    ledger = Ledger()
    ledger.begin("c", "1.1", removes=False).fate = Fate.ACKNOWLEDGED
    ledger.begin("c", "1.1", removes=True).fate = Fate.ACKNOWLEDGED

    findings = ledger.judge("c", {"added": {"1.1": "tea"}, "removed": ["1.1"]})

    assert not (findings.missing | findings.returned | findings.impossible)


def test_an_item_whose_removal_was_acknowledged_must_not_be_in_the_cart() -> None:
    ledger = Ledger()
    ledger.begin("c", "1.1", removes=False).fate = Fate.ACKNOWLEDGED
    ledger.begin("c", "1.1", removes=True).fate = Fate.ACKNOWLEDGED

    assert ledger.judge("c", with_item(EMPTY, "1.1", "tea")).returned == {"1.1"}


@pytest.mark.parametrize("present", [True, False])
def test_an_addition_of_unknown_outcome_may_be_there_or_not(present: bool) -> None:
    ledger = Ledger()
    ledger.begin("c", "1.1", removes=False)

    findings = ledger.judge("c", with_item(EMPTY, "1.1", "tea") if present else EMPTY)

    assert not (findings.missing | findings.returned | findings.impossible)


def test_a_change_that_was_refused_for_sure_must_not_be_there() -> None:
    ledger = Ledger()
    ledger.begin("c", "1.1", removes=False).fate = Fate.REFUSED

    assert ledger.judge("c", with_item(EMPTY, "1.1", "tea")).impossible == {"1.1"}


def test_a_removal_refused_to_one_shopper_may_be_another_ones() -> None:
    ledger = Ledger()
    ledger.begin("c", "1.1", removes=False).fate = Fate.ACKNOWLEDGED
    ledger.begin("c", "1.1", removes=True).fate = Fate.REFUSED
    ledger.begin("c", "1.1", removes=True)

    findings = ledger.judge("c", {"added": {"1.1": "tea"}, "removed": ["1.1"]})

    assert not findings.impossible


def test_what_nobody_has_put_in_a_cart_is_impossible() -> None:
    assert Ledger().judge("c", with_item(EMPTY, "x", "tea")).impossible == {"x"}
