"""Nodes that find each other again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import (
    PATIENCE_S,
    Nodes,
    eventually,
)

from everwrite.cli.devplan import find_base_port
from everwrite.server import peers
from everwrite.server.runtime import Runtime


@in_loop
async def test_a_seed_is_dialled_until_a_member_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both nodes have moved: only the seed leads from one half to the other."""
    monkeypatch.setattr(peers, "SEED_BACKOFF_MAX_S", 0.2)
    async with Nodes(tmp_path) as nodes:
        await nodes.grow("n1", "n2")
        for name in ("n1", "n2"):
            await nodes.stop(name)
        port = find_base_port(1)
        there = f"127.0.0.1:{port}"

        moved = await nodes.start("n2", join=(there,))
        assert moved.node.ready, "it knows its cluster"
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*[dial_fails(moved, there) for _ in range(3)])
        await nodes.start("n1", port=port)

        await nodes.met()


async def dial_fails(node: Runtime, address: str) -> None:
    """Return when a node is about to dial an address where nobody is."""
    host, port = address.rsplit(":", 1)

    async def dialling() -> bool:
        return (host, int(port)) in node.peers._dialling

    await eventually(dialling, f"{address} is dialled")
