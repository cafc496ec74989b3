"""What a coordinator makes of operations on what has an end."""

from __future__ import annotations

import pytest
from tests.core.types.key import ADD, MINUTE, NOW, B, Key
from tests.core.types.replicas import shown

from everwrite.core.data import versions
from everwrite.core.data.versions import ENDED_MAX, Version
from everwrite.core.errors import TooLarge
from everwrite.core.types.changing import FOLD_OVER
from everwrite.core.types.composed import Counter, Flag, Map, Register
from everwrite.core.types.operations import (
    ELEMENTS_MAX,
    Add,
    Assign,
    Enable,
    Include,
    Remove,
)


def ends(key: Key) -> list[int]:
    return [each.expires for each in key.record.siblings]


def test_a_change_of_what_ends_ends_with_the_last_of_it() -> None:
    key = Key()
    key.do(Assign(["a"], b"v"), ttl_ms=MINUTE)
    key.do(Assign(["b"], b"v"), ttl_ms=2 * MINUTE)

    key.do(Add(["n"], 1))
    key.do(Assign(["a"], b"w"))

    assert ends(key) == [NOW + 2 * MINUTE] * 3
    assert key.shown(NOW + 2 * MINUTE) is None


def test_a_change_of_what_partly_stays_stays() -> None:
    key = Key()
    key.do(Assign(["a"], b"v"), ttl_ms=MINUTE)
    key.do(Assign(["b"], b"v"), ttl_ms=MINUTE)
    one = key.record
    other = Key()
    other.do(Assign(["c"], b"v"), by=B)
    key = Key(versions.merge(one, other.record))

    key.do(Assign(["d"], b"v"))

    assert key.shown(NOW + MINUTE) == Map({name: Register(b"v", 0) for name in ("c", "d")})


def test_a_key_that_is_removed_and_made_anew_in_one_put_has_no_end_but_its_own() -> None:
    key = Key()
    key.do(Assign(["a"], b"v"), ttl_ms=MINUTE)
    key.do(Remove([]), Assign(["a"], b"w"))
    assert ends(key) == [0]
    key.do(Remove([]), Assign(["a"], b"w"), ttl_ms=MINUTE)
    assert ends(key) == [NOW + MINUTE]


def test_all_the_fields_that_a_key_can_have_are_made_and_get_an_end_and_none() -> None:
    key, fields = Key(), [Assign([f"f{at}"], b"v") for at in range(ELEMENTS_MAX)]
    key.do(*fields)
    for ttl_ms, end in ((MINUTE, NOW + MINUTE), (0, 0)):
        key.do(Remove([]), *fields, ttl_ms=ttl_ms)
        assert ends(key) == [end] * ELEMENTS_MAX

    key.do(Assign(["f77"], b"new"))
    with pytest.raises(TooLarge, match="the most is 16384"):
        key.do(Assign(["more"], b"v"))

    found = key.shown()
    assert isinstance(found, Map)
    assert len(found.fields) == ELEMENTS_MAX
    assert found.fields["f77"] == Register(b"new", 0)


def test_what_has_ended_is_not_there_for_a_change() -> None:
    key = Key()
    key.do(Include([], ["x"]), ttl_ms=MINUTE)

    done = key.do(Add([], 3), time_ms=NOW + MINUTE)

    assert (done.results, done.clashes) == ([3], 0)
    assert key.shown(NOW + MINUTE) == Counter(3)


def test_a_change_that_supersedes_nothing_leaves_no_tombstone_at_its_end() -> None:
    key = Key()
    key.do(Include([], ["x"]), ttl_ms=MINUTE)
    key.do(Include([], ["y"]))
    assert versions.retire(key.record, NOW + 2 * MINUTE) is None

    key.do(Include([], ["x"]))
    assert [each.pure for each in key.record.siblings] == [True, False]
    left = versions.retire(key.record, NOW + 2 * MINUTE)
    assert left is not None and versions.is_tombstone(left)


def test_what_has_ended_is_superseded_once_there_is_much_of_it() -> None:
    key = Key()
    for number in range(ENDED_MAX + 1):
        key.do(Enable([str(number)]), ttl_ms=MINUTE, time_ms=NOW + number * MINUTE)
    assert len(key.record.siblings) == ENDED_MAX + 1

    key.do(Enable(["last"]), time_ms=NOW + 99 * MINUTE)

    assert len(key.record.siblings) == 1
    assert key.shown(NOW + 99 * MINUTE) == Map({"last": Flag(True)})


def test_increments_that_end_are_not_folded() -> None:
    key = Key()
    for number in range(FOLD_OVER + 4):
        key.do(ADD, ttl_ms=MINUTE + number)

    assert key.shown() == Counter(FOLD_OVER + 4)
    assert key.shown(NOW + MINUTE + 1) == Counter(FOLD_OVER + 2)


def test_a_put_with_the_context_of_a_read_supersedes_all_pieces() -> None:
    key = Key()
    key.do(Include([], ["x", "y"]))
    seen = versions.seen_by_read(key.record)

    after = versions.put(key.record, seen, Version(B, 1, b"v", NOW, b"put"))

    assert shown(after) == Register(b"v", 0)
