"""`everwrite cluster`: a development cluster in the background, and faults for it."""

from __future__ import annotations

import asyncio
import time
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from everwrite.cli.connection import DEFAULT_PORT, read_secret, takes_a_format
from everwrite.cli.copyable import command
from everwrite.cli.devcluster import DevCluster
from everwrite.cli.devplan import STATE_FILE, Node
from everwrite.cli.exits import Exit
from everwrite.cli.mistakes import Commands
from everwrite.cli.orders import Act, Order, carry_out, give
from everwrite.cli.output import count, emit, emit_json, say, size, table
from everwrite.cli.reports import Status
from everwrite.cli.splits import node_number
from everwrite.core.errors import ConfigError, DirectoryInUse, Unreachable

_NO_MEMBER = ("left", "removed")

Command = TypeVar("Command", bound=Callable[..., Any])


def _in_directory(command: Command) -> Command:
    return click.option(
        "--dir",
        "directory",
        required=True,
        type=click.Path(file_okay=False, path_type=Path),
        envvar="EVERWRITE_CLUSTER_DIR",
        metavar="DIR",
        help="The cluster's directory.  [env: EVERWRITE_CLUSTER_DIR]",
    )(command)


def _open(directory: Path) -> DevCluster:
    return DevCluster.open(directory, secret=read_secret(None))


@click.group(cls=Commands)
def cluster() -> None:
    """A development cluster: real nodes on this machine, in the background.

    \b
    everwrite cluster start --dir ./dev          five nodes on ports 7401 to 7405
    everwrite cluster kill 2 --dir ./dev         as a crash would
    everwrite cluster partition '1,2|3,4,5' --dir ./dev
    everwrite cluster heal --dir ./dev
    everwrite cluster stop --dir ./dev

    Set EVERWRITE_CLUSTER_DIR to leave out --dir. Nodes are 1 to N (also n1, or A for the first).
    """


@cluster.command()
@_in_directory
@click.option("--nodes", type=click.IntRange(1, 26), help="Number of nodes.  [default: 5]")
@click.option(
    "--base-port",
    type=click.IntRange(0, 65535 - 226),
    metavar="P",
    help=f"Node i listens on P + i; 0 finds free ports.  [default: {DEFAULT_PORT}]",
)
@click.option(
    "--engine",
    type=click.Choice(["rocksdb", "sqlite"]),
    help="Storage engine of a new cluster.  [default: rocksdb]",
)
@click.option(
    "--fsync",
    type=click.Choice(["on", "off"]),
    help="Whether writes are on disk before they are acknowledged.  [default: on]",
)
@click.option("--open", "opens", is_flag=True, help="Show its dashboard in a browser.")
@takes_a_format
def start(
    directory: Path,
    nodes: int | None,
    base_port: int | None,
    engine: str | None,
    fsync: str | None,
    opens: bool,
    form: str,
) -> None:
    """Start all nodes, or those that do not run; return when all know each other.

    The options are those of a new cluster; one that is there already keeps its own.
    """
    began = time.monotonic()
    if (directory / STATE_FILE).exists():
        found = _open(directory)
        _refuse_other_options(found, nodes, base_port, engine, fsync)
    else:
        found = DevCluster.create(
            directory,
            nodes=nodes or 5,
            base_port=DEFAULT_PORT if base_port is None else base_port,
            engine=engine or "rocksdb",
            fsync=fsync != "off",
            secret=read_secret(None),
            playground=True,
        )
    with found.locked():
        running = len(found.running())
        absent = len(found.members) - running
        if absent:
            say(f"starting {count(absent, 'node')}: this takes some seconds ...")
        asyncio.run(found.start())
    if not absent:
        say(f"{count(running, 'node')} running already")
    else:
        say(f"started {count(absent, 'node')} in {time.monotonic() - began:.1f} s")
    _show_addresses(found, form)
    if opens:
        webbrowser.open(found.members[0].dashboard)


@cluster.command()
@_in_directory
def stop(directory: Path) -> None:
    """Stop all nodes; their data stays."""
    found = _open(directory)
    with found.locked():
        running = len(found.running())
        killed = found.stop()
    say(f"stopped {count(running, 'node')}" if running else "no node was running")
    if killed:
        say(f"{', '.join(killed)} did not stop in time and had to be killed")


@cluster.command()
@_in_directory
@takes_a_format
def status(directory: Path, form: str) -> int:
    """Show each node's process and what it says. Exit code 3 unless all are up and connected."""
    found = _open(directory)
    answers = asyncio.run(found.statuses(found.running()))
    rows = [
        (node, found.gone(node.number) or node.state(), answers.get(node.number))
        for node in found.nodes
    ]
    split = found.plan.split
    members = [row for row in rows if row[1] not in _NO_MEMBER]
    healthy = not split and all(_good(answer) for _, _, answer in members)
    reasons = _reasons(members)
    if split:
        reasons.append("links are cut")
    if form == "json":
        nodes = [
            {
                "number": node.number,
                "name": node.name,
                "address": node.address,
                "pid": _pid(node, state),
                "process": state,
                "status": answer,
                "log": str(found.log(node.number)),
            }
            for node, state, answer in rows
        ]
        said = {"healthy": healthy, "reasons": reasons, "partition": split, "nodes": nodes}
        emit_json(said)
        return Exit.OK if healthy else Exit.DEGRADED
    lines = [
        [
            node.name,
            _word(state, answer),
            node.address,
            str(_pid(node, state) or "-"),
            *_said(answer),
        ]
        for node, state, answer in rows
    ]
    up = sum(_word(state, answer) == "up" for _, state, answer in rows)
    verdict = f"{'HEALTHY' if healthy else 'DEGRADED'}: {up} of {count(len(members), 'node')} up"
    emit("; ".join([verdict, *reasons]))
    if split:
        emit(f"partition: {split}")
    emit("")
    head = ["node", "state", "address", "pid", "ready", "sees", "hints", "memory"]
    emit(table(head, lines, right=[3, 6, 7]))
    return Exit.OK if healthy else Exit.DEGRADED


@cluster.command()
@click.argument("node")
@_in_directory
def kill(node: str, directory: Path) -> None:
    """End a node as a crash would (SIGKILL)."""
    found = _open(directory)
    with found.locked():
        number = node_number(node, len(found.nodes))
        found.kill(number)
    line = command("cluster restart", number, dir=directory)
    say(f"killed n{number}; start it again: {line}")


@cluster.command()
@click.argument("node")
@_in_directory
def restart(node: str, directory: Path) -> None:
    """Stop a node if it runs, start it, and return when it is back."""
    found = _open(directory)
    with found.locked():
        number = node_number(node, len(found.nodes))
        began = time.monotonic()
        asyncio.run(found.restart(number))
    say(f"n{number} is back after {time.monotonic() - began:.1f} s")


@cluster.command()
@click.argument("node")
@_in_directory
def pause(node: str, directory: Path) -> None:
    """Freeze a node (SIGSTOP): it answers nobody, but its connections stay open."""
    found = _open(directory)
    with found.locked():
        number = node_number(node, len(found.nodes))
        found.pause(number)
    line = command("cluster resume", number, dir=directory)
    say(f"paused n{number}; let it go on: {line}")


@cluster.command()
@click.argument("node")
@_in_directory
def resume(node: str, directory: Path) -> None:
    """Let a frozen node go on."""
    found = _open(directory)
    with found.locked():
        number = node_number(node, len(found.nodes))
        asyncio.run(found.resume(number))
    say(f"n{number} goes on")


@cluster.command()
@click.argument("groups")
@_in_directory
def partition(groups: str, directory: Path) -> None:
    """Cut links between nodes, in place of any earlier cut.

    \b
    'A,B|C,D,E'   no message passes between the two groups
    'A,B>C'       A and B can't reach C; what C sends arrives
    'A|B;C>D'     several cuts at once

    Only messages between nodes are cut: clients still reach all of them, and ask an owner of the
    key, whatever --url says, so they go round the cut. To see one side, ask a node of it over HTTP:
    curl http://127.0.0.1:7601/v1/kv/BUCKET/KEY is what n1 sees.
    """
    found = _open(directory)
    with found.locked():
        _need_a_node(found, "Nothing was cut.")
        untold = asyncio.run(found.partition(groups))
    links = count(len(found.split.cut), "link")
    say(f"cut {links}; undo: {command('cluster heal', dir=directory)}")
    _say_untold(untold)


@cluster.command()
@_in_directory
def heal(directory: Path) -> None:
    """Restore all links between nodes."""
    found = _open(directory)
    with found.locked():
        untold = asyncio.run(found.heal())
        _need_a_node(found, "When they start, no link will be cut.")
    say("all links are restored")
    _say_untold(untold)


@cluster.command(hidden=True)
@click.argument("act", type=click.Choice(get_args(Act)))
@click.argument("what", default="")
@_in_directory
def order(act: Act, what: str, directory: Path) -> None:
    """Carry out what a button of a dashboard says, on a cluster or on that of a running demo."""
    found = _open(directory)
    given = Order(act, what)
    try:
        with found.locked():
            said = asyncio.run(carry_out(found, given))
    except DirectoryInUse:
        said = asyncio.run(give(directory, given))
    emit(said)


def _refuse_other_options(
    found: DevCluster,
    nodes: int | None,
    base_port: int | None,
    engine: str | None,
    fsync: str | None,
) -> None:
    plan = found.plan
    given = {"nodes": nodes, "base-port": base_port, "engine": engine, "fsync": fsync}
    there = {
        "nodes": len(plan.nodes),
        "base-port": plan.base_port,
        "engine": plan.engine,
        "fsync": "on" if plan.fsync else "off",
    }
    for name, value in given.items():
        if value is not None and value != there[name]:
            raise ConfigError(
                f"The cluster in {found.directory} was made with --{name} {there[name]}.",
                hint=f"Leave out --{name}, or use another directory. Nothing was changed.",
            )


def _show_addresses(found: DevCluster, form: str) -> None:
    if form == "json":
        emit_json(
            {
                "directory": str(found.directory),
                "nodes": [
                    {
                        "number": n.number,
                        "name": n.name,
                        "address": n.address,
                        "http": n.http,
                        "redis": n.redis,
                        "dashboard": n.dashboard,
                        "pid": n.pid,
                    }
                    for n in found.members
                ],
            }
        )
        return
    for node in found.members:
        emit(f"{node.name}  {node.address}  pid {node.pid}")
    first = found.members[0]
    say(f"dashboard: {first.dashboard}")
    say(f"try: everwrite put fruit best apple --url {first.address}")
    say(f"     everwrite status --url {first.address}")
    say(f"     curl -i {first.http}/v1/kv/fruit/best")
    say(f"     redis-cli -p {first.redis.rpartition(':')[2]} set best apple")


def _good(answer: Status | None) -> bool:
    if answer is None:
        return False
    return answer.node.ready and all(peer.state != "down" for peer in answer.nodes)


def _pid(node: Node, state: str) -> int:
    """Return the process of a node, 0 for one that is there no more."""
    return node.pid if state in {"running", "stopped"} else 0


def _word(state: str, answer: Status | None) -> str:
    if state in _NO_MEMBER:
        return state
    if state == "gone":
        return "not running"
    if state == "stopped":
        return "paused"
    return "up" if answer is not None else "silent"


def _reasons(rows: Sequence[tuple[Node, str, Status | None]]) -> list[str]:
    """Return why a cluster is not healthy, a few words for each trouble."""
    words = {node.name: _word(state, answer) for node, state, answer in rows}
    said = {"silent": "does not answer"}
    reasons = [
        f"{name} {said.get(word, f'is {word}')}" for name, word in words.items() if word != "up"
    ]
    for node, _, answer in rows:
        if answer is None:
            continue
        if not answer.node.ready:
            reasons.append(f"{node.name} is not ready")
        # A node that misses one which is down is not to blame.
        unseen = [
            peer.name
            for peer in answer.nodes
            if peer.state == "down" and words.get(peer.name, "up") == "up"
        ]
        if unseen:
            reasons.append(f"{node.name} does not see {', '.join(unseen)}")
    return reasons


def _said(answer: Status | None) -> list[str]:
    if answer is None:
        return ["-", "-", "-", "-"]
    seen = [peer.name for peer in answer.nodes if peer.state == "up"]
    ready = "yes" if answer.node.ready else "no"
    return [ready, ",".join(seen) or "-", f"{answer.hints.waiting:,}", size(answer.node.rss_bytes)]


def _need_a_node(found: DevCluster, so: str) -> None:
    if not found.running():
        raise Unreachable(
            f"No node of the cluster in {found.directory} is running. {so}",
            hint=f"Start them: {command('cluster start', dir=found.directory)}",
        )


def _say_untold(untold: list[str]) -> None:
    if untold:
        say(f"{', '.join(untold)} could not be told; it is told when it is resumed or restarted")
