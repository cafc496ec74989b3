"""Run one node until it is told to stop: what ``everwrite serve`` does."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from typing import Any

from everwrite.core.errors import EverwriteError
from everwrite.server.descriptors import raise_limit
from everwrite.server.logs import Lines, begin_logging, log_of
from everwrite.server.runtime import Runtime, start
from everwrite.server.settings import ServeOptions

log = log_of()

GC_THRESHOLD = 50_000
"""Messages and records are acyclic by rule, so there is little for the collector to find."""


def run(options: ServeOptions) -> None:
    """Run a node until SIGTERM or SIGINT; raise an EverwriteError if it cannot go on."""
    lines = begin_logging(options.log_format)
    raise_limit()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        failure = runner.run(_run(options, lines))
    if failure is not None:
        raise failure


def new_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's loop where it is installed, else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _run(options: ServeOptions, lines: Lines) -> EverwriteError | None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if options.lifeline is not None:
        _watch(loop, options.lifeline, stopping)
    starting = asyncio.ensure_future(start(options))
    told = asyncio.ensure_future(stopping.wait())
    try:
        first: set[asyncio.Future[Any]] = {starting, told}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return None
        runtime = starting.result()
        lines.node = runtime.node.local.members.me.name
        greet(runtime)
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 100)
        ends: set[asyncio.Future[Any]] = {told, runtime.failed, runtime.left}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        await runtime.stop()
        if runtime.left.done():
            _say_goodbye(runtime)
        runtime.log.info("stopped")
        return runtime.failed.result() if runtime.failed.done() else None
    finally:
        told.cancel()


def _say_goodbye(runtime: Runtime) -> None:
    """Say on stderr what is to be done with what a node leaves behind."""
    options = runtime.options
    if options.log_format == "json":
        data = str(options.data) if options.data is not None else ""
        runtime.log.info("left", data=data, why="All that it held is with the others.")
        return
    rest = f" {options.data} can be deleted." if options.data is not None else ""
    print(
        f"everwrite: node {runtime.node.local.members.me.name} has left its cluster, and all that "
        f"it held is with the others.{rest}",
        file=sys.stderr,
        flush=True,
    )


def _watch(loop: asyncio.AbstractEventLoop, lifeline: int, stopping: asyncio.Event) -> None:
    """Stop when the other end of the lifeline is gone; nothing else ever makes it readable."""

    def ended() -> None:
        loop.remove_reader(lifeline)
        log.error("stopping", why="The process that started this node is gone.")
        stopping.set()

    loop.add_reader(lifeline, ended)


def greet(runtime: Runtime) -> None:
    """Say on stderr what runs, where, and how to talk to it."""
    options, local = runtime.options, runtime.node.local
    me, cluster = local.members.me, local.cluster
    if options.log_format == "json":
        runtime.log.info(
            "serving",
            address=runtime.address,
            http=runtime.http.url if runtime.http is not None else "",
            redis=runtime.redis.address if runtime.redis is not None else "",
            data=str(options.data) if options.data is not None else "",
            engine=options.engine,
            fsync=local.fsync,
            cluster=cluster.name,
            ready=runtime.node.ready,
        )
        return
    where = options.data if options.data is not None else "in memory, lost at the end"
    durable = (
        "nothing is durable"
        if not local.durable
        else "fsync before each ack"
        if local.fsync
        else "no fsync: acks survive a crash of the process"
    )
    known = len(local.members)
    others = (
        f"joining by way of {', '.join(options.join)}"
        if not runtime.node.ready
        else "1 node"
        if known == 1
        else f"{known} nodes known"
    )
    known_as = f", known as {runtime.address}" if options.advertise else ""
    http = ""
    if runtime.http is not None:
        url = runtime.http.url
        http = f"  http     {url}\n  ui       {url}/ui/ (dashboard)\n"
    redis = f"  redis    {runtime.redis.address}\n" if runtime.redis is not None else ""
    print(
        f"everwrite: node {me.name} of cluster {cluster.name} listens on "
        f"{options.host}:{options.port}{known_as}\n"
        f"{http}{redis}"
        f"  data     {where} ({options.engine}, {durable})\n"
        f"  cluster  {others}, N={cluster.replicas}, "
        f"{cluster.partitions} partitions, id {cluster.cluster_id.hex()[:8]}\n"
        f"  try      everwrite put fruit best apple --url {runtime.address}",
        file=sys.stderr,
        flush=True,
    )
