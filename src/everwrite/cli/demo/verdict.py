"""The verdict: what every cart and every replica holds, compared with what the shoppers were told.

First everything is repaired as an operator would: the cut is healed, the frozen go on, the dead are
started. Then hints must drain. Then each cart is read through the client, which repairs stale
replicas on the way, and from each of its replicas alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from everwrite.cli.demo.carts import Cart, Fate, Findings, Ledger, union
from everwrite.cli.devcluster import DevCluster
from everwrite.core.errors import EverwriteError

if TYPE_CHECKING:
    from everwrite.client import AsyncBucket, AsyncClient

SETTLE_SECONDS = 60.0
"""Patience with the hand-over of hints; usually a few seconds."""
_READ_SECONDS = 15.0
"""Patience with one cart until its replicas are equal."""
_POLL_SECONDS = 0.1
_READERS = 16


class Verdict(msgspec.Struct):
    """What was found; ``ok`` only if nothing is wrong and there was something to judge."""

    additions: int
    additions_unknown: int
    removals: int
    carts: int
    copies: int = 0
    missing: int = 0
    returned: int = 0
    impossible: int = 0
    unread: int = 0
    """Carts that could not be read, or not from all replicas."""
    different: int = 0
    """Carts whose replicas are not byte-identical."""
    hints_left: int = 0
    examples: list[str] = []
    """Some of what is wrong, for the person who looks for the reason."""

    def ok(self) -> bool:
        """Say whether the cluster has kept its promises."""
        wrong = self.missing + self.returned + self.impossible + self.unread + self.different
        return not wrong and not self.hints_left and self.additions > 0

    def sentence(self) -> str:
        """Return the last line of a demo."""
        if self.ok():
            return (
                f"0 lost: all {self.additions:,} acknowledged additions are in their carts, "
                "and all replicas are byte-identical."
            )
        faults = [
            (self.missing, "acknowledged additions are lost"),
            (self.returned, "removed items came back"),
            (self.impossible, "changes are there that were refused or never made"),
            (self.unread, "carts could not be read from all replicas"),
            (self.different, "carts differ between their replicas"),
            (self.hints_left, "hints were not handed over in time"),
            (not self.additions, "no write was accepted"),
        ]
        said = [
            text if number is True else f"{number:,} {text}" for number, text in faults if number
        ]
        return f"FAILED: {'; '.join(said)}."


async def repair(cluster: DevCluster, say: Callable[[str], None]) -> None:
    """Heal the cut, let the frozen go on, start the dead; return when all nodes know each other."""
    await cluster.heal()
    for node in cluster.nodes:
        state = node.state()
        if state == "stopped":
            say(f"{node.name} goes on")
            await cluster.resume(node.number)
        elif state == "gone":
            say(f"{node.name} is started again")
            cluster.spawn(node.number)
    await cluster.wait_ready()


async def drain(cluster: DevCluster, hear: Callable[[int], None]) -> int:
    """Wait until no node keeps hints; return how many were left at the deadline."""
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        answers = await cluster.statuses(cluster.nodes)
        silent = sum(answer is None for answer in answers.values())
        waiting = sum(answer.hints.waiting for answer in answers.values() if answer is not None)
        hear(waiting)
        if not waiting and not silent:
            return 0
        if time.monotonic() > end:
            return max(1, waiting)
        await asyncio.sleep(_POLL_SECONDS)


async def read_back(
    db: AsyncClient, bucket: AsyncBucket, ledger: Ledger, hear: Callable[[int], None]
) -> Verdict:
    """Read all carts and all their replicas and judge them; the caller adds the hints left."""
    verdict = Verdict(
        additions=ledger.items(Fate.ACKNOWLEDGED, removes=False),
        additions_unknown=ledger.items(Fate.UNKNOWN, removes=False),
        removals=ledger.items(Fate.ACKNOWLEDGED, removes=True),
        carts=len(ledger.carts),
    )
    waiting = list(ledger.carts)
    read = 0

    async def work() -> None:
        nonlocal read
        while waiting:
            await _check_cart(db, bucket, waiting.pop(), ledger, verdict)
            read += 1
            hear(read)

    async with asyncio.TaskGroup() as readers:
        for _ in range(_READERS):
            readers.create_task(work())
    return verdict


async def _check_cart(
    db: AsyncClient, bucket: AsyncBucket, name: str, ledger: Ledger, verdict: Verdict
) -> None:
    """Judge one cart: as the first read shows it, and as each replica holds it in the end."""
    end = time.monotonic() + _READ_SECONDS
    carts: list[Cart] | None = None
    problem = ""
    while True:
        try:
            found = await bucket.get(name)
            if carts is None:
                carts = [_cart(found.values)]
            replicas = await db.replicas(bucket.name, name)
        except EverwriteError as error:
            replicas, problem = [], str(error)
        answered = [replica for replica in replicas if replica.status in {"found", "absent"}]
        same = len({replica.record for replica in answered}) == 1
        whole = len(answered) == len(replicas) > 0
        if (carts and whole and same) or time.monotonic() > end:
            break
        await asyncio.sleep(_POLL_SECONDS)
    verdict.copies += len(answered)
    if not whole or carts is None:
        verdict.unread += 1
        states = ", ".join(f"{replica.node} {replica.status}" for replica in replicas)
        verdict.examples.append(f"{name} can't be read: {states or problem}")
    elif not same:
        verdict.different += 1
        states = ", ".join(f"{replica.node} {len(replica.record)} B" for replica in replicas)
        verdict.examples.append(f"{name} differs: {states}")
    # Each replica alone must know all that was acknowledged, as the first read of the client must.
    carts = [*(carts or []), *(_cart(replica.values) for replica in answered)]
    _note(verdict, name, [ledger.judge(name, cart) for cart in carts])


def _note(verdict: Verdict, name: str, findings: list[Findings]) -> None:
    """Add what is wrong with a cart in any of the ways in which it was read."""
    for kind in ("missing", "returned", "impossible"):
        wrong = set[str]().union(*(getattr(found, kind) for found in findings))
        if wrong:
            setattr(verdict, kind, getattr(verdict, kind) + len(wrong))
            verdict.examples.append(f"{name}: {kind} {', '.join(sorted(wrong)[:8])}")


def _cart(values: list[Any]) -> Cart:
    return union(msgspec.convert(value, Cart) for value in values)
