"""The live views of `transfers --watch` and `status --watch`.

On a terminal a picture that is drawn again each second, until Ctrl-C; without one, a line each
second, until nothing is left to move.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from everwrite.cli.bars import Bar, Bars
from everwrite.cli.connection import connect
from everwrite.cli.exits import Exit
from everwrite.cli.output import duration, emit, say, size
from everwrite.cli.reports import Status, Transfers, Verdict
from everwrite.cli.transfers import MOVES_HEAD, Look, headline, look, move_rows
from everwrite.core.errors import UnavailableError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from everwrite.client import AsyncClient

_EVERY_SECONDS = 1.0
_FAILURES_MAX = 10
"""Looks in a row that reach nobody, before the watch ends with the error."""
_BAR_WIDTH_MIN, _BAR_WIDTH_MAX = 4, 24
_OTHER_COLUMNS = 70
"""What a line with two bars has beside them, at most."""
_MOVES_SHOWN = 8

Told = tuple[Verdict, Status, dict[str, Status | None]]
AskStatus = Callable[["AsyncClient"], Awaitable[Told]]


class Frame:
    """What is to be shown of one look at the cluster."""

    def __init__(self, seen: Look, bars: list[Bar], told: Told | None) -> None:
        self.seen = seen
        self.bars = bars
        self.told = told

    @property
    def over(self) -> bool:
        """Say whether nothing is left: as all see it who answer, and by one placement."""
        views = {answer.view for answer in self.seen.answers.values() if answer is not None}
        return len(views) == 1 and not any(bar.busy for bar in self.bars)

    def line(self, elapsed_s: float) -> str:
        """Return it as one line."""
        verdict = "" if self.told is None else f"{self.told[0].line()}; "
        busy = "; ".join(bar.line() for bar in self.bars if bar.busy)
        return f"{elapsed_s:5.1f} s  {verdict}{busy or headline(self.bars)}"


def watch_transfers(url: str, secret_file: Path | None) -> int:
    """Show transfers until they are over, or Ctrl-C."""
    return _run(_watch(url, secret_file, None))


def watch_status(url: str, secret_file: Path | None, ask: AskStatus) -> int:
    """Show the verdict and transfers; ``ask`` asks all nodes for their status."""
    return _run(_watch(url, secret_file, ask))


def _run(watching: Awaitable[None]) -> int:
    async def watch() -> None:
        await watching

    try:
        asyncio.run(watch())
    except KeyboardInterrupt:  # the way in which a watch ends
        return Exit.OK
    return Exit.OK


async def _watch(url: str, secret_file: Path | None, ask: AskStatus | None) -> None:
    if not _on_terminal():
        await _frames(url, secret_file, ask, _print, until_over=True)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with Live(console=console, auto_refresh=False) as live:

        def draw(frame: Frame, _: float) -> None:
            live.update(picture(frame, console.width), refresh=True)

        # Transfers come to an end, the health of a cluster does not.
        await _frames(url, secret_file, ask, draw, until_over=ask is None)


def _print(frame: Frame, elapsed_s: float) -> None:
    emit(frame.line(elapsed_s))
    sys.stdout.flush()


async def _frames(
    url: str,
    secret_file: Path | None,
    ask: AskStatus | None,
    show: Callable[[Frame, float], None],
    *,
    until_over: bool,
) -> None:
    """Look once a second and show it; connect anew for nodes that are new."""
    bars, began, failures = Bars(), time.monotonic(), 0
    db = await connect(url, secret_file)
    try:
        while True:
            now = time.monotonic()
            try:
                seen = await look(db)
                told = None if ask is None else await ask(db)
            except UnavailableError:
                failures += 1
                if failures >= _FAILURES_MAX:
                    raise
                say("no node answers; trying again")
                await asyncio.sleep(_EVERY_SECONDS)
                continue
            failures = 0
            frame = Frame(seen, bars.take(now, seen.seats, seen.answers), told)
            show(frame, now - began)
            if until_over and frame.over:
                return
            await asyncio.sleep(max(0.0, now + _EVERY_SECONDS - time.monotonic()))
            if seen.newcomer:
                await db.close()
                db = await connect(_all_of(url, seen.asked), secret_file)
    finally:
        await db.close()


def _all_of(url: str, asked: Transfers) -> str:
    """Return all addresses that are known, so that a node that leaves is not missed."""
    known = [seat.address for seat in asked.nodes if not seat.address.endswith(":0")]
    return ",".join(dict.fromkeys([*url.split(","), *known]))


def _on_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


# -- pictures --------------------------------------------------------------------------------------


def picture(frame: Frame, width: int) -> RenderableType:
    """Return the frame as a picture for a terminal of so many columns."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    if frame.told is not None:
        verdict, asked, _ = frame.told
        colour = "bold green" if verdict.healthy else "bold yellow"
        cluster = asked.cluster
        parts += [
            Text(verdict.line(), style=colour),
            Text(f"cluster {cluster.name} ({cluster.id}), N={cluster.replicas}", style="dim"),
        ]
    parts += [Text(headline(frame.bars)), Text(), _nodes(frame, width)]
    moves = move_rows(frame.seen.answers)
    if moves:
        parts += [Text(), _moves(moves)]
    parts += [Text(), Text("Ctrl-C ends the watch, and nothing else", style="dim italic")]
    return Group(*parts)


def _nodes(frame: Frame, width: int) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("node", "state", "standing"):
        table.add_column(name)
    for name in ("owns", "gained", "", "shed", "", "rate", "left"):
        has_bar = name in ("gained", "shed")
        table.add_column(name, justify="left" if has_bar else "right", no_wrap=True)
    room = (width - _OTHER_COLUMNS) // 2
    bar_width = max(_BAR_WIDTH_MIN, min(_BAR_WIDTH_MAX, room))
    owned = {seat.id: seat.owned for seat in frame.seen.seats}
    ids = {seat.name: seat.id for seat in frame.seen.seats}
    for bar in frame.bars:
        state = Text("● up", style="green") if bar.answers else Text("● down", style="red")
        cells: list[RenderableType] = [bar.name, state, bar.standing, f"{owned[ids[bar.name]]:,}"]
        for done, whole in ((bar.gained, bar.to_gain), (bar.shed, bar.to_shed)):
            if whole:
                cells += [ProgressBar(whole, done, width=bar_width), f"{done:,}/{whole:,}"]
            else:
                cells += ["", "-"]
        cells.append("-" if bar.bytes_per_s is None else f"{size(round(bar.bytes_per_s))}/s")
        cells.append("-" if bar.left_s is None else duration(bar.left_s * 1000))
        table.add_row(*cells)
    return table


def _moves(rows: list[list[str]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", style="dim")
    for name in MOVES_HEAD:
        table.add_column(name, justify="left" if name in ("node", "what") else "right")
    for row in rows[:_MOVES_SHOWN]:
        table.add_row(*row)
    if len(rows) > _MOVES_SHOWN:
        table.add_row("", "", f"and {len(rows) - _MOVES_SHOWN:,} more")
    return table
