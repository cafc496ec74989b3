"""The demo from opening to verdict: a cluster, shoppers, a story of faults, and the counting.

start nodes -> shoppers | story | watch | screen -> close -> repair -> drain hints -> read back
"""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
import tempfile
import time
import webbrowser
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from everwrite.cli.connection import read_secret, takes_a_format
from everwrite.cli.copyable import command
from everwrite.cli.demo.screen import LEGEND, Board, in_terminal, latencies, show_lines, show_live
from everwrite.cli.demo.shoppers import Shop, Shopper, Tally
from everwrite.cli.demo.story import Step, plan_story, tell
from everwrite.cli.demo.verdict import Verdict, drain, read_back, repair
from everwrite.cli.devcluster import DevCluster
from everwrite.cli.devplan import STATE_FILE
from everwrite.cli.exits import Exit
from everwrite.cli.loop import run_on_uvloop
from everwrite.cli.orders import Order, take_orders
from everwrite.cli.output import count, emit, emit_json, say
from everwrite.cli.reports import ask_status
from everwrite.core.errors import ConfigError, DirectoryInUse, UnavailableError

if TYPE_CHECKING:
    from everwrite.client import AsyncClient

_BUCKET = "carts"
_SHOPPERS_PER_CLIENT = 6
_CARTS = 24
_WATCH_SECONDS = 0.5
_REQUEST_SECONDS = 5.0


class DemoOptions(msgspec.Struct, frozen=True):
    """What the command line says; the story of a ``seed`` is always the same."""

    nodes: int
    seconds: float
    pauses: bool
    seed: int
    live: bool
    opens: bool = False


class Outcome(msgspec.Struct):
    """What a demo has to report."""

    verdict: Verdict
    tally: Tally
    faults: list[Step]
    planned: int
    """How many steps the story has; fewer happened if it was interrupted."""
    interrupted: bool
    seconds: float

    def exit_code(self) -> Exit:
        """Return what a script learns: a story cut short is no proof, whatever was counted."""
        if not self.verdict.ok():
            return Exit.ERROR
        return Exit.INTERRUPTED if self.interrupted else Exit.OK


@click.command()
@click.option("--nodes", type=click.IntRange(3, 16), default=5, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(5, 86_400),
    default=30.0,
    show_default=True,
    help="How long the shop is open; the verdict takes some seconds more.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep data and logs there.  [default: a temporary directory, removed if all is well]",
)
@click.option("--no-pause", is_flag=True, help="Do not freeze a node (SIGSTOP).")
@click.option("--seed", type=int, metavar="S", help="Repeat the same story.  [default: a new one]")
@click.option("--open", "opens", is_flag=True, help="Show its dashboard in a browser.")
@takes_a_format
def demo(
    nodes: int,
    seconds: float,
    data: Path | None,
    no_pause: bool,
    seed: int | None,
    opens: bool,
    form: str,
) -> int:
    """Break a cluster while people shop on it, then count what was lost.

    Starts nodes on this machine; clients add and remove items in shopping carts through different
    nodes; one node is killed, another frozen, the network cut in two and healed. In the end every
    cart is read from every replica. Exit code 0 only if nothing was lost and replicas are equal;
    after Ctrl-C, which closes the shop early, 130.

    The address it prints is its dashboard: there you can see all of it, kill, freeze and cut by
    yourself, and fill a cart on either side of a cut.
    """
    chosen = seed if seed is not None else secrets.randbelow(10_000)
    options = DemoOptions(nodes, seconds, not no_pause, chosen, in_terminal(), opens)
    temporary = data is None
    directory = data or Path(tempfile.mkdtemp(prefix="everwrite-demo-"))
    with _cluster(directory, nodes, temporary=temporary) as cluster:
        outcome = run_on_uvloop(_run(cluster, options))
        if not outcome.verdict.ok():
            cluster.temporary = False
    if not outcome.verdict.ok() or not temporary:
        say(f"data and logs are in {directory}")
    if form == "json":
        emit_json(_as_json(outcome, options))
    else:
        _report(outcome, options)
    return outcome.exit_code()


def _cluster(directory: Path, nodes: int, *, temporary: bool) -> DevCluster:
    """Return a new cluster, or the one that an earlier demo has left in this directory."""
    if (directory / STATE_FILE).exists():
        cluster = DevCluster.open(directory, secret=read_secret(None))
        if len(cluster.nodes) != nodes:
            raise ConfigError(
                f"The cluster in {directory} has {len(cluster.nodes)} nodes, not {nodes}.",
                hint=f"Use --nodes {len(cluster.nodes)}, or another directory.",
            )
        if cluster.running():
            raise DirectoryInUse(
                f"The cluster in {directory} is running, and a demo would stop it.",
                hint=f"Use another directory, or stop it: {command('cluster stop', dir=directory)}",
            )
        return cluster
    cluster = DevCluster.create(directory, nodes=nodes, secret=read_secret(None), playground=True)
    cluster.temporary = temporary
    return cluster


async def _run(cluster: DevCluster, options: DemoOptions) -> Outcome:
    """Start, shop, break, repair, and count."""
    import everwrite

    loop = asyncio.get_running_loop()
    began = loop.time()
    say(f"starting {options.nodes} nodes in {cluster.directory}")
    await cluster.start()
    say(f"all are ready after {loop.time() - began:.1f} s; repeat with --seed {options.seed}")
    say(f"dashboard: {cluster.node(1).dashboard}")
    if options.opens:
        await asyncio.to_thread(webbrowser.open, cluster.node(1).dashboard)
    if not options.live:
        say(LEGEND)
    shop = Shop(f"{secrets.token_hex(3)}", _CARTS)
    interrupt = _close_on_interrupt(shop.closing)
    async with AsyncExitStack() as stack:
        clients: list[AsyncClient] = []
        for first in range(options.nodes):
            urls = cluster.addresses[first:] + cluster.addresses[:first]
            client = await everwrite.connect(urls, timeout=_REQUEST_SECONDS)
            clients.append(await stack.enter_async_context(client))
        opened = loop.time()
        faults, planned = await _keep_shop(cluster, shop, clients, options)
        seconds = loop.time() - opened
        say("the shop is closed; everything is repaired")
        cluster.check_alive()
        await repair(cluster, say)
        left = await drain(cluster, _Progress("hints to hand over").show)
        say(
            f"reading {count(len(shop.ledger.carts), 'cart')} from the client and from each replica"
        )
        db = clients[0]
        verdict = await read_back(db, db.bucket(_BUCKET), shop.ledger, lambda _: None)
    verdict.hints_left = left
    return Outcome(verdict, shop.tally, faults, planned, interrupt.is_set(), seconds)


async def _keep_shop(
    cluster: DevCluster, shop: Shop, clients: Sequence[AsyncClient], options: DemoOptions
) -> tuple[list[Step], int]:
    """Let shoppers in while the story is told; return the steps that happened, of how many."""
    rng = random.Random(options.seed)
    steps = plan_story(options.nodes, options.seconds, pauses=options.pauses, rng=rng)
    board = Board(cluster, shop, options.seconds)
    shoppers = [
        Shopper(number, shop, client.bucket(_BUCKET), random.Random(rng.random()))
        for number, client in enumerate([*clients] * _SHOPPERS_PER_CLIENT, start=1)
    ]

    def hear(step: Step) -> None:
        board.tell(step.sentence())
        board.split = step.split if step.act in {"partition", "heal"} else board.split

    def obey(order: Order, said: str) -> None:
        board.tell(said)
        board.split = cluster.plan.split

    async with take_orders(cluster, obey), asyncio.TaskGroup() as tasks:
        for shopper in shoppers:
            tasks.create_task(shopper.shop())
        tasks.create_task(_watch(board, clients[0]))
        tasks.create_task(show_live(board) if options.live else show_lines(board))
        done = await tell(steps, cluster, shop, options.seconds, hear)
        shop.closing.set()
    return done, len(steps)


async def _watch(board: Board, client: AsyncClient) -> None:
    """Ask all nodes for their status, again and again, until the shop closes."""

    async def look(number: int, name: str) -> None:
        try:
            async with asyncio.timeout(_WATCH_SECONDS):
                board.reports[number] = await ask_status(client, name)
        except (UnavailableError, TimeoutError):
            board.reports[number] = None

    closed = False
    while not closed:
        nodes = board.cluster.nodes
        await asyncio.gather(*(look(node.number, node.name) for node in nodes))
        closed = await board.shop.closed_within(_WATCH_SECONDS)


def _close_on_interrupt(closing: asyncio.Event) -> asyncio.Event:
    """Let the first Ctrl-C close the shop, and the second end the demo.

    The event returned is set if the shop was open when the first came.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    early = asyncio.Event()

    def interrupted() -> None:
        if not closing.is_set():
            early.set()
            closing.set()
        elif task is not None:
            task.cancel()

    loop.add_signal_handler(signal.SIGINT, interrupted)
    return early


class _Progress:
    """Says a number on standard error when it has changed, at most once a second."""

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._said = -1
        self._at = 0.0

    def show(self, number: int) -> None:
        """Take the number of now."""
        now = time.monotonic()
        if number and number != self._said and now - self._at >= 1:
            say(f"{number:,} {self._noun}")
            self._said, self._at = number, now


def _report(outcome: Outcome, options: DemoOptions) -> None:
    """Write the verdict as lines, the decisive one last."""
    verdict, tally = outcome.verdict, outcome.tally
    failed = tally.writes_failed + tally.writes_unknown
    lines = [
        (
            "shop open",
            f"{outcome.seconds:.1f} s, {options.nodes} nodes; repeat with --seed {options.seed}",
        ),
        ("faults", ", ".join(_fault(step) for step in outcome.faults) or "none"),
        ("writes", f"{tally.writes:,} accepted, {failed:,} not; {latencies(tally.write_us)}"),
        (
            "reads",
            f"{tally.reads:,} answered, {tally.reads_failed:,} not; {latencies(tally.read_us)}",
        ),
        (
            "longest wait",
            f"{tally.drought_seconds:.2f} s between two accepted writes of all shoppers",
        ),
        ("siblings", f"{tally.siblings_met:,} reads met some; {tally.siblings_merged:,} merged"),
        ("additions", f"{verdict.additions:,} acknowledged, {verdict.missing:,} missing"),
        ("removals", f"{verdict.removals:,} acknowledged, {verdict.returned:,} came back"),
        ("unknown", f"{verdict.additions_unknown:,} additions whose outcome no answer has told"),
        (
            "carts",
            f"{verdict.carts:,}, {verdict.different:,} whose replicas are not byte-identical",
        ),
        ("copies", f"{verdict.copies:,} read, one by one from each replica"),
    ]
    if tally.errors:
        said = ", ".join(f"{number:,} {code}" for code, number in sorted(tally.errors.items()))
        lines.append(("errors", said))
    emit("")
    for name, text in lines:
        emit(f"{name:<13} {text}")
    for example in verdict.examples[:20]:
        emit(f"{'':<13} ! {example}")
    emit("")
    if outcome.interrupted:
        emit(f"interrupted: {_happened(outcome)}")
    emit(verdict.sentence())


def _happened(outcome: Outcome) -> str:
    return f"{len(outcome.faults)} of {outcome.planned} planned faults and repairs happened"


def _fault(step: Step) -> str:
    return f"{step.act} {step.split or (f'n{step.node}' if step.node else '')}".strip()


def _as_json(outcome: Outcome, options: DemoOptions) -> dict[str, object]:
    tally = outcome.tally
    return {
        "ok": outcome.verdict.ok(),
        "verdict": outcome.verdict.sentence(),
        "nodes": options.nodes,
        "seed": options.seed,
        "seconds": round(outcome.seconds, 3),
        "faults": outcome.faults,
        "planned_faults": outcome.planned,
        "interrupted": outcome.interrupted,
        "found": outcome.verdict,
        "writes_accepted": tally.writes,
        "writes_failed": tally.writes_failed,
        "writes_unknown": tally.writes_unknown,
        "reads": tally.reads,
        "reads_failed": tally.reads_failed,
        "siblings_met": tally.siblings_met,
        "siblings_merged": tally.siblings_merged,
        "longest_wait_s": round(tally.drought_seconds, 3),
        "errors": tally.errors,
        "write_ms": tally.write_us.in_milliseconds(),
        "read_ms": tally.read_us.in_milliseconds(),
    }
