"""The index of hints counts what there is: notes, bytes and the oldest, for each owner."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from everwrite.core.hints.kept import Kept, join_hint, record_of, size_of, split_hint

KEYS = [bytes((number,)) * 10 for number in range(4)]
OWNERS = [bytes((number,)) * 8 for number in range(1, 4)]

keys = st.sampled_from(KEYS)
owners = st.sampled_from(OWNERS)
seconds = st.integers(0, 2**40 - 1)
steps = st.one_of(
    st.tuples(st.just("note"), keys, owners, st.integers(0, 5)),
    st.tuples(st.just("strike"), keys, owners, st.just(0)),
    st.tuples(st.just("resize"), keys, owners, st.integers(1, 1000)),
)


@given(st.lists(steps, max_size=60))
def test_the_index_counts_what_there_is(history: list[tuple[str, bytes, bytes, int]]) -> None:
    kept = Kept()
    model: dict[bytes, dict[bytes, int]] = {}
    sizes: dict[bytes, int] = {}
    for what, key, owner, number in history:
        if what == "note":
            if key not in model:
                kept.resize(key, 7)
                sizes[key] = 7
            kept.note(key, owner, number, "stored")
            model.setdefault(key, {}).setdefault(owner, number)
        elif what == "resize" and key in model:
            kept.resize(key, number)
            sizes[key] = number
        elif what == "strike":
            struck = kept.strike(key, owner, "delivered")
            assert struck == (model.get(key, {}).pop(owner, None) is not None)
            if not model.get(key, True):
                del model[key], sizes[key]

    assert {key: set(found) for key, found in kept.owners_of.items()} == {
        key: set(found) for key, found in model.items()
    }
    assert kept.notes == sum(map(len, model.values())) == kept.flow.left
    assert kept.bytes == sum(sizes.values())
    assert kept.sizes == sizes
    for owner in OWNERS:
        mine = {key: found[owner] for key, found in model.items() if owner in found}
        waiting = kept.waiting.get(owner)
        assert (waiting is None) == (not mine)
        if waiting is not None:
            assert dict(waiting.since) == mine
            assert waiting.oldest == min(mine.values())
            assert waiting.bytes == sum(sizes[key] for key in mine)
            assert set(mine) <= set(waiting.queue), "all of it is to be brought"


@given(st.binary(min_size=8, max_size=8), st.dictionaries(owners, seconds), st.binary())
def test_a_payload_gives_back_what_it_was_made_of(
    epoch: bytes, noted: dict[bytes, int], record: bytes
) -> None:
    payload = join_hint(epoch, noted, record)

    assert split_hint(payload) == (epoch, noted, record)
    assert record_of(payload) == record
    assert size_of(b"key", len(noted), record) == len(b"h" + b"key" + payload)
    assert join_hint(epoch, dict(reversed(noted.items())), record) == payload


def test_the_oldest_is_found_again_after_those_before_it_went() -> None:
    kept = Kept()
    for number, key in enumerate(KEYS):
        kept.note(key, OWNERS[0], 100 - number, "restored")
    for key in reversed(KEYS[1:]):
        kept.strike(key, OWNERS[0], "delivered")

    assert kept.waiting[OWNERS[0]].oldest == 100
