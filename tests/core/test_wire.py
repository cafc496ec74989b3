"""Frames: any cut, any garbage, any size; what is over a limit is refused before it is kept."""

from __future__ import annotations

import random
import tracemalloc
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.messages import EXAMPLES

from everwrite.core.config import FRAME_BYTES_MAX, HANDSHAKE_BYTES_MAX
from everwrite.core.errors import ProtocolError
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.greeting import Proof
from everwrite.core.messages.members import Ping
from everwrite.core.messages.requests import Get, Put
from everwrite.core.wire import (
    MESSAGES_PER_FRAME_MAX,
    FrameReader,
    decode_payload,
    encode_frame,
    encode_frames,
)

LIMIT = 1 << 16


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


def packed(*messages: object) -> bytes:
    """Return a payload made by hand, for what our own encoder would never send."""
    return msgspec.msgpack.encode(messages)


# -- what is sent is what arrives ------------------------------------------------------------------


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_survives_its_bytes(message: AnyMessage) -> None:
    assert decode_payload(encode_frame([message])[4:]) == [message]


@pytest.mark.scenario(36)
def test_frames_cut_at_any_byte_give_the_same_messages() -> None:
    stream = encode_frame(EXAMPLES[:3]) + encode_frame([]) + encode_frame(EXAMPLES[3:])

    for cut in range(len(stream) + 1):
        reader = FrameReader(LIMIT)
        assert reader.feed(stream[:cut]) + reader.feed(stream[cut:]) == EXAMPLES


def test_frames_that_come_byte_by_byte_give_the_same_messages() -> None:
    reader = FrameReader(LIMIT)
    messages = []
    for byte in encode_frame(EXAMPLES) * 2:
        messages += reader.feed(bytes((byte,)))

    assert messages == EXAMPLES * 2


@given(st.lists(st.integers(0, 400), max_size=20))
@settings(max_examples=50, deadline=None)
def test_any_fragmentation_gives_the_same_messages(sizes: list[int]) -> None:
    stream = encode_frame(EXAMPLES) + encode_frame(EXAMPLES[:5])
    reader, messages, at = FrameReader(LIMIT), [], 0
    for size in [*sizes, len(stream)]:
        messages += reader.feed(stream[at : at + size])
        at += size

    assert messages == [*EXAMPLES, *EXAMPLES[:5]]


def test_a_large_frame_in_many_pieces_costs_no_copy_for_each() -> None:
    frame = encode_frame([Put(1, b"key", bytes(1 << 20), b"", b"op", 100)])
    reader = FrameReader(FRAME_BYTES_MAX)
    tracemalloc.start()
    for at in range(0, len(frame) - 1, 100):
        reader.feed(frame[at : at + 100])
    (_, peak) = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 4 << 20


# -- what is too large -----------------------------------------------------------------------------


def test_a_frame_over_the_limit_is_refused_when_it_is_announced() -> None:
    reader = FrameReader(HANDSHAKE_BYTES_MAX)

    with pytest.raises(
        ProtocolError, match="2147483647 bytes was announced; the most here is 1024"
    ):
        reader.feed(b"\x7f\xff\xff\xff")


def test_a_frame_of_exactly_the_limit_is_taken() -> None:
    frame = encode_frame([Proof(bytes(100))])

    assert FrameReader(len(frame) - 4).feed(frame) == [Proof(bytes(100))]
    with pytest.raises(ProtocolError):
        FrameReader(len(frame) - 5).feed(frame)


def test_what_comes_right_behind_a_proof_is_judged_by_the_limit_of_then() -> None:
    """A client may go on at once, so its proof and a large request can arrive together."""
    put = Put(1, b"key", bytes(5000), b"", b"op", 100)
    reader = FrameReader(HANDSHAKE_BYTES_MAX)

    assert reader.feed(encode_frame([Proof(b"p")]) + encode_frame([put])) == [Proof(b"p")]
    reader.limit = FRAME_BYTES_MAX
    assert reader.feed(b"") == [put]


def test_a_stranger_cannot_hide_a_large_frame_behind_a_small_one() -> None:
    reader = FrameReader(HANDSHAKE_BYTES_MAX)
    reader.feed(encode_frame([Ping(1)]) + (1 << 20).to_bytes(4, "big"))

    with pytest.raises(ProtocolError, match="announced"):
        reader.feed(b"x")


def test_a_frame_over_the_limit_is_not_sent() -> None:
    with pytest.raises(ProtocolError, match="over the limit"):
        encode_frame([Proof(bytes(FRAME_BYTES_MAX))])
    with pytest.raises(ProtocolError, match="over the limit"):
        encode_frames([Ping(1), Proof(bytes(FRAME_BYTES_MAX))])


def test_what_does_not_fit_into_one_frame_goes_in_several_in_order() -> None:
    large = [Put(i, b"key", bytes(1 << 20), b"", b"op", 100) for i in range(20)]
    many: list[AnyMessage] = [Ping(i) for i in range(3 * MESSAGES_PER_FRAME_MAX + 1)]

    assert FrameReader(FRAME_BYTES_MAX).feed(encode_frames([*large])) == large
    assert FrameReader(FRAME_BYTES_MAX).feed(encode_frames(many)) == many


def test_a_frame_with_too_many_messages_is_refused_before_they_are_made() -> None:
    payload = b"\xdd" + (1 << 20).to_bytes(4, "big") + b"\x92\x28\x01" * (1 << 20)
    tracemalloc.start()
    with pytest.raises(ProtocolError, match="1048576 messages; the most is 4096"):
        decode_payload(payload)
    (_, peak) = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 1 << 16
    with pytest.raises(ProtocolError, match="messages"):
        decode_payload(b"\xdc\xff\xff" + b"\x92\x28\x01" * 65535)
    count = MESSAGES_PER_FRAME_MAX
    assert (
        len(decode_payload(b"\xdc" + count.to_bytes(2, "big") + b"\x92\x28\x01" * count)) == count
    )


@pytest.mark.parametrize(
    "payload",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\x91\x92\x2a\xdd\x7f\xff\xff\xff",
        b"\x91\x92\x02\xc6\xff\xff\xff\xff",
        b"\x91\x93\x28\x01\xdf\xff\xff\xff\xff",
        b"\x91\xdd\xff\xff\xff\xff\x28",
    ],
)
def test_a_length_inside_a_frame_that_promises_too_much_costs_nothing(payload: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(ProtocolError):
        decode_payload(payload)
    (_, peak) = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 1 << 16


# -- what is none of ours --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xc1", id="never used byte"),
        pytest.param(packed([40, 1]) + b"\0", id="trailing bytes"),
        pytest.param(packed([999, 1]), id="unknown tag"),
        pytest.param(packed(["Ping", 1]), id="a tag of another kind"),
        pytest.param(packed([40]), id="a field missing"),
        pytest.param(packed([40, "one"]), id="a field of another type"),
        pytest.param(packed([40, 1.5]), id="a float for an int"),
        pytest.param(packed([40, None]), id="nothing for an int"),
        pytest.param(packed({40: 1}), id="a map for a message"),
        pytest.param(packed(40), id="a number for a message"),
        pytest.param(msgspec.msgpack.encode({}), id="a map for the list"),
        pytest.param(packed([3, b"\xff", b"", b""]), id="bytes for text"),
        pytest.param(b"\x91\x94\x03\xa2\xff\xfe\xa0\xa0", id="text that is no UTF-8"),
        pytest.param(b"\x91\x92\x28\xcf\xff\xff\xff\xff\xff\xff\xff", id="a cut integer"),
        pytest.param(b"\x91" * 100_000, id="deep nesting"),
        pytest.param(b"\x91\x93\x28\x01" + b"\x91" * 100_000 + b"\x01", id="deep unknown field"),
        pytest.param(b"\x91\x93\x28\x01" + b"\x81\x01" * 100_000 + b"\x01", id="deep unknown map"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="HTTP"),
    ],
)
def test_a_payload_that_is_none_of_ours_raises_a_protocol_error(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        decode_payload(payload)


@pytest.mark.scenario(77)
def test_another_protocol_on_the_port_is_told_apart_by_its_first_bytes() -> None:
    for greeting in (b"GET / HTTP/1.1\r\n", b"*1\r\n$4\r\nPING\r\n", b"\x16\x03\x01\x02\x00\x01"):
        with pytest.raises(ProtocolError, match="was announced") as caught:
            FrameReader(HANDSHAKE_BYTES_MAX).feed(greeting)
        assert "port" in caught.value.hint


@pytest.mark.scenario(73)
def test_trailing_fields_of_a_newer_version_are_ignored() -> None:
    assert decode_payload(packed([40, 1, "new", {"field": [1, 2]}])) == [Ping(1)]


def test_fields_that_an_older_version_leaves_out_have_their_defaults() -> None:
    assert decode_payload(packed([10, 1, b"key", 100])) == [Get(1, b"key", 100)]


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_garbage_raises_only_protocol_errors(garbage: bytes) -> None:
    with suppress(ProtocolError):
        FrameReader(LIMIT).feed(garbage)
    with suppress(ProtocolError):
        decode_payload(garbage)


@pytest.mark.scenario(76)
def test_mutated_frames_raise_only_protocol_errors() -> None:
    chance = random.Random(679)
    seeds = [encode_frame([example]) for example in EXAMPLES] + [encode_frame(EXAMPLES)]
    refused = 0
    for _ in range(20_000):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 3)):
            match chance.randrange(4):
                case 0:
                    data[chance.randrange(len(data))] = chance.randrange(256)
                case 1:
                    del data[chance.randrange(len(data)) :]
                    data += b"\0"
                case 2:
                    data.insert(chance.randrange(len(data)), chance.choice(b"\xc4\xdc\xdd\xdf\x00"))
                case _:
                    data[:4] = (len(data) - 4).to_bytes(4, "big") if len(data) > 4 else b"\0\0\0\0"
        try:
            FrameReader(LIMIT).feed(bytes(data))
        except ProtocolError:
            refused += 1

    assert refused > 5_000, "the mutations are weak"
