"""`everwrite bench`: throughput, latencies and CPU per operation, on nodes of its own or yours."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from everwrite.cli.connection import DEFAULT_URL, read_secret, takes_a_format
from everwrite.cli.devcluster import DevCluster
from everwrite.cli.exits import Exit
from everwrite.cli.histogram import Histogram
from everwrite.cli.idle import IDLE_CONNECTIONS, Idle, measure_idle
from everwrite.cli.lifetimes import read_lifetime
from everwrite.cli.load import Load, LoadOptions, LoadResult, connect, http_urls
from everwrite.cli.loop import run_on_uvloop
from everwrite.cli.output import count, emit, emit_json, say, size, table, writable_file
from everwrite.cli.reports import Status, ask_status
from everwrite.core.errors import EverwriteError, UnavailableError

if TYPE_CHECKING:
    from everwrite.client import AsyncClient


_ANSWER_BYTES_MAX = 1 << 20
"""A generator's longest line: two histograms with every counter in use take a tenth of that."""


TTL_MIN_S = 2.0
"""Logins that live shorter have ended before they are touched."""


class BenchOptions(msgspec.Struct, frozen=True):
    """What the command line says; no ``url``: on nodes of our own."""

    url: str | None
    nodes: int
    engine: str
    fsync: bool
    mix: str
    concurrency: int
    value_bytes: int
    keys: int
    seconds: float
    warmup: float
    processes: int
    rate: str
    kill: tuple[int, float] | None
    ttl: float = 0.0
    http: bool = False


def _check_rate(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        number = float(value.removesuffix("x") or "nan") if value else 1.0
    except ValueError:
        number = 0.0
    if not 0 < number < 10_000_000:
        raise click.BadParameter(f"{value!r} is no rate, like 5000 or 2x")
    return value


@click.command()
@click.option("--url", metavar="HOST:PORT", help="Measure this cluster, not one of our own.")
@click.option("--nodes", type=click.IntRange(1, 9), default=3, show_default=True)
@click.option(
    "--engine", type=click.Choice(["rocksdb", "sqlite"]), default="rocksdb", show_default=True
)
@click.option(
    "--fsync",
    type=click.Choice(["on", "off"]),
    default="on",
    show_default=True,
    help="Whether our nodes have a write on disk before they acknowledge it.",
)
@click.option(
    "--mix",
    type=click.Choice(["mixed", "read", "write"]),
    default="mixed",
    show_default=True,
    help="mixed: half reads, half writes.",
)
@click.option("--concurrency", type=click.IntRange(1, 10_000), default=64, show_default=True)
@click.option("--value-bytes", type=click.IntRange(0, 1 << 20), default=100, show_default=True)
@click.option("--keys", type=click.IntRange(1, 10_000_000), default=100_000, show_default=True)
@click.option(
    "--ttl",
    callback=read_lifetime,
    metavar="TTL",
    help="The keys are logins that live so long (30m): writes touch those that live and replace "
    "those that have ended.",
)
@click.option("--http", is_flag=True, help="Ask over HTTP, one connection per request.")
@click.option("--seconds", type=click.FloatRange(0.1, 86_400), default=10.0, show_default=True)
@click.option("--warmup", type=click.FloatRange(0, 600), default=2.0, show_default=True)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Load generators; the requests in flight are shared out.",
)
@click.option(
    "--rate",
    default="",
    metavar="N|Nx",
    callback=_check_rate,
    help="An open loop: N requests a second, whatever becomes of those before; or N times what it "
    "does with --concurrency in flight, which is measured first.",
)
@click.option(
    "--kill",
    type=(int, float),
    metavar="N SECONDS",
    help="Kill node N (SIGKILL) so long after the measurement began.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=writable_file,
)
@takes_a_format
def bench(output: Path | None, form: str, kill: tuple[int, float] | None, **given: Any) -> int:
    """Measure throughput, latencies and cost per operation.

    First it loads all keys (with --url into that cluster), which may take longer than --seconds,
    and warms up; then it measures. Every request goes through the public client, with one retry.
    --output FILE gets the JSON, too. Exit code 3 if any request has failed.
    """
    options = BenchOptions(
        **{**given, "fsync": given["fsync"] == "on", "ttl": given["ttl"] or 0.0}, kill=kill
    )
    _check(options)
    machine = _machine()
    with tempfile.TemporaryDirectory(prefix="everwrite-bench-") as place:
        report = run_on_uvloop(_run(options, Path(place)))
    report["machine"] = machine
    if output is not None:
        output.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    if form == "json":
        emit_json(report)
    else:
        _show(report)
    return Exit.DEGRADED if report["errors"] else Exit.OK


def _check(options: BenchOptions) -> None:
    if 0 < options.ttl < TTL_MIN_S:
        raise click.UsageError(f"--ttl can't be less than {TTL_MIN_S:g} seconds.")
    if options.ttl and options.http:
        raise click.UsageError("--ttl is for the native client: leave out --http.")
    if options.processes > options.concurrency:
        raise click.UsageError("--processes can't be more than --concurrency.")
    if options.kill is None:
        return
    number, after = options.kill
    if options.url is not None:
        raise click.UsageError("--kill is for nodes that bench has started: leave out --url.")
    if not 1 <= number <= options.nodes:
        raise click.UsageError(f"--kill {number}: the nodes are 1 to {options.nodes}.")
    if not 0 <= after < options.seconds:
        raise click.UsageError(f"--kill {number} {after:g}: that is not within the measurement.")


async def _run(options: BenchOptions, place: Path) -> dict[str, Any]:
    """Set up, load, warm up, measure; return the report."""
    async with contextlib.AsyncExitStack() as stack:
        idle: Idle | None = None
        cluster: DevCluster | None = None
        urls = (options.url or DEFAULT_URL).split(",")
        if options.url is None:
            alone = _create(options, place / "idle", 1)
            idle = await measure_idle(alone, read_secret(None), http=options.http)
            cluster = _create(options, place / "cluster", options.nodes)
            stack.enter_context(cluster)
            await cluster.start()
            urls = cluster.addresses
        db = await stack.enter_async_context(await connect(urls))
        loads = await stack.enter_async_context(_loads(options, urls, db))
        before = await _ask_all(db)
        began = time.perf_counter()
        say(f"loading {count(options.keys, 'key')} on {count(len(before), 'node')}")
        await asyncio.gather(*(load.load() for load in loads))
        load_s = time.perf_counter() - began
        peak, rate = 0.0, float(options.rate.removesuffix("x") or 0)
        if options.rate.endswith("x"):
            peak = await _peak(options, loads)
            rate *= peak
            say(f"{peak:,.0f} requests/s with {options.concurrency} in flight; now {rate:,.0f}/s")
        await asyncio.gather(*(load.begin(rate) for load in loads))
        say(f"warming up for {options.warmup:g} s, then measuring for {options.seconds:g} s")
        await asyncio.sleep(options.warmup)
        results, statuses = await _measure(options, loads, db, cluster)
    report = _report(options, idle, load_s, results, *statuses)
    return {**report, "rate_per_s": rate or None, "peak_per_s": peak or None}


async def _peak(options: BenchOptions, loads: Sequence[Generator]) -> float:
    """Return how many requests a second are answered in a closed loop."""
    say(f"measuring what is possible for {options.seconds:g} s")
    await asyncio.gather(*(load.begin(0.0) for load in loads))
    await asyncio.sleep(options.warmup)
    await asyncio.gather(*(load.measure() for load in loads))
    await asyncio.sleep(options.seconds)
    results = await asyncio.gather(*(load.stop() for load in loads))
    return sum((found.reads + found.writes) / found.seconds for found in results)


async def _measure(
    options: BenchOptions,
    loads: Sequence[Generator],
    db: AsyncClient,
    cluster: DevCluster | None,
) -> tuple[list[LoadResult], tuple[dict[str, Status], dict[str, Status]]]:
    """Count for as long as asked; return it with the nodes' own words at both ends."""
    before = await _ask_all(db)
    await asyncio.gather(*(load.measure() for load in loads))
    until = asyncio.get_running_loop().time() + options.seconds
    if options.kill is not None and cluster is not None:
        number, seconds = options.kill
        await asyncio.sleep(seconds)
        say(f"killing n{number}")
        await asyncio.to_thread(cluster.kill, number)
    await asyncio.sleep(until - asyncio.get_running_loop().time())
    after_all = asyncio.gather(*(load.stop() for load in loads))
    after = await _ask_all(db)
    return list(await after_all), (before, after)


def _create(options: BenchOptions, directory: Path, nodes: int) -> DevCluster:
    return DevCluster.create(
        directory,
        nodes=nodes,
        engine=options.engine,
        fsync=options.fsync,
        secret=read_secret(None),
    )


async def _ask_all(db: AsyncClient) -> dict[str, Status]:
    """Return the status of each node that answers, by name."""
    first = await ask_status(db)

    async def ask(name: str) -> Status | None:
        try:
            return await ask_status(db, name)
        except UnavailableError:
            return None

    names = [peer.name for peer in first.nodes]
    answers = await asyncio.gather(*map(ask, names))
    return {name: found for name, found in zip(names, answers, strict=True) if found is not None}


# -- load generators, here or in processes of their own ------------------------------------------


class Generator:
    """A load generator in this process."""

    def __init__(self, load: Load) -> None:
        self._load = load

    async def load(self) -> None:
        """Write all keys once."""
        await self._load.load()

    async def begin(self, rate: float) -> None:
        """Start the workers; with a rate, the open loop."""
        self._load.begin(rate)

    async def measure(self) -> None:
        """Count from now on."""
        self._load.measure()

    async def stop(self) -> LoadResult:
        """Stop, and return what was counted."""
        return await self._load.stop()


class RemoteGenerator(Generator):
    """A load generator in a process of its own (load.py), told what to do line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def tell(self, line: str) -> str:
        """Send one line and return the answer."""
        if self._process.stdin is None or self._process.stdout is None:
            raise EverwriteError("A load generator has no pipes.")
        self._process.stdin.write(line.encode() + b"\n")
        answer = await self._process.stdout.readline()
        if not answer:
            raise EverwriteError("A load generator has ended early.", hint="See its words above.")
        return answer.decode()

    async def load(self) -> None:
        """Write this part of the keys once."""
        await self.tell("load")

    async def begin(self, rate: float) -> None:
        """Start the workers; with a rate, the open loop."""
        await self.tell(f"begin {rate}")

    async def measure(self) -> None:
        """Count from now on."""
        await self.tell("measure")

    async def stop(self) -> LoadResult:
        """Stop, and return what was counted."""
        return msgspec.json.decode(await self.tell("stop"), type=LoadResult)


@contextlib.asynccontextmanager
async def _loads(
    options: BenchOptions, urls: list[str], db: AsyncClient
) -> AsyncIterator[list[Generator]]:
    """Make the generators, and leave none running."""
    parts = [
        LoadOptions(
            urls=urls,
            mix=options.mix,
            concurrency=len(range(part, options.concurrency, options.processes)),
            value_bytes=options.value_bytes,
            keys=options.keys,
            ttl_s=options.ttl,
            http=http_urls(urls) if options.http else [],
            part=part,
            parts=options.processes,
        )
        for part in range(options.processes)
    ]
    if options.processes == 1:
        async with contextlib.aclosing(Load(parts[0], db)) as load:
            yield [Generator(load)]
        return
    processes: list[asyncio.subprocess.Process] = []
    try:
        generators = []
        for part in parts:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "everwrite.cli.load"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_ANSWER_BYTES_MAX,
                start_new_session=True,
            )
            processes.append(process)
            generator = RemoteGenerator(process)
            await generator.tell(msgspec.json.encode(part).decode())
            generators.append(generator)
        yield list(generators)
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


# -- the report ----------------------------------------------------------------------------------


def _report(
    options: BenchOptions,
    idle: Idle | None,
    load_s: float,
    results: Sequence[LoadResult],
    before: dict[str, Status],
    after: dict[str, Status],
) -> dict[str, Any]:
    reads, writes, touches, every = Histogram(), Histogram(), Histogram(), Histogram()
    errors: dict[str, int] = {}
    for result in results:
        kinds = ((reads, result.read_us), (writes, result.write_us), (touches, result.touch_us))
        for into, found in kinds:
            part = Histogram.from_dict(found)
            into.add(part)
            every.add(part)
        for code, number in result.errors.items():
            errors[code] = errors.get(code, 0) + number
    seconds = max(result.seconds for result in results)
    both = [name for name in before if name in after]
    server_us = sum(after[name].node.cpu_us - before[name].node.cpu_us for name in both)
    quantiles = every.in_milliseconds()
    operations = max(1, every.count)
    return {
        "ops_per_s": round(every.count / seconds, 1),
        "operations": every.count,
        "p50_ms": quantiles["p50"],
        "p99_ms": quantiles["p99"],
        "p999_ms": quantiles["p999"],
        "max_ms": quantiles["max"],
        "errors": sum(errors.values()),
        "errors_by_code": errors,
        "server_cpu_us_per_op": round(server_us / operations, 2),
        "client_cpu_us_per_op": round(sum(r.cpu_us for r in results) / operations, 2),
        "reads": {"count": reads.count, **reads.in_milliseconds()},
        "writes": {"count": writes.count, **writes.in_milliseconds()},
        "touches": {"count": touches.count, **touches.in_milliseconds()},
        "found_ended": sum(result.ended for result in results),
        "seconds": round(seconds, 3),
        "load_s": round(load_s, 3),
        "load_ops_per_s": round(options.keys / load_s, 1),
        "idle_rss_bytes": idle.rss_bytes if idle is not None else None,
        "start_s": idle.start_s if idle is not None else None,
        "idle_connections_bytes": idle.connections_bytes if idle is not None else None,
        "rss_bytes": {name: status.node.rss_bytes for name, status in after.items()},
        "nodes": len(before),
        "replicas": next(iter(before.values())).cluster.replicas,
        "engine": next(iter(before.values())).node.engine,
        "fsync": next(iter(before.values())).node.fsync,
        "options": options,
    }


def _machine() -> dict[str, object]:
    """Return where and when we measure; say so if others use the machine, too."""
    cpus, load = os.cpu_count() or 1, os.getloadavg()[0]
    if load > cpus / 2:
        say(f"the machine is busy (load {load:.1f} on {cpus} CPUs): all figures will be worse")
    return {
        "cpus": cpus,
        "load_before": round(load, 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        # An interpreter built without profile-guided optimisation takes a sixth more.
        "python_build": " ".join((*platform.python_build(), platform.python_compiler())),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _show(report: dict[str, Any]) -> None:
    options: BenchOptions = report["options"]
    emit(
        f"{count(report['nodes'], 'node')} ({report['engine']}, "
        f"fsync {'on' if report['fsync'] else 'off'}), N={report['replicas']}; "
        f"{options.value_bytes}-byte values, {count(options.keys, 'key')}, "
        f"{options.concurrency} in flight from {count(options.processes, 'generator')}"
    )
    emit(
        f"{options.mix}: {report['ops_per_s']:,.0f} ops/s for {report['seconds']:.1f} s, "
        f"{count(report['errors'], 'error')}"
    )
    if report["rate_per_s"]:
        asked, seconds = report["rate_per_s"], report["seconds"]
        failed = f"{report['errors'] / seconds:,.0f}/s failed"
        of_peak = ""
        if report["peak_per_s"]:
            of_peak = f", {report['ops_per_s'] / report['peak_per_s']:.0%} of what is possible"
        emit(f"Asked {asked:,.0f}/s: {report['ops_per_s']:,.0f}/s served{of_peak}; {failed}")
    emit("")
    rows = [
        [
            name,
            f"{part['count']:,}",
            *(f"{part[mark]:.2f}" for mark in ("p50", "p99", "p999", "max")),
        ]
        for name, part in ((name, report[name]) for name in ("reads", "writes", "touches"))
        if part["count"]
    ]
    whole = [f"{report[mark]:.2f}" for mark in ("p50_ms", "p99_ms", "p999_ms", "max_ms")]
    rows.append(["all", f"{report['operations']:,}", *whole])
    emit(table(["", "count", "p50 ms", "p99 ms", "p99.9 ms", "max ms"], rows, right=range(1, 6)))
    emit("")
    where = "on all nodes together" if options.kill is None else "on the nodes that were left"
    emit(
        f"CPU per operation: {report['server_cpu_us_per_op']:.1f} us {where}, "
        f"{report['client_cpu_us_per_op']:.1f} us in the load generator"
    )
    loaded = f"{report['load_ops_per_s']:,.0f} puts/s while loading"
    if report["idle_rss_bytes"] is not None:
        idle = f"{size(report['idle_rss_bytes'])} idle, ready {report['start_s']:.2f} s after start"
        emit(f"One node: {idle}; {loaded}")
        if (grown := report["idle_connections_bytes"]) is not None:
            emit(f"{IDLE_CONNECTIONS} idle HTTP connections to it: {size(grown)}")
    else:
        emit(f"{loaded[0].upper()}{loaded[1:]}")
    if options.ttl:
        ended = count(report["found_ended"], "read")
        emit(f"Logins live {options.ttl:g} s; {ended} found one that had ended")
    if report["errors"]:
        said = ", ".join(f"{number:,} {code}" for code, number in report["errors_by_code"].items())
        emit(f"Errors: {said}")
