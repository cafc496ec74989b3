"""Who may come in: protocol version, cluster, secret, patience, and how many at once (P7)."""

from __future__ import annotations

import asyncio

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import (
    KEY,
    Nodes,
    Raw,
    a_put,
    an_honest_hello,
    contents,
    eventually,
    still_serves,
)

import everwrite
from everwrite.core.errors import DeniedError, Unreachable
from everwrite.core.messages.greeting import Hello, Proof
from everwrite.core.messages.members import Ping
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Get
from everwrite.server import transport

SECRET = b"open sesame"


@pytest.mark.scenario(77)
@pytest.mark.parametrize(("least", "most"), [(3, 9), (0, 0), (1, 1)])
@in_loop
async def test_a_protocol_version_that_does_not_fit_is_refused(least: int, most: int) -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.dial(node) as raw:
            raw.send(an_honest_hello(protocol_min=least, protocol_max=most))

            refused = await raw.refusal()

        assert refused.code == "protocol"
        assert refused.message == (f"'test' speaks protocol {least} to {most}, this side 2 to 2.")
        assert refused.hint == "Upgrade the older of the two."


@in_loop
async def test_a_newer_client_that_still_speaks_our_version_comes_in() -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.dial(node) as raw:
            await raw.greet(protocol_min=2, protocol_max=99)

            assert await raw.ask("status")


@in_loop
async def test_another_cluster_is_refused() -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        mine = node.node.local.cluster.cluster_id
        async with await Raw.dial(node) as raw:
            raw.send(an_honest_hello(cluster_id=b"another cluster!"))

            refused = await raw.refusal()

        assert refused.code == "other_cluster"
        assert mine.hex() in refused.message
        assert b"another cluster!".hex() in refused.message
        assert refused.hint.startswith("Clusters are never merged: check the address")


@pytest.mark.scenario(77)
@in_loop
async def test_a_node_of_another_cluster_is_refused_and_neither_takes_the_other() -> None:
    async with Nodes() as ours, Nodes() as theirs:
        (a,) = await ours.grow("a")
        (b,) = await theirs.grow("b")
        before = contents(a), contents(b)
        identity = b.peers.identity
        async with await Raw.dial(a) as raw:
            raw.send(
                an_honest_hello(
                    cluster_id=identity.cluster_id, node_id=identity.node_id, name=identity.name
                )
            )
            assert (await raw.refusal()).code == "other_cluster"

        assert (contents(a), contents(b)) == before
        assert len(a.node.local.members) == len(b.node.local.members) == 1


@pytest.mark.scenario(77)
@pytest.mark.parametrize(
    ("secret", "says"),
    [(b"", "'test' gave no secret."), (b"another", "'test' has another secret.")],
)
@in_loop
async def test_a_client_with_another_secret_is_refused_before_it_can_ask(
    secret: bytes, says: str
) -> None:
    async with Nodes(secret=SECRET) as nodes:
        (node,) = await nodes.grow("n1")
        before = contents(node)
        async with await Raw.dial(node) as raw:
            await raw.greet(secret=secret)
            raw.send(a_put())

            refused = await raw.refusal()

        assert refused.code == "denied"
        assert refused.message == says
        assert refused.hint == "Give both sides the same EVERWRITE_SECRET."
        assert contents(node) == before


@pytest.mark.parametrize(
    ("mine", "secret", "says"),
    [
        (SECRET, b"", r"'n1' has a secret, and you gave none\. Set EVERWRITE_SECRET"),
        (b"", SECRET, r"'n1' has no secret, and you gave one\. Unset EVERWRITE_SECRET"),
    ],
)
@in_loop
async def test_the_python_client_says_which_side_has_no_secret(
    mine: bytes, secret: bytes, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVERWRITE_SECRET", raising=False)
    async with Nodes(secret=mine) as nodes:
        (node,) = await nodes.grow("n1")

        with pytest.raises(DeniedError, match=says):
            await everwrite.connect(node.address, secret=secret)


@pytest.mark.parametrize("secret", [b"another", b"x" * 200])
@in_loop
async def test_the_python_client_says_that_the_secret_is_wrong(secret: bytes) -> None:
    """The node proves itself first, so the client never sends it anything."""
    async with Nodes(secret=SECRET) as nodes:
        (node,) = await nodes.grow("n1")

        with pytest.raises(DeniedError, match=r"has another secret.*EVERWRITE_SECRET"):
            await everwrite.connect(node.address, secret=secret)

        async with await everwrite.connect(node.address, secret=SECRET) as db:
            assert await db.ask("status")


@in_loop
async def test_a_proof_cannot_be_used_again() -> None:
    async with Nodes(secret=SECRET) as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.dial(node) as raw:
            proof = await raw.proof(secret=SECRET)
            raw.send(proof)
            assert await raw.ask("status")

        async with await Raw.dial(node) as raw:
            await raw.proof(secret=SECRET)
            raw.send(proof)

            assert (await raw.refusal()).code == "denied"


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (Proof(b"p" * 32), "A Hello was due; a Proof came."),
        (Get(1, KEY, 1000), "A Hello was due; a Get came."),
        (Ping(1), "A Hello was due; a Ping came."),
        (
            an_honest_hello(nonce=b"short"),
            "The Hello's nonce or node id has an impossible length.",
        ),
        (
            an_honest_hello(node_id=b"short"),
            "The Hello's nonce or node id has an impossible length.",
        ),
    ],
    ids=["Proof", "Get", "Ping", "nonce", "node id"],
)
@in_loop
async def test_a_stranger_must_say_hello_first(first: Message, says: str) -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.dial(node) as raw:
            raw.send(first)

            refused = await raw.refusal()

        assert (refused.code, refused.message) == ("protocol", says)


@pytest.mark.parametrize("second", [an_honest_hello(), Get(1, KEY, 1000)], ids=["Hello", "Get"])
@in_loop
async def test_a_stranger_must_prove_itself_next(second: Message) -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.dial(node) as raw:
            raw.send(an_honest_hello(), second)
            assert isinstance(await raw.next(), Hello)

            refused = await raw.refusal()

        assert refused.code == "protocol"
        assert refused.message == f"A proof of the secret was due; a {type(second).__name__} came."


@in_loop
async def test_a_client_is_never_told_the_salt_that_signs_contexts() -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.dial(node) as raw:
            raw.send(an_honest_hello())
            theirs = await raw.next()

        assert isinstance(theirs, Hello)
        assert (theirs.salt, theirs.cluster_name) == (b"", "everwrite")


# -- patience and numbers --------------------------------------------------------------------------


@pytest.mark.parametrize("words", [b"", b"\0", b"\0\0\0\x20\x91"], ids=["silent", "1 byte", "part"])
@in_loop
async def test_a_stranger_who_takes_too_long_is_sent_away(
    words: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        with monkeypatch.context() as hasty:
            hasty.setattr(transport, "HANDSHAKE_S", 0.1)
            async with await Raw.dial(node) as raw:
                raw.write(words)

                refused = await raw.refusal()

        assert refused.code == "protocol"
        assert refused.message.startswith("The handshake took over 0 s")
        assert await still_serves(node)


@pytest.mark.scenario(75)
@in_loop
async def test_a_stranger_who_drips_byte_by_byte_gains_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Slowloris: the limit is for the whole handshake, not for each byte."""
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        monkeypatch.setattr(transport, "HANDSHAKE_S", 0.2)
        async with await Raw.dial(node) as raw:
            ended = asyncio.ensure_future(raw.refusal())
            sent = 0
            while not ended.done():
                raw.write(b"\0\0\0\xff"[sent : sent + 1] or b"\x91")
                sent += 1
                await asyncio.wait([ended], timeout=0.01)

            assert (await ended).message.startswith("The handshake took over")
        assert sent < 200


@in_loop
async def test_a_client_that_came_in_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        # It comes in within this time also if the machine holds it up.
        monkeypatch.setattr(transport, "HANDSHAKE_S", 3.0)
        async with await Raw.enter(node) as idle, await Raw.dial(node) as stranger:
            await idle.ask("status")
            await stranger.refusal()

            assert await idle.ask("status")


@in_loop
async def test_more_strangers_than_fit_are_told_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("everwrite.server.peers.HANDSHAKES_MAX", 2)
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.dial(node) as one, await Raw.dial(node) as two:
            one.write(b"\0")
            two.write(b"\0")
            async with await Raw.dial(node) as three:
                refused = await three.refusal()
            one.writer.transport.abort()
            two.writer.transport.abort()

        assert refused.code == "overloaded"
        assert refused.hint == "Try again in a moment."

        async def let_in() -> bool:
            async with await Raw.dial(node) as raw:
                raw.send(an_honest_hello())
                return isinstance(await raw.next(), Hello)

        await eventually(let_in, "a stranger is let in once others are gone")


@pytest.mark.scenario(75)
@in_loop
async def test_a_stranger_that_says_nothing_makes_room_for_a_newcomer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("everwrite.server.peers.HANDSHAKES_MAX", 2)
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.dial(node) as one, await Raw.dial(node) as two:
            async with await Raw.enter(node) as client:
                assert await client.ask("status")
            assert (await one.refusal()).code == "overloaded"
            assert await still_serves(node)
            two.writer.close()


@pytest.mark.scenario(75)
@in_loop
async def test_more_clients_than_fit_are_told_to_go_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("everwrite.server.peers.CLIENTS_MAX", 1)
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.enter(node) as first:
            await first.ask("status")
            async with await Raw.enter(node) as second:
                refused = await second.refusal()

            assert refused.code == "overloaded"
            assert refused.hint == "Close some, or connect to another node."
            assert await first.ask("status")

        assert await still_serves(node)


@pytest.mark.scenario(37)
@in_loop
async def test_a_client_that_does_not_read_its_answers_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What waits for it would fill the node's memory."""
    monkeypatch.setattr(transport, "WRITE_BYTES_MAX", 1 << 20)
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.enter(node) as raw:
            await raw.call(a_put(b"v" * 1_000_000))
            raw.writer.transport.pause_reading()  # type: ignore[attr-defined]

            asked = 0
            while asked < 40 and not raw.writer.transport.is_closing():
                asked += 1
                raw.send(Get(asked, KEY, 3000))
                assert await still_serves(node)

        assert asked < 40


@in_loop
async def test_a_client_that_reads_slowly_is_not_read_from_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "WRITE_BYTES_HIGH", 1 << 16)
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        async with await Raw.enter(node) as raw:
            await raw.call(a_put(b"v" * 1_000_000))
            raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
            for rid in range(2, 42):
                raw.send(Get(rid, KEY, 3000))
                assert await still_serves(node)
            assert node.node.local.counters.gets < 40

            raw.writer.transport.resume_reading()  # type: ignore[attr-defined]
            answers = [await raw.next() for _ in range(2, 42)]

        assert [answer.rid for answer in answers] == list(range(2, 42))  # type: ignore[union-attr]


@in_loop
async def test_a_client_hears_that_nobody_is_there() -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        address = node.address
    with pytest.raises(Unreachable, match="Is the cluster running, and is the address right"):
        await everwrite.connect(address, timeout=2)
