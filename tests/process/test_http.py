"""HTTP from outside while a node is killed: the others go on, and nothing acknowledged is lost."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from tests.process.clusters import all_owners_agree, cluster, in_loop

pytestmark = pytest.mark.process


@in_loop
async def test_a_kill_fails_no_request_to_another_node_and_loses_nothing(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        clients = [httpx.AsyncClient(base_url=node.http, timeout=10) for node in made.nodes]
        acknowledged: dict[str, str] = {}
        for number in range(300):
            if number == 100:
                made.kill(2)
            if number == 200:
                await made.restart(2)
            client = clients[0] if number % 2 else clients[2]
            key, value = f"k{number}", f"v{number}"
            written = await client.put(
                f"/v1/kv/carts/{key}", content=value, params={"timeout": "8s"}
            )
            assert written.status_code == 204, written.text
            acknowledged[key] = value

        for client in clients:
            for key, value in acknowledged.items():
                found = await client.get(f"/v1/kv/carts/{key}")
                assert (found.status_code, found.text) == (200, value)
            told = (await client.get("/v1/kv/carts")).text.splitlines()
            assert len(told) == len(acknowledged) + 1
            await client.aclose()
        await all_owners_agree(made, "carts", acknowledged)
