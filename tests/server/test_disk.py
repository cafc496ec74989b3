"""How long an fsync takes is measured, told to the peers and to who asks, and forgotten in time."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

from tests.client.fake_node import in_loop
from tests.server.nodes import Nodes, Raw, a_put, eventually

from everwrite.core.errors import StorageError
from everwrite.core.messages.requests import PutReply
from everwrite.server.disk import SYNC_HANGS_MS, SYNC_SAYS_MS, Ack, Disk
from everwrite.storage.memory import MemoryEngine
from everwrite.storage.store import Store


class HeldDisk(MemoryEngine):
    """A disk whose fsync ends when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def sync(self) -> None:
        self.go.wait()
        super().sync()


class Rig:
    """A disk on an engine, and what it gave back."""

    def __init__(self, engine: MemoryEngine) -> None:
        self.given: asyncio.Queue[list[Ack]] = asyncio.Queue()
        self.disk = Disk(
            asyncio.get_running_loop(),
            Store(engine),
            synced=self.given.put_nowait,
            loaded=lambda keys, found: None,
            failed=self.fail,
            broken=self.fail,
        )

    def fail(self, error: BaseException | StorageError) -> None:
        raise error


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


@in_loop
async def test_a_disk_that_was_not_asked_for_an_fsync_says_nothing_of_its_pace() -> None:
    rig = Rig(MemoryEngine())

    assert rig.disk.sync_ms(now_ms()) == -1
    rig.disk.close()


@in_loop
async def test_an_fsync_says_how_fast_the_disk_is_for_a_few_seconds() -> None:
    rig = Rig(MemoryEngine())

    rig.disk.sync([])
    await rig.given.get()

    assert 0 <= rig.disk.sync_ms(now_ms()) < SYNC_HANGS_MS
    assert rig.disk.sync_ms(now_ms() + SYNC_SAYS_MS + 1) == -1
    rig.disk.close()


@in_loop
async def test_an_fsync_that_hangs_counts_while_it_does_and_as_what_it_took_afterwards() -> None:
    engine = HeldDisk()
    rig = Rig(engine)

    rig.disk.sync([])
    later = now_ms() + 700
    assert rig.disk.sync_ms(now_ms()) == -1, "it has just begun"
    assert 690 <= rig.disk.sync_ms(later) <= 710

    await asyncio.sleep(0.1)  # the length of this fsync, not the wait for something
    engine.go.set()
    await rig.given.get()

    assert rig.disk.sync_ms(now_ms()) >= 90
    assert rig.disk.sync_ms(later) < 690, "none runs any more"
    rig.disk.close()


@in_loop
async def test_status_shows_the_time_of_an_fsync_and_the_round_trip_to_each_peer(
    tmp_path: Path,
) -> None:
    async with Nodes(tmp_path) as nodes:
        one, two = await nodes.grow("n1", "n2")
        async with await Raw.enter(one) as raw:
            assert isinstance(await raw.call(a_put()), PutReply)

            async def measured() -> bool:
                status = await nodes.status("n1")
                rows = {row["name"]: row for row in status["nodes"]}
                assert rows["n1"]["rtt_ms"] is None
                return rows["n2"]["rtt_ms"] is not None and status["node"]["sync_ms"] is not None

            await eventually(measured, "both are measured")
        assert two.node.local.disk_ms >= 0, "what it tells its peers"


@in_loop
async def test_status_calls_a_peer_slow_that_is_passed_over() -> None:
    async with Nodes() as nodes:
        one, two, three = await nodes.grow("n1", "n2", "n3")
        slow, quick = two.node.local.me, three.node.local.me

        async def passed_over() -> bool:
            one.node.detector.took(slow, 1000)
            one.node.detector.took(quick, 1)
            status = await nodes.status("n1")
            states = {row["name"]: row["state"] for row in status["nodes"]}
            assert states["n3"] == "up"
            return states["n2"] == "slow"

        await eventually(passed_over, "n1 passes over n2")
