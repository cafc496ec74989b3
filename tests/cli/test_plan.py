"""`everwrite plan` and `transfers` against real nodes; and how a plan is told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.commands import everwrite

from everwrite.cli.devcluster import DevCluster
from everwrite.cli.devplan import find_base_port
from everwrite.cli.exits import Exit

pytestmark = pytest.mark.process


@contextlib.contextmanager
def waiting_node(seed: str, directory: Path) -> Iterator[None]:
    """Run a node n4 that waits for the operator, until the block ends."""
    port = find_base_port(1) + 1
    command = [sys.executable, "-m", "everwrite", "serve", "--name", "n4", "--stage"]
    where = ["--data", str(directory), "--base-port", str(port), "--join", seed, "--fsync", "off"]
    process = subprocess.Popen(
        [*command, *where], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def on_a_terminal(*arguments: str) -> str:
    """Run a command that ends by itself on a terminal of its own; return what it drew."""
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-m", "everwrite", *arguments]
    with subprocess.Popen(command, stdout=theirs, env=environment) as process:
        os.close(theirs)
        drawn = b""
        with contextlib.suppress(OSError):  # the end of a terminal that nobody holds any more
            while more := os.read(ours, 65536):
                drawn += more
    os.close(ours)
    assert process.returncode == Exit.OK
    return drawn.decode()


def wait_until_known(name: str, url: str) -> None:
    """Return when the cluster knows a node; each look takes a command's time."""
    for _ in range(200):
        if f"\n{name} " in everwrite("transfers", "--url", url).out:
            return
    raise AssertionError(f"{name} was not heard of")


def test_a_cluster_grows_by_one_node_and_shrinks_again(tmp_path: Path) -> None:
    with DevCluster.create(tmp_path / "dev", nodes=3, fsync=False) as cluster:
        asyncio.run(cluster.start())
        url = ",".join(cluster.addresses)
        there = ["--url", url]
        with waiting_node(cluster.addresses[0], tmp_path / "n4"):
            wait_until_known("n4", url)
            assert everwrite("transfers", "--watch", *there).code == Exit.OK

            assert everwrite("plan", "show", *there).out == "There is no plan.\n"
            staged = everwrite("plan", "join", "n4", *there)
            assert staged.code == Exit.OK
            head, moves, _, *rows = staged.out.splitlines()
            assert head.startswith("plan ") and head.endswith(": n4 joins")
            assert " of 768 copies move (" in moves
            assert rows[-1].split()[:4] == ["n4", "joining", "->", "in"]
            assert "Nothing moves yet" in staged.err
            shown = everwrite("plan", "show", *there, "-o", "json").json()
            assert len(shown["moves"]) == shown["copies_moved"]
            listed = everwrite("plan", "show", "--moves", *there).out
            assert listed.count("instead of n") == shown["copies_moved"]
            again = everwrite("plan", "join", "n4", *there)
            assert again.code == Exit.USAGE
            assert "n4 is in the cluster already, or will be" in again.err

            assert everwrite("plan", "commit", *there).out.startswith("committed ")
            watched = everwrite("transfers", "--watch", *there)
            assert watched.code == Exit.OK
            assert watched.out.splitlines()[-1].endswith("Nothing is left to move.")
            ring = everwrite("ring", *there, "-o", "json").json()
            assert {node["name"]: node["serves"] for node in ring["nodes"]} == {
                node["name"]: node["owned_after"] for node in shown["nodes"]
            }

            left = everwrite("plan", "leave", "n4", "--commit", *there)
            assert left.out.startswith("committed ")
            seen = everwrite("status", "--watch", *there)
            assert seen.code == Exit.OK
            assert seen.out.splitlines()[-1].endswith("Nothing is left to move.")
        transfers = everwrite("transfers", *there, "-o", "json").json()
        assert transfers["left"] == {"to_gain": 0, "to_shed": 0}
        assert transfers["silent"] == []
        assert [node["name"] for node in transfers["nodes"]] == ["n1", "n2", "n3"]

        screen = on_a_terminal("transfers", "--watch", *there)
        assert "Nothing is left to move." in screen
        assert "● up" in screen and "Ctrl-C ends the watch" in screen

        refused = everwrite("plan", "remove", "n3", *there)
        assert refused.code == Exit.USAGE
        assert "2 nodes would be left for 3 replicas" in refused.err
        assert "--force" in refused.err
        assert everwrite("plan", "commit", *there).code == Exit.USAGE
        forced = everwrite("plan", "remove", "n3", "--force", *there)
        assert "* n3 is up: `everwrite plan leave n3`" in forced.out
        cancelled = everwrite("plan", "cancel", *there)
        assert cancelled.out.endswith("is forgotten; nothing was changed\n")


def test_a_node_that_cannot_be_reached_is_exit_code_4() -> None:
    for command in (["plan", "show"], ["plan", "join", "n4"], ["transfers"]):
        assert everwrite(*command, "--url", "127.0.0.1:1").code == Exit.UNREACHABLE
