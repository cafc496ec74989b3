"""Keys: one byte string for bucket and key that nobody can confuse with another, and the limits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everwrite.core.data.keys import (
    BUCKET_BYTES_MAX,
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    checked_bucket,
    checked_key,
    checked_value,
    data_key,
    hash_of,
    of_key,
    split_key,
)
from everwrite.core.errors import ProtocolError, RequestError, TooLarge

printable = st.characters(exclude_categories=["Cc", "Cs"])
buckets = st.text(printable, min_size=1, max_size=20).map(str.encode)
keys = st.binary(min_size=1, max_size=40)


@given(buckets, keys)
@settings(deadline=None)
def test_a_data_key_gives_its_bucket_and_key_back(bucket: bytes, key: bytes) -> None:
    assert split_key(data_key(bucket, key)) == (bucket, key)


@given(buckets, keys, buckets, keys)
@settings(deadline=None)
def test_different_names_have_different_data_keys(a: bytes, b: bytes, c: bytes, d: bytes) -> None:
    assert (data_key(a, b) == data_key(c, d)) == ((a, b) == (c, d))


def test_a_bucket_does_not_run_into_its_key() -> None:
    assert data_key(b"ab", b"c") != data_key(b"a", b"bc")


def test_a_data_key_sorts_by_its_hash() -> None:
    made = [data_key(b"b", b"%d" % i) for i in range(100)]

    assert sorted(made) == sorted(made, key=lambda key: (hash_of(key), key))


def test_the_hash_is_the_same_on_every_machine() -> None:
    """A change here moves every key of every cluster."""
    assert data_key(b"carts", b"alice").hex() == "1baaa9a6704a47ac" + b"\x05cartsalice".hex()


@pytest.mark.parametrize("bit", range(0, 19 * 8, 7))
def test_a_flipped_bit_makes_a_data_key_none(bit: int) -> None:
    data = bytearray(data_key(b"carts", b"alice"))
    data[bit // 8] ^= 1 << bit % 8

    with pytest.raises(ProtocolError, match="not a data key"):
        split_key(bytes(data))


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_random_bytes_are_no_data_key(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        split_key(data)


@pytest.mark.parametrize(
    ("bucket", "key"),
    [
        (b"", b"k"),
        (b"b", b""),
        (b"b", b"k" * (KEY_BYTES_MAX + 1)),
        (b"b" * (BUCKET_BYTES_MAX + 1), b"k"),
    ],
)
def test_a_data_key_that_no_client_would_make_is_none(bucket: bytes, key: bytes) -> None:
    with pytest.raises(ProtocolError):
        split_key(data_key(bucket, key))


@pytest.mark.parametrize("bucket", [b"a\nb", b"\x1b[2J", b"\0", "\x85".encode(), b"\xff"])
def test_a_bucket_that_no_client_would_let_through_is_refused_by_nodes_too(bucket: bytes) -> None:
    with pytest.raises(RequestError, match="bucket's name"):
        split_key(data_key(bucket, b"k"))


def test_the_longest_names_are_taken() -> None:
    bucket, key = b"b" * BUCKET_BYTES_MAX, b"k" * KEY_BYTES_MAX

    assert split_key(data_key(checked_bucket(bucket), checked_key(key))) == (bucket, key)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("", RequestError),
        (b"", RequestError),
        ("line\nbreak", RequestError),
        ("nul\0", RequestError),
        ("c1\x85", RequestError),
        (b"\xff\xfe", RequestError),
        ("\ud800", RequestError),
        ("é" * 65, TooLarge),
        ("b" * 129, TooLarge),
    ],
)
def test_a_bucket_name_that_cannot_be_is_refused(
    name: str | bytes, error: type[RequestError]
) -> None:
    with pytest.raises(error) as caught:
        checked_bucket(name)
    assert caught.value.outcome == "none"


@pytest.mark.parametrize("name", ["carts", b"carts", "é" * 64, "with space", "../x"])
def test_a_bucket_name_is_any_printable_text(name: str | bytes) -> None:
    assert checked_bucket(name) == (name if isinstance(name, bytes) else name.encode())


@pytest.mark.parametrize("key", [b"\0\xff\n", "é", b"k" * KEY_BYTES_MAX, "../../etc/passwd"])
def test_a_key_is_any_bytes(key: str | bytes) -> None:
    assert checked_key(key) == (key if isinstance(key, bytes) else key.encode())


@pytest.mark.parametrize(
    ("key", "error"),
    [("", RequestError), ("\ud800", RequestError), (b"k" * (KEY_BYTES_MAX + 1), TooLarge)],
)
def test_a_key_that_cannot_be_is_refused(key: str | bytes, error: type[RequestError]) -> None:
    with pytest.raises(error) as caught:
        checked_key(key)
    assert str(caught.value).endswith(".")


def test_a_value_may_be_empty_and_is_refused_over_its_limit() -> None:
    assert checked_value(b"") == b""
    assert len(checked_value(bytes(VALUE_BYTES_MAX))) == VALUE_BYTES_MAX
    with pytest.raises(TooLarge, match="the most is 1048576"):
        checked_value(bytes(VALUE_BYTES_MAX + 1))


def test_an_error_names_a_key_in_one_short_line() -> None:
    said = of_key(
        TooLarge("The value is large."), data_key(b"carts", b"a\n\xff\xc2\x9b31m" + b"k" * 900)
    )

    assert said.message.startswith(r"At carts/a\n\xff\x9b31mkkk")
    assert said.message.endswith("kk..., the value is large.") and len(said.message) < 250
    assert said.message.isprintable()


def test_a_key_that_is_too_long_is_told_by_its_beginning() -> None:
    with pytest.raises(TooLarge, match=r"^The key 'orders:7k+'\.\.\. has 1025 bytes"):
        checked_key("orders:7" + "k" * (KEY_BYTES_MAX - 7))
