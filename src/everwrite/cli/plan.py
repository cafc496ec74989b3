"""`everwrite plan`: changes of the cluster, shown before they are made.

A change is laid over the plan that is there; nothing moves before `plan commit`. All nodes keep the
plan, so any of them can be asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from everwrite.cli.connection import connect, reaches_a_node, takes_a_format
from everwrite.cli.copyable import command
from everwrite.cli.mistakes import Commands
from everwrite.cli.output import duration, emit, emit_json, say, say_hint, size, table
from everwrite.cli.reports import Planned, PlannedChange, PlannedNode, read

Command = TypeVar("Command", bound=Callable[..., Any])
Changes = list[dict[str, object]]


@click.group(cls=Commands)
def plan() -> None:
    """Change the cluster: see what would move, then commit it.

    \b
    everwrite plan join n4              a node that was started with --join and --stage
    everwrite plan leave n2             hands over all that it has, then it is out
    everwrite plan replace n3 n5        n5 takes the place of n3
    everwrite plan show                 what all of that together moves, and how long it takes
    everwrite plan commit               from now on; everwrite plan cancel forgets it

    Several changes make one plan. A plan that would leave fewer nodes or zones than replicas, or
    that gives up the last copies of something, is refused unless it is forced.
    """


def _plans(command: Command) -> Command:
    for option in (
        click.option("--commit", "at_once", is_flag=True, help="Commit the plan at once."),
        click.option(
            "--force", is_flag=True, help="Even if that leaves fewer copies than there are now."
        ),
    ):
        command = option(command)
    return reaches_a_node(takes_a_format(command))


_nodes = click.argument("nodes", nargs=-1, required=True, metavar="NODE...")


@plan.command()
@_nodes
@_plans
def join(nodes: tuple[str, ...], **options: Any) -> None:
    """Take NODE into the cluster, or keep one that was to leave."""
    _stage([{"verb": "join", "node": node} for node in nodes], **options)


@plan.command()
@_nodes
@_plans
def leave(nodes: tuple[str, ...], **options: Any) -> None:
    """Let NODE hand over all that it has to others, and then be out."""
    _stage([{"verb": "leave", "node": node} for node in nodes], **options)


@plan.command()
@_nodes
@_plans
def remove(nodes: tuple[str, ...], **options: Any) -> None:
    """Shut NODE out at once and for ever: for a node that is lost.

    What it held is copied from the other owners. A node that is up should `leave`.
    """
    _stage([{"verb": "remove", "node": node} for node in nodes], **options)


@plan.command()
@click.argument("old")
@click.argument("new")
@click.option("--dead", is_flag=True, help="OLD is lost for good: remove it for ever.")
@_plans
def replace(old: str, new: str, dead: bool, **options: Any) -> None:
    """Let NEW take the place of OLD, with its weight, and its zone if NEW has none of its own.

    OLD hands over to NEW. If it is lost for good, say so with --dead: then it is removed, and NEW
    copies from the other owners.
    """
    _stage([{"verb": "replace", "node": old, "by": new, "dead": dead}], **options)


@plan.command()
@click.argument("node")
@click.argument("weight", type=float)
@_plans
def weight(node: str, weight: float, **options: Any) -> None:
    """Let NODE own in proportion to WEIGHT; 1 is usual, 2 owns twice as much."""
    _stage([{"verb": "weight", "node": node, "weight": weight}], **options)


@plan.command()
@click.argument("node")
@click.argument("zone")
@_plans
def zone(node: str, zone: str, **options: Any) -> None:
    """Say that NODE is in ZONE (host, rack, site); copies of a key go to different zones."""
    _stage([{"verb": "zone", "node": node, "zone": zone}], **options)


@plan.command()
@click.option("--moves", "all_moves", is_flag=True, help="List each partition that moves, too.")
@reaches_a_node
@takes_a_format
def show(all_moves: bool, url: str, secret_file: Path | None, form: str) -> None:
    """Show what the plan would do."""
    answer = asyncio.run(_ask(url, secret_file, "plan_show"))
    if form == "json":
        emit_json(answer)
        return
    planned = read(answer, Planned)
    _show(planned)
    if all_moves and planned.moves:
        emit("")
        rows = [
            [
                str(move.partition),
                move.to,
                f"instead of {move.giver}" if move.giver else _copied(move.copied_from),
            ]
            for move in planned.moves
        ]
        emit(table(["partition", "to", "from"], rows, right=[0]))
        more = planned.copies_moved - len(planned.moves)
        if more:
            say(f"and {more:,} more")
    if planned.staged and planned.stands:
        say_hint(_nothing_moves())


@plan.command()
@click.argument("id", required=False, default="")
@click.option("--force", is_flag=True, help="Even if that gives up the last copies of something.")
@reaches_a_node
@takes_a_format
def commit(id: str, force: bool, url: str, secret_file: Path | None, form: str) -> None:
    """Go by the plan from now on: copies begin to move.

    With ID, as `plan show` gives it, only if the plan is still that one.
    """
    answer = asyncio.run(_ask(url, secret_file, "plan_commit", force=force, plan=id))
    if form == "json":
        emit_json(answer)
        return
    _show(read(answer, Planned))
    say_hint(f"Watch it: {command('transfers --watch')}")


@plan.command()
@reaches_a_node
@takes_a_format
def cancel(url: str, secret_file: Path | None, form: str) -> None:
    """Forget the plan."""
    answer = asyncio.run(_ask(url, secret_file, "plan_cancel"))
    if form == "json":
        emit_json(answer)
        return
    emit(f"plan {answer['plan']} is forgotten; nothing was changed")


def _stage(
    changes: Changes,
    *,
    url: str,
    secret_file: Path | None,
    form: str,
    force: bool,
    at_once: bool,
) -> None:
    answer = asyncio.run(_send(url, secret_file, changes, force=force, at_once=at_once))
    if form == "json":
        emit_json(answer)
        return
    planned = read(answer, Planned)
    _show(planned)
    if planned.committed:
        say_hint(f"Watch it: {command('transfers --watch')}")
    elif planned.staged:
        say_hint(_nothing_moves())


def _nothing_moves() -> str:
    return f"Nothing moves yet: {command('plan commit')}, or {command('plan cancel')}."


async def _send(
    url: str, secret_file: Path | None, changes: Changes, *, force: bool, at_once: bool
) -> dict[str, object]:
    async with await connect(url, secret_file) as db:
        answer = await db.ask("plan_stage", {"changes": changes, "force": force})
        if at_once and answer["staged"]:
            answer = await db.ask("plan_commit", {"force": force, "plan": answer["plan"]})
        return dict(answer)


async def _ask(
    url: str, secret_file: Path | None, verb: str, **arguments: object
) -> dict[str, object]:
    async with await connect(url, secret_file) as db:
        return dict(await db.ask(verb, arguments))


# -- pictures --------------------------------------------------------------------------------------


def _show(planned: Planned) -> None:
    if not planned.staged:
        emit("There is no plan.")
        return
    word = "committed" if planned.committed else "plan" if planned.stands else "STALE plan"
    emit(f"{word} {planned.plan}: {'; '.join(map(_said, planned.changes))}")
    emit(_sum(planned))
    emit("")
    rows = [_row(node) for node in sorted(planned.nodes, key=lambda node: node.name)]
    head = ["node", "standing", "zone", "weight", "owns", "then", "in", "out", "load"]
    emit(table(head, rows, right=[3, 4, 5, 6, 7, 8]))
    if planned.notes:
        emit("")
    for note in planned.notes:
        emit(f"* {note}")
    if not planned.stands and not planned.committed:
        say_hint("The cluster has changed since this plan was made: plan again, or cancel it.")


def _sum(planned: Planned) -> str:
    """Return in one line how much moves.

    >>> _sum(Planned(plan="ab", staged=True, copies=768, copies_moved=0, load_max=1.049))
    'no copy moves; load max/mean 1.05'
    >>> _sum(Planned(plan="ab", staged=True, copies=768, copies_moved=192, load_max=1.0))
    '192 of 768 copies move (25%): next to nothing is in them; load max/mean 1.00'
    """
    load = f"load max/mean {planned.load_max:.2f}"
    if not planned.copies_moved:
        return f"no copy moves; {load}"
    share = planned.copies_moved / max(1, planned.copies)
    times = planned.times_optimum
    near = "" if times is None else f", {times:.2f} times the optimum"
    if not planned.bytes:
        much = "next to nothing is in them"  # what no file has yet is not counted
    elif planned.ms < 10:
        much = f"{size(planned.bytes)}, at best in some milliseconds"
    else:
        much = f"{size(planned.bytes)}, {duration(planned.ms)} or more"
    return (
        f"{planned.copies_moved:,} of {planned.copies:,} copies move ({share:.0%}{near}): "
        f"{much}; {load}"
    )


def _said(change: PlannedChange) -> str:
    """Return a change as a person would say it.

    >>> _said(PlannedChange("n4", "in", "joining", "n4", 1))
    'n4 joins'
    >>> _said(PlannedChange("n4", "in", "in", "b", 2, "a", 1))
    'n4 moves to zone b and gets weight 2'
    """
    known = change.zone_before is not None and change.weight_before is not None
    more = []
    if known and change.zone != change.zone_before:
        more.append(f"moves to zone {change.zone}")
    if known and change.weight != change.weight_before:
        more.append(f"gets weight {change.weight:g}")
    if change.standing != change.standing_before:
        joins = "joins" if change.standing_before == "joining" else "stays"
        words = {"in": joins, "leaving": "leaves", "removed": "is removed"}
        more.insert(0, words[change.standing])
    return f"{change.name} {' and '.join(more)}"


def _row(node: PlannedNode) -> list[str]:
    same = node.standing == node.standing_after
    return [
        node.name,
        node.standing if same else f"{node.standing} -> {node.standing_after}",
        node.zone,
        f"{node.weight:g}",
        f"{node.owned:,}",
        f"{node.owned_after:,}",
        f"{node.comes_in:,}" if node.comes_in else "-",
        f"{node.goes_out:,}" if node.goes_out else "-",
        f"{node.load:.2f}" if node.load else "-",
    ]


def _copied(names: list[str]) -> str:
    """Return where a copy comes from that nobody gives away.

    >>> _copied(["n1", "n2"]), _copied([])
    ('copied from n1, n2', 'nobody is left to have it')
    """
    return f"copied from {', '.join(names)}" if names else "nobody is left to have it"
