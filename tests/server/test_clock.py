"""A machine whose clock is wrong: its node goes by the others' time, and says so."""

from __future__ import annotations

import logging
import time

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import Nodes, eventually

import everwrite
from everwrite.cli.reports import ask_status, judge
from everwrite.core.expiry.clock import Clock

HOURS_MS = 3 * 3_600_000


class Ahead(Clock):
    """The clock of a node whose machine is hours ahead."""

    __slots__ = ()

    def own(self, now: int, wall_ms: int) -> None:
        super().own(now, wall_ms + HOURS_MS)


@in_loop
async def test_a_wrong_clock_is_logged_and_shown_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with Nodes() as nodes:
        await nodes.grow("n1", "n2", "n3")
        async with await everwrite.connect(nodes.url(), timeout=3) as db:
            clock = nodes.running["n1"].node.local.clock
            await db.bucket("logins").put("alice", "v", ttl=60)

            clock.__class__ = Ahead

            async def wrong() -> bool:
                return (await ask_status(db, "n1")).clock.wrong

            await eventually(wrong, "the node notices that its clock is wrong")
            told = await ask_status(db, "n1")
            others = {name: await ask_status(db, name) for name in ("n2", "n3")}
            found = await db.bucket("logins").get("alice")

            assert abs(told.clock.off_ms - HOURS_MS) < 60_000
            assert judge(told, others).reasons == ["the clock of n1 is 3.0 h ahead"]
            assert any("clock wrong node=n1 off_ms=" in line for line in caplog.messages)
            assert abs(nodes.running["n1"].node.local.time_ms - time.time() * 1000) < 60_000
            assert found.value == "v"

            clock.__class__ = Clock

            async def right() -> bool:
                return not await wrong()

            await eventually(right, "the node notices that its clock is right")
            assert any("clock right node=n1 off_ms=" in line for line in caplog.messages)
