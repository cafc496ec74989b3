"""Seeded bugs in the collection of tombstones: each must break the example that is there for it.

The simulator finds those that matter in any run (sim/bugs/collect.py); these need one thing to
happen in one moment, and other guards hold where one of them does not.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.core.tombstones import test_collect as examples
from tests.core.tombstones import test_collect_late as late
from tests.core.tombstones import test_collect_rounds as rounds

from everwrite.core.local import Local
from everwrite.core.messages.tombstones import Confirm, Confirmed
from everwrite.core.outbox import Place
from everwrite.core.records import OWN
from everwrite.core.tombstones import collect, confirm
from everwrite.core.tombstones.collect import ASKS_AGAIN, Round
from everwrite.core.tombstones.confirm import (
    CLEAR,
    HASH_BYTES,
    MOVING,
    Confirmations,
    Confirming,
    Remove,
)
from everwrite.sim.bugs import planted

Plant = Callable[[pytest.MonkeyPatch], None]


def changes_are_not_noticed(patch: pytest.MonkeyPatch) -> None:
    """A member confirms a second time what has changed since the first."""
    patch.setattr(confirm, "CHANGED", CLEAR)


def hints_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    """A member that keeps a copy for another node confirms all the same."""

    def objection_to(self: Confirmations, key: bytes) -> int:
        return CLEAR if self._moves.stands(self.local.routes.partition_of(key)) else MOVING

    patch.setattr(Confirmations, "objection_to", objection_to)


def other_copies_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    """A tombstone goes although an owner has another copy of the key."""
    patch.setattr(collect, "DIFFERS", CLEAR)
    patch.setattr(confirm, "ALIVE", CLEAR)
    patch.setattr(confirm, "HINT_KEPT", CLEAR)


def who_is_down_is_not_asked(patch: pytest.MonkeyPatch) -> None:
    """Only those members are asked that are up."""
    right = confirm.everyone

    def everyone(local: Local) -> list[bytes]:
        up = local.liveness.up
        return [node for node in right(local) if node == local.me or node in up]

    for where in (collect, confirm):
        patch.setattr(where, "everyone", everyone)


def confirmed_before_it_is_synced(patch: pytest.MonkeyPatch) -> None:
    """A member confirms before its copy is on the disk for good."""
    right = Confirming._answer

    def answer(self: Confirming) -> None:
        right(self)
        place, message = self._local.out.on_sync.pop()
        assert isinstance(message, Confirmed)
        self._local.out.send(place, message)

    patch.setattr(Confirming, "_answer", answer)


def reaped_is_what_came_since(patch: pytest.MonkeyPatch) -> None:
    """An owner removes what it has of a key, though it is another copy by now."""
    right = Confirmations.remove

    def remove(self: Confirmations, message: Remove) -> None:
        payload = self.local.records.look(OWN + message.key)
        if isinstance(payload, bytes):
            message = Remove(message.key, self.local.fingerprint(payload[8:]))
        right(self, message)

    patch.setattr(Confirmations, "remove", remove)


def other_views_are_not_noticed(patch: pytest.MonkeyPatch) -> None:
    """A member confirms to an asker that knows other members."""
    patch.setattr(confirm, "OTHER_VIEW", CLEAR)


def floors_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """What is not to be taken any more is known until the next restart only."""
    patch.setattr(Confirmations, "restore", lambda self, floors, confirmed: None)


def every_old_copy_is_taken(patch: pytest.MonkeyPatch) -> None:
    """A copy is taken whenever it was read off a disk."""

    def is_timely(self: Local, source: Place, stamp: int) -> bool:
        return True

    patch.setattr(Local, "is_timely", is_timely)


def nobody_is_asked_again(patch: pytest.MonkeyPatch) -> None:
    """A tombstone goes when all have the floors, whatever came before they had."""
    right = Round._ask

    def ask(self: Round) -> None:
        if self._phase != ASKS_AGAIN or self._batch is None:
            right(self)
            return
        self._items = [(key, self._batch.prints[key]) for key in self._asked]
        self._reap()

    patch.setattr(Round, "_ask", ask)


def watched_until_the_second_answer(patch: pytest.MonkeyPatch) -> None:
    """Who is no owner watches no more from its second answer on, and confirms all the same."""
    right = Confirmations.asked

    def asked(self: Confirmations, source: Place, message: Confirm) -> None:
        if message.generation:
            for key in message.keys:
                self.local.records.watched[key[:HASH_BYTES]] = message.mark
        right(self, source, message)

    patch.setattr(Confirmations, "asked", asked)
    patch.setattr(confirm, "HINT_KEPT", CLEAR)


CASES: list[tuple[Plant, Callable[[], None]]] = [
    (
        changes_are_not_noticed,
        examples.test_a_hint_that_came_and_went_between_the_confirmations_begins_it_anew,
    ),
    (
        hints_are_not_counted,
        examples.test_doomstone_a_hint_for_the_key_stops_it_and_never_kills_what_is_put_anew,
    ),
    (
        other_copies_are_not_counted,
        examples.test_an_owner_with_another_copy_speaks_against_it,
    ),
    (
        who_is_down_is_not_asked,
        examples.test_one_member_that_is_down_stops_it_for_as_long_as_it_is_down,
    ),
    (confirmed_before_it_is_synced, examples.test_a_confirmation_waits_for_the_disk),
    (reaped_is_what_came_since, examples.test_a_value_written_while_the_copies_go_stays),
    (
        other_views_are_not_noticed,
        examples.test_members_that_know_of_other_members_speak_against_it,
    ),
    (
        floors_are_forgotten,
        late.test_what_was_read_before_a_collection_is_refused_after_a_restart_too,
    ),
    (every_old_copy_is_taken, late.test_a_hint_that_was_long_on_its_way_is_not_kept),
    (
        nobody_is_asked_again,
        rounds.test_a_hint_that_comes_after_the_second_answer_and_before_the_floors_stops_it,
    ),
    (
        watched_until_the_second_answer,
        rounds.test_a_hint_that_comes_after_the_second_answer_and_before_the_floors_stops_it,
    ),
]


@pytest.mark.parametrize(("plant", "example"), CASES, ids=[plant.__name__ for plant, _ in CASES])
def test_the_example_rejects(
    plant: Plant, example: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)

    with pytest.raises(AssertionError):
        example()


@pytest.mark.parametrize("name", ["collects-by-a-timer", "collects-at-once"])
def test_the_example_of_two_confirmations_rejects(name: str) -> None:
    with planted(name), pytest.raises(AssertionError):
        examples.test_a_tombstone_stays_for_twice_the_life_of_a_message()
