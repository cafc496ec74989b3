"""Commands that look at a running cluster and change nothing: status, ring, locate, hints."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from everwrite.cli.connection import connect, reaches_a_node, takes_a_format
from everwrite.cli.exits import Exit
from everwrite.cli.output import count, duration, emit, emit_json, say, size, table
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
from everwrite.core.errors import UnavailableError

_ASK_SECONDS = 2.0
"""Patience with each node: far more than a healthy one needs, and a person can wait so long."""


@click.command()
@reaches_a_node
@takes_a_format
def status(url: str, secret_file: Path | None, form: str) -> int:
    """Say how the cluster is: one verdict, then a line for each node.

    Exit code 0 means healthy, 3 degraded, 4 that no node could be reached.
    """
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
    """Show who owns how much of the ring."""
    answer = asyncio.run(_ask(url, secret_file, "ring"))
    if form == "json":
        emit_json(answer)
        return
    found = read(answer, Ring)
    copies = found.partitions * min(found.replicas, len(found.nodes))
    emit(f"{count(found.partitions, 'partition')}, {found.replicas} replicas, view {found.view}")
    emit("")
    rows = [
        [
            node.name,
            node.zone,
            f"{node.weight:g}",
            str(node.owned),
            f"{node.owned / copies:.1%}",
            f"{node.load:.3f}",
            "#" * round(40 * node.owned / max(1, found.partitions)),
        ]
        for node in sorted(found.nodes, key=lambda node: node.name)
    ]
    head = ["node", "zone", "weight", "owned", "share", "load", ""]
    emit(table(head, rows, right=[2, 3, 4, 5]))


@click.command()
@click.argument("bucket")
@click.argument("key")
@reaches_a_node
@takes_a_format
def locate(bucket: str, key: str, url: str, secret_file: Path | None, form: str) -> None:
    """Show where KEY of BUCKET lives: its owners, then their stand-ins, in order."""
    answer = asyncio.run(_ask(url, secret_file, "locate", bucket=bucket, key=key))
    if form == "json":
        emit_json(answer)
        return
    found = read(answer, Location)
    emit(f"{bucket}/{key}: partition {found.partition}, hash {found.hash}")
    emit("")
    rows = [
        [str(rank), place.role, place.name, place.address, place.zone, _seen(place.state)]
        for rank, place in enumerate(found.preference, start=1)
    ]
    emit(table(["", "role", "node", "address", "zone", "state"], rows, right=[0]))


@click.command()
@reaches_a_node
@takes_a_format
def hints(url: str, secret_file: Path | None, form: str) -> None:
    """Show which nodes keep writes for which owners that were not there."""
    asked, others = asyncio.run(_gather(url, secret_file))
    found: dict[str, Hints] = {
        answer.node.name: answer.hints for answer in (asked, *others.values()) if answer is not None
    }
    waiting = sum(holder.waiting for holder in found.values())
    silent = [name for name, answer in others.items() if answer is None]
    if silent:
        say(f"no answer from {', '.join(silent)}: the hints that they keep are not counted")
    if form == "json":
        emit_json({"waiting": waiting, "holders": found, "silent": silent})
        return
    emit(f"{count(waiting, 'hint')} waiting" if waiting else "No hints are waiting.")
    rows = [
        [
            holder,
            owner,
            f"{number:,}",
            duration(kept.oldest_ms) if kept.oldest_ms is not None else "",
        ]
        for holder, kept in found.items()
        for owner, number in sorted(kept.by_owner.items())
    ]
    if rows:
        emit("")
        emit(table(["kept by", "for", "waiting", "oldest of holder"], rows, right=[2, 3]))


async def _ask(
    url: str, secret_file: Path | None, verb: str, **arguments: str
) -> dict[str, object]:
    async with await connect(url, secret_file) as db:
        return dict(await db.ask(verb, arguments))


async def _gather(url: str, secret_file: Path | None) -> tuple[Status, dict[str, Status | None]]:
    """Return the status of the first node reached, and of each other one (None: no answer)."""
    async with await connect(url, secret_file) as db:
        asked = await ask_status(db)

        async def ask(name: str) -> Status | None:
            try:
                async with asyncio.timeout(_ASK_SECONDS):
                    return await ask_status(db, name)
            except (UnavailableError, TimeoutError):
                return None

        names = [peer.name for peer in asked.nodes if peer.state != "self"]
        answers = await asyncio.gather(*map(ask, names))
        return asked, dict(zip(names, answers, strict=True))


def _show_status(verdict: Verdict, asked: Status, others: dict[str, Status | None]) -> None:
    emit(verdict.line())
    cluster = asked.cluster
    emit(f"cluster {cluster.name} ({cluster.id}), N={cluster.replicas}, asked {asked.node.name}")
    emit("")
    rows = []
    for peer in asked.nodes:
        answer = asked if peer.state == "self" else others.get(peer.name)
        owned = f"{peer.owned / max(1, cluster.partitions):.0%}"
        row = [peer.name, "up" if answer else "down", peer.address, peer.zone, owned]
        if answer is None:
            row += [
                duration(peer.silent_ms) if peer.silent_ms is not None else "-",
                "-",
                "-",
                "-",
                "-",
                "-",
            ]
        else:
            node = answer.node
            engine = node.engine + ("" if node.fsync else ", no fsync")
            row += [
                "-",
                f"{answer.hints.waiting:,}",
                duration(node.uptime_ms),
                size(node.rss_bytes),
            ]
            row += [engine, node.version]
        rows.append(row)
    head = [
        "node",
        "state",
        "address",
        "zone",
        "owns",
        "silent",
        "hints",
        "uptime",
        "memory",
        "engine",
        "version",
    ]
    emit(table(head, rows, right=[4, 5, 6, 7, 8]))


def _seen(state: str) -> str:
    return "up (answered)" if state == "self" else state
