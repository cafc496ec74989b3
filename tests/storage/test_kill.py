"""kill -9 at random moments: nothing acknowledged is lost, and no batch is half there."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.storage.child import GROUP
from tests.storage.stores import ON_DISK, key, start_child, store_in

from everwrite.storage.store import Store

ROUNDS = 12


def kill_after(acknowledgements: int, *arguments: object) -> dict[str, int]:
    """Run the writing child until it has said so many lines, kill it, and return its last words."""
    child = start_child("write_for_ever", *arguments)
    assert child.stdout is not None and child.stderr is not None
    said = [child.stdout.readline() for _ in range(acknowledgements)]
    child.kill()
    # Not communicate(), which skips what readline has buffered.
    said += child.stdout.readlines()
    complaint = child.stderr.read()
    child.communicate()
    assert len(said) >= acknowledgements, complaint.decode()
    # The pipe may end within a number; such a line was never an acknowledgement.
    whole = [line for line in said if line.endswith(b"\n")]
    return {word.decode(): int(number) for word, number in map(bytes.split, whole)}


def last_batch(store: Store) -> int:
    """The batch that the group shows; fails if its keys disagree or one is damaged."""
    values = store.get_many(GROUP)
    numbers = set()
    for value in values:
        assert isinstance(value, bytes), value
        numbers.add(int(value.rstrip(b".")))
        assert len(value) == len(b"%d" % min(numbers)) + min(numbers) % 37 * 100
    assert len(numbers) == 1, "half a batch"
    return numbers.pop()


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("engine", ON_DISK)
def test_kill_minus_nine_loses_nothing_acknowledged_and_halves_no_batch(
    engine: str, tmp_path: Path
) -> None:
    chance = random.Random(engine)
    first = 0
    for _ in range(ROUNDS):
        last_words = kill_after(chance.choice([1, 2, 5, 40, 300, 1500]), engine, tmp_path, first)

        with store_in(tmp_path, engine) as store:
            number = last_batch(store)
            assert number >= last_words["written"]
            # One batch may have been written and not yet acknowledged; none can be from nowhere.
            assert number <= last_words["written"] + 1
            numbered = store.scan(key(0), key(10**8 - 1), 1 << 30)
            assert numbered == [(key(at), b"%d" % at) for at in range(number + 1)]
        first = number + 1
