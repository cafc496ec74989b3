"""everwrite explain: why a key is as it is, asked of all nodes at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click
import msgspec

from everwrite.cli.connection import connect, reaches_a_node, takes_a_format
from everwrite.cli.exits import Exit
from everwrite.cli.output import count, duration, emit, emit_json, size, table
from everwrite.cli.reports import read


class Place(msgspec.Struct, frozen=True):
    """A node in the key's preference list."""

    node: str
    role: str
    state: str
    reason: str
    zone: str = ""
    asked: bool = False
    stands_in_for: str | None = None


class Shown(msgspec.Struct, frozen=True):
    """One version in a copy."""

    dot: str
    written_ms: int
    bytes: int
    content_type: str = ""
    tombstone: bool = False
    expires_ms: int | None = None
    ended: bool = False


class Copy(msgspec.Struct, frozen=True):
    """A copy on a disk."""

    bytes: int | None
    versions: list[Shown]
    clock: dict[str, int] = {}
    unreadable: str = ""


class Keeps(msgspec.Struct, frozen=True):
    """For whom a copy is kept, and since when."""

    node: str
    for_ms: int


class Replica(msgspec.Struct, frozen=True):
    """What one node has."""

    node: str
    state: str
    answered: bool
    own: Copy | None = None
    kept: Copy | None = None
    kept_for: list[Keeps] = []


class Asks(msgspec.Struct, frozen=True):
    """Whom a get would hear, and how that counts."""

    node: str
    counts: str


class Foreseen(msgspec.Struct, frozen=True):
    """What a get may answer."""

    absent: str
    dots: list[str]
    after: list[str]


class Read(msgspec.Struct, frozen=True):
    """All that it may."""

    n: int
    r: int
    certain: bool
    why: str
    asks: list[Asks]
    answers: list[Foreseen]


class Repair(msgspec.Struct, frozen=True):
    """What is going to be done."""

    what: str
    node: str
    why: str
    lacks: list[str] = []


class Explanation(msgspec.Struct, frozen=True):
    """The answer to "explain"."""

    hash: str
    partition: int
    partitions: int
    leaf: int
    asked: str
    time_ms: int
    preference: list[Place]
    replicas: list[Replica]
    read: Read
    repair: list[Repair]


@click.command()
@click.argument("bucket")
@click.argument("key")
@click.option("--n", type=click.IntRange(1, 9), help="As a get with this n would have it.")
@click.option("--r", type=click.IntRange(1, 9), help="As a get with this r would have it.")
@reaches_a_node
@takes_a_format
def explain(
    bucket: str,
    key: str,
    n: int | None,
    r: int | None,
    url: str,
    secret_file: Path | None,
    form: str,
) -> int:
    """Say why KEY of BUCKET is as it is.

    Where it lives and why there, what each node has of it, what a get would answer, and what is
    going to be repaired. The node that --url names asks all those that it reaches; nothing is
    changed, and no value is shown. Exit code 3: some node did not answer, or a get would fail or
    depends on who answers first.
    """
    arguments: dict[str, Any] = {"bucket": bucket, "key": key}
    arguments |= {name: value for name, value in (("n", n), ("r", r)) if value is not None}
    answer = asyncio.run(_ask(url, secret_file, arguments))
    found = read(answer, Explanation)
    silent = [replica.node for replica in found.replicas if not replica.answered]
    code = Exit.DEGRADED if silent or not found.read.certain else Exit.OK
    if form == "json":
        emit_json(answer)
        return code
    emit(
        f"{bucket}/{key}: hash {found.hash}, partition {found.partition} of {found.partitions}, "
        f"leaf {found.leaf}; asked {found.asked}"
    )
    emit("")
    emit(
        table(["", "node", "role", "zone", "state", "a get asks it", "why"], place_rows(found), [0])
    )
    emit("")
    rows = version_rows(found)
    if rows:
        head = ["has", "as", "version", "written", "bytes", "what"]
        emit(table(head, rows, right=[3, 4]))
    else:
        emit("No node that answered has anything of it.")
    if silent:
        emit(f"No answer from {', '.join(silent)}: what they have is not known.")
    emit("")
    for line in read_lines(found):
        emit(line)
    emit("")
    for line in repair_lines(found):
        emit(line)
    return code


async def _ask(url: str, secret_file: Path | None, arguments: dict[str, Any]) -> dict[str, object]:
    async with await connect(url, secret_file) as db:
        return dict(await db.ask("explain", arguments))


def place_rows(found: Explanation) -> list[list[str]]:
    """Return a row for each place of the preference list."""
    return [
        [
            str(rank),
            place.node,
            place.role,
            place.zone,
            "up (answered)" if place.state == "self" else place.state,
            f"for {place.stands_in_for}" if place.stands_in_for else "yes" if place.asked else "-",
            place.reason,
        ]
        for rank, place in enumerate(found.preference, start=1)
    ]


def version_rows(found: Explanation) -> list[list[str]]:
    """Return a row for each version in each copy, and for each copy that cannot be read."""
    rows: list[list[str]] = []
    for replica in found.replicas:
        since = ", ".join(f"{each.node} ({duration(each.for_ms)})" for each in replica.kept_for)
        for copy, what in ((replica.own, "own copy"), (replica.kept, f"hint for {since}")):
            if copy is None:
                continue
            if copy.unreadable:
                rows.append(
                    [replica.node, what, "-", "-", "-", f"cannot be read: {copy.unreadable}"]
                )
            for version in copy.versions:
                ago = f"{duration(max(0, found.time_ms - version.written_ms))} ago"
                said = [replica.node, what, version.dot, ago]
                rows.append([*said, size(version.bytes), _what(version, found.time_ms)])
    return rows


def read_lines(found: Explanation) -> list[str]:
    """Return what a get would answer, in words."""
    said = found.read
    lines = [f"A get with n={said.n}, r={said.r}: {said.why}"]
    for answer in said.answers:
        after = f"heard {', '.join(answer.after)}"
        if answer.absent:
            lines.append(f"  absent ({answer.absent}), {after}")
        else:
            values = ", ".join(answer.dots)
            lines.append(f"  {count(len(answer.dots), 'value')}: {values}, {after}")
    for each in said.asks:
        if not each.counts.startswith("counts"):
            lines.append(f"  {each.node} {each.counts}")
    return lines


def repair_lines(found: Explanation) -> list[str]:
    """Return what is going to be done, in words."""
    if not found.repair:
        return ["Nothing to repair: all that answered agree."]
    lines = ["To be repaired:"]
    for each in found.repair:
        lacks = f" (it lacks {', '.join(each.lacks)})" if each.lacks else ""
        lines.append(f"  {each.what} {each.node}: {each.why}{lacks}".replace(" :", ":"))
    return lines


def _what(version: Shown, time_ms: int) -> str:
    if version.tombstone:
        return "tombstone"
    if version.expires_ms is None:
        return version.content_type
    if version.ended:
        return f"{version.content_type}, has ended"
    return f"{version.content_type}, ends in {duration(version.expires_ms - time_ms)}"
