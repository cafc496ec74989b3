"""A cluster grows from three nodes to five under load, and shrinks to three again: what do its
clients notice, and how much is carried?

    python bench/growing.py [--keys 200000] [--value-bytes 100] [--in-flight 32] [--quiet 15]
        [--no-pace]

Real nodes on RocksDB with fsync, and the load of `everwrite bench`: half reads, half writes, all
the time, each with one retry. Three windows are quiet; between them the cluster grows, and shrinks.
The newcomers start with --stage before the window in which data moves: on one machine the start of
a Python process takes its core from everybody, which says nothing about moving.

It prints a table on standard error and one JSON object, and fails (exit code 1) unless no request
has failed, no key is missing, and no window with moves has a p99, of reads or of writes, over twice
the mean of those of the quiet windows before and after it. With --no-pace, which shows what it is
without the controller (core/pace/control.py), that one is not held.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from windows import times_quiet

from everwrite import AsyncClient, EverwriteError
from everwrite.cli.devcluster import START_SECONDS, DevCluster
from everwrite.cli.load import BUCKET, Load, LoadOptions, connect
from everwrite.cli.loop import run_on_uvloop
from everwrite.cli.output import duration, say, size, table
from everwrite.cli.reports import Planned, Transfers, read
from everwrite.core.data.keys import data_key

NODES, MORE = 3, 2
P99_TIMES_MAX = 2.0
LOOK_EVERY_S = 0.25
MOVE_S = 900.0
"""Patience with a move."""
READERS = 128
SAMPLES = 200
"""Copies that are looked at for the size of one."""


class Growing:
    """One run."""

    def __init__(self, options: argparse.Namespace, made: DevCluster, db: AsyncClient) -> None:
        self._options = options
        self._made = made
        self._db = db
        self._load = Load(
            LoadOptions(
                urls=[],
                mix="mixed",
                concurrency=options.in_flight,
                value_bytes=options.value_bytes,
                keys=options.keys,
            ),
            db,
        )
        self._windows: dict[str, dict[str, Any]] = {}

    async def run(self) -> dict[str, Any]:
        """Return the report."""
        options, made = self._options, self._made
        say(f"loading {options.keys:,} keys")
        async with contextlib.aclosing(self._load) as load:
            await load.load()
            load.begin()
            await self._quiet("quiet, 3 nodes", warm=True)
            newcomers = [made.add() for _ in range(MORE)]
            for node in newcomers:
                made.spawn(node.number, "--stage", *unpaced(options))
            await made.wait_ready()
            await self._quiet("quiet, 2 more wait")
            names = [node.name for node in newcomers]
            grown = await self._move("grows to 5", "join", names)
            await self._quiet("quiet, 5 nodes")
            shrunk = await self._move("shrinks to 3", "leave", names)
            codes = [await asyncio.to_thread(made.ended, node.number) for node in newcomers]
            await self._quiet("quiet again")
            await load.stop()
        grown |= self._times("grows to 5", "quiet, 2 more wait", "quiet, 5 nodes")
        shrunk |= self._times("shrinks to 3", "quiet, 5 nodes", "quiet again")
        say(f"reading all {options.keys:,} keys")
        missing, unread = await self._read_all()
        return {
            "options": vars(options),
            "windows": self._windows,
            "moves": {"grow": grown, "shrink": shrunk},
            "exit_codes": codes,
            "failed": sum(sum(w["errors"].values()) for w in self._windows.values()),
            "p99_times": max(
                move[what]
                for move in (grown, shrunk)
                for what in ("read_p99_times", "write_p99_times")
            ),
            "missing": missing,
            "unread": unread,
        }

    # -- windows -----------------------------------------------------------------------------------

    async def _quiet(self, name: str, *, warm: bool = False) -> None:
        """Measure while nothing moves."""
        await asyncio.sleep(self._options.quiet / 3 if warm else 1.0)
        self._load.measure()
        await asyncio.sleep(self._options.quiet)
        self._close(name)

    def _close(self, name: str) -> None:
        """End a window."""
        counted = self._load.counted()
        self._windows[name] = counted.told()
        seen = self._windows[name]
        say(
            f"{name}: {seen['seconds']:.1f} s, {seen['per_s']:,.0f} requests/s, p99 "
            f"{seen['read_ms']['p99']:.1f} ms reads, {seen['write_ms']['p99']:.1f} ms writes, "
            f"{sum(counted.errors.values())} failed"
        )

    def _times(self, busy: str, before: str, after: str) -> dict[str, float]:
        reads, writes = times_quiet(self._windows, busy, before, after)
        return {"read_p99_times": reads, "write_p99_times": writes}

    async def _move(self, name: str, verb: str, nodes: Sequence[str]) -> dict[str, Any]:
        """Let nodes join or leave, and measure until nothing is left to move."""
        changes = [{"verb": verb, "node": node} for node in nodes]
        # What a newcomer has taken in is nothing, and the client has not met it.
        carried = await self._carried(nodes if verb == "join" else ())
        each = await self._copy_bytes()
        self._load.measure()
        began = time.monotonic()
        planned = await self._db.ask("plan_stage", {"changes": changes}, node="n1")
        await self._db.ask("plan_commit", {"plan": planned["plan"]}, node="n1")
        await self._settled(nodes if verb == "leave" else [])
        seconds = time.monotonic() - began
        self._close(name)
        after = await self._carried(nodes if verb == "leave" else ())
        moved = sum(after[node] - carried.get(node, 0) for node in after)
        plan = read(planned, Planned)
        optimum = planned["optimum"] * self._options.keys / planned_partitions(planned) * each
        return {
            "seconds": round(seconds, 2),
            "copies_moved": plan.copies_moved,
            "copies_optimum": planned["optimum"],
            "bytes_moved": moved,
            "bytes_optimum": round(optimum),
            "bytes_times_optimum": round(moved / optimum, 3),
        }

    async def _settled(self, leaving: Sequence[str]) -> None:
        """Return once the first node knows of nothing that is left to move."""
        async with asyncio.timeout(MOVE_S):
            while True:
                await asyncio.sleep(LOOK_EVERY_S)
                self._alive(leaving)
                seats = (await self._transfers("n1")).nodes
                gone = not {seat.name for seat in seats} & set(leaving)
                if gone and not any(seat.to_gain + seat.to_shed for seat in seats):
                    return

    def _alive(self, leaving: Sequence[str]) -> None:
        """Fail if a node has ended that was not to."""
        numbers = [node.number for node in self._made.nodes if node.name in leaving]
        self._made.check_alive(*numbers)

    # -- questions ---------------------------------------------------------------------------------

    async def _transfers(self, name: str) -> Transfers:
        return read(await self._db.ask("transfers", node=name), Transfers)

    async def _carried(self, but: Sequence[str]) -> dict[str, int]:
        """Return how many bytes each node, but for some, has taken in by moves."""
        names = [node.name for node in self._made.running() if node.name not in but]
        answers = await asyncio.gather(*(self._transfers(name) for name in names))
        return {
            name: answer.counters["bytes_in"] for name, answer in zip(names, answers, strict=True)
        }

    async def _copy_bytes(self) -> float:
        """Return what one copy of a key takes: its data key and its record."""
        sizes = []
        for number in range(0, self._options.keys, max(1, self._options.keys // SAMPLES)):
            key = f"{number:08d}"
            (copy, *_) = await self._db.replicas(BUCKET, key)
            sizes.append(len(data_key(BUCKET.encode(), key.encode())) + len(copy.record))
        return sum(sizes) / len(sizes)

    async def _read_all(self) -> tuple[int, int]:
        """Return how many keys are missing, and of how many that could not be told."""
        bucket, waiting = self._db.bucket(BUCKET), iter(range(self._options.keys))
        missing = unread = 0

        async def work() -> None:
            nonlocal missing, unread
            for number in waiting:
                try:
                    found = await bucket.get(f"{number:08d}")
                except EverwriteError:
                    unread += 1
                    continue
                missing += not found.values

        async with asyncio.TaskGroup() as readers:
            for _ in range(READERS):
                readers.create_task(work())
        return missing, unread


def planned_partitions(planned: dict[str, Any]) -> float:
    """Return the number of partitions: a plan says how many copies there are in all."""
    return planned["copies"] / NODES


def show(report: dict[str, Any]) -> None:
    """Write the tables for a person."""
    rows = [
        [
            name,
            f"{w['seconds']:.1f} s",
            f"{w['per_s']:,.0f}",
            f"{w['read_ms']['p50']:.1f}",
            f"{w['read_ms']['p99']:.1f}",
            f"{w['write_ms']['p50']:.1f}",
            f"{w['write_ms']['p99']:.1f}",
            str(sum(w["errors"].values())),
        ]
        for name, w in report["windows"].items()
    ]
    head = ["window", "for", "per s", "read p50", "read p99", "write p50", "write p99", "failed"]
    say("\n" + table(head, rows, right=range(1, 8)))
    rows = [
        [
            name,
            duration(move["seconds"] * 1000),
            f"{move['copies_moved']} ({move['copies_optimum']:g})",
            f"{size(move['bytes_moved'])} ({size(move['bytes_optimum'])})",
            f"{move['read_p99_times']:.2f}",
            f"{move['write_p99_times']:.2f}",
        ]
        for name, move in report["moves"].items()
    ]
    head = ["move", "took", "copies (optimum)", "bytes (optimum)", "read p99 x", "write p99 x"]
    say("\n" + table(head, rows, right=range(1, 6)) + "\n")
    say(f"{report['failed']} requests failed after one retry, {report['missing']} keys are missing")


def failures(report: dict[str, Any]) -> list[str]:
    """Return what a run should not have shown."""
    found = [
        f"{report[what]} {said}"
        for what, said in (
            ("failed", "requests failed after one retry"),
            ("missing", "keys are missing"),
            ("unread", "keys could not be read"),
        )
        if report[what]
    ]
    if any(report["exit_codes"]):
        found.append(f"those that left ended with {report['exit_codes']}")
    if report["p99_times"] > P99_TIMES_MAX and not report["options"]["no_pace"]:
        found.append(f"a p99 of {report['p99_times']} times the quiet one")
    return found


@contextlib.asynccontextmanager
async def started(place: Path, *options: str) -> AsyncIterator[DevCluster]:
    """A cluster of three nodes that runs."""
    with DevCluster.create(place / "cluster", nodes=NODES) as made:
        await made.start(START_SECONDS, *options)
        yield made


def unpaced(options: argparse.Namespace) -> list[str]:
    """Return what nodes are started with."""
    return ["--no-pace"] if options.no_pace else []


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Return the report of one run, on nodes of its own."""
    with tempfile.TemporaryDirectory(prefix="everwrite-grow-") as place:
        async with (
            started(Path(place), *unpaced(options)) as made,
            await connect(made.addresses) as db,
        ):
            return await Growing(options, made, db).run()


def main() -> None:
    parser = argparse.ArgumentParser(description="Three nodes grow to five and shrink again.")
    parser.add_argument("--keys", type=int, default=200_000)
    parser.add_argument("--value-bytes", type=int, default=100)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--quiet", type=float, default=15.0, help="seconds of a quiet window")
    parser.add_argument("--no-pace", action="store_true", help="without the controller")
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
