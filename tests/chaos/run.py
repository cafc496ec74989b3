"""One run against real nodes: `make chaos SECONDS=300 SEED=7`, or ``python -m tests.chaos.run``.

Five ``everwrite serve`` processes on RocksDB with fsync, each behind a door of the proxy; clients
that run four workloads through the public ``AsyncClient``; a nemesis. At the end all faults end,
all nodes run, hints go home; then every key is read from all its owners, and two judges speak: that
of histories, which also judges the simulator, and each workload's own.

A run passes if nothing is lost and no rule is broken, and only if it proved something: every kind
of fault that was on really struck, every kind of operation succeeded, and there were as many kills
as were asked for. What fails leaves its history, its verdict and the nodes' logs, and says where.

How many operations were unavailable is told, not judged: on two cores that is the machine's merit.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
from tests.chaos.clients import REPLICAS, RETRIES, TIMEOUT_S, Client, Log
from tests.chaos.nemesis import CAN_FILL_DISKS, KINDS, Nemesis, draw_plan
from tests.chaos.proxy import HOST, Proxy
from tests.chaos.workloads import CartLoad, CounterLoad, RegisterLoad, SetLoad, Workload

import everwrite
from everwrite import AsyncClient, EverwriteError
from everwrite.cli.devcluster import DevCluster
from everwrite.cli.devplan import find_base_port
from everwrite.cli.endings import NodeFailed
from everwrite.client.sync import new_loop
from everwrite.sim.checkers import Breach, assumed, check_history
from everwrite.sim.history import dump

CLIENTS_EACH = 4
RATE = 250.0
REST_S = 180.0
"""Patience with the cluster after the heal: a loaded machine is no error."""
LOOK_EVERY_S = 0.2
TELL_EVERY_S = 10.0
AUDITS_AT_ONCE = 16
VERBS = (
    "set add",
    "set read",
    "cart add",
    "cart remove",
    "cart read",
    "counter increment",
    "counter read",
    "register session read",
    "register put",
    "register blind put",
    "register delete",
)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. ``kills`` is how many processes must have been killed."""

    seconds: float = 300.0
    seed: int = 1
    nodes: int = 5
    rate: float = RATE
    """Steps of clients per second; one is some two operations."""
    kills: int = 0
    kinds: tuple[str, ...] = tuple(kind for kind in KINDS if kind != "full-disk" or CAN_FILL_DISKS)
    directory: Path | None = None


class Verdict(msgspec.Struct):
    """What a run came to."""

    seed: int
    seconds: float = 0.0
    operations: int = 0
    acked: int = 0
    failed: int = 0
    kills: int = 0
    keys: int = 0
    struck: dict[str, int] = {}
    network: dict[str, int] = {}
    verbs: dict[str, int] = {}
    errors: dict[str, int] = {}
    elements: dict[str, int] = {}
    breaches: list[Breach] = []
    unproven: list[str] = []
    """Why a run without breaches would prove nothing."""
    kept: str = ""

    @property
    def passed(self) -> bool:
        return not self.breaches and not self.unproven

    @property
    def lost(self) -> int:
        return sum(breach.rule == "lost" for breach in self.breaches)

    def lines(self) -> list[str]:
        """Return the verdict for a person."""
        told = self.operations + self.failed
        share = self.failed / told if told else 0.0
        lines = [
            f"{self.seconds:.0f} s, {self.operations} operations, {self.acked} acknowledged writes",
            f"{self.keys} keys, {self.kills} kills",
            f"faults     {_counts(self.struck)}",
            f"network    {_counts(self.network)}",
            f"succeeded  {_counts(self.verbs)}",
            f"elements   {_counts(self.elements)}",
            f"errors     {_counts(self.errors)}",
            f"unavailable after {RETRIES} retry: {self.failed} of {told} ({share:.2%})",
        ]
        lines += [f"{breach.rule}: {breach.sentence}" for breach in self.breaches[:20]]
        lines += [f"proves nothing: {reason}" for reason in self.unproven]
        if self.kept:
            lines.append(f"history and logs: {self.kept}")
        violations = len(self.breaches) - self.lost
        lines.append(
            f"{'PASSED' if self.passed else 'FAILED'}: {self.lost} lost, "
            f"{violations} other violations (seed {self.seed})"
        )
        return lines


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items())) or "none"


class Chaos:
    """One run; ``run`` it once."""

    def __init__(self, options: Options, tell: Callable[[str], None], client: type[Client]) -> None:
        self.options = options
        self.log = Log()
        self._client = client
        self.made: DevCluster
        self.proxy = Proxy(options.seed)
        self.workloads: list[Workload] = [SetLoad(), CartLoad(), CounterLoad(), RegisterLoad()]
        self._tell = tell
        self._nemesis: Nemesis
        self._began = 0.0

    async def run(
        self, make: Callable[..., DevCluster], before_heal: Callable[[], None], where: Path
    ) -> Verdict:
        """Run it; ``make`` creates the cluster, ``before_heal`` may do what no cluster survives."""
        options = self.options
        verdict = Verdict(options.seed)
        async with self.proxy:
            base = find_base_port(options.nodes)
            doors = {
                number: f"{HOST}:{await self.proxy.open(f'n{number}', base + number)}"
                for number in range(1, options.nodes + 1)
            }
            with make(where, nodes=options.nodes, base_port=base, advertise=doors) as self.made:
                await self.made.start()
                plan = draw_plan(options.seed, options.seconds, options.nodes, options.kinds)
                self._nemesis = Nemesis(self.made, self.proxy, plan)
                try:
                    await self._storm(list(doors.values()))
                    before_heal()
                    self._nemesis.end()
                    await self._settle()
                    await self._audit(list(doors.values()), verdict)
                except NodeFailed as error:
                    self.log.breach("stopped", str(error))
                except TimeoutError as error:
                    self.log.breach("no rest", f"after {REST_S:.0f} s: {error}")
        self._conclude(verdict)
        return verdict

    # -- the storm ---------------------------------------------------------------------------------

    async def _storm(self, doors: list[str]) -> None:
        """Let clients and faults loose for as long as was asked."""
        options, stopped = self.options, asyncio.Event()
        self._began = time.monotonic()
        async with contextlib.AsyncExitStack() as stack:
            clients = []
            for workload in self.workloads:
                for number in range(CLIENTS_EACH):
                    db = await stack.enter_async_context(_connected(doors))
                    name = f"{workload.name}{number}"
                    clients.append((workload, self._client(name, db, self.log)))
            pause_s = len(clients) / options.rate
            async with asyncio.TaskGroup() as storm:
                for workload, client in clients:
                    storm.create_task(self._work(workload, client, pause_s, stopped))
                storm.create_task(self._report(stopped))
                faults = storm.create_task(self._nemesis.run())
                end = self._began + options.seconds
                while time.monotonic() < end:
                    self._nemesis.check_alive()
                    await asyncio.sleep(LOOK_EVERY_S)
                faults.cancel()
                # The clients go on without faults of the network, so that what they ask ends soon.
                stopped.set()

    async def _work(
        self, workload: Workload, client: Client, pause_s: float, stopped: asyncio.Event
    ) -> None:
        """Be one client until the end."""
        rng = random.Random(f"{self.options.seed}:{client.name}")
        while not stopped.is_set():
            await workload.step(client, rng)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), rng.expovariate(1.0) * pause_s)

    async def _report(self, stopped: asyncio.Event) -> None:
        """Say every ten seconds how far it is."""
        log, nemesis = self.log, self._nemesis
        done, failures = 0, Counter[str]()
        while not stopped.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), TELL_EVERY_S)
            fresh = log.errors - failures
            up = sum(node.state() == "running" for node in self.made.nodes)
            self._tell(
                f"{time.monotonic() - self._began:6.0f} s  {log.done - done:6d} ops  {up} up  "
                f"{nemesis.kills:3d} kills  {nemesis.struck['pause']:3d} pauses  "
                f"{nemesis.struck['split'] + nemesis.struck['one-way']:3d} splits  "
                f"{nemesis.struck['cut']:3d} cuts  {nemesis.struck['full-disk']:2d} full disks  "
                f"{nemesis.guest.joined} joined  {nemesis.guest.left} left  "
                f"errors: {_counts(fresh)}"
            )
            done, failures = log.done, Counter(log.errors)

    # -- the end -----------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Return once all nodes see each other, no hint waits, and nothing is left to move."""
        self._tell("all faults end; waiting for hints and partitions to come home")
        what = ""
        end = time.monotonic() + REST_S
        while time.monotonic() < end:
            self._nemesis.check_alive()
            await self._nemesis.guest.push()
            left = self._nemesis.guest.look()
            answers = await self.made.statuses(self.made.running())
            waiting = {f"n{n}": a.hints.waiting if a else "silent" for n, a in answers.items()}
            apart = [
                f"n{n} does not see {peer.name}"
                for n, answer in answers.items()
                for peer in (answer.nodes if answer else [])
                if peer.state == "down"
            ]
            moving = {
                peer.name: (peer.to_gain, peer.to_shed)
                for answer in answers.values()
                for peer in (answer.nodes if answer else [])
                if peer.to_gain or peer.to_shed
            }
            views = {answer.cluster.view for answer in answers.values() if answer}
            unready = [f"n{n}" for n, a in answers.items() if a and not a.node.ready]
            what = (
                f"{len(views)} views, not ready {unready}, hints {waiting}, {apart}, "
                f"to gain and to shed {moving}, {self._nemesis.guest.said}"
            )
            restless = any(waiting.values()) or apart or moving or unready or len(views) > 1
            if left and not restless:
                await self._nemesis.guest.serves()  # if it came last, it is counted now
                return
            await asyncio.sleep(LOOK_EVERY_S)
        raise TimeoutError(what)

    async def _audit(self, doors: list[str], verdict: Verdict) -> None:
        """Read every key from all its owners, compare their copies, and judge."""
        names = sorted({operation.key for operation in self.log.history})
        verdict.keys = len(names)
        ends: dict[str, list[Any]] = {}
        self._tell(f"reading {len(names)} keys from all their owners")
        async with _connected(doors) as db:
            auditor = Client("auditor", db, self.log)
            waiting = iter(names)

            async def work() -> None:
                for name in waiting:
                    ends[name] = await self._last_read(auditor, db, name)

            async with asyncio.TaskGroup() as group:
                for _ in range(AUDITS_AT_ONCE):
                    group.create_task(work())
        history = self.log.history
        for breach in check_history(history, assumed(history), REPLICAS):
            self.log.breaches.append(breach)
        for workload in self.workloads:
            self.log.breaches += workload.judge(history, ends)

    async def _last_read(self, auditor: Client, db: AsyncClient, name: str) -> list[Any]:
        """Return what all owners of a key hold, once they hold the same bytes."""
        workload, _, key = name.partition("/")
        bucket = auditor.bucket(workload)
        end = time.monotonic() + REST_S
        while time.monotonic() < end:
            operation = self.log.open(auditor.name, "get", name, strict=True)
            operation.q = REPLICAS
            try:
                found = await bucket.get(key, r=REPLICAS, strict=True)
            except EverwriteError as error:
                self.log.failed(operation, error, 1)
                continue
            operation.found = sorted({op for value in found.values for op in value["ops"]})
            self.log.succeeded(operation, "last read", 1)
            if await _agree(db, workload, key):
                return found.values
            await asyncio.sleep(LOOK_EVERY_S)
        raise TimeoutError(f"the owners of {name} do not come to hold the same")

    def _conclude(self, verdict: Verdict) -> None:
        """Fill in the figures, and say what the run failed to prove."""
        log, nemesis = self.log, self._nemesis
        struck = Counter(nemesis.struck)
        struck["client-tear"] = self.proxy.struck["tear"]
        struck["members"] = nemesis.guest.joined + nemesis.guest.left
        verdict.seconds = time.monotonic() - self._began
        verdict.operations, verdict.acked = log.done, log.acked
        verdict.failed, verdict.errors = log.failures, dict(log.errors)
        verdict.kills = nemesis.kills
        verdict.struck = {kind: struck[kind] for kind in self.options.kinds}
        verdict.network = dict(self.proxy.struck)
        verdict.verbs = dict(log.verbs)
        sets = next(each for each in self.workloads if isinstance(each, SetLoad))
        verdict.elements = dict(sets.elements)
        verdict.breaches = log.breaches
        missing = [kind for kind in self.options.kinds if not struck[kind]]
        verdict.unproven = [f"the fault {kind} never struck" for kind in missing]
        verdict.unproven += [f"no {verb} succeeded" for verb in VERBS if not log.verbs[verb]]
        if nemesis.kills < self.options.kills:
            verdict.unproven.append(f"{nemesis.kills} kills; {self.options.kills} were asked for")


@contextlib.asynccontextmanager
async def _connected(doors: list[str]) -> AsyncIterator[AsyncClient]:
    """A client that knows all doors, and gives each request one more try."""
    async with await everwrite.connect(doors, timeout=TIMEOUT_S, retries=RETRIES) as db:
        yield db


async def _agree(db: AsyncClient, bucket: str, key: str) -> bool:
    copies = await db.replicas(bucket, key)
    return len({(copy.status, copy.record) for copy in copies}) == 1


def _tell(line: str) -> None:
    print(line, flush=True)


def _nothing() -> None:
    """What comes between the storm and the heal, unless a test has something in mind."""


def run(
    options: Options,
    tell: Callable[[str], None] = _tell,
    *,
    make: Callable[..., DevCluster] = DevCluster.create,
    client: type[Client] = Client,
    before_heal: Callable[[Chaos], None] | None = None,
) -> Verdict:
    """Run and judge; all is removed if it passes, and kept and named if not."""
    where = options.directory or Path(tempfile.mkdtemp(prefix="everwrite-chaos-"))
    chaos = Chaos(options, tell, client)
    between = (lambda: before_heal(chaos)) if before_heal is not None else _nothing
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            verdict = runner.run(chaos.run(make, between, where / "cluster"))
    except BaseException:
        tell(f"broken off; the nodes' logs: {where}")
        raise
    if verdict.passed:
        shutil.rmtree(where)
    else:
        (where / "history.jsonl").write_bytes(dump(chaos.log.history))
        verdict.kept = str(where)
        (where / "verdict.json").write_bytes(msgspec.json.format(msgspec.json.encode(verdict)))
    return verdict


def main() -> None:
    parser = argparse.ArgumentParser(description="Chaos on five real nodes.")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--rate", type=float, default=RATE, help="client steps per second")
    parser.add_argument("--kills", type=int, default=None, help="least number of kills")
    given = parser.parse_args()
    kills = int(given.seconds / 5) if given.kills is None else given.kills
    options = Options(seconds=given.seconds, seed=given.seed, rate=given.rate, kills=kills)
    _tell(f"five nodes, {options.seconds:g} s, seed {options.seed}")
    verdict = run(options)
    for line in verdict.lines():
        _tell(line)
    sys.exit(not verdict.passed)


if __name__ == "__main__":
    main()
