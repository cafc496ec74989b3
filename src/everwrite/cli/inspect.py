"""Commands that look at a running cluster and change nothing: status, ring, locate, hints."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from everwrite.cli.connection import (
    connect,
    no_json_with_watch,
    reaches_a_node,
    takes_a_format,
)
from everwrite.cli.copyable import shown
from everwrite.cli.exits import Exit
from everwrite.cli.output import count, duration, emit, emit_json, say, size, table
from everwrite.cli.pacing import overload_lines, pace_rows
from everwrite.cli.reports import (
    Hints,
    Location,
    Ring,
    Status,
    Verdict,
    ask_status,
    judge,
    read,
)
from everwrite.core.errors import RequestError, UnavailableError

if TYPE_CHECKING:
    from everwrite.client import AsyncClient

_ASK_SECONDS = 2.0
"""Patience with each node: far more than a healthy one needs, and a person can wait so long."""


@click.command()
@click.option("--watch", "watched", is_flag=True, help="Show it live, with what moves.")
@reaches_a_node
@takes_a_format
def status(watched: bool, url: str, secret_file: Path | None, form: str) -> int:
    """Say how the cluster is: one verdict, then a line for each node.

    Exit code 0 means healthy, 3 degraded, 4 that no node could be reached. With --watch and no
    terminal: a line each second, until nothing is left to move.

    A second table shows nodes that do work in the background (hints, repairs, moves, scrub):

    \b
    MAY DO             how many slices of about a millisecond it may do in a second, so that
                       requests do not suffer
    DOES               how many it does, by kind
    P99 OF REQUESTS    reads 4.1 ms, may be 6.0 (alone 3.0): 99 of 100 reads took up to 4.1 ms,
                       and up to 3.0 without background work; over 6.0 it may do less
    WHY                what decides it now
    """
    if watched:
        from everwrite.cli.watch import watch_status

        no_json_with_watch(form)
        return watch_status(url, secret_file, _judged)
    asked, others = asyncio.run(_gather(url, secret_file))
    verdict = judge(asked, others)
    if form == "json":
        answers = {asked.node.name: asked, **others}
        emit_json(
            {
                "healthy": verdict.healthy,
                "verdict": verdict.line(),
                "reasons": verdict.reasons,
                "cluster": asked.cluster,
                "asked": asked.node.name,
                "nodes": [
                    {"name": peer.name, "address": peer.address, "status": answers.get(peer.name)}
                    for peer in asked.nodes
                ],
            }
        )
    else:
        _show_status(verdict, asked, others)
    return Exit.OK if verdict.healthy else Exit.DEGRADED


@click.command()
@reaches_a_node
@takes_a_format
def ring(url: str, secret_file: Path | None, form: str) -> None:
    """Show who owns how much of the ring, how much of it each node serves, and is to gain.

    Whether a node is up is as the one that was asked sees it.
    """
    answer = asyncio.run(_ask_ring(url, secret_file))
    if form == "json":
        emit_json(answer)
        return
    found = read(answer, Ring)
    slices, copies = count(found.partitions, "partition"), count(found.replicas, "replica")
    emit(f"{slices}, {copies}, view {found.view}")
    emit("")
    head = ["node", "state", "standing", "zone", "weight", "owned", "serves", "to gain", "share"]
    emit(table([*head, "load", ""], ring_rows(found), right=[4, 5, 6, 7, 8, 9]))


def ring_rows(found: Ring) -> list[list[str]]:
    """Return a row for each node; shares are of all copies, and are 100 % together."""
    copies = found.partitions * found.replicas
    return [
        [
            node.name,
            node.state,
            node.standing,
            node.zone,
            f"{node.weight:g}",
            str(node.owned),
            str(node.serves),
            str(node.to_gain),
            f"{node.owned / copies:.1%}",
            f"{node.load:.3f}",
            "#" * round(40 * node.owned / max(1, found.partitions)),
        ]
        for node in sorted(found.nodes, key=lambda node: node.name)
    ]


@click.command()
@click.argument("bucket")
@click.argument("key")
@reaches_a_node
@takes_a_format
def locate(bucket: str, key: str, url: str, secret_file: Path | None, form: str) -> None:
    """Show where KEY of BUCKET lives: its owners, then their stand-ins, in order.

    An owner that is filling up does not serve the key yet; the node below it does so in its stead.
    """
    answer = asyncio.run(_ask(url, secret_file, "locate", bucket=bucket, key=key))
    if form == "json":
        emit_json(answer)
        return
    found = read(answer, Location)
    emit(f"{shown(bucket)}/{shown(key)}: partition {found.partition}, hash {found.hash}")
    emit("")
    head = ["", "role", "node", "address", "zone", "state", "serves"]
    emit(table(head, location_rows(found), right=[0]))


_SERVES = {"owner": "yes", "serves": "yes", "filling": "not yet"}


def location_rows(found: Location) -> list[list[str]]:
    """Return a row for each node that a key may go to."""
    return [
        [
            str(rank),
            f"serves for {place.serves_for}" if place.role == "serves" else place.role,
            place.name,
            place.address,
            place.zone,
            _seen(place.state),
            _SERVES.get(place.role, "-"),
        ]
        for rank, place in enumerate(found.preference, start=1)
    ]


@click.command()
@reaches_a_node
@takes_a_format
def hints(url: str, secret_file: Path | None, form: str) -> int:
    """Show which nodes keep writes for which owners that were not there.

    For each owner how many, how large, how old the oldest is, and what they wait for. Exit code 3:
    a node does not answer, or takes no more hints.
    """
    asked, others = asyncio.run(_gather(url, secret_file))
    found: dict[str, Hints] = {
        answer.node.name: answer.hints for answer in (asked, *others.values()) if answer is not None
    }
    waiting = sum(holder.waiting for holder in found.values())
    silent = [name for name, answer in others.items() if answer is None]
    if silent:
        say(f"no answer from {', '.join(silent)}: the hints that they keep are not counted")
    counting = [name for name, kept in found.items() if not kept.counted]
    if counting:
        say(f"still counting what is on the disk: {', '.join(counting)}")
    held = sum(holder.bytes for holder in found.values())
    full = any(holder.full for holder in found.values())
    code = Exit.DEGRADED if silent or full else Exit.OK
    if form == "json":
        emit_json({"waiting": waiting, "bytes": held, "holders": found, "silent": silent})
        return code
    emit(f"{count(waiting, 'hint')} waiting, {size(held)}" if waiting else "No hints are waiting.")
    rows = hint_rows(found)
    if rows:
        emit("")
        head = ["kept by", "for", "waiting", "bytes", "oldest", "on their way", "waiting for"]
        emit(table(head, rows, right=[2, 3, 4, 5]))
    for holder, kept in found.items():
        if kept.full:
            emit("")
            caps = f"{kept.cap:,} hints and {size(kept.cap_bytes)}"
            emit(f"{holder} takes no more: it may keep {caps}. Bring back those that are down.")
    return code


def hint_rows(found: Mapping[str, Hints]) -> list[list[str]]:
    """Return a row for each node that keeps hints and each owner that they are for."""
    return [
        [
            holder,
            target.owner,
            f"{target.notes:,}",
            size(target.bytes),
            duration(target.oldest_ms),
            f"{target.in_flight:,}",
            target.waits_for,
        ]
        for holder, kept in found.items()
        for target in sorted(kept.targets, key=lambda target: target.owner)
    ]


async def _ask(
    url: str, secret_file: Path | None, verb: str, **arguments: str
) -> dict[str, object]:
    async with await connect(url, secret_file) as db:
        return dict(await db.ask(verb, arguments))


async def _ask_ring(url: str, secret_file: Path | None) -> dict[str, Any]:
    """Return the ring as one node knows it, with who is up."""
    async with await connect(url, secret_file) as db:
        answer = dict(await db.ask("ring"))
        peers = {peer.id: peer.state for peer in (await ask_status(db)).nodes}
    for node in answer["nodes"]:
        state = peers.get(node["id"], "")
        node["state"] = "up" if state == "self" else state
    return answer


async def _gather(url: str, secret_file: Path | None) -> tuple[Status, dict[str, Status | None]]:
    async with await connect(url, secret_file) as db:
        return await _ask_all(db)


async def _ask_all(db: AsyncClient) -> tuple[Status, dict[str, Status | None]]:
    """Return the status of the first node reached, and of each other one (None: no answer)."""
    asked = await ask_status(db)

    async def ask(name: str) -> Status | None:
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                return await ask_status(db, name)
        except (UnavailableError, TimeoutError):
            return None
        except RequestError:  # it joined after we had asked who is there
            return None

    names = [peer.name for peer in asked.nodes if peer.state != "self"]
    answers = await asyncio.gather(*map(ask, names))
    return asked, dict(zip(names, answers, strict=True))


async def _judged(db: AsyncClient) -> tuple[Verdict, Status, dict[str, Status | None]]:
    asked, others = await _ask_all(db)
    return judge(asked, others), asked, others


def _show_status(verdict: Verdict, asked: Status, others: dict[str, Status | None]) -> None:
    emit(verdict.line())
    cluster = asked.cluster
    emit(f"cluster {cluster.name} ({cluster.id}), N={cluster.replicas}, asked {asked.node.name}")
    emit("")
    emit(table(STATUS_HEAD, status_rows(asked, others), right=[5, 6, 7, 8, 9, 10, 11]))
    answers = [asked, *(answer for answer in others.values() if answer is not None)]
    paces = pace_rows((answer.node.name, answer.pace) for answer in answers)
    if paces:
        emit("")
        head = ["background work of", "may do", "does", "p99 of requests", "why"]
        emit(table(head, paces))
    lines = overload_lines((answer.node.name, answer.requests) for answer in answers)
    if lines:
        emit("")
    for line in lines:
        emit(line)


STATUS_HEAD = [
    "node",
    "state",
    "standing",
    "address",
    "zone",
    "http",
    "redis",
    "owns",
    "silent",
    "hints",
    "uptime",
    "memory",
    "engine",
    "version",
]


def status_rows(asked: Status, others: Mapping[str, Status | None]) -> list[list[str]]:
    """Return a row for each node. http and redis are the ports of its other fronts."""
    answers = [asked, *(answer for answer in others.values() if answer is not None)]
    slow = {peer.name for answer in answers for peer in answer.nodes if peer.state == "slow"}
    rows = []
    for peer in asked.nodes:
        answer = asked if peer.state == "self" else others.get(peer.name)
        owned = f"{peer.owned / max(1, asked.cluster.partitions):.0%}"
        state = "down" if answer is None else "slow" if peer.name in slow else "up"
        row = [peer.name, state, peer.standing, peer.address, peer.zone]
        if answer is None:
            silent = duration(peer.silent_ms) if peer.silent_ms is not None else "-"
            row += ["-", "-", owned, silent, "-", "-", "-", "-", "-"]
        else:
            node = answer.node
            engine = node.engine + ("" if node.fsync else ", no fsync")
            row += [_port(node.http), _port(node.redis), owned, "-"]
            row += [f"{answer.hints.waiting:,}", duration(node.uptime_ms), size(node.rss_bytes)]
            row += [engine, node.version]
        rows.append(row)
    return rows


def _port(address: str | None) -> str:
    """Return the port of an address, all that its node's own address does not say.

    >>> _port("127.0.0.1:7800"), _port(None)
    ('7800', '-')
    """
    return address.rpartition(":")[2] if address else "-"


def _seen(state: str) -> str:
    return "up (answered)" if state == "self" else state
