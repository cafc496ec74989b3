"""Who is refused in the middle of what it sends hears why, over a real socket; and does not stay.

A socket that is closed while something in it is unread resets the connection, and what was said is
lost on its way (server/parting.py).
"""

from __future__ import annotations

import asyncio
import struct
from functools import partial

import pytest
from tests.client.fake_node import in_loop, until
from tests.server.nodes import PATIENCE_S, Nodes, Raw, eventually, still_serves

from everwrite.core.config import FRAME_BYTES_MAX, HANDSHAKE_BYTES_MAX
from everwrite.server import parting
from everwrite.server.runtime import Runtime

PART = b"x" * (1 << 20)
TOO_LARGE = struct.pack(">I", FRAME_BYTES_MAX + 1) + PART
OF_A_STRANGER = struct.pack(">I", HANDSHAKE_BYTES_MAX + 1) + PART


async def gone(runtime: Runtime) -> None:
    """Return once the node keeps no connection of a client, nor of a stranger."""

    async def nobody() -> bool:
        return not runtime.peers._all() and not runtime.peers.leaving

    await eventually(nobody, "its place is free")


async def send_much(raw: Raw) -> None:
    """Send more than is dropped for anybody, and read to the end."""
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(4 * parting.LEAVE_BYTES_MAX // len(PART)):
            raw.write(PART)
            await raw.writer.drain()
        await raw._reader.read()


@pytest.mark.parametrize("known", [True, False], ids=["client", "stranger"])
@in_loop
async def test_who_sends_a_frame_that_is_too_large_hears_so(known: bool) -> None:
    """It reads once it has sent its part, as many do: by then the node has refused it, and a
    connection that was reset would take no more.
    """
    async with Nodes() as nodes:
        node = await nodes.start("n1")
        raw = await (Raw.enter(node) if known else Raw.dial(node))
        raw.writer.transport.pause_reading()
        raw.write(TOO_LARGE if known else OF_A_STRANGER)
        await until(lambda: node.peers.leaving or not node.peers._all())
        for _ in range(2):
            raw.write(PART)
            await raw.writer.drain()
        await eventually(partial(_sent, raw), "all is sent")
        raw.writer.transport.resume_reading()

        assert "bytes was announced" in (await raw.refusal()).message
        raw.writer.close()
        await gone(node)
        assert await still_serves(node)


async def _sent(raw: Raw) -> bool:
    await raw.writer.drain()  # which raises what broke the connection
    return raw.writer.transport.get_write_buffer_size() == 0


@in_loop
async def test_who_sends_on_is_cut_off() -> None:
    async with Nodes() as nodes:
        node = await nodes.start("n1")
        raw = await Raw.enter(node)
        raw.write(TOO_LARGE)

        with pytest.raises(ConnectionError):
            await send_much(raw)

        await gone(node)


@in_loop
async def test_who_is_refused_and_stays_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parting, "LEAVE_S", 0.2)
    async with Nodes() as nodes:
        node = await nodes.start("n1")
        raw = await Raw.enter(node)
        raw.write(TOO_LARGE)
        await raw.refusal()

        await gone(node)
        raw.writer.close()


@in_loop
async def test_a_node_that_stops_leaves_none_of_them_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parting, "LEAVE_S", 3600.0)
    async with Nodes() as nodes:
        node = await nodes.start("n1")
        raw = await Raw.enter(node)
        raw.write(TOO_LARGE)
        await raw.refusal()
        assert node.peers.leaving

        await nodes.stop("n1")

        await gone(node)
        raw.writer.close()


@in_loop
async def test_a_peer_that_is_refused_is_reached_by_another_connection_at_once() -> None:
    async with Nodes() as nodes:
        first, second = await nodes.grow("n1", "n2")
        (link,) = [link for links in second.peers._links.values() for link in links][:1]
        accepted = first if link.dialled else second
        served = [each for links in accepted.peers._links.values() for each in links]
        (before,) = [each for each in served if not each.dialled]
        before.data_received(TOO_LARGE)
        assert before not in [each for links in accepted.peers._links.values() for each in links]

        await nodes.met()

        async def again() -> bool:
            links = [each for links in accepted.peers._links.values() for each in links]
            return bool(links) and before not in accepted.peers.leaving

        await eventually(again, "they are connected anew, and the old one is gone")
