"""Why a node of a development cluster does not run, and what became of the others, in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from everwrite.cli.copyable import command
from everwrite.core.errors import EverwriteError
from everwrite.storage.manifest import node_of

_GONE = {"left": "has left", "removed": "was removed from"}
_NAME_TAKEN = "There is a node named"
"""How a node says why it may not come in (server/peers.py) that has the name of a member."""
_LINES = 8


class NodeFailed(EverwriteError):
    """A node's process ended by itself; its log says why."""

    code = "node_failed"


def ended_by_itself(name: str, log: Path, since: int, data: Path, *, founded: bool) -> NodeFailed:
    """Return the error of a node that has ended, with what it has written ``since``: the words of
    an earlier run would explain nothing.
    """
    with log.open("rb") as file:
        file.seek(since)
        words = file.read().decode(errors="replace")
    hint = f"All of its log: {log}"
    if founded and _NAME_TAKEN in words and not node_of(data):
        start = command("cluster start", dir=data.parent)
        hint = (
            f"{data} has lost the node that the cluster knows. To let a new one take its place: "
            f"everwrite plan remove {name} --force --commit (--url: a node that runs), then {start}"
        )
    return NodeFailed(
        f"Node {name} ended by itself. Its last words:\n"
        + "\n".join(f"    {line}" for line in words.splitlines()[-_LINES:]),
        hint=hint,
    )


def no_start(failures: Sequence[NodeFailed], *, running: list[str], ended: list[str]) -> NodeFailed:
    """Return one error for all nodes that failed; it says what became of the others."""
    if running:
        others = f"The others run: {', '.join(running)}."
    elif ended:
        others = f"Those that were started with it were stopped: {', '.join(ended)}."
    else:
        others = "No other node runs."
    said = [failure.message for failure in failures]
    return NodeFailed("\n".join([*said, others]), hint=failures[0].hint)


def is_no_member(name: str, gone: str, data: Path) -> NodeFailed:
    """Return why a node is not started again that left, or was removed."""
    return NodeFailed(
        f"Node {name} {_GONE[gone]} its cluster, and does not start again.",
        hint=f"Once {data} is deleted, a new node of this name starts there.",
    )
