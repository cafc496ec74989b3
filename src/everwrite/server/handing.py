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
_LOOK_S = 0.002


async def hand_on(driver: Driver) -> None:
    """Take no more of clients; return once others have all that is owed, or time is up."""
    node = driver.node
    node.local.now = time.monotonic_ns() // 1_000_000
    node.hand_on()
    driver.soon()
    await _until(lambda: driver.rests and not node.owes, HAND_ON_S)


async def keep(driver: Driver) -> None:
    """Keep the rest here; nobody is heard any more, and nothing is said to anybody."""
    node = driver.node
    driver.lines.clear()
    node.local.now = time.monotonic_ns() // 1_000_000
    node.leave()
    driver.soon()
    await _until(lambda: driver.rests, KEEP_S)


async def _until(done: Callable[[], bool], seconds: float) -> None:
    loop = asyncio.get_running_loop()
    over, end = loop.create_future(), loop.time() + seconds

    def look() -> None:
        if done() or loop.time() > end:
            over.set_result(None)
        else:
            loop.call_later(_LOOK_S, look)

    loop.call_soon(look)
    await over
