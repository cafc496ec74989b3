"""Contexts: only what this cluster signed for this key is taken, and joining loses nothing."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.data.histories import actor
from tests.core.data.laws import verify_takes_only_its_own

from everwrite.core.data.context import CONTEXT_BYTES_MAX, combine, peek, sign, verify
from everwrite.core.data.keys import data_key
from everwrite.core.data.versions import ACTOR_BYTES, NOTHING, Seen, covers, descends
from everwrite.core.errors import BadContext

SECRET = b"s" * 32
KEY = data_key(b"carts", b"alice")
SEEN = Seen({actor(1): 3, actor(2): 1}, [(actor(3), 7)])


@st.composite
def seens(draw: st.DrawFn) -> Seen:
    """Return something seen, with dots that its clock does not cover, as nodes sign it."""
    numbers = st.integers(0, 4)
    clock = draw(st.dictionaries(numbers, st.integers(1, 3), max_size=4))
    dots = draw(st.sets(st.tuples(numbers, st.integers(1, 5)), max_size=2))
    return Seen(
        {actor(number): clock[number] for number in sorted(clock)},
        [(actor(number), n) for number, n in sorted(dots) if n > clock.get(number, 0)],
    )


def knows(seen: Seen, other: Seen) -> bool:
    return descends(seen.clock, other.clock) and all(
        dot in seen.dots or covers(seen.clock, *dot) for dot in other.dots
    )


def test_forged_foreign_cut_and_flipped_contexts_are_refused() -> None:
    verify_takes_only_its_own(verify, SECRET, KEY, SEEN)


def test_a_context_of_another_bucket_with_the_same_key_is_refused() -> None:
    token = sign(SECRET, data_key(b"orders", b"alice"), SEEN)

    with pytest.raises(BadContext, match="this key"):
        verify(SECRET, KEY, token)


def test_the_head_of_a_body_does_not_pass_for_the_tail_of_another_key() -> None:
    """The counter 0x9381 ends in the bytes by which a context with one clock entry begins."""
    token = sign(SECRET, KEY, Seen({actor(1): 0x9381, actor(2): 1}, []))
    body = token[20:]
    at = body.index(b"\x93\x81")
    moved = len(body[at:]).to_bytes(4, "big") + token[4:20] + body[at:]

    assert peek(moved) == Seen({actor(2): 1}, [])
    with pytest.raises(BadContext):
        verify(SECRET, KEY + body[:at], moved)


def test_every_cut_of_two_tokens_but_the_one_between_them_is_refused() -> None:
    first, second = sign(SECRET, KEY, SEEN), sign(SECRET, KEY, Seen({actor(9): 1}, []))

    for cut in range(1, len(first + second)):
        if cut != len(first):
            with pytest.raises(BadContext):
                verify(SECRET, KEY, (first + second)[:cut])
    assert verify(SECRET, KEY, (first + second)[: len(first)]) == SEEN


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_random_bytes_raise_only_a_bad_context(data: bytes) -> None:
    if data:
        with pytest.raises(BadContext):
            verify(SECRET, KEY, data)
    with suppress(BadContext):
        peek(data)


def test_a_context_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(BadContext, match="the most is"):
        verify(SECRET, KEY, bytes(CONTEXT_BYTES_MAX + 1))


def test_a_clock_of_ten_thousand_restarts_still_fits() -> None:
    seen = Seen({actor(number): 1 for number in range(10_000)}, [])

    assert verify(SECRET, KEY, sign(SECRET, KEY, seen)) == seen


@pytest.mark.parametrize(
    "seen",
    [
        Seen({b"short": 1}, []),
        Seen({actor(1): 0}, []),
        Seen({}, [(actor(1), -1)]),
        Seen({}, [(b"x" * (ACTOR_BYTES + 1), 1)]),
    ],
)
def test_a_context_that_names_impossible_writers_is_refused_though_signed(seen: Seen) -> None:
    with pytest.raises(BadContext, match="cannot exist"):
        verify(SECRET, KEY, sign(SECRET, KEY, seen))


def test_a_signed_body_that_is_no_context_is_refused() -> None:
    wrong: Seen = msgspec.structs.replace(SEEN, clock="text")  # type: ignore[arg-type]

    with pytest.raises(BadContext, match="cannot be read"):
        verify(SECRET, KEY, sign(SECRET, KEY, wrong))


def test_who_has_seen_nothing_gets_an_empty_context() -> None:
    assert sign(SECRET, KEY, NOTHING) == b""
    assert verify(SECRET, KEY, b"") == peek(b"") == NOTHING


@given(st.lists(seens(), max_size=4))
@settings(max_examples=300, deadline=None)
def test_a_combined_context_has_seen_all_of_its_parts_and_no_more(parts: list[Seen]) -> None:
    tokens = [sign(SECRET, KEY, seen) for seen in parts]

    joined = verify(SECRET, KEY, combine(tokens))

    assert all(knows(joined, seen) for seen in parts)
    for number, counter in ((n, c) for n in range(5) for c in range(1, 6)):
        dot = (actor(number), counter)
        if covers(joined.clock, *dot) or dot in joined.dots:
            assert any(covers(seen.clock, *dot) or dot in seen.dots for seen in parts)
    assert joined == verify(SECRET, KEY, b"".join(tokens))


@given(st.lists(seens(), max_size=4))
@settings(max_examples=200, deadline=None)
def test_combining_is_idempotent_and_keeps_no_token_that_another_covers(parts: list[Seen]) -> None:
    tokens = [sign(SECRET, KEY, seen) for seen in parts]
    combined = combine(tokens)

    assert combine([combined]) == combined
    assert combine([combined, combined, *tokens]) == combined
    assert len(combined) <= sum(len(token) for token in tokens)
    for token, seen in zip(tokens, parts, strict=True):
        if all(knows(seen, other) for other in parts):
            assert len(combined) <= len(token)


@given(seens())
@settings(deadline=None)
def test_its_holder_can_read_a_context_without_the_secret(seen: Seen) -> None:
    assert peek(sign(SECRET, KEY, seen)) == verify(SECRET, KEY, sign(SECRET, KEY, seen)) == seen


def test_a_context_of_thousands_of_tokens_is_joined_in_one_pass() -> None:
    """Each token names one dot, as a writer that never reads collects them."""
    writer = b"n" * 8 + b"e" * 8
    dots = [(writer, counter) for counter in range(2, 3002)]
    tokens = [sign(SECRET, KEY, Seen({}, [dot])) for dot in dots]
    read = sign(SECRET, KEY, Seen({writer: 3001}, []))

    assert verify(SECRET, KEY, b"".join(tokens)) == Seen({}, dots)
    assert verify(SECRET, KEY, b"".join([*tokens, read])) == Seen({writer: 3001}, [])
