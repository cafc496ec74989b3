"""`everwrite tombstones`: which deletes are still remembered, and what for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from everwrite.cli.connection import connect, reaches_a_node, takes_a_format
from everwrite.cli.copyable import command
from everwrite.cli.exits import Exit
from everwrite.cli.output import count, duration, emit, emit_json, say, table
from everwrite.cli.reports import ask_status, read
from everwrite.core.errors import UnavailableError

if TYPE_CHECKING:
    from everwrite.client import AsyncClient

_ASK_SECONDS = 5.0
_ROWS = 20


class Why(msgspec.Struct, frozen=True):
    """How many tombstones wait for one thing."""

    why: str
    tombstones: int


class Tombstone(msgspec.Struct, frozen=True):
    """One tombstone that is still there."""

    bucket: str
    key: str
    why: str
    age_ms: float | None = None
    said_ms: float | None = None
    """How long ago that was so."""
    again_ms: float | None = None
    """All have confirmed once: in how long they are asked again."""


class Tombstones(msgspec.Struct, frozen=True):
    """What one node sees to."""

    id: str
    name: str
    queued: int
    confirmed_once: int
    collected: int
    life_ms: float
    rows: list[Tombstone]
    waiting: list[Why] = []
    down: str = ""

    def count(self, asked: int) -> int:
        """Return how many there are, if so many rows were asked for: a short list is whole; a full
        one is a part of those met in the last round.
        """
        return len(self.rows) if len(self.rows) < asked else max(self.queued, len(self.rows))


@click.command()
@click.option("--collect", is_flag=True, help="Go through them now, and not in the next round.")
@click.option(
    "--rows",
    type=click.IntRange(1, 1000),
    default=_ROWS,
    show_default=True,
    metavar="N",
    help="How many to show of each node.",
)
@reaches_a_node
@takes_a_format
def tombstones(collect: bool, rows: int, url: str, secret_file: Path | None, form: str) -> int:
    """Show which deletes are still remembered, and what each of them waits for.

    A tombstone goes once all members have confirmed, twice and some minutes apart, that nothing
    older of its key can come from them. One that is down stops all, until it is back or removed.
    Exit code 3: one is down, or does not answer.
    """
    found, silent = asyncio.run(_gather(url, secret_file, collect, rows))
    waiting = sum(node.count(rows) for node in found)
    down = sorted({node.down for node in found} - {""})
    code = Exit.DEGRADED if silent or (waiting and down) else Exit.OK
    if form == "json":
        nodes = {node.name: node for node in found}
        emit_json({"waiting": waiting, "down": down, "silent": silent, "nodes": nodes})
        return code
    if silent:
        say(f"no answer from {', '.join(silent)}: what they see to is not shown")
    if collect:
        say("Each node goes through its tombstones now, and asks the others. What all of them have")
        say(f"confirmed twice, some minutes apart, goes. How far that is: {command('tombstones')}")
    emit(_headline(found, waiting, down))
    for why in _summed(found):
        emit(f"{why.tombstones:,} wait: {why.why}")
    table_rows = [
        [
            node.name,
            row.bucket,
            row.key,
            duration(row.age_ms) if row.age_ms is not None else "",
            _why(row),
        ]
        for node in found
        for row in node.rows
    ]
    if table_rows:
        emit("")
        emit(table(["seen to by", "bucket", "key", "age", "why"], table_rows, right=[3]))
        if waiting > len(table_rows):
            say(f"and {waiting - len(table_rows):,} more; --rows N shows more")
    return code


def _headline(found: list[Tombstones], waiting: int, down: list[str]) -> str:
    """Return in one line how many there are, and whether any can go."""
    if not waiting:
        return "No tombstones are waiting."
    said = f"{count(waiting, 'tombstone')} waiting"
    if down:
        return f"{said}; none goes until {' and '.join(down)} is back, or removed"
    once = sum(node.confirmed_once for node in found)
    return f"{said}, {once:,} of them confirmed once by all" if once else said


def _why(row: Tombstone) -> str:
    if row.again_ms is not None:
        return f"{row.why}; they are asked again in {duration(row.again_ms)}"
    if row.said_ms:
        return f"{row.why} ({duration(row.said_ms)} ago)"
    return row.why


def _summed(found: list[Tombstones]) -> list[Why]:
    total: dict[str, int] = {}
    for node in found:
        for each in node.waiting:
            total[each.why] = total.get(each.why, 0) + each.tombstones
    return [Why(why, number) for why, number in sorted(total.items(), key=lambda at: -at[1])]


async def _gather(
    url: str, secret_file: Path | None, collect: bool, rows: int
) -> tuple[list[Tombstones], list[str]]:
    """Return what each node sees to, and the names of those that do not answer."""
    async with await connect(url, secret_file) as db:
        names = [peer.name for peer in (await ask_status(db)).nodes]
        answers = await asyncio.gather(*(_ask(db, name, collect, rows) for name in names))
    found = [answer for answer in answers if answer is not None]
    return found, [name for name, answer in zip(names, answers, strict=True) if answer is None]


async def _ask(db: AsyncClient, name: str, collect: bool, rows: int) -> Tombstones | None:
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            answer = await db.ask("tombstones", {"limit": rows, "collect": collect}, node=name)
            return read(answer, Tombstones)
    except (UnavailableError, TimeoutError):
        return None
