"""How a node of a development cluster is started: its command line, and what it is told beside."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from everwrite.cli.connection import SECRET_VARIABLE
from everwrite.cli.devplan import HOST, Node, Plan

PASSED_ON = ("EVERWRITE_LOG_FORMAT", "EVERWRITE_OTEL")
"""What nodes take from the environment in which they are started, beside the secret. All else there
may be meant for a node of its own: its name, its directory, its ports.
"""


def environment(secret: bytes) -> dict[str, str]:
    """Return what a node is to find in its environment."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("EVERWRITE_") or name in PASSED_ON
    }
    return {**inherited, SECRET_VARIABLE: os.fsdecode(secret)} if secret else inherited


def serve_command(plan: Plan, node: Node, members: Sequence[Node], data: Path) -> list[str]:
    """Return how `everwrite serve` is called for this node, which joins the other members."""
    command = [sys.executable, "-P", "-m", "everwrite", "serve", "--development"]
    command += ["--name", node.name, "--host", HOST, "--base-port", str(node.port)]
    command += ["--data", str(data), "--engine", plan.engine]
    command += ["--fsync", "on" if plan.fsync else "off", "--replicas", str(plan.replicas)]
    command += ["--partitions", str(plan.partitions)]
    if plan.founded or node.number != 1:
        for other in members:
            address = other.advertise or other.address
            command += ["--join", address] if other is not node else []
    if node.advertise:
        command += ["--advertise", node.advertise]
    if plan.playground:
        order = [sys.executable, "-P", "-m", "everwrite", "cluster", "order"]
        command += ["--playground", shlex.join([*order, "--dir", str(data.parent)])]
    return command
