"""Sessions that all end within a minute: what do the others notice, and what is left of them?

    python bench/sessions.py [--sessions 200000] [--within 60] [--rate 500] [--quiet 20]

Three real nodes on RocksDB with fsync. The load of `everwrite bench` runs all the time on keys that
stay: half reads, half writes, each with one retry, so many a second whether or not the ones before
have been answered. Beside it sessions are put, one key each, with
ends spread evenly over ``--within`` seconds. Then nobody touches them again:

    quiet -> they are put -> they end -> (nothing happens for a while) -> they are purged -> quiet

It prints a table on standard error and one JSON object, and fails (exit code 1) unless

* no request has failed, and no session is found after its end;
* no window in which they end or are purged has a p99, of reads or of writes, over twice the quiet
  one, which is the mean of that before all and that after all;
* each node has purged each of its copies for good, and so has not one tombstone of them;
* repair has not moved one copy in a thousand: expiry makes no difference between replicas.
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
from pathlib import Path
from typing import Any

from windows import times_quiet

from everwrite import AsyncClient, EverwriteError
from everwrite.cli.devcluster import DevCluster
from everwrite.cli.load import Load, LoadOptions, connect
from everwrite.cli.loop import run_on_uvloop
from everwrite.cli.output import say, table
from everwrite.cli.reports import ask_status

NODES = 3
P99_TIMES_MAX = 2.0
REPAIRED_SHARE_MAX = 0.001
WRITERS = 32
READERS = 64
SAMPLE = 5_000
"""Sessions that are looked for once they have ended."""
LOOK_EVERY_S = 1.0
PURGE_S = 1_200.0
"""Patience with the purge."""
HASTE = 0.25
"""How fast sessions are put beside the load, in parts of the speed without; the ends are chosen by
it."""
MARKS = ("p50", "p99")
COUNTED = ("retired", "purged", "repair_keys_in", "repair_keys_out", "tombstones_collected")


class Sessions:
    """One run."""

    def __init__(self, options: argparse.Namespace, made: DevCluster, db: AsyncClient) -> None:
        self._options = options
        self._made = made
        self._db = db
        self._bucket = db.bucket("sessions")
        load = LoadOptions([], "mixed", 1, options.value_bytes, options.keys, rate=options.rate)
        self._load = Load(load, db)
        self._windows: dict[str, dict[str, Any]] = {}
        self._first_end = 0.0
        self._puts_per_s = 0.0

    async def run(self) -> dict[str, Any]:
        """Return the report."""
        options = self._options
        say(f"loading {options.keys:,} keys that stay")
        async with contextlib.aclosing(self._load) as load:
            began = time.monotonic()
            await load.load()
            self._puts_per_s = HASTE * options.keys / (time.monotonic() - began)
            load.begin()
            await asyncio.sleep(options.quiet / 4)
            await self._window("quiet", options.quiet)
            before = await self._counters()
            await self._put_all()
            await asyncio.sleep(max(0.0, self._first_end - time.monotonic()))
            await self._window("they end", options.within)
            shown = await self._look_for_some()
            await self._wait_for(before, share=0.0)
            load.measure()
            began = time.monotonic()
            await self._wait_for(before, share=1.0)
            purge_s = time.monotonic() - began
            self._close("they are purged")
            await self._window("quiet again", options.quiet)
            await load.stop()
        counted = {name: value - before[name] for name, value in (await self._counters()).items()}
        return {
            "options": vars(options),
            "windows": self._windows,
            "counted": counted,
            "purge_s": round(purge_s, 1),
            "purged_per_s_and_node": round(options.sessions / max(purge_s, 0.1)),
            "p99_times": self._worst(),
            "failed": sum(sum(w["errors"].values()) for w in self._windows.values()),
            "shown_after_their_end": shown,
        }

    # -- sessions ----------------------------------------------------------------------------------

    async def _put_all(self) -> None:
        """Put the sessions, so that the last ends ``within`` seconds after the first."""
        options = self._options
        self._load.measure()
        self._first_end = time.monotonic() + options.sessions / self._puts_per_s + 5
        value, waiting = os.urandom(options.value_bytes), iter(range(options.sessions))

        async def work() -> None:
            for number in waiting:
                end = self._first_end + random.random() * options.within
                ttl = max(1.0, end - time.monotonic())
                await self._bucket.put(f"s{number}", value, ttl=ttl)

        async with asyncio.TaskGroup() as writers:
            for _ in range(WRITERS):
                writers.create_task(work())
        if time.monotonic() > self._first_end:
            say("this machine is too slow for so many sessions: the first have ended already")
        self._close("they are put")

    async def _look_for_some(self) -> int:
        """Return how many of a sample are found though they have ended."""
        await asyncio.sleep(1.0)  # how far the clocks of nodes may be apart
        sample = random.sample(range(self._options.sessions), min(SAMPLE, self._options.sessions))
        waiting, shown = iter(sample), 0

        async def work() -> None:
            nonlocal shown
            for number in waiting:
                shown += bool(await self._bucket.get(f"s{number}"))

        async with asyncio.TaskGroup() as readers:
            for _ in range(READERS):
                readers.create_task(work())
        return shown

    # -- windows -----------------------------------------------------------------------------------

    async def _window(self, name: str, seconds: float) -> None:
        self._load.measure()
        await asyncio.sleep(seconds)
        self._close(name)

    def _close(self, name: str) -> None:
        """End a window."""
        counted = self._load.counted()
        self._windows[name] = seen = counted.told()
        say(
            f"{name}: {seen['seconds']:.1f} s, {seen['per_s']:,.0f} requests/s, p99 "
            f"{seen['read_ms']['p99']:.1f} ms reads, {seen['write_ms']['p99']:.1f} ms writes"
        )

    def _worst(self) -> float:
        """Return how many times the quiet p99 the worst of the windows has that count."""
        return max(
            max(times_quiet(self._windows, name, "quiet", "quiet again"))
            for name in ("they end", "they are purged")
        )

    # -- what the nodes say ------------------------------------------------------------------------

    async def _counters(self) -> dict[str, int]:
        """Return the sums of the nodes' counters."""
        names = [node.name for node in self._made.running()]
        answers = await asyncio.gather(*(ask_status(self._db, name) for name in names))
        return {name: sum(answer.counters.get(name, 0) for answer in answers) for name in COUNTED}

    async def _wait_for(self, before: dict[str, int], *, share: float) -> None:
        """Return once more than this share of the copies is purged, or all."""
        copies = self._options.sessions * NODES
        wanted = min(copies, int(share * copies) + 1)
        try:
            async with asyncio.timeout(PURGE_S):
                while (await self._counters())["purged"] - before["purged"] < wanted:
                    self._made.check_alive()
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError as error:
            raise EverwriteError(
                f"Not all sessions were purged within {PURGE_S:g} s.", hint="See `status`."
            ) from error


def show(report: dict[str, Any]) -> None:
    """Write the table for a person."""
    rows = [
        [
            name,
            f"{w['seconds']:.0f} s",
            f"{w['per_s']:,.0f}",
            *(f"{w[what][mark]:.1f}" for what in ("read_ms", "write_ms") for mark in MARKS),
            str(sum(w["errors"].values())),
        ]
        for name, w in report["windows"].items()
    ]
    head = ["window", "for", "per s", "read p50", "p99", "write p50", "p99", "failed"]
    say("\n" + table(head, rows, right=range(1, 8)) + "\n")
    counted = report["counted"]
    say(
        f"{counted['purged']:,} copies purged in {report['purge_s']:.0f} s "
        f"({report['purged_per_s_and_node']:,} a second on each node), "
        f"{counted['retired'] - counted['purged']:,} tombstones left, "
        f"{counted['repair_keys_in'] + counted['repair_keys_out']:,} copies moved by repair; "
        f"p99 at most {report['p99_times']:.2f} times the quiet one"
    )


def failures(report: dict[str, Any]) -> list[str]:
    """Return what a run should not have shown."""
    counted, copies = report["counted"], report["options"]["sessions"] * NODES
    repaired = counted["repair_keys_in"] + counted["repair_keys_out"]
    found = []
    if report["failed"]:
        found.append(f"{report['failed']} requests failed after one retry")
    if report["shown_after_their_end"]:
        found.append(f"{report['shown_after_their_end']} sessions were found after their end")
    if counted["purged"] != copies or counted["retired"] != copies:
        found.append(f"{counted['purged']:,} of {copies:,} copies went without a tombstone")
    if repaired > REPAIRED_SHARE_MAX * copies:
        found.append(f"repair moved {repaired:,} copies")
    if report["p99_times"] > P99_TIMES_MAX:
        found.append(f"a p99 of {report['p99_times']} times the quiet one")
    return found


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Return the report of one run, on nodes of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="everwrite-sessions-") as place,
        DevCluster.create(Path(place) / "cluster", nodes=NODES) as made,
    ):
        await made.start()
        async with await connect(made.addresses) as db:
            return await Sessions(options, made, db).run()


def main() -> None:
    parser = argparse.ArgumentParser(description="Sessions that all end within a minute.")
    parser.add_argument("--sessions", type=int, default=200_000)
    parser.add_argument("--within", type=float, default=60.0, help="seconds in which all end")
    parser.add_argument("--keys", type=int, default=20_000, help="keys that stay")
    parser.add_argument("--value-bytes", type=int, default=100)
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second to them")
    parser.add_argument("--quiet", type=float, default=20.0, help="seconds of a quiet window")
    options = parser.parse_args()
    report = run_on_uvloop(run(options))
    show(report)
    print(json.dumps(report, indent=2))
    wrong = failures(report)
    for line in wrong:
        say(f"FAILED: {line}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
