"""`everwrite tombstones`: which deletes are still remembered, and what for."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from msgspec import structs

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
_ROWS_MAX = 1000
"""What a node lists at most. It is asked for all of that, however few are shown: up to there the
list itself is counted. What a node counts besides is of its last pass, and may since be gone or
overwritten."""


_ITS_TURN = "its turn"
"""As a node says of one that nobody was asked about so far."""


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

    @property
    def whole(self) -> bool:
        """Whether the list has all of them."""
        return len(self.rows) < _ROWS_MAX

    @property
    def count(self) -> int:
        """How many there are; where the list is not whole, in the last pass."""
        return len(self.rows) if self.whole else max(self.queued, len(self.rows))

    @property
    def once(self) -> int:
        """How many of them all members have confirmed once."""
        if self.whole:
            return sum(row.again_ms is not None for row in self.rows)
        return min(self.confirmed_once, self.count)

    def whys(self) -> Counter[str]:
        """Return what the others wait for: with ``once`` these numbers make ``count``."""
        if self.whole:
            return Counter(row.why for row in self.rows if row.again_ms is None)
        left, found = self.count - self.once, Counter[str]()
        for each in self.waiting:
            found[each.why] += min(each.tombstones, left)
            left -= min(each.tombstones, left)
        if left:
            found[_ITS_TURN] += left
        return +found


@click.command()
@click.option("--collect", is_flag=True, help="Go through them now, and not in the next round.")
@click.option(
    "--rows",
    type=click.IntRange(1, _ROWS_MAX),
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
    found, silent = asyncio.run(_gather(url, secret_file, collect))
    waiting = sum(node.count for node in found)
    down = sorted({node.down for node in found} - {""})
    code = Exit.DEGRADED if silent or (waiting and down) else Exit.OK
    if form == "json":
        nodes = {node.name: _told(node, rows) for node in found}
        emit_json({"waiting": waiting, "down": down, "silent": silent, "nodes": nodes})
        return code
    if silent:
        say(f"no answer from {', '.join(silent)}: what they see to is not shown")
    if collect:
        say("Each node goes through its tombstones now, and asks the others. What all of them have")
        say(f"confirmed twice, some minutes apart, goes. How far that is: {command('tombstones')}")
    emit(_headline(found, waiting, down))
    for why, number in _summed(found, down):
        emit(f"{number:,} wait: {why}")
    table_rows = [
        [
            node.name,
            row.bucket,
            row.key,
            duration(row.age_ms) if row.age_ms is not None else "",
            _why(row),
        ]
        for node in found
        for row in node.rows[:rows]
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
    about = "" if all(node.whole for node in found) else "about "
    said = f"{about}{count(waiting, 'tombstone')} waiting"
    if down:
        return f"{said}; none goes until {' and '.join(down)} is back, or removed"
    once = sum(node.once for node in found)
    return f"{said}, {once:,} of them confirmed once by all" if once else said


def _why(row: Tombstone) -> str:
    if row.again_ms is not None:
        return f"{row.why}; they are asked again in {duration(row.again_ms)}"
    if row.said_ms:
        return f"{row.why} ({duration(row.said_ms)} ago)"
    return row.why


def _summed(found: list[Tombstones], down: list[str]) -> list[tuple[str, int]]:
    """Return what those wait for that were not confirmed, most first; none where one that is down
    stops all of them.
    """
    if down:
        return []
    total = sum((node.whys() for node in found), Counter[str]())
    return [
        ("nobody was asked about them so far" if why == _ITS_TURN else why, number)
        for why, number in total.most_common()
    ]


def _told(node: Tombstones, rows: int) -> Tombstones:
    """Return what a script is told of a node: numbers that make up what is waiting."""
    waiting = [Why(why, number) for why, number in node.whys().most_common()]
    return structs.replace(
        node, queued=node.count, confirmed_once=node.once, waiting=waiting, rows=node.rows[:rows]
    )


async def _gather(
    url: str, secret_file: Path | None, collect: bool
) -> tuple[list[Tombstones], list[str]]:
    """Return what each node sees to, and the names of those that do not answer."""
    async with await connect(url, secret_file) as db:
        names = [peer.name for peer in (await ask_status(db)).nodes]
        answers = await asyncio.gather(*(_ask(db, name, collect) for name in names))
    found = [answer for answer in answers if answer is not None]
    return found, [name for name, answer in zip(names, answers, strict=True) if answer is None]


async def _ask(db: AsyncClient, name: str, collect: bool) -> Tombstones | None:
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            answer = await db.ask("tombstones", {"limit": _ROWS_MAX, "collect": collect}, node=name)
            return read(answer, Tombstones)
    except (UnavailableError, TimeoutError):
        return None
