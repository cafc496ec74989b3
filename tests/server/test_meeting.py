"""Nodes that find each other again."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import Nodes, eventually

from everwrite.cli.devplan import find_base_port
from everwrite.server import peers
from everwrite.server.transport import Connection


@in_loop
async def test_a_seed_is_dialled_until_a_member_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both nodes have moved: only the seed leads from one half to the other."""
    monkeypatch.setattr(peers, "SEED_BACKOFF_MAX_S", 0.2)
    port, in_vain, connect = find_base_port(1), 0, peers.Peers._connect

    async def noted(mine: peers.Peers, address: tuple[str, int]) -> Connection:
        nonlocal in_vain
        try:
            return await connect(mine, address)
        except (OSError, TimeoutError):
            in_vain += address[1] == port
            raise

    async def dialled_often() -> bool:
        return in_vain >= 3

    monkeypatch.setattr(peers.Peers, "_connect", noted)
    async with Nodes(tmp_path) as nodes:
        await nodes.grow("n1", "n2")
        for name in ("n1", "n2"):
            await nodes.stop(name)
        there = f"127.0.0.1:{port}"

        moved = await nodes.start("n2", join=(there,))
        assert moved.node.ready, "it knows its cluster"
        await eventually(dialled_often, f"{there} is dialled in vain, again and again")
        await nodes.start("n1", port=port)

        await nodes.met()
