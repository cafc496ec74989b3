"""How a real node's process ends that its cluster has let go, by its own wish or not."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from tests.process.clusters import in_loop
from tests.server.nodes import PATIENCE_S, Nodes, eventually, rule

from everwrite.cli.devplan import find_base_port
from everwrite.core.messages.members import LEAVING, REMOVED, Member

pytestmark = pytest.mark.process


async def serve(directory: Path, join: str, *options: str) -> asyncio.subprocess.Process:
    """Start `everwrite serve` as a user would, to join a node."""
    place = ["--data", str(directory), "--engine", "sqlite", "--name", "n2"]
    port = ["--base-port", str(find_base_port(1)), "--join", join]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "everwrite", "serve", *place, *port, *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    """Return a process's exit code and what it said, once it has ended by itself."""
    async with asyncio.timeout(2 * PATIENCE_S):
        _, said = await process.communicate()
    return process.returncode, said.decode()


async def settled(nodes: Nodes, name: str) -> Member:
    """Return a member that is another process, once it serves everything."""
    local = nodes.running["n1"].node.local

    async def serves() -> bool:
        member = local.members.named(name)
        return member is not None and member.serves == local.members.me.serves

    await eventually(serves, f"{name} serves everything")
    member = local.members.named(name)
    assert member is not None
    return member


@pytest.mark.scenario(67)
@in_loop
async def test_a_removed_node_ends_with_an_error_at_once_and_at_its_next_start(
    tmp_path: Path,
) -> None:
    async with Nodes() as nodes:
        one = await nodes.start("n1")
        process = await serve(tmp_path / "n2", one.address)
        rule(one, await settled(nodes, "n2"), REMOVED)

        code, said = await ended(process)
        again, said_again = await ended(await serve(tmp_path / "n2", one.address))

    assert (code, again) == (1, 1)
    for text in (said, said_again):
        assert "was removed from its cluster for good. Nothing of its data was touched." in text
        assert "everwrite serve --rejoin-as-new --join HOST:PORT" in text


@in_loop
async def test_a_node_that_has_left_ends_well_and_says_that_its_directory_can_go(
    tmp_path: Path,
) -> None:
    async with Nodes() as nodes:
        one = await nodes.start("n1")
        process = await serve(tmp_path / "n2", one.address)
        rule(one, await settled(nodes, "n2"), LEAVING)

        code, said = await ended(process)

        again, said_again = await ended(await serve(tmp_path / "n2", one.address))

    assert code == 0, said
    assert f"{tmp_path / 'n2'} can be deleted" in said
    assert again == 1
    assert "has left its cluster, and all that it held is with the others" in said_again
    assert "was removed" not in said_again
