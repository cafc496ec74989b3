"""Real nodes join and leave under load, and die while data moves: no request fails after one retry,
nothing acknowledged is lost, and in the end each holds what it owns and nothing else (P1, P6).
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.process.clusters import (
    all_owners_agree,
    cluster,
    connect,
    eventually,
    in_loop,
    statuses,
)
from tests.process.load import BUCKET, Load

from everwrite.cli.devcluster import DevCluster
from everwrite.cli.reports import Status
from everwrite.core.moving.ranges import HASH_BITS
from everwrite.core.records import OWN
from everwrite.storage.store import open_store

pytestmark = pytest.mark.process

PARTITIONS = 64
KEYS_EACH = 150
"""Of 16 writers: 2400 keys, some forty in each partition."""
READERS = 8
SCAN_PAGE = 1000


async def everwrite(made: DevCluster, *words: str) -> dict[str, Any]:
    """Run a command against the first node, as a user would, and return what it says as JSON."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "everwrite", *words),
        *("--url", made.node(1).address, "-o", "json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    answer: dict[str, Any] = json.loads(out)
    return answer


def place(status: Status) -> tuple[int, int, int, int]:
    """Return (owned, serves, to gain, to shed) as a node says of itself."""
    me = next(peer for peer in status.nodes if peer.state == "self")
    return me.owned, me.serves, me.to_gain, me.to_shed


async def settled(made: DevCluster, *names: str) -> None:
    """Return once these are the members, all see all, and nothing is left to move."""

    async def home() -> bool:
        answers = await statuses(made)
        known = [{peer.name for peer in answer.nodes} for answer in answers]
        return (
            {answer.node.name for answer in answers} == set(names)
            and all(members == set(names) for members in known)
            and all(peer.state != "down" for answer in answers for peer in answer.nodes)
            and not any(p.to_gain + p.to_shed for answer in answers for p in answer.nodes)
            and not any(answer.hints.waiting for answer in answers)
            and len({answer.cluster.view for answer in answers}) == 1
        )

    await eventually(home, f"{', '.join(names)} have settled")


async def moving(made: DevCluster, number: int) -> None:
    """Return once a node has taken in some of its partitions, and not nearly all."""

    async def amid() -> bool:
        status = await made.status(number)
        if status is None:
            return False
        owned, serves, to_gain, _ = place(status)
        assert not owned or to_gain or not serves, f"n{number} was done before it could be stopped"
        return bool(owned) and serves > 0 and to_gain > owned / 3

    await eventually(amid, f"n{number} is taking in its partitions")


def join(made: DevCluster, count: int) -> list[int]:
    """Start so many more nodes with --join; return their numbers."""
    numbers = [made.add().number for _ in range(count)]
    for number in numbers:
        made.spawn(number)
    return numbers


async def each_holds_what_it_owns(made: DevCluster, keys: Iterable[str]) -> None:
    """Fail unless the members serve and keep what they own, the owners of each key hold the same
    bytes, and the disks have each key's copies on its owners and nowhere else. Ends the cluster.
    """
    ring = await everwrite(made, "ring")
    transfers = await everwrite(made, "transfers")
    assert transfers["left"] == {"to_gain": 0, "to_shed": 0}
    for seat in ring["nodes"]:
        assert seat["serves"] == seat["keeps"] == seat["owned"], seat
    await all_owners_agree(made, BUCKET, keys)
    names = [seat["name"] for seat in ring["nodes"]]
    owners = [{names[at] for at in row[: ring["replicas"]]} for row in ring["preference"]]
    made.stop()
    held: dict[str, set[bytes]] = {}
    for node in made.nodes:
        found = _own_keys(made.directory / f"node{node.number}")
        if node.name not in names:
            assert not found, f"{node.name} has left and keeps {len(found)} records"
            continue
        held[node.name] = found
    shift = HASH_BITS - (ring["partitions"].bit_length() - 1)
    for key in set().union(*held.values()):
        there = {name for name, found in held.items() if key in found}
        assert there == owners[int.from_bytes(key[1:9], "big") >> shift], key.hex()


def _own_keys(directory: Path) -> set[bytes]:
    """Return the disk keys of all own copies in a data directory."""
    found: set[bytes] = set()
    start, end = OWN, bytes((OWN[0] + 1,))
    store = open_store(directory, "rocksdb")
    try:
        while page := store.scan(start, end, SCAN_PAGE):
            found.update(key for key, _ in page)
            start = page[-1][0] + b"\0"
    finally:
        store.close()
    return found


@in_loop
async def test_two_nodes_join_and_leave_again_and_no_request_fails(tmp_path: Path) -> None:
    async with cluster(tmp_path, partitions=PARTITIONS) as made, await connect(made) as db:
        async with Load(db, keys_each=KEYS_EACH, readers=READERS) as load:
            await load.more(KEYS_EACH * 16)
            join(made, 2)
            await settled(made, "n1", "n2", "n3", "n4", "n5")
            await load.more(500)
            grown = await everwrite(made, "ring")
            assert min(seat["owned"] for seat in grown["nodes"]) > 0

            await everwrite(made, "plan", "leave", "n4", "n5", "--commit")
            codes = [await asyncio.to_thread(made.ended, n) for n in (4, 5)]
            await settled(made, "n1", "n2", "n3")
            await load.more(500)

        assert codes == [0, 0]
        assert load.errors == []
        assert load.lies == []
        assert load.reads > 100
        await load.check(db)
        await each_holds_what_it_owns(made, list(load.acked)[::10])


@pytest.mark.parametrize("victim", ["n4", "n2"], ids=["the taker", "the giver"])
@in_loop
async def test_a_kill_in_the_midst_of_a_move_holds_it_up_and_loses_nothing(
    victim: str, tmp_path: Path
) -> None:
    async with cluster(tmp_path, partitions=PARTITIONS) as made, await connect(made) as db:
        async with Load(db, keys_each=KEYS_EACH, readers=READERS) as load:
            await load.more(KEYS_EACH * 16)
            join(made, 1)
            await moving(made, 4)
            number = int(victim[1:])
            made.kill(number)
            await load.more(500)
            made.spawn(number)
            await settled(made, "n1", "n2", "n3", "n4")
            await load.more(500)

        assert load.errors == []
        assert load.lies == []
        await load.check(db)
        await each_holds_what_it_owns(made, list(load.acked)[::10])


@in_loop
async def test_a_removed_node_that_comes_back_is_refused_and_brings_home_what_only_it_has(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, nodes=4, partitions=PARTITIONS) as made:
        async with await connect(made, 4) as db:
            # With all others gone, the last one acknowledges alone: nobody else has these.
            for number in (1, 2, 3):
                made.kill(number)
            async with Load(db, w=1) as alone:
                await alone.more(200)
        made.kill(4)
        for number in (1, 2, 3):
            made.spawn(number)
        await made.wait_ready()
        async with await connect(made, 1, 2, 3) as db:
            await everwrite(made, "plan", "remove", "n4", "--force", "--commit")
            await settled(made, "n1", "n2", "n3")
            missing = [key for key in alone.acked if not (await db.bucket(BUCKET).get(key)).values]
            assert missing, "all was elsewhere too: this proves nothing"

            made.spawn(4)
            code = await asyncio.to_thread(made.ended, 4)
            assert code == 1
            assert "was removed from its cluster for good" in made.log(4).read_text()

            made.spawn(4, "--rejoin-as-new")
            await settled(made, "n1", "n2", "n3", "n4")
            await alone.check(db)
            await all_owners_agree(made, BUCKET, alone.acked)
