"""The story of a demo: which faults happen when, planned before it starts and then carried out.

Five nodes or more: one is killed, and while it is down another is frozen, so three of five are
left, and a write still finds its two. With fewer nodes the killed one returns before the next is
frozen. Then the network is cut in two, both halves go on taking writes, and the cut is healed while
a fifth of the time is left for shoppers to meet what the other half has written.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Literal

import msgspec

from everwrite.cli.demo.shoppers import Shop
from everwrite.cli.devcluster import DevCluster

Act = Literal["kill", "restart", "pause", "resume", "partition", "heal"]


class Step(msgspec.Struct, frozen=True):
    """One thing that happens; ``at`` is in seconds from the opening of the shop."""

    at: float
    act: Act
    node: int = 0
    split: str = ""

    def sentence(self) -> str:
        """Say what happens and what it means."""
        match self.act:
            case "kill":
                return f"n{self.node} is killed (SIGKILL): other nodes stand in and keep hints"
            case "restart":
                return f"n{self.node} is started again: hints are handed over to it"
            case "pause":
                return f"n{self.node} is frozen (SIGSTOP): connected, but silent"
            case "resume":
                return f"n{self.node} goes on where it was"
            case "partition":
                return f"the network is cut: {self.split}; both halves go on"
            case "heal":
                return "the network is whole again: the halves exchange what they missed"


def plan_story(nodes: int, seconds: float, *, pauses: bool, rng: random.Random) -> list[Step]:
    """Return the steps in the order of their times, all within four fifths of ``seconds``."""
    victim, sleeper, *_ = rng.sample(range(1, nodes + 1), nodes)
    steps = [Step(0.10 * seconds, "kill", victim)]
    if nodes >= 5:
        steps.append(Step(0.45 * seconds, "restart", victim))
        asleep, awake = 0.22, 0.38
    else:
        steps.append(Step(0.25 * seconds, "restart", victim))
        asleep, awake = 0.35, 0.48
    if pauses:
        steps += [
            Step(asleep * seconds, "pause", sleeper),
            Step(awake * seconds, "resume", sleeper),
        ]
    order = rng.sample(range(1, nodes + 1), nodes)
    halves = sorted(order[: nodes // 2]), sorted(order[nodes // 2 :])
    split = "|".join(",".join(f"n{number}" for number in half) for half in halves)
    steps.append(Step(0.55 * seconds, "partition", split=split))
    steps.append(Step(0.78 * seconds, "heal"))
    return sorted(steps, key=lambda step: step.at)


def is_due(step: Step, cluster: DevCluster) -> bool:
    """Say whether a step makes sense still: a person at a dashboard may have done what it does."""
    needed = {"kill": ("running", "stopped"), "restart": ("gone",)}
    needed |= {"pause": ("running",), "resume": ("stopped",)}
    return not step.node or cluster.node(step.node).state() in needed[step.act]


async def perform(step: Step, cluster: DevCluster) -> None:
    """Carry out one step."""
    match step.act:
        case "kill":
            await asyncio.to_thread(cluster.kill, step.node)
        case "restart":
            await cluster.restart(step.node)
        case "pause":
            cluster.pause(step.node)
        case "resume":
            await cluster.resume(step.node)
        case "partition":
            await cluster.partition(step.split)
        case "heal":
            await cluster.heal()


async def tell(
    steps: list[Step],
    cluster: DevCluster,
    shop: Shop,
    seconds: float,
    hear: Callable[[Step], None],
) -> list[Step]:
    """Perform all steps at their times until the shop closes; return those performed. A step that
    somebody else has made needless is left out.
    """
    opened = time.monotonic()
    done: list[Step] = []
    for step in steps:
        if await shop.closed_within(opened + step.at - time.monotonic()):
            return done
        async with cluster.turn:
            if is_due(step, cluster):
                hear(step)
                await perform(step, cluster)
                done.append(step)
    await shop.closed_within(opened + seconds - time.monotonic())
    return done
