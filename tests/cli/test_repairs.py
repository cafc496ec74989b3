"""`everwrite repairs` and `repair`: what they show, and what they do to real nodes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from tests.cli.commands import everwrite

from everwrite.cli import repairs
from everwrite.cli.devcluster import DevCluster
from everwrite.cli.exits import Exit
from everwrite.cli.repairs import (
    Outcome,
    Pair,
    Repairs,
    damaged_rows,
    disk_rows,
    headline,
    pair_rows,
    partition_rows,
)
from everwrite.cli.reports import Checked, Damaged, spoilt
from everwrite.client import AsyncClient
from everwrite.core.records import OWN
from everwrite.storage.store import open_store


def a_node(name: str, *pairs: Pair, anew: int = 0) -> Repairs:
    leaves = {"all": 1024, "made_anew": anew}
    return Repairs(name, name, 4, list(pairs), leaves, {}, 60_000)


def test_a_disk_is_shown_with_its_tree_its_scrub_and_its_damage_by_name() -> None:
    well = Checked(leaves=1000, scrub_done=0.25, scrub_ended_ms=7_200_000)
    ill = Checked(
        leaves=1000,
        leaves_wrong=250,
        leaves_unreadable=2,
        damaged=2,
        damaged_mended=5,
        damaged_keys=[
            Damaged("carts", "alice", 60_000),
            Damaged(None, {"base64": "AA=="}, 3_600_000),
        ],
    )
    answers = {
        "n1": Repairs("n1", "n1", 4, [], disk=well),
        "n2": Repairs("n2", "n2", 4, [], disk=ill),
    }

    assert disk_rows(answers) == [
        ["n1", "whole", "25% of this round", "2.0 h ago", "0", "0"],
        ["n2", "75.0% made, 2 unreadable", "0% of this round", "not yet", "2", "5"],
    ]
    assert damaged_rows(answers) == [
        ["n2", "carts", "alice", "60.0 s ago"],
        ["n2", "?", "base64:AA==", "60 min ago"],
    ]
    assert spoilt(well) == []
    assert spoilt(ill) == [
        "2 damaged copies (`everwrite repairs` names them)",
        "2 ranges that its disk will not give",
    ]


def test_owners_that_agreed_lately_agree_and_no_partition_is_listed() -> None:
    answers = {"n1": a_node("n1", Pair(0, "n2", 50_000.0), Pair(1, "n2", 170_000.0))}

    assert headline(answers) == "All owners agree."
    assert headline(answers, ["n2"]) == "All owners that could be compared agree; n2 is down."
    assert headline(answers, ["n2", "n3"]).endswith("; n2 and n3 are down.")
    assert pair_rows(answers) == [
        ["n1", "n2", "2", "2", "3 min", "0", "0", "0", "0 B"],
    ]
    assert partition_rows(answers) == []


def test_what_was_not_compared_for_three_rounds_is_late_and_says_why() -> None:
    answers = {
        "n1": a_node(
            "n1",
            Pair(0, "n2", 181_000.0, why="the peer is down"),
            Pair(1, "n2"),
            Pair(2, "n3", 1_000.0),
            anew=7,
        )
    }

    assert headline(answers) == "2 of 3 comparisons are late, 7 parts of trees to be made anew."
    assert [row[:4] + row[-1:] for row in partition_rows(answers)] == [
        ["0", "n1", "n2", "3 min", "the peer is down"],
        ["1", "n1", "n2", "never", "not compared yet"],
    ]
    assert [row[:4] for row in pair_rows(answers)] == [
        ["n1", "n2", "2", "0"],
        ["n1", "n3", "1", "1"],
    ]


def test_what_was_not_compared_yet_since_the_start_is_not_late() -> None:
    node = a_node("n1", Pair(0, "n2"), Pair(1, "n2", 1_000.0), Pair(2, "n2", why="it is busy"))
    young = msgspec.structs.replace(node, up_ms=5_000.0)
    old = msgspec.structs.replace(node, up_ms=200_000.0)

    assert headline({"n1": young}) == (
        "No owners are known to differ, 2 of 3 not compared yet since the start."
    )
    assert [row[:4] for row in pair_rows({"n1": young})] == [["n1", "n2", "3", "1"]]
    assert [row[0] for row in partition_rows({"n1": young})] == ["2"]
    assert headline({"n1": old}) == "2 of 3 comparisons are late."


def test_what_was_repaired_is_listed_and_what_is_repaired_now_comes_first() -> None:
    answers = {
        "n1": a_node(
            "n1",
            Pair(0, "n2", 1_000.0, 1, 3, 4, 5, 2048),
            Pair(3, "n2", 2_000.0, phase="merges"),
        )
    }

    assert headline(answers) == "All owners agree, 1 under way."
    assert partition_rows(answers) == [
        ["3", "n1", "n2", "2.0 s", "0", "0", "0", "0 B", "merges"],
        ["0", "n1", "n2", "1.0 s", "3", "4", "5", "2.0 KiB", ""],
    ]


def test_a_cluster_in_which_nothing_can_be_compared_says_so() -> None:
    assert headline({"n1": a_node("n1")}).startswith("No partition has two owners")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["bucket"],
        ["bucket", "key", "--all"],
        ["--all", "--partition", "3"],
        ["--partition", "-1"],
        ["--all", "--timeout", "0"],
    ],
)
def test_a_repair_of_nothing_or_of_two_things_is_a_usage_error(arguments: list[str]) -> None:
    assert everwrite("repair", *arguments, "--url", "127.0.0.1:1").code == Exit.USAGE


def test_without_a_node_both_commands_end_with_unreachable() -> None:
    for command in (["repairs"], ["repair", "--all"], ["repair", "bucket", "key"]):
        assert everwrite(*command, "--url", "127.0.0.1:1").code == Exit.UNREACHABLE


class Restarted:
    """A node that is restarted after each of the first orders, and knows them no more."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.orders = 0

    async def ask(self, verb: str, arguments: Any = None, node: str | None = None) -> Any:
        if verb == "repair":
            self.orders += 1
            return {"order": self.orders, "pairs": 32}
        assert verb == "repair_look" and arguments == {"order": self.orders}
        if self.orders <= self.times:
            return {"known": False}
        return {"known": True, "agreed": 32, "left": 0}


def repaired(node: Restarted, monkeypatch: pytest.MonkeyPatch, seconds: float) -> Outcome:
    async def names(_: object) -> list[str]:
        return ["n1"]

    monkeypatch.setattr(repairs, "_names", names)
    return asyncio.run(repairs.repair_now(cast("AsyncClient", node), {"all": True}, seconds))


def test_a_node_that_knows_its_order_no_more_is_given_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Restarted(times=2)

    outcome = repaired(node, monkeypatch, 60)

    assert node.orders == 3
    assert (outcome.compared, outcome.left) == (32, [])


def test_what_a_node_never_says_it_has_done_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = repaired(Restarted(times=1_000_000), monkeypatch, 0.01)

    assert outcome.left == [("n1", "", "it was restarted", 32)]


@pytest.mark.process
def test_a_node_that_lost_keys_gets_them_back_when_it_is_told_to(tmp_path: Path) -> None:
    with DevCluster.create(
        tmp_path / "dev", nodes=3, fsync=False, engine="sqlite", partitions=16
    ) as cluster:
        asyncio.run(cluster.start())
        there = ["--url", ",".join(cluster.addresses)]
        for number in range(12):
            assert everwrite("put", "b", f"k{number}", "value", *there).code == Exit.OK
        assert everwrite("repair", "--all", *there).code == Exit.OK
        before = _brought(there, "n1", "n2")
        cluster.kill(3)
        lost = 12 - _lose_half(cluster.directory / "node3")
        down = everwrite("repair", "--all", *there, "-o", "json")
        assert down.code == Exit.DEGRADED
        assert {(row["peer"], row["why"]) for row in down.json()["left"]} == {
            ("n3", "the peer is down")
        }
        asyncio.run(cluster.restart(3))

        done = everwrite("repair", "--all", *there, "-o", "json")

        assert done.code == Exit.OK, done
        # A node that starts compares by itself, within two seconds: it may be first with some.
        assert done.json()["agree"] and done.json()["keys"] <= lost
        assert _brought(there, "n1", "n2", "n3") == before + lost
        again = everwrite("repair", "--all", *there)
        assert again.out.startswith("All owners agree: 0 copies given to who lacked them")
        assert everwrite("repair", "b", "k1", *there).code == Exit.OK
        assert everwrite("repair", "--partition", "3", *there).code == Exit.OK
        missing = everwrite("repair", "--partition", "16", *there)
        assert missing.code == Exit.USAGE and "numbered from 0 to 15" in missing.err
        shown = everwrite("repairs", *there)
        assert shown.code == Exit.OK, shown
        assert shown.out.startswith("All owners agree.")
        nodes = everwrite("repairs", *there, "-o", "json").json()["nodes"]
        assert {name: len(node["pairs"]) for name, node in nodes.items()} == {
            "n1": 32,
            "n2": 32,
            "n3": 32,
        }
        cluster.stop()
        assert _copies(cluster.directory / "node3") == _copies(cluster.directory / "node1")


def _brought(there: list[str], *names: str) -> int:
    """Return how many copies these nodes' exchanges have brought to who lacked them."""
    nodes = everwrite("repairs", *there, "-o", "json").json()["nodes"]
    pairs = [pair for name in names for pair in nodes[name]["pairs"]]
    return sum(pair["keys_in"] + pair["keys_out"] for pair in pairs)


def _lose_half(directory: Path) -> int:
    """Take every other copy out of a store; return how many are left."""
    with open_store(directory, "sqlite") as store:
        keys = [key for key, _ in store.scan(OWN, b"e", 1000)]
        store.write([(key, None) for key in keys[::2]])
        store.sync()
    return len(keys) - len(keys[::2])


def _copies(directory: Path) -> list[tuple[bytes, object]]:
    with open_store(directory, "sqlite") as store:
        return [(key, found[8:]) for key, found in store.scan(OWN, b"e", 1000)]  # type: ignore[index]
