"""What a demo shows while it runs: a live picture in a terminal, else one line each second.

Both are drawn from the same ``Board``, which the rest of the demo fills in.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from everwrite.cli.demo.shoppers import Shop
from everwrite.cli.devcluster import DevCluster
from everwrite.cli.histogram import Histogram
from everwrite.cli.output import count, say, size
from everwrite.cli.reports import Status

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_FRAME_SECONDS = 0.25
_LINE_SECONDS = 1.0
_LOOK_SECONDS = 0.9
_EVENTS_MAX = 5

LEGEND = "one sign for each node: + up, x killed, z frozen, . silent; | a cut between the halves"
"""What a reader of the lines has to know."""


class Board:
    """All that there is to show; ``reports`` are the nodes' own words, a silent node has none."""

    def __init__(self, cluster: DevCluster, shop: Shop, seconds: float) -> None:
        self.cluster = cluster
        self.shop = shop
        self.tally = shop.tally
        self.seconds = seconds
        self.now = "the shop opens"
        self.reports: dict[int, Status | None] = {}
        self.events: list[str] = []
        self.split = ""
        self.writes_per_second = 0.0
        self.recent = latencies(shop.tally.recent_us)
        self._began = self._looked_at = time.monotonic()
        self._writes_before = 0

    def elapsed(self) -> float:
        """Return the seconds since the shop was opened."""
        return time.monotonic() - self._began

    def tell(self, sentence: str) -> None:
        """Say what is going on now, and keep it in the list of events."""
        self.now = sentence
        self.events.append(f"{self.elapsed():5.1f} s  -- {sentence}")

    def hints(self) -> int:
        """Return the hints that wait on the nodes which answer."""
        return sum(report.hints.waiting for report in self.reports.values() if report is not None)

    def look(self) -> None:
        """Take rate and latencies of the writes since the last look, if that was long ago."""
        now, tally = time.monotonic(), self.tally
        if now - self._looked_at < _LOOK_SECONDS:
            return
        self.writes_per_second = (tally.writes - self._writes_before) / (now - self._looked_at)
        self._writes_before, self._looked_at = tally.writes, now
        self.recent, tally.recent_us = latencies(tally.recent_us), Histogram()

    def word(self, number: int) -> str:
        """Return a node's state in one word."""
        match self.cluster.node(number).state():
            case "gone":
                return "killed"
            case "stopped":
                return "frozen"
            case _:
                return "up" if self.reports.get(number) is not None else "silent"


async def show_live(board: Board) -> None:
    """Draw the board four times a second until the shop closes."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            board.look()
            live.update(_picture(board), refresh=True)
            if await board.shop.closed_within(_FRAME_SECONDS):
                return


async def show_lines(board: Board) -> None:
    """Write a line each second, and each event, to standard error until the shop closes."""
    told = 0
    while True:
        for event in board.events[told:]:
            say(event)
        told = len(board.events)
        board.look()
        say(_line(board))
        if await board.shop.closed_within(_LINE_SECONDS):
            return


def in_terminal() -> bool:
    """Say whether standard error is a terminal that can be redrawn."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def latencies(histogram: Histogram) -> str:
    """Return the three quantiles in milliseconds.

    >>> latencies(Histogram())
    'p50 0.0  p99 0.0  p99.9 0.0 ms'
    """
    values = (histogram.quantile(share) / 1000 for share in (0.5, 0.99, 0.999))
    return "p50 {:.1f}  p99 {:.1f}  p99.9 {:.1f} ms".format(*values)


def _line(board: Board) -> str:
    tally = board.tally
    signs = {
        node.name: {"up": "+", "killed": "x", "frozen": "z"}.get(board.word(node.number), ".")
        for node in board.cluster.nodes
    }
    failed = tally.writes_failed + tally.writes_unknown
    return (
        f"{board.elapsed():5.1f} s  {_by_half(signs, board.split)}  "
        f"{count(tally.writes, 'write')}, {failed:,} failed  "
        f"{count(board.hints(), 'hint')}  "
        f"{tally.siblings_met:,} of {count(tally.reads, 'read')} met siblings  {board.recent}"
    )


def _picture(board: Board) -> RenderableType:
    from rich.console import Group
    from rich.panel import Panel
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    done = min(board.seconds, board.elapsed())
    head = Text.assemble(("Everwrite demo  ", "bold"), (board.now, "bold yellow"))
    bar = ProgressBar(total=board.seconds, completed=done, width=60)
    events = Text("\n".join(board.events[-_EVENTS_MAX:]), style="dim")
    legend = Text("Ctrl-C closes the shop early and goes on to the verdict", style="dim italic")
    return Panel(
        Group(head, bar, Text(), _nodes(board), Text(), _numbers(board), Text(), events, legend),
        border_style="blue",
    )


def _nodes(board: Board) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("node", "state", "side", "hints kept", "for", "stores", "repairs", "memory"):
        table.add_column(
            name, justify="left" if name in {"node", "state", "side", "for"} else "right"
        )
    sides = _sides(board.split)
    for node in board.cluster.nodes:
        word = board.word(node.number)
        report = board.reports.get(node.number)
        colour = {"up": "green", "killed": "red", "frozen": "cyan"}.get(word, "yellow")
        cells = ["", "", "", "", ""]
        if report is not None:
            owners = ", ".join(
                f"{name} {number:,}" for name, number in report.hints.by_owner.items()
            )
            cells = [
                f"{report.hints.waiting:,}",
                owners,
                f"{report.counters.get('stores', 0):,}",
                f"{report.counters.get('read_repairs', 0):,}",
                size(report.node.rss_bytes),
            ]
        side = sides.get(node.name, "")
        table.add_row(node.name, Text(f"● {word}", style=colour), side, *cells)
    return table


def _numbers(board: Board) -> Table:
    from rich.table import Table

    tally = board.tally
    table = Table(box=None, show_header=False, pad_edge=False)
    for justify in ("left", "right", "left", "left"):
        table.add_column(justify="right" if justify == "right" else "left")
    failed = tally.writes_failed + tally.writes_unknown
    rows = [
        (
            "writes accepted",
            f"{tally.writes:,}",
            f"{board.writes_per_second:,.0f} a second, {failed:,} not accepted",
        ),
        ("reads", f"{tally.reads:,}", f"{tally.reads_failed:,} failed"),
        ("siblings met", f"{tally.siblings_met:,}", f"{tally.siblings_merged:,} merged"),
        ("hints waiting", f"{board.hints():,}", ""),
        ("writes now", "", board.recent),
        ("writes", "", latencies(tally.write_us)),
        ("reads", "", latencies(tally.read_us)),
    ]
    for name, number, more in rows:
        table.add_row(name, number, more)
    return table


def _by_half(signs: dict[str, str], split: str) -> str:
    """Return the nodes' signs in a row, while the network is cut those of each half together.

    >>> _by_half({"n1": "+", "n2": "x", "n3": "+"}, "")
    '+x+'
    >>> _by_half({"n1": "+", "n2": "x", "n3": "+"}, "n1,n3|n2")
    '++|x'
    """
    halves = split.split("|") if split else [",".join(signs)]
    return "|".join("".join(signs[name] for name in half.split(",")) for half in halves)


def _sides(split: str) -> dict[str, str]:
    """Return the half that each node is in, as a letter.

    >>> _sides("n1,n3|n2")
    {'n1': 'left', 'n3': 'left', 'n2': 'right'}
    """
    halves = split.split("|") if split else []
    return {
        name: side
        for half, side in zip(halves, ("left", "right"), strict=False)
        for name in half.split(",")
    }
