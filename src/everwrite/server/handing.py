"""What a node that is told to stop still owes: copies of puts that were answered at W acks, and
whose other owners are late.

Only this process knows of them. So stand-ins get them as hints, as far as they take them in time,
and of the rest hints are kept on the own disk, to be brought home after the next start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from everwrite.server.driver import Driver

HAND_ON_S = 0.5
"""Within this stand-ins have to take them: five times ``spare_after_ms``. Most nodes owe nothing
when they stop, and wait for nothing."""
KEEP_S = 0.5
"""And within this hints are written: each joins one that may have to be read first."""


async def hand_on(driver: Driver) -> None:
    """Take no more of clients; return once others have all that is owed, or time is up."""
    node = driver.node
    node.local.now = time.monotonic_ns() // 1_000_000
    node.hand_on()
    owed = node.owes
    driver.soon()
    in_time = await _until(driver, lambda: driver.rests and not node.owes, HAND_ON_S)
    if owed:
        driver.log.info("handed on copies that owners lack", all=in_time)


async def keep(driver: Driver) -> None:
    """Keep the rest here; nobody is heard any more, and nothing is said to anybody."""
    node = driver.node
    driver.lines.clear()
    node.local.now = time.monotonic_ns() // 1_000_000
    owed, refused = node.owes, node.local.counters.hints_refused
    node.leave()
    driver.soon()
    in_time = await _until(driver, lambda: driver.rests, KEEP_S)
    refused = node.local.counters.hints_refused - refused
    if owed and in_time and not refused:
        driver.log.info("kept hints for owners that lack copies")
    elif owed:
        why = f"{refused} were refused" if refused else f"the disk took longer than {KEEP_S} s"
        driver.log.warning(
            "not all hints were kept",
            why=f"{why}: their owners get these copies by repair.",
        )


async def _until(driver: Driver, done: Callable[[], bool], seconds: float) -> bool:
    """Wait until something is done, which is looked at after each tick, or so long; say whether it
    is. Nothing is done but in a tick, or just before one.
    """
    over: asyncio.Future[None] = driver.loop.create_future()

    def look() -> None:
        if done() and not over.done():
            over.set_result(None)

    driver.ticked = look
    try:
        look()
        await asyncio.wait([over], timeout=seconds)
    finally:
        driver.ticked = None
    return done()
