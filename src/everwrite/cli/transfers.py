"""`everwrite transfers`: which partitions are on their way, and how far the nodes are."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from everwrite.cli.bars import Bar, Bars, seats_of
from everwrite.cli.connection import (
    connect,
    no_json_with_watch,
    reaches_a_node,
    takes_a_format,
)
from everwrite.cli.exits import Exit
from everwrite.cli.output import duration, emit, emit_json, say, size, table
from everwrite.cli.reports import Moving, Seat, Transfers, read
from everwrite.core.errors import RequestError, UnavailableError

if TYPE_CHECKING:
    from everwrite.client import AsyncClient

_ASK_SECONDS = 2.0
MOVES_HEAD = ("node", "partition", "what", "keys", "bytes", "for")
_TO_DO = {"gain": "to take in", "shed": "to let go", "offer": "to offer"}
_MOVES_SHOWN = 20
"""Rows for a person; -o json has all."""


class Look(msgspec.Struct, frozen=True):
    """What the nodes said of transfers at one moment; by name, None for who did not answer."""

    asked: Transfers
    answers: dict[str, Transfers | None]
    newcomer: bool = False
    """A node that this client has not met: connect anew to reach it."""

    @property
    def seats(self) -> list[Seat]:
        """Return each node's place, from who knows best."""
        return seats_of(self.asked, self.answers)


async def look(db: AsyncClient) -> Look:
    """Ask all nodes what is on its way."""
    asked = read(await db.ask("transfers"), Transfers)
    strangers: list[str] = []

    async def ask(name: str) -> Transfers | None:
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                return read(await db.ask("transfers", node=name), Transfers)
        except (UnavailableError, TimeoutError):
            return None
        except RequestError:
            strangers.append(name)
            return None

    names = [seat.name for seat in asked.nodes if seat.id != asked.id]
    answers = dict(zip(names, await asyncio.gather(*map(ask, names)), strict=True))
    return Look(asked, {asked.name: asked, **answers}, newcomer=bool(strangers))


@click.command()
@click.option("--watch", "watched", is_flag=True, help="Show bars until nothing is left to move.")
@reaches_a_node
@takes_a_format
def transfers(watched: bool, url: str, secret_file: Path | None, form: str) -> int:
    """Show which partitions move, from where to where, and how far each node is.

    With --watch and no terminal: a line each second, until nothing is left to move. Exit code 3: a
    node does not answer.
    """
    if watched:
        from everwrite.cli.watch import watch_transfers

        no_json_with_watch(form)
        return watch_transfers(url, secret_file)
    seen = asyncio.run(_look(url, secret_file))
    silent = sorted(name for name, answer in seen.answers.items() if answer is None)
    code = Exit.DEGRADED if silent else Exit.OK
    if form == "json":
        emit_json(
            {
                "left": {
                    "to_gain": sum(seat.to_gain for seat in seen.seats),
                    "to_shed": sum(seat.to_shed for seat in seen.seats),
                },
                "nodes": [
                    {
                        **msgspec.structs.asdict(seat),
                        "counters": answer.counters if answer else None,
                        "moves": answer.moves if answer else None,
                    }
                    for seat in sorted(seen.seats, key=lambda seat: seat.name)
                    for answer in (seen.answers.get(seat.name),)
                ],
                "silent": silent,
            }
        )
        return code
    if silent:
        say(f"no answer from {', '.join(silent)}: shown is what others have heard of them")
    _show(seen)
    return code


async def _look(url: str, secret_file: Path | None) -> Look:
    async with await connect(url, secret_file) as db:
        return await look(db)


def _show(seen: Look) -> None:
    bars = Bars().take(time.monotonic(), seen.seats, seen.answers)
    emit(headline(bars))
    emit("")
    by_name = {seat.name: seat for seat in seen.seats}
    rows = []
    for bar in bars:
        seat, answer = by_name[bar.name], seen.answers.get(bar.name)
        carried = "-" if answer is None else size(answer.counters.get("bytes_in", 0))
        numbers = (seat.owned, seat.serves, seat.to_gain, seat.to_shed)
        rows.append([bar.name, bar.standing, *(f"{number:,}" for number in numbers), carried])
    head = ["node", "standing", "owns", "serves", "to gain", "to shed", "taken in"]
    emit(table(head, rows, right=[2, 3, 4, 5, 6]))
    moves = move_rows(seen.answers)
    if moves:
        emit("")
        emit(table(MOVES_HEAD, moves[:_MOVES_SHOWN], right=[1, 3, 4, 5]))
        if len(moves) > _MOVES_SHOWN:
            say(f"and {len(moves) - _MOVES_SHOWN:,} more; -o json has all")


def headline(bars: list[Bar]) -> str:
    """Return in one line what is left.

    >>> headline([Bar("n1", "in", True, 0, 3, 0, 0, None, None)])
    '3 partitions to take in, 0 to let go'
    >>> headline([Bar("n1", "in", True, 3, 3, 2, 2, None, None)])
    'Nothing is left to move.'
    """
    gains = sum(bar.to_gain - bar.gained for bar in bars)
    sheds = sum(bar.to_shed - bar.shed for bar in bars)
    if not gains + sheds:
        return "Nothing is left to move."
    noun = "partition" if gains == 1 else "partitions"
    return f"{gains:,} {noun} to take in, {sheds:,} to let go"


def move_rows(answers: Mapping[str, Transfers | None]) -> list[list[str]]:
    """Return a row for each partition on its way, and one for all that wait for the same."""
    rows: list[list[str]] = []
    waiting: Counter[tuple[str, str, str]] = Counter()
    for name, answer in sorted(answers.items()):
        for move in answer.moves if answer is not None else ():
            if move.waiting:
                waiting[name, move.kind, move.waiting] += 1
                continue
            carried = [f"{move.keys:,}", size(move.bytes), duration(move.for_ms)]
            rows.append([name, str(move.partition), _what(move), *carried])
    for (name, kind, why), number in sorted(waiting.items()):
        what = f"{_TO_DO[kind]}: {why}"
        rows.append([name, f"{number:,} more", what, "-", "-", "-"])
    return rows


def _what(move: Moving) -> str:
    """Return what happens to a partition.

    >>> _what(Moving(7, "gain", "n1", "copies")), _what(Moving(7, "shed", "", "compares"))
    ('copies from n1', 'compares')
    """
    direction = "from" if move.phase in ("copies", "takes over") else "with"
    phase = move.phase or move.kind
    return f"{phase} {direction} {move.peer}" if move.peer else phase
