"""kill -9 and restarts of real nodes under load: nothing acknowledged is lost (P1, P2)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.process.clusters import (
    all_hints_home,
    all_owners_agree,
    cluster,
    connect,
    in_loop,
    seen_down,
    statuses,
)
from tests.process.load import BUCKET, Load

pytestmark = pytest.mark.process


@pytest.mark.parametrize("victim", [1, 2, 3])
@in_loop
async def test_a_kill_of_any_one_node_fails_no_request_after_one_retry(
    victim: int, tmp_path: Path
) -> None:
    async with cluster(tmp_path) as made, await connect(made) as db:
        async with Load(db) as load:
            await load.more(2000)
            made.kill(victim)
            await load.more(4000)
            await made.restart(victim)
            await load.more(2000)

        assert load.errors == []
        await all_hints_home(made)
        await load.check(db)


@pytest.mark.parametrize("victim", ["1", "3"])
def test_a_kill_during_a_benchmark_fails_no_request(victim: str) -> None:
    """As a user would look: `everwrite bench` with 64 requests in flight and one retry."""
    options = ["--nodes", "3", "--keys", "2000", "--warmup", "0.5", "--seconds", "3", "-o", "json"]
    command = [sys.executable, "-m", "everwrite", "bench", *options, "--kill", victim, "1"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert f"n{victim}" not in report["rss_bytes"], "it was gone at the end"
    assert report["errors"] == 0


@in_loop
async def test_after_a_kill_the_replicas_become_identical_without_anybody_reading(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as made, await connect(made) as db:
        async with Load(db) as load:
            await load.more(500)
            made.kill(2)
            await load.more(1000)
            await made.restart(2)
            await load.more(500)
        await all_hints_home(made)

        await all_owners_agree(made, BUCKET, load.acked)


@in_loop
async def test_a_kill_of_all_nodes_at_once_loses_nothing_acknowledged(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        loads = []
        for life in range(3):
            async with await connect(made) as db, Load(db, name=f"life{life}-") as load:
                await load.more(1000)
                for number in (1, 2, 3):
                    made.kill(number)
            loads.append(load)
            await made.start()

        async with await connect(made) as db:
            for load in loads:
                await load.check(db)
            done = await db.bucket(BUCKET).put("after", "v", w=3)
            assert done.owners == 3


@in_loop
async def test_a_stop_and_start_of_all_nodes_keeps_everything(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        async with await connect(made) as db, Load(db) as load:
            await load.more(300)
        assert load.errors == []
        before = {status.node.name: status.node.id for status in await statuses(made)}
        assert made.stop() == [], "each ends by itself on SIGTERM"

        await made.start()

        assert {status.node.name: status.node.id for status in await statuses(made)} == before
        async with await connect(made) as db:
            await load.check(db)


@in_loop
async def test_a_restart_of_one_node_after_the_other_fails_no_request(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made, await connect(made, retries=2) as db:
        async with Load(db) as load:
            for number in (1, 2, 3):
                await load.more(100)
                await made.restart(number)
            await load.more(100)

        assert load.errors == []
        await all_hints_home(made)
        await load.check(db)


@in_loop
async def test_one_node_that_is_left_takes_writes_with_w_1_and_brings_them_home(
    tmp_path: Path,
) -> None:
    """P1: whoever else is down."""
    async with cluster(tmp_path) as made:
        made.kill(1)
        made.kill(2)
        await seen_down(made, 3, "n1")
        await seen_down(made, 3, "n2")
        async with await connect(made, 3) as db, Load(db, w=1) as load:
            await load.more(200)
        assert load.errors == []

        await made.start()
        await all_hints_home(made)

        await all_owners_agree(made, BUCKET, load.acked)
        async with await connect(made) as db:
            await load.check(db)
