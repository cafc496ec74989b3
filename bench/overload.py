"""Three nodes are asked for ten times what they can do: what do they still do, and how soon is all
well again?

    python bench/overload.py [--times 10] [--seconds 10] [--keys 20000] [--mix mixed] [--rounds 5]

Real nodes on RocksDB with fsync, and a crowd without manners: it speaks the protocol of clients but
sends requests at random times by themselves (an open loop), never waits, never holds back, never
tries again. That is harder on the nodes than any number of clients of this library, which hold back
when they are refused (client/manners.py).

    peak        a closed loop, 64 requests in flight
    overload    an open loop of TIMES the peak
    after       the closed loop again, at once

A request counts if its answer is no failure and comes within a second. The nodes share one core and
the crowd has the others, where there is more than one: else the crowd would take from the nodes
what it asks them for. Where the crowd's own lag is over LAG_MS the machine has other work, and the
figures say nothing.

Where a machine's speed changes by half within a minute the ratio of one round means little: the
figures are medians over the rounds. It prints a table on standard error and one JSON object, and
fails (exit code 1) unless GOOD_MIN of the peak is done during the overload, and BACK_MIN of it
within BACK_S after.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from statistics import median
from typing import Any

from everwrite import AsyncClient
from everwrite.cli.devcluster import DevCluster
from everwrite.cli.histogram import Histogram
from everwrite.cli.load import connect
from everwrite.cli.loop import run_on_uvloop
from everwrite.cli.output import say, table
from everwrite.client.connection import Connection
from everwrite.core.data.keys import data_key
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.requests import FOUND, Failure, Fetch, FetchReply, Put, PutReply

NODES = 3
GOOD_MIN, BACK_MIN, BACK_S = 0.8, 0.95, 10
NEVER_S = 99
IN_TIME_US = 1_000_000
LAG_MS = 100.0
IN_FLIGHT = 64
FRESH = 300_000
"""New keys in a round, for writes, so that none makes siblings; those that were refused are used
again."""
TIMEOUT_MS = 1_000
STEP_S = 0.001
VALUE = os.urandom(100)


class Crowd:
    """Many users without manners, on one connection to each node.

    It is the table of requests of these connections, and their owner.
    """

    def __init__(self, db: AsyncClient, mix: str, keys: int) -> None:
        self._cluster = db._cluster
        self._reads = {"mixed": 0.5, "read": 1.0, "write": 0.0}[mix]
        self._keys = [data_key(b"crowd", b"%d" % number) for number in range(keys)]
        self._links: dict[bytes, Connection] = {}
        self._began: dict[int, int] = {}
        self._fresh: deque[tuple[bytes, Connection]] = deque()
        """Keys that nobody has written yet, each with its first owner."""
        self._writing: dict[int, tuple[bytes, Connection]] = {}
        self._targets: list[tuple[bytes, Connection, Connection]] = []
        self._rid = 0
        self._closed = self._over = False
        self.asked = self.good = self.refused = self.late = 0
        self.us = Histogram()
        self.refused_us = Histogram()
        self.lag_us = Histogram()
        """How much later than it should the crowd itself runs: that is in all its latencies."""

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        for link in self._cluster._pool.links():
            line = Connection(self, self, b"", self._cluster._pool.cluster_id, loop)  # type: ignore[arg-type]
            await loop.create_connection(lambda line=line: line, *link.address)
            await line.opened
            self._links[line.node_id] = line

    def close(self) -> None:
        """Take no notice of what becomes of the connections."""
        self._over = True

    async def load(self) -> None:
        """Write every key once."""
        waiting = iter(self._keys)

        async def work() -> None:
            for key in waiting:
                await self._cluster.put(key, VALUE, 0, b"", 5.0)

        async with asyncio.TaskGroup() as loaders:
            for _ in range(IN_FLIGHT):
                loaders.create_task(work())
        order, links = self._cluster.order, self._links
        for key in self._keys:
            first, second, *_ = order(key)
            self._targets.append((key, links[first.node_id], links[second.node_id]))

    def renew(self, round_: int) -> None:
        """Have keys for the writes of a round that nobody has written yet."""
        order, links = self._cluster.order, self._links
        for number in range(FRESH if self._reads < 1 else 0):
            key = data_key(b"crowd", b"new %d in %d" % (number, round_))
            self._fresh.append((key, links[order(key)[0].node_id]))

    def reset(self) -> None:
        self.asked = self.good = self.refused = self.late = 0
        self.us = Histogram()
        self.refused_us = Histogram()
        self.lag_us = Histogram()

    # -- what connections need -------------------------------------------------------------------

    def get(self, rid: int) -> Crowd:
        return self

    def answered(self, connection: Connection, message: AnyMessage) -> None:
        """Count one answer; of the two to a read, the copy."""
        if isinstance(message, FetchReply) and len(message.record) == 8:
            return
        rid: int = message.rid  # type: ignore[union-attr]
        began = self._began.pop(rid, 0)
        if not began:
            return
        wrote = self._writing.pop(rid, None)
        if wrote is not None and isinstance(message, Failure):
            self._fresh.append(wrote)
        us = (time.perf_counter_ns() - began) // 1000
        good = isinstance(message, PutReply) or (
            isinstance(message, FetchReply) and message.status == FOUND
        )
        if not good:
            self.refused += 1
            self.refused_us.record(us)
        elif us > IN_TIME_US:
            self.late += 1
        else:
            self.good += 1
            self.us.record(us)
        if self._closed:
            self._ask(time.perf_counter_ns())

    def changed(self) -> None: ...
    def unasked(self, rid: int) -> None: ...
    def refresh_soon(self, *, urgent: bool = True) -> None: ...

    def lost(self, connection: Connection) -> None:
        if not self._over:
            say(f"the connection to {connection.name} is lost: {connection.error}")

    # -- loops -----------------------------------------------------------------------------------

    def _ask(self, now_ns: int) -> None:
        self._rid = rid = self._rid + 1
        self.asked += 1
        self._began[rid] = now_ns
        view = self._cluster.view
        if not self._fresh or random.random() < self._reads:
            key, first, second = self._targets[int(random.random() * len(self._targets))]
            first.send(Fetch(rid, key, TIMEOUT_MS, view))
            second.send(Fetch(rid, key, TIMEOUT_MS, view, True))
            return
        self._writing[rid] = key, first = self._fresh.popleft()
        op = rid.to_bytes(12, "big")
        first.send(Put(rid, key, VALUE, b"", op, TIMEOUT_MS, view=view))

    async def closed(self, seconds: float) -> list[float]:
        """Keep so many requests in flight; return the good ones of each second."""
        self._began.clear()
        self._closed = True
        for _ in range(IN_FLIGHT):
            self._ask(time.perf_counter_ns())
        rates = await self._count(seconds, refill=True)
        self._closed = False
        return rates

    async def open_loop(self, rate: float, seconds: float) -> list[float]:
        """Send so many requests a second; return the good ones of each second."""
        sending = asyncio.create_task(self._come(rate))
        rates = await self._count(seconds)
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending
        return rates

    async def _come(self, rate: float) -> None:
        due = time.perf_counter()
        while True:
            now = time.perf_counter()
            while due <= now:
                self._ask(time.perf_counter_ns())
                due += random.expovariate(rate)
            slept = time.perf_counter()
            await asyncio.sleep(STEP_S)
            self.lag_us.record(int((time.perf_counter() - slept - STEP_S) * 1e6))

    async def _count(self, seconds: float, *, refill: bool = False) -> list[float]:
        rates, until = [], time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            good = self.good
            await asyncio.sleep(1.0)
            rates.append((self.good - good) / (time.perf_counter() - began))
            if refill:  # some answers are lost for good: the queue of a node was left behind
                old = time.perf_counter_ns() - 2_000_000_000
                for rid in [rid for rid, at in self._began.items() if at < old]:
                    del self._began[rid]
                    self._ask(time.perf_counter_ns())
        return rates


def share_cores(made: DevCluster) -> None:
    """Give the nodes one core, and this process the others."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    if len(cores) < 2:
        return
    for node in made.nodes:
        if node.pid:
            for thread in os.listdir(f"/proc/{node.pid}/task"):
                os.sched_setaffinity(int(thread), cores[:1])
    os.sched_setaffinity(0, cores[1:])


async def one_round(crowd: Crowd, options: argparse.Namespace, round_: int) -> dict[str, Any]:
    """Peak, overload, after."""
    crowd.renew(round_)
    crowd.reset()
    await crowd.closed(3)
    crowd.reset()
    before = await crowd.closed(options.seconds)
    peak = sum(before) / len(before)
    say(f"peak: {peak:,.0f}/s, p99 {crowd.us.in_milliseconds()['p99']:.1f} ms")
    await asyncio.sleep(1)
    crowd.reset()
    during = await crowd.open_loop(options.times * peak, options.seconds)
    steady = during[1:]
    good = sum(steady) / len(steady)
    asked = crowd.asked / options.seconds
    say(
        f"asked {asked:,.0f}/s ({asked / peak:.1f} times): {good:,.0f}/s good ({good / peak:.0%}), "
        f"{crowd.refused / options.seconds:,.0f}/s refused, "
        f"{crowd.late / options.seconds:,.0f}/s late, "
        f"p99 {crowd.us.in_milliseconds()['p99']:.1f} ms of the good ones, "
        f"{crowd.refused_us.in_milliseconds()['p99']:.1f} ms of the refused ones, "
        f"{crowd.lag_us.in_milliseconds()['p99']:.1f} ms of the crowd's own lag"
    )
    overloaded = {
        "asked_times": round(asked / peak, 2),
        "good_per_s": round(good, 1),
        "good_of_peak": round(good / peak, 3),
        "refused_per_s": round(crowd.refused / options.seconds, 1),
        "late_per_s": round(crowd.late / options.seconds, 1),
        "ms": crowd.us.in_milliseconds(),
        "refused_ms": crowd.refused_us.in_milliseconds(),
        "crowd_lag_ms": crowd.lag_us.in_milliseconds(),
        "each_second": [round(rate) for rate in during],
    }
    crowd.reset()
    after = await crowd.closed(BACK_S + 5)
    back = next((at for at, rate in enumerate(after, 1) if rate >= BACK_MIN * peak), None)
    say(f"after: {', '.join(f'{rate / peak:.0%}' for rate in after)} of the peak each second")
    return {
        "peak_per_s": round(peak, 1),
        "overload": overloaded,
        "back_s": back,
        "after_of_peak": [round(rate / peak, 3) for rate in after],
    }


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Return the report of all rounds, on nodes of its own."""
    async with contextlib.AsyncExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="everwrite-overload-"))
        made = stack.enter_context(DevCluster.create(Path(place) / "cluster", nodes=NODES))
        await made.start()
        share_cores(made)
        db = await stack.enter_async_context(await connect(made.addresses))
        crowd = Crowd(db, options.mix, options.keys)
        await crowd.open()
        say(f"loading {options.keys:,} keys")
        await crowd.load()
        rounds = [await one_round(crowd, options, each) for each in range(options.rounds)]
        said = [await db.ask("status", node=node.name) for node in made.nodes]
        crowd.close()
    doors = {each["node"]["name"]: each["requests"] for each in said}
    return {"options": vars(options), "rounds": rounds, "doors": doors}


def failures(rounds: list[dict[str, Any]]) -> list[str]:
    """Return what a run should not have shown."""
    found = []
    lag_ms = median(each["overload"]["crowd_lag_ms"]["p99"] for each in rounds)
    if lag_ms > LAG_MS:
        found.append(f"the crowd itself ran {lag_ms:.0f} ms late: the figures say nothing")
    good = median(each["overload"]["good_of_peak"] for each in rounds)
    if good < GOOD_MIN:
        found.append(f"{good:.0%} of the peak was done, {GOOD_MIN:.0%} should be")
    if median(each["back_s"] or NEVER_S for each in rounds) > BACK_S:
        found.append(f"{BACK_MIN:.0%} of the peak was not done again within {BACK_S} s")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Three nodes under ten times what they can do.")
    parser.add_argument("--times", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--mix", choices=("mixed", "read", "write"), default="mixed")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    report = run_on_uvloop(run(options))
    rounds = report["rounds"]
    rows = [
        [
            str(number),
            f"{each['peak_per_s']:,.0f}",
            f"{each['overload']['asked_times']:.1f}",
            f"{each['overload']['good_of_peak']:.0%}",
            f"{each['overload']['ms']['p99']:.0f}",
            str(each["back_s"] or "never"),
        ]
        for number, each in enumerate(rounds, 1)
    ]
    good = median(each["overload"]["good_of_peak"] for each in rounds)
    back = median(each["back_s"] or NEVER_S for each in rounds)
    rows.append(["median", "", "", f"{good:.0%}", "", f"{back:.0f}"])
    head = ["round", "peak per s", "asked x", "good of peak", "p99 ms of good", "back after s"]
    say("\n" + table(head, rows, right=range(1, 6)))
    print(json.dumps(report, indent=2))
    wrong = failures(rounds)
    for line in wrong:
        say(f"FAILED: {line}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
