"""What befalls real nodes: a plan made of a seed before the run, and its execution.

    kill            SIGKILL, and a start some moments later; of one node, two, or all at once
    pause           SIGSTOP and SIGCONT
    split           two groups of nodes, no frame between them
    one-way         nothing from one node reaches another one, or all others
    cut             one node cannot dial another one, and what it had dialled is reset
    loss, duplicate, delay, throttle     on all links of one node, or on one
    full-disk       no file of a node may grow (RLIMIT_FSIZE), until the end of the fault
    client-hold     clients do not hear from a node; its connections stay open
    client-tear     their connections to a node end in the middle of a frame
    client-reset    they end by a reset
    members         a sixth node joins, leaves, comes back as a new one (guest.py)

The plan is the same for the same seed; what runs when, and what is in flight, is the machine's. So
a run cannot be repeated to the byte, but its faults can. A kind has ``struck`` if its effect was
seen: a process that was gone, frames that were held, a write that the disk refused.

Kills come at a steady pace with a jitter; each other kind is drawn a first time in the first half
of the run, so that none is left out. Faults overlap freely. Where two of one kind overlap on a
link, the end of the first ends both.
"""

from __future__ import annotations

import asyncio
import random
import resource
import signal
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import permutations

import msgspec
from tests.chaos.guest import Guest
from tests.chaos.proxy import CLIENT, Pair, Proxy

from everwrite.cli import processes
from everwrite.cli.devcluster import DevCluster
from everwrite.cli.devplan import Node

KILLS = ("kill", "kill-two", "kill-all")
OTHERS = {
    "pause": 7.0,
    "split": 17.0,
    "one-way": 13.0,
    "cut": 13.0,
    "loss": 13.0,
    "duplicate": 17.0,
    "delay": 13.0,
    "throttle": 19.0,
    "full-disk": 17.0,
    "client-hold": 11.0,
    "client-tear": 7.0,
    "client-reset": 11.0,
    "members": 6.0,
}
"""How many seconds there are between two of a kind, on average."""
LASTS_S = {
    "kill": (0.1, 3.0),
    "kill-two": (0.1, 3.0),
    "kill-all": (0.0, 0.5),
    "pause": (0.2, 8.0),
    "full-disk": (1.0, 4.0),
}
LASTS_OTHERWISE_S = (0.5, 5.0)
KILL_EVERY_S = 3.5
"""So there are over 60 kills in 300 s even where starts are slow and victims are down already."""
KINDS = (*KILLS, *OTHERS)
CAN_FILL_DISKS = hasattr(resource, "prlimit")  # Linux
LOOK_EVERY_S = 0.1


class Strike(msgspec.Struct, frozen=True):
    """One fault: when, what, whom (the first of ``victims`` that runs, or more), how long."""

    at_s: float
    kind: str
    victims: tuple[int, ...]
    seconds: float
    amount: float


def draw_plan(seed: int, seconds: float, nodes: int, kinds: Iterable[str] = KINDS) -> list[Strike]:
    """Return all faults of a run, in order."""
    plan: list[Strike] = []
    for kind in sorted(set(kinds) - set(KILLS)):
        rng = random.Random(f"{seed}:{kind}")
        at = rng.uniform(0.0, min(seconds / 2, OTHERS[kind]))
        while at < seconds:
            plan.append(_draw(rng, at, kind, nodes))
            at += OTHERS[kind] * rng.uniform(0.5, 1.5)
    rng = random.Random(f"{seed}:kill")
    wanted = [kind for kind in KILLS if kind in kinds]
    turn = 0
    at = rng.uniform(0.5, 1.5)
    while wanted and at < seconds:
        # Each kind once at first, and then mostly single ones.
        rare = wanted[turn] if turn < len(wanted) else rng.choice(wanted)
        kind = rare if turn < len(wanted) or rng.random() < 0.3 else wanted[0]
        plan.append(_draw(rng, at, kind, nodes))
        turn += 1
        at += KILL_EVERY_S * rng.uniform(0.5, 1.5)
    return sorted(plan, key=lambda strike: (strike.at_s, strike.kind))


def _draw(rng: random.Random, at: float, kind: str, nodes: int) -> Strike:
    victims = list(range(1, nodes + 1))
    rng.shuffle(victims)
    shortest, longest = LASTS_S.get(kind, LASTS_OTHERWISE_S)
    return Strike(
        round(at, 3),
        kind,
        tuple(victims),
        round(rng.uniform(shortest, longest), 3),
        round(rng.random(), 3),
    )


class Nemesis:
    """Carries out a plan; ``run`` it, then ``end`` puts all back."""

    def __init__(self, made: DevCluster, proxy: Proxy, plan: Sequence[Strike]) -> None:
        self._made = made
        self._proxy = proxy
        self._plan = plan
        self._tasks: list[asyncio.Task[None]] = []
        self.guest = Guest(made, proxy)
        self._changing = asyncio.Lock()
        self.struck: Counter[str] = Counter()
        """How often the effect of each kind was seen."""
        self.kills = 0
        """Processes killed."""

    def check_alive(self) -> None:
        """Raise NodeFailed if a node has ended by itself that was not to."""
        self.guest.look()
        self._made.check_alive(*(n.number for n in self._made.nodes if self.guest.is_out(n)))

    async def run(self) -> None:
        """Begin each fault at its time; return at the last one's."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as strikes:
            for strike in self._plan:
                await asyncio.sleep(max(0.0, began + strike.at_s - loop.time()))
                strikes.create_task(self._strike(strike))

    def end(self) -> None:
        """Let all frames pass, all processes run, all files grow; start the nodes that are gone."""
        self._proxy.heal()
        self.guest.look()
        for node in self._made.nodes:
            if self.guest.is_out(node):
                continue
            if node.state() == "gone":
                self._made.spawn(node.number)
            else:
                processes.send(node.pid, node.born, signal.SIGCONT)
                limit_files(node, resource.RLIM_INFINITY)

    # -- one fault ---------------------------------------------------------------------------------

    async def _strike(self, strike: Strike) -> None:
        match strike.kind:
            case "kill" | "kill-two" | "kill-all":
                count = {"kill": 1, "kill-two": 2}.get(strike.kind, len(strike.victims))
                await self._kill(strike, count)
            case "pause":
                await self._pause(strike)
            case "full-disk":
                await self._fill(strike)
            case "client-tear" | "client-reset":
                self._break(strike)
            case "members":
                await self._change_members(strike)
            case _:
                await self._weather(strike)

    def _running(self, strike: Strike) -> list[Node]:
        nodes = [self._made.node(number) for number in strike.victims]
        return [node for node in nodes if node.state() == "running"]

    async def _kill(self, strike: Strike, count: int) -> None:
        victims = [self._made.node(number) for number in strike.victims]
        victims = [node for node in victims if node.state() != "gone"][:count]
        for node in victims:
            self._made.kill(node.number)
        self.kills += len(victims)
        # All five are seldom up at the same moment: those that were are all that ran.
        if len(victims) >= min(count, 3):
            self.struck[strike.kind] += 1
        await asyncio.sleep(strike.seconds)
        for node in victims:
            if node.state() == "gone":
                self._made.spawn(node.number)

    async def _change_members(self, strike: Strike) -> None:
        if self._changing.locked():
            return
        async with self._changing:
            guest = self.guest
            before = guest.kills
            await guest.step(strike.amount)
            self.kills += guest.kills - before

    async def _pause(self, strike: Strike) -> None:
        for node in self._running(strike)[:1]:
            pid, born = node.pid, node.born
            if processes.send(pid, born, signal.SIGSTOP):
                self.struck["pause"] += 1
            await asyncio.sleep(strike.seconds)
            processes.send(pid, born, signal.SIGCONT)

    async def _fill(self, strike: Strike) -> None:
        for node in self._running(strike):
            pid, before = node.pid, await self._refused(node)
            if before is None or node.pid != pid:
                continue
            limit_files(node, 0)
            await asyncio.sleep(strike.seconds)
            after = await self._refused(node)
            if node.pid == pid:
                limit_files(node, resource.RLIM_INFINITY)
                self.struck["full-disk"] += after is not None and after > before
            return

    async def _refused(self, node: Node) -> int | None:
        """Return how many writes the disk of a node has refused; None if it does not answer."""
        status = await self._made.status(node.number)
        return None if status is None else status.counters["writes_failed"]

    def _break(self, strike: Strike) -> None:
        for number in strike.victims:
            name = self._made.node(number).name
            if strike.kind == "client-tear":
                broken = self._proxy.tear(CLIENT, name)
            else:
                broken = self._proxy.reset(CLIENT, name)
                self.struck["client-reset"] += broken > 0
            if broken:
                return

    async def _weather(self, strike: Strike) -> None:
        pairs, changes, effects = weather(strike)
        struck = self._proxy.struck_at
        before = sum(struck[effect, pair] for effect in effects for pair in pairs)
        self._proxy.set(pairs, **changes)
        await asyncio.sleep(strike.seconds)
        after = sum(struck[effect, pair] for effect in effects for pair in pairs)
        self.struck[strike.kind] += after > before
        self._proxy.set(pairs, **dict.fromkeys(changes, 0))


def weather(strike: Strike) -> tuple[list[Pair], dict[str, float], tuple[str, ...]]:
    """Return which directed pairs a fault of the network strikes, how, and what it must count."""
    names = [f"n{number}" for number in strike.victims]
    first, *others = names
    amount = strike.amount
    around = [(first, each) for each in others]
    around += [(each, first) for each in others]
    closed = {"held": 1.0} if amount < 0.5 else {"blocked": 1.0}
    match strike.kind:
        case "split":
            some = set(names[: 1 + (amount * 10 % 1 < 0.5)])
            apart = [(a, b) for a, b in permutations(names, 2) if (a in some) != (b in some)]
            return apart, closed, ("held", "blocked")
        case "one-way":
            one = around[: len(others)] if amount * 10 % 1 < 0.5 else around[:1]
            return one, closed, ("held", "blocked")
        case "cut":
            return (
                [(a, b) for a, b in permutations(names, 2) if a == first],
                {"cut": 1.0},
                ("cut",),
            )
        case "loss":
            return around, {"loss": 0.02 + 0.3 * amount}, ("loss",)
        case "duplicate":
            return around, {"duplicate": 0.05 + 0.5 * amount}, ("duplicate",)
        case "delay":
            late = {"delay_s": 0.02 + 0.2 * amount, "jitter_s": 0.3 * amount}
            return [*around, (CLIENT, first), (first, CLIENT)], late, ("delay",)
        case "throttle":
            return around, {"bytes_per_s": 2000 + 60_000 * amount}, ("throttle",)
        case "client-hold":
            return [(first, CLIENT)], {"held": 1.0}, ("held",)
        case _:
            raise ValueError(f"no such fault: {strike.kind}")


def limit_files(node: Node, size: int) -> None:
    """Let the files of a node grow to this size and no further, as on a full disk."""
    try:
        resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    except ProcessLookupError:
        return
