"""Bytes that are no frames and messages that have no business here: each gets a clear Refused, the
connection ends, nothing is changed, and the node goes on serving others.
"""

from __future__ import annotations

import struct

import msgspec
import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import KEY, Nodes, Raw, a_put, contents, still_serves

from everwrite.core.config import FRAME_BYTES_MAX, HANDSHAKE_BYTES_MAX
from everwrite.core.data.keys import VALUE_BYTES_MAX
from everwrite.core.messages.greeting import Hello, Proof, Refused
from everwrite.core.messages.members import Member, News, Ping, Pong
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import (
    Failure,
    FetchReply,
    Get,
    GetReply,
    PutReply,
    Quality,
    Store,
    StoreReply,
    Told,
)
from everwrite.core.wire import MESSAGES_PER_FRAME_MAX, encode_frame
from everwrite.server import peers, transport


def framed(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


MALFORMED = {
    "an empty frame": framed(b""),
    "no MessagePack": framed(b"\xc1\xc1\xc1"),
    "a map in place of the list": framed(msgspec.msgpack.encode({"a": 1})),
    "a list of texts": framed(msgspec.msgpack.encode(["a", "b"])),
    "an unknown tag": framed(msgspec.msgpack.encode([[999, 1, 2, 3]])),
    "a message without its fields": framed(msgspec.msgpack.encode([[10]])),
    "fields of other types": framed(msgspec.msgpack.encode([[11, "a", 1, 2, 3, 4, 5]])),
    "a number over 64 bits": framed(b"\x91\x93\x0a" + b"\xcf" + b"\xff" * 9),
    "text that is no UTF-8": framed(b"\x91\x94\x0c\x01\xa2\xff\xfe\xc4\x00"),
    "bytes behind the list": framed(msgspec.msgpack.encode([]) + b"\x00"),
    "less than its length inside": framed(b"\xdc\x00\x05\x91"),
    "nested a thousand times": framed(b"\x91" * 1000),
    "nested a million times": framed(b"\x91" * 1_000_000),
    "a deep map": framed(b"\x81\xa0" * 100_000),
    "more messages than fit": framed(
        b"\xdd" + struct.pack(">I", MESSAGES_PER_FRAME_MAX + 1) + b"\x92\x28\x01" * 4097
    ),
    "a list that says it is huge": framed(b"\xdd\xff\xff\xff\xff"),
    "bytes that say they are huge": framed(b"\x91\x94\x14\x01\xc6\xff\xff\xff\xff"),
    "a frame over the limit": struct.pack(">I", FRAME_BYTES_MAX + 1),
    "the largest length there is": b"\xff\xff\xff\xff",
}


@pytest.mark.scenario(76)
@pytest.mark.parametrize("what", MALFORMED)
@in_loop
async def test_a_malformed_frame_of_a_client_is_refused(what: str) -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        before = contents(node)
        async with await Raw.enter(node) as raw:
            raw.write(MALFORMED[what])

            refused = await raw.refusal()

        assert refused.code == "protocol"
        assert refused.message
        assert contents(node) == before
        assert await still_serves(node)


@pytest.mark.parametrize("what", [what for what in MALFORMED if "million" not in what])
@in_loop
async def test_a_malformed_frame_of_a_stranger_is_refused(what: str) -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.dial(node) as raw:
            raw.write(MALFORMED[what])

            assert (await raw.refusal()).code == "protocol"

        assert await still_serves(node)


@pytest.mark.scenario(76)
@in_loop
async def test_a_stranger_may_announce_no_more_than_a_kilobyte() -> None:
    """Before anything of it is read, let alone kept."""
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.dial(node) as raw:
            raw.write(struct.pack(">I", HANDSHAKE_BYTES_MAX + 1))

            refused = await raw.refusal()

        assert refused.message == "A frame of 1025 bytes was announced; the most here is 1024."
        assert refused.hint == "Is this an Everwrite client, and is the port right?"


@pytest.mark.parametrize(
    "words",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x00\x00\x00\x00",
    ],
    ids=["TLS", "SSH", "zeros"],
)
@in_loop
async def test_a_client_of_another_protocol_is_told_so(words: bytes) -> None:
    """One of HTTP or Redis is told in its own words: test_wrong_port.py."""
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.dial(node) as raw:
            raw.write(words)

            refused = await raw.refusal()

        assert refused.code == "protocol"
        assert await still_serves(node)


@pytest.mark.scenario(36)
@in_loop
async def test_half_a_frame_and_a_broken_connection_do_nothing() -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        before = contents(node)
        put = encode_frame([a_put()])
        for cut in (1, 3, 4, 5, len(put) // 2, len(put) - 1):
            async with await Raw.enter(node) as raw:
                raw.write(put[:cut])
                await raw.writer.drain()
                raw.writer.transport.abort()

        assert await still_serves(node)
        assert contents(node) == before


@pytest.mark.scenario(36)
@in_loop
async def test_a_frame_may_come_byte_by_byte() -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.enter(node) as raw:
            for byte in encode_frame([a_put()]):
                raw.write(bytes((byte,)))
                await raw.writer.drain()

            assert isinstance(await raw.next(), PutReply)


@in_loop
async def test_what_comes_right_behind_the_proof_is_served_though_it_is_large() -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.dial(node) as raw:
            proof = await raw.proof()
            put = a_put(b"v" * VALUE_BYTES_MAX)
            raw.write(encode_frame([proof]) + encode_frame([put]))

            assert isinstance(await raw.next(), PutReply)


MEMBER = Member(b"x" * 8, "x", "127.0.0.1", 1, "z", 1.0, 9, 9)

OF_NODES = [
    Store(1, KEY, b"\x92\x80\x90", 1000, 0),
    Store(1, KEY, b"\x92\x80\x90", 1000, 0, hint_for=b"x" * 8),
    StoreReply(1, 3, True),
    FetchReply(1, 0, b""),
    GetReply(1, [], b"", Quality(3, 0, 2)),
    PutReply(1, b"", 3, 0, 3, 1),
    Failure(1, "internal", "", "", "none", 0, 0),
    Told(1, b"{}"),
    Ping(1),
    Pong(1),
    News([MEMBER], []),
    Proof(b"p" * 32),
    Refused("internal", ""),
    Hello(1, 1, b"", b"x" * 8, "again", b"n" * 16),
]


@pytest.mark.scenario(79)
@pytest.mark.parametrize("message", OF_NODES, ids=lambda message: type(message).__name__)
@in_loop
async def test_a_client_that_speaks_like_a_node_is_refused(message: Message) -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        before = contents(node)
        async with await Raw.enter(node) as raw:
            raw.send(message)

            refused = await raw.refusal()

        assert refused.code == "protocol"
        kind = type(message).__name__
        assert refused.message == (
            f"A {kind} is not for the other side of this connection to send."
        )
        assert contents(node) == before
        assert len(node.node.local.members) == 1
        assert await still_serves(node)


@in_loop
async def test_what_came_before_a_bad_message_in_the_same_frame_is_done_as_usual() -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.enter(node) as raw:
            raw.send(a_put(b"v"), Ping(1))
            assert (await raw.refusal()).code == "protocol"

        async with await Raw.enter(node) as raw:
            found = await raw.call(Get(1, KEY, 1000))
        assert isinstance(found, GetReply)
        assert found.values == [(0, b"v")]


@pytest.mark.scenario(34)
@in_loop
async def test_a_frame_that_is_never_finished_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "FRAME_S", 0.1)
    monkeypatch.setattr(peers, "LOOK_EVERY_S", 0.05)
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.enter(node) as raw:
            raw.write(struct.pack(">I", FRAME_BYTES_MAX) + b"x" * 1000)

            refused = await raw.refusal()

        assert refused.message.startswith("A frame was not complete after")
        assert node.peers.unfinished_bytes == 0


@pytest.mark.scenario(19)
@in_loop
async def test_all_incomplete_frames_of_a_node_have_one_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "UNFINISHED_BYTES_MAX", 100_000)
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.enter(node) as one, await Raw.enter(node) as two:
            for raw in (one, two):
                await raw.ask("status")
            one.write(struct.pack(">I", FRAME_BYTES_MAX) + b"x" * 60_000)
            assert await still_serves(node)
            two.write(struct.pack(">I", FRAME_BYTES_MAX) + b"x" * 60_000)

            assert (await two.refusal()).code == "overloaded"
