"""Epochs: no actor twice, whatever the runs of a node look like."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everwrite.core.data.epochs import EPOCH_BLOCK, NUMBER_MAX, SALT_BITS, Epochs
from everwrite.core.data.versions import ACTOR_BYTES
from everwrite.core.errors import InvariantError, UnavailableError

NODE = b"node-001"


def test_an_actor_is_its_node_and_epoch_in_16_bytes() -> None:
    epochs = Epochs(NODE, 5, 0xABCDEF)

    minted = epochs.actor(epochs.fresh())

    assert minted == NODE + bytes.fromhex("0000000005abcdef")
    assert len(minted) == ACTOR_BYTES


@pytest.mark.scenario(17)
def test_no_epoch_is_handed_out_twice_over_many_runs() -> None:
    used: set[int] = set()
    leased = 0
    for salt in range(20):
        epochs = Epochs(NODE, leased, salt)
        leased = epochs.leased_to
        fresh = [epochs.fresh() for _ in range(50)]
        assert used.isdisjoint(fresh)
        used.update(fresh)

    assert len(used) == 1000


def test_a_restored_backup_leases_the_same_numbers_and_still_makes_new_epochs() -> None:
    before = Epochs(NODE, 0, 1)
    restored = Epochs(NODE, 0, 2)

    assert {before.fresh() for _ in range(100)}.isdisjoint({restored.fresh() for _ in range(100)})


def test_an_epoch_is_counted_on_only_in_the_run_that_made_it() -> None:
    first = Epochs(NODE, 0, 1)
    epoch = first.fresh()
    second = Epochs(NODE, first.leased_to, 2)
    same_salt = Epochs(NODE, first.leased_to, 1)

    assert first.continues(epoch)
    assert not second.continues(epoch)
    assert not same_salt.continues(epoch)


def test_no_epoch_is_counted_on_before_it_was_handed_out() -> None:
    epochs = Epochs(NODE, 10, 1)
    epoch = epochs.fresh()

    assert not epochs.continues(epoch + (1 << SALT_BITS))
    assert not epochs.continues(epoch - (1 << SALT_BITS))
    assert not epochs.continues(0)


def test_after_a_batch_was_not_written_no_earlier_epoch_is_counted_on() -> None:
    epochs = Epochs(NODE, 0, 1)
    lost = epochs.fresh()

    epochs.abandon()

    assert not epochs.continues(lost)
    assert epochs.continues(epochs.fresh())


def test_the_next_lease_is_due_while_half_a_block_is_left() -> None:
    epochs = Epochs(NODE, 0, 1)

    assert not epochs.lease_due
    for _ in range(EPOCH_BLOCK // 2):
        epochs.fresh()
    assert epochs.lease_due
    epochs.extend(epochs.next_lease())
    assert not epochs.lease_due
    assert epochs.leased_to == 2 * EPOCH_BLOCK


def test_a_number_past_the_lease_stops_the_node() -> None:
    epochs = Epochs(NODE, 0, 1)
    epochs.leased_to = 1
    epochs.fresh()

    with pytest.raises(UnavailableError, match="no epochs left"):
        epochs.fresh()


def test_a_lease_never_shrinks() -> None:
    with pytest.raises(InvariantError):
        Epochs(NODE, 0, 1).extend(1)


@pytest.mark.parametrize(("node", "salt"), [(b"short", 1), (NODE, -1), (NODE, 1 << SALT_BITS)])
def test_impossible_nodes_and_salts_are_refused(node: bytes, salt: int) -> None:
    with pytest.raises(InvariantError):
        Epochs(node, 0, salt)


def test_the_last_number_fits_and_the_one_after_it_is_refused() -> None:
    epochs = Epochs(NODE, NUMBER_MAX, (1 << SALT_BITS) - 1)

    assert len(epochs.actor(epochs.fresh())) == ACTOR_BYTES
    with pytest.raises(InvariantError, match="exhausted"):
        epochs.fresh()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=2, max_size=6))
@settings(deadline=None)
def test_runs_share_no_epoch_unless_both_lease_and_salt_are_copied(
    runs: list[tuple[int, int]],
) -> None:
    seen: dict[int, tuple[int, int]] = {}
    for block, salt in runs:
        epochs = Epochs(NODE, block * EPOCH_BLOCK, salt)
        for epoch in [epochs.fresh() for _ in range(5)]:
            assert seen.setdefault(epoch, (block, salt)) == (block, salt)
