"""`everwrite repairs` and `repair`: how far replicas agree, and to have them compared now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from everwrite.cli.connection import connect, reaches_a_node, takes_a_format
from everwrite.cli.exits import Exit
from everwrite.cli.lifetimes import Patience
from everwrite.cli.output import duration, emit, emit_json, say, size, table
from everwrite.cli.reports import Checked, ask_status, names_of, read
from everwrite.core.errors import RequestError, UnavailableError

if TYPE_CHECKING:
    from everwrite.client import AsyncClient

_ASK_SECONDS = 5.0
_LOOK_S = 0.1
"""How often it is asked how far an order is."""
_PASSES_MAX = 8
"""Times that all is compared again since something was moved: more only while others write."""
_ROWS_SHOWN = 20
"""Rows for a person; -o json has all."""
_DOWN = "the peer is down"
_FORGOTTEN = "it was restarted"


class Pair(msgspec.Struct, frozen=True):
    """A partition, as the answering node compares it with another owner."""

    partition: int
    peer: str
    agreed_ms: float | None = None
    """How long ago the two were the same; None: not since the node's start."""
    exchanges: int = 0
    leaves: int = 0
    keys_in: int = 0
    keys_out: int = 0
    bytes: int = 0
    why: str = ""
    """Why it is not compared, or was broken off, when it was tried last."""
    phase: str = ""
    """What is done with it now; empty: nothing."""


class Repairs(msgspec.Struct, frozen=True):
    """The answer to "repairs"."""

    id: str
    name: str
    partitions: int
    pairs: list[Pair]
    leaves: dict[str, int] = {}
    counters: dict[str, int] = {}
    round_ms: float = 0
    disk: Checked = Checked()
    up_ms: float | None = None
    """How long the node has been up: soon after its start there is much to be compared yet."""


class Waiting(msgspec.Struct, frozen=True):
    """What is left of an order for one reason."""

    peer: str
    why: str
    partitions: int


class Ordered(msgspec.Struct, frozen=True):
    """The answer to "repair_look"."""

    known: bool
    agreed: int = 0
    left: int = 0
    keys: int = 0
    bytes: int = 0
    waiting: list[Waiting] = []


class Outcome(msgspec.Struct):
    """What became of a repair, on all nodes together."""

    compared: int = 0
    """Pairs of a partition and a peer that agree."""
    keys: int = 0
    bytes: int = 0
    passes: int = 0
    left: list[tuple[str, str, str, int]] = []
    """(node, peer, why, partitions) of what could not be compared."""


# -- everwrite repairs -----------------------------------------------------------------------------


@click.command()
@reaches_a_node
@takes_a_format
def repairs(url: str, secret_file: Path | None, form: str) -> int:
    """Show how far the owners of each partition agree, and what was repaired.

    Each pair of owners compares each partition about once a minute. Exit code 3: some were not
    compared lately, a node does not answer, or a copy is damaged.
    """
    answers = asyncio.run(_ask_all(url, secret_file))
    silent = sorted(name for name, answer in answers.items() if answer is None)
    there = {name: answer for name, answer in sorted(answers.items()) if answer is not None}
    late = sum(_is_late(answer, pair) for answer in there.values() for pair in answer.pairs)
    spoilt = sum(answer.disk.damaged for answer in there.values())
    code = Exit.DEGRADED if late or silent or spoilt else Exit.OK
    if form == "json":
        emit_json({"late": late, "silent": silent, "nodes": there})
        return code
    if silent:
        say(f"no answer from {', '.join(silent)}: what they compare is not shown")
    emit(headline(there, silent))
    emit("")
    head = ["node", "with", "partitions", "agree", "longest ago", "leaves", "keys in"]
    head += ["keys out", "bytes"]
    emit(table(head, pair_rows(there), right=[2, 3, 4, 5, 6, 7, 8]))
    emit("")
    head = ["node", "tree", "disk looked through", "all of it", "damaged", "mended"]
    emit(table(head, disk_rows(there), right=[4, 5]))
    if spoilt:
        emit("")
        emit(table(["node", "bucket", "damaged copy of", "since"], damaged_rows(there)))
    rows = partition_rows(there)
    if rows:
        emit("")
        head = ["partition", "node", "with", "agreed", "leaves", "keys in", "keys out", "bytes", ""]
        emit(table(head, rows[:_ROWS_SHOWN], right=[0, 3, 4, 5, 6, 7]))
        if len(rows) > _ROWS_SHOWN:
            say(f"and {len(rows) - _ROWS_SHOWN:,} more; -o json has all")
    return code


def headline(answers: Mapping[str, Repairs], silent: Sequence[str] = ()) -> str:
    """Return in one line how the cluster is; of who is silent nothing is known."""
    said = _said(answers)
    if silent:
        said += f"; {names_of(silent)} {'is' if len(silent) == 1 else 'are'} down"
        said = said.replace("All owners agree", "All owners that could be compared agree")
    return f"{said}."


def _said(answers: Mapping[str, Repairs]) -> str:
    pairs = [(answer, pair) for answer in answers.values() for pair in answer.pairs]
    late = sum(_is_late(answer, pair) for answer, pair in pairs)
    running = sum(bool(pair.phase) for _, pair in pairs)
    anew = sum(answer.leaves.get("made_anew", 0) for answer in answers.values())
    if not pairs:
        return "No partition has two owners that serve it: there is nothing to compare"
    new = sum(pair.agreed_ms is None and not _is_late(answer, pair) for answer, pair in pairs)
    well = "No owners are known to differ" if new else "All owners agree"
    said = [f"{late:,} of {len(pairs):,} comparisons are late" if late else well]
    if new:
        said.append(f"{new:,} of {len(pairs):,} not compared yet since the start")
    if running:
        said.append(f"{running:,} under way")
    if anew:
        said.append(f"{anew:,} parts of trees to be made anew")
    damaged = sum(answer.disk.damaged for answer in answers.values())
    if damaged:
        said.append("1 copy is damaged" if damaged == 1 else f"{damaged:,} copies are damaged")
    return ", ".join(said)


def pair_rows(answers: Mapping[str, Repairs]) -> list[list[str]]:
    """Return a row for each node and peer."""
    rows = []
    for name, answer in answers.items():
        for peer in sorted({pair.peer for pair in answer.pairs}):
            pairs = [pair for pair in answer.pairs if pair.peer == peer]
            ages = [pair.agreed_ms for pair in pairs if pair.agreed_ms is not None]
            agree = sum(p.agreed_ms is not None and not _is_late(answer, p) for p in pairs)
            row = [name, peer, f"{len(pairs):,}", f"{agree:,}"]
            row.append(duration(max(ages)) if ages else "-")
            rows.append(row + _moved(pairs))
    return rows


def partition_rows(answers: Mapping[str, Repairs]) -> list[list[str]]:
    """Return a row for each partition and peer that does not agree, or did not at some time."""
    rows = []
    for name, answer in answers.items():
        for pair in answer.pairs:
            late = _is_late(answer, pair)
            if not (late or pair.phase or pair.exchanges or (pair.why and pair.agreed_ms is None)):
                continue
            agreed = duration(pair.agreed_ms) if pair.agreed_ms is not None else "never"
            state = pair.phase or pair.why or ("not compared yet" if late else "")
            row = [str(pair.partition), name, pair.peer, agreed, *_moved([pair]), state]
            rows.append((not pair.phase, not late, pair.partition, row))
    return [row for *_, row in sorted(rows)]


def disk_rows(answers: Mapping[str, Repairs]) -> list[list[str]]:
    """Return a row for each node: its tree, its scrub, what it found damaged."""
    rows = []
    for name, answer in answers.items():
        disk = answer.disk
        whole = 1 - disk.leaves_wrong / disk.leaves if disk.leaves else 1.0
        tree = "whole" if not disk.leaves_wrong else f"{whole:.1%} made"
        if disk.leaves_unreadable:
            tree += f", {disk.leaves_unreadable:,} unreadable"
        ended = disk.scrub_ended_ms
        last = f"{duration(ended)} ago" if ended is not None else "not yet"
        done = f"{disk.scrub_done:.0%} of this round"
        rows.append([name, tree, done, last, f"{disk.damaged:,}", f"{disk.damaged_mended:,}"])
    return rows


def damaged_rows(answers: Mapping[str, Repairs]) -> list[list[str]]:
    """Return a row for each damaged copy that is told."""
    return [
        [
            name,
            each.bucket or "?",
            each.key if isinstance(each.key, str) else f"base64:{each.key.get('base64', '')}",
            f"{duration(each.since_ms)} ago",
        ]
        for name, answer in answers.items()
        for each in answer.disk.damaged_keys
    ]


def _moved(pairs: Sequence[Pair]) -> list[str]:
    """Return what was repaired in these: leaves, copies in, copies out, bytes."""
    numbers = (
        sum(pair.leaves for pair in pairs),
        sum(pair.keys_in for pair in pairs),
        sum(pair.keys_out for pair in pairs),
    )
    return [*(f"{number:,}" for number in numbers), size(sum(pair.bytes for pair in pairs))]


def _is_late(answer: Repairs, pair: Pair) -> bool:
    """Say whether two owners have not agreed for three rounds, though the node was up that long."""
    since_ms = pair.agreed_ms if pair.agreed_ms is not None else answer.up_ms
    return since_ms is None or since_ms > 3 * answer.round_ms


async def _ask_all(url: str, secret_file: Path | None) -> dict[str, Repairs | None]:
    async with await connect(url, secret_file) as db:
        return await ask_all(db)


async def ask_all(db: AsyncClient) -> dict[str, Repairs | None]:
    """Return what each node says of its repairs, by name (None: nothing)."""
    names = await _names(db)
    return dict(zip(names, await asyncio.gather(*(_ask(db, n) for n in names)), strict=True))


async def _names(db: AsyncClient) -> list[str]:
    return [peer.name for peer in (await ask_status(db)).nodes]


async def _ask(db: AsyncClient, name: str) -> Repairs | None:
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            return read(await db.ask("repairs", node=name), Repairs)
    except (UnavailableError, TimeoutError):
        return None
    except RequestError:  # it joined after we had asked who is there
        return None


# -- everwrite repair ------------------------------------------------------------------------------


@click.command()
@click.argument("bucket", required=False)
@click.argument("key", required=False)
@click.option("--partition", type=click.IntRange(0), metavar="P", help="Compare one partition.")
@click.option("--all", "everything", is_flag=True, help="Compare everything.")
@click.option(
    "--timeout",
    callback=Patience(0.001, 7 * 86_400.0),
    default="5m",
    show_default=True,
    metavar="TIME",
    help="How long to wait for it: 90s, 10m; a number is seconds.",
)
@reaches_a_node
@takes_a_format
def repair(
    bucket: str | None,
    key: str | None,
    partition: int | None,
    everything: bool,
    timeout: float,
    url: str,
    secret_file: Path | None,
    form: str,
) -> int:
    """Have all owners compared now, and wait until they agree.

    Give one of: BUCKET KEY, --partition P, --all. It is safe at any time: copies are only ever
    merged. Exit code 3: an owner is down or does not serve yet; 5: it took too long.
    """
    given = [bucket is not None and key is not None, partition is not None, everything]
    if sum(given) != 1 or (bucket is not None and key is None):
        raise click.UsageError("Give one of: BUCKET KEY, --partition P, or --all.")
    what: dict[str, Any] = {"all": True} if everything else {"partition": partition}
    if bucket is not None:
        what = {"bucket": bucket, "key": key}
    outcome = asyncio.run(_repair(url, secret_file, what, timeout))
    only_down = bool(outcome.left) and all(why == _DOWN for _, _, why, _ in outcome.left)
    code = Exit.OK if not outcome.left else Exit.DEGRADED if only_down else Exit.TIMED_OUT
    if form == "json":
        left = [
            {"node": node, "peer": peer, "why": why, "partitions": number}
            for node, peer, why, number in outcome.left
        ]
        emit_json({**msgspec.structs.asdict(outcome), "agree": not left, "left": left})
        return code
    copies = f"{outcome.keys:,} {'copy' if outcome.keys == 1 else 'copies'}"
    moved = f"{copies} given to who lacked them, {size(outcome.bytes)} in all"
    if not outcome.left:
        emit(f"All owners agree: {moved}.")
        return code
    emit(f"Not all owners could be compared: {moved}.")
    emit("")
    rows = [
        [node, peer or "all", f"{n:,}", why or "its turn"] for node, peer, why, n in outcome.left
    ]
    emit(table(["node", "with", "partitions", "waits for"], rows, right=[2]))
    return code


async def _repair(
    url: str, secret_file: Path | None, what: dict[str, Any], seconds: float
) -> Outcome:
    async with await connect(url, secret_file) as db:
        return await repair_now(db, what, seconds)


async def repair_now(db: AsyncClient, what: dict[str, Any], seconds: float) -> Outcome:
    """Have all nodes compare something, until they agree or the time is over."""
    outcome = Outcome()
    until = time.monotonic() + seconds
    for _ in range(_PASSES_MAX):
        # What one owner gave to another may be news to a third one: so until nothing moves.
        keys = outcome.keys
        await _pass(db, what, until, outcome)
        if outcome.left or outcome.keys == keys:
            break
    return outcome


async def _pass(db: AsyncClient, what: dict[str, Any], until: float, outcome: Outcome) -> None:
    """Have all pairs of owners compared once."""
    outcome.passes += 1
    names = await _names(db)
    ends = await asyncio.gather(*(_on_one(db, name, what, until) for name in names))
    outcome.left = []
    outcome.compared = 0
    for name, order in zip(names, ends, strict=True):
        outcome.compared += order.agreed
        outcome.keys += order.keys
        outcome.bytes += order.bytes
        outcome.left += [(name, w.peer, w.why, w.partitions) for w in order.waiting]


async def _on_one(db: AsyncClient, name: str, what: dict[str, Any], until: float) -> Ordered:
    """Give one node an order, and wait for its end; again if it does not know of it any more."""
    while True:
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                answer = await db.ask("repair", what, node=name)
        except (UnavailableError, TimeoutError):
            return Ordered(True)  # its peers say that it is down
        seen = await _followed(db, name, answer["order"], until)
        if seen.known:
            return seen
        if time.monotonic() >= until:
            # Nothing is known of any pair, so all of them are left.
            pairs = answer["pairs"]
            return Ordered(True, left=pairs, waiting=[Waiting("", _FORGOTTEN, pairs)])
        await asyncio.sleep(_LOOK_S)


async def _followed(db: AsyncClient, name: str, number: int, until: float) -> Ordered:
    """Wait for the end of a node's order; not known: it has forgotten it, or went away."""
    while True:
        try:
            seen = read(await db.ask("repair_look", {"order": number}, node=name), Ordered)
        except UnavailableError:
            return Ordered(False)
        down = bool(seen.waiting) and all(w.why == _DOWN for w in seen.waiting)
        if not seen.left or down or time.monotonic() >= until:
            return seen
        await asyncio.sleep(_LOOK_S)
