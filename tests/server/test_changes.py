"""Plans and transfers, asked of real nodes over their ports."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.server.nodes import Nodes, Raw, a_put, eventually

from everwrite.core.cluster import placer
from everwrite.core.cluster.forecast import Forecast
from everwrite.core.data.keys import data_key
from everwrite.core.messages.requests import Ask, Failure, PutReply
from everwrite.server import changes
from everwrite.server.changes import Changes

PARTITIONS = 16
VALUE = b"v" * 1000
KEYS = [data_key(b"carts", b"%d" % i) for i in range(400)]


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


async def ask(nodes: Nodes, name: str, verb: str, **arguments: Any) -> dict[str, Any]:
    async with await Raw.enter(nodes.running[name]) as raw:
        return await raw.ask(verb, **arguments)


async def refused(nodes: Nodes, name: str, verb: str, **arguments: Any) -> str:
    async with await Raw.enter(nodes.running[name]) as raw:
        reply = await raw.call(Ask(1, verb, msgspec.json.encode(arguments)))
    assert isinstance(reply, Failure), reply
    assert reply.code == "bad_request"
    return f"{reply.message} {reply.hint}"


def join(name: str) -> list[dict[str, Any]]:
    return [{"verb": "join", "node": name}]


def leave(name: str) -> list[dict[str, Any]]:
    return [{"verb": "leave", "node": name}]


async def at_rest(nodes: Nodes) -> None:
    """Return when each node says that all nodes have what they own, and nothing else."""

    async def nothing_left() -> bool:
        answers = [await ask(nodes, name, "transfers") for name in nodes.running]
        return len({answer["known"] for answer in answers}) == 1 and not any(
            seat["to_gain"] + seat["to_shed"]
            for answer in answers
            for seat in answer["nodes"]
            if seat["standing"] != "joining"
        )

    await eventually(nothing_left, "nothing is left to move")


async def three_and_one_waiting(nodes: Nodes) -> None:
    """Start three nodes with data, and a fourth that waits for the operator."""
    await nodes.grow("n1", "n2", "n3")
    async with await Raw.enter(nodes.running["n1"]) as raw:
        for key in KEYS:
            assert isinstance(await raw.call(a_put(VALUE, key)), PutReply)
    await nodes.start("n4", join=(nodes.running["n1"].address,), stage=True)
    await nodes.met()


def test_a_plan_is_the_same_on_all_nodes_and_moves_nothing() -> None:
    async def scenario() -> None:
        async with Nodes() as nodes:
            await three_and_one_waiting(nodes)

            staged = await ask(nodes, "n2", "plan_stage", changes=join("n4"))

            async def all_know() -> bool:
                shown = [await ask(nodes, name, "plan_show") for name in nodes.running]
                return {answer["plan"] for answer in shown} == {staged["plan"]}

            await eventually(all_know, "all nodes keep the plan")
            assert staged["staged"] and staged["stands"] and not staged["committed"]
            assert [change["name"] for change in staged["changes"]] == ["n4"]
            assert staged["copies_moved"] == len(staged["moves"]) == 12
            ring = await ask(nodes, "n1", "ring")
            standings = {node["name"]: (node["standing"], node["owned"]) for node in ring["nodes"]}
            assert standings["n4"] == ("joining", 0)
            assert standings["n1"] == ("in", PARTITIONS)

    run(scenario())


def test_a_committed_plan_moves_what_it_said() -> None:
    async def scenario() -> None:
        async with Nodes() as nodes:
            await three_and_one_waiting(nodes)
            staged = await ask(nodes, "n2", "plan_stage", changes=join("n4"))

            committed = await ask(nodes, "n3", "plan_commit")

            assert committed["committed"]
            assert committed["moves"] == staged["moves"]
            await at_rest(nodes)
            ring = await ask(nodes, "n1", "ring")
            owned = {node["name"]: node["owned"] for node in ring["nodes"]}
            assert owned == {node["name"]: node["owned_after"] for node in staged["nodes"]}
            told = await ask(nodes, "n4", "transfers")
            seats = {seat["name"]: seat for seat in told["nodes"]}
            assert seats["n4"]["serves"] == seats["n4"]["keeps"] == owned["n4"]
            assert told["counters"]["partitions_gained"] == staged["copies_moved"]
            # The estimate is made from a few records: right to within a seventh.
            assert staged["bytes"] == pytest.approx(told["counters"]["bytes_in"], rel=0.15)
            assert (await ask(nodes, "n1", "plan_show")) == {"plan": "", "staged": False}

    run(scenario())


def test_a_node_that_leaves_hands_over_all_and_is_out() -> None:
    async def scenario() -> None:
        async with Nodes() as nodes:
            await nodes.grow("n1", "n2", "n3", "n4")
            await at_rest(nodes)

            await ask(nodes, "n1", "plan_stage", changes=[{"verb": "leave", "node": "n4"}])
            await ask(nodes, "n1", "plan_commit")

            async def gone() -> bool:
                seats = (await ask(nodes, "n1", "transfers"))["nodes"]
                return "n4" not in {seat["name"] for seat in seats}

            await eventually(gone, "n4 has handed over")
            await nodes.stop("n4")
            await at_rest(nodes)
            assert "n4 was removed" in await refused(nodes, "n2", "plan_stage", changes=join("n4"))

    run(scenario())


@pytest.mark.parametrize(
    ("verb", "arguments", "says"),
    [
        ("plan_stage", {}, "The changes are not understood"),
        ("plan_stage", {"changes": "join n4"}, "The changes are not understood"),
        ("plan_stage", {"changes": [{"verb": "eject", "node": "n1"}]}, "eject"),
        ("plan_stage", {"changes": [{"verb": "join", "node": "n1", "w": 1}]}, "not understood"),
        ("plan_stage", {"changes": [{"verb": "weight", "node": "n1", "weight": "2"}]}, "not under"),
        ("plan_stage", {"changes": []}, "A plan needs 1 to 1024 changes"),
        ("plan_stage", {"changes": join("n9")}, "There is no node 'n9'"),
        ("plan_stage", {"changes": join("n1"), "force": 1}, "is true or false"),
        ("plan_commit", {}, "There is no plan to commit"),
        ("plan_cancel", {}, "There is no plan to cancel"),
    ],
)
def test_what_makes_no_sense_is_refused(verb: str, arguments: dict[str, Any], says: str) -> None:
    async def scenario() -> None:
        async with Nodes() as nodes:
            await nodes.grow("n1")

            assert says in await refused(nodes, "n1", verb, **arguments)
            assert not (await ask(nodes, "n1", "plan_show"))["staged"]

    run(scenario())


def test_a_plan_outlives_a_restart_and_can_be_cancelled(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Nodes(tmp_path) as nodes:
            await nodes.grow("n1")
            weight = {"verb": "weight", "node": "n1", "weight": 2}
            staged = await ask(nodes, "n1", "plan_stage", changes=[weight])
            await nodes.stop("n1")
            await nodes.start("n1")

            assert (await ask(nodes, "n1", "plan_show"))["plan"] == staged["plan"]
            await ask(nodes, "n1", "plan_cancel")

            assert not (await ask(nodes, "n1", "plan_show"))["staged"]
            assert (await ask(nodes, "n1", "status"))["nodes"][0]["weight"] == 1

    run(scenario())


def test_status_and_ring_show_the_zone_and_weight_that_are_ruled() -> None:
    async def scenario() -> None:
        async with Nodes() as nodes:
            await nodes.grow("n1")
            changes = [
                {"verb": "weight", "node": "n1", "weight": 2.5},
                {"verb": "zone", "node": "n1", "zone": "attic"},
            ]
            await ask(nodes, "n1", "plan_stage", changes=changes)
            await ask(nodes, "n1", "plan_commit")

            status, ring = await ask(nodes, "n1", "status"), await ask(nodes, "n1", "ring")
            for shown in (status["node"], status["nodes"][0], ring["nodes"][0]):
                assert (shown["zone"], shown["weight"]) == ("attic", 2.5)

    run(scenario())


def test_a_commit_that_names_a_plan_commits_no_other_one() -> None:
    async def scenario() -> None:
        async with Nodes() as nodes:
            await three_and_one_waiting(nodes)
            shown = await ask(nodes, "n1", "plan_stage", changes=join("n4"))
            await ask(nodes, "n1", "plan_stage", changes=[{"verb": "leave", "node": "n2"}])

            why = await refused(nodes, "n1", "plan_commit", plan=shown["plan"])

            assert "somebody has changed it" in why
            there = await ask(nodes, "n1", "plan_show")
            assert not there["committed"]
            answer = await ask(nodes, "n1", "plan_commit", plan=there["plan"][:6])
            assert answer["committed"]

    run(scenario())


def test_a_second_plan_says_that_it_is_laid_over_the_first() -> None:
    async def scenario() -> None:
        async with Nodes() as nodes:
            await nodes.grow("n1", "n2", "n3", "n4", "n5")
            first = await ask(nodes, "n1", "plan_stage", changes=leave("n5"))
            assert "over" not in first

            second = await ask(nodes, "n1", "plan_stage", changes=leave("n4"))

            assert second["over"] == first["plan"] != second["plan"]
            assert sorted(change["name"] for change in second["changes"]) == ["n4", "n5"]
            assert second["notes"][0].startswith(f"Plan {first['plan']} (n5) was staged before")
            said = await refused(nodes, "n1", "plan_stage", changes=leave("n4"))
            assert "n4 leaves by the plan that is staged already" in said
            assert "plan commit" in said and "plan cancel" in said

    run(scenario())


def test_what_a_plan_would_do_is_found_out_once_while_nothing_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[object] = []
    forecast = changes.forecast

    def counted(*arguments: Any, **named: Any) -> Forecast:
        made.append(arguments)
        return forecast(*arguments, **named)

    async def scenario() -> None:
        async with Nodes() as nodes:
            await nodes.grow("n1", "n2", "n3", "n4")
            staged = await ask(nodes, "n1", "plan_stage", changes=leave("n4"))
            shown = [await ask(nodes, "n1", "plan_show") for _ in range(3)]

            assert [each["plan"] for each in shown] == [staged["plan"]] * 3
            assert len(made) == 1

            await nodes.stop("n3")
            await nodes.missed("n3")
            await ask(nodes, "n1", "plan_show")
            assert len(made) == 2, "it asks who is up"

            more = await ask(nodes, "n1", "plan_stage", changes=leave("n2"), force=True)
            assert len(made) == 3
            assert (await ask(nodes, "n1", "plan_show"))["plan"] == more["plan"]
            monkeypatch.setattr(changes, "PLAN_KEPT_MS", -1)
            await ask(nodes, "n1", "plan_show")
            assert len(made) == 4, "its sizes grow old"

    monkeypatch.setattr(changes, "forecast", counted)
    run(scenario())


def test_a_plan_that_needs_a_large_placement_is_answered_once_that_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[bool] = []
    ready = Changes.ready

    def look(self: Changes, verb: str, arguments: dict[str, Any]) -> bool:
        looks.append(ready(self, verb, arguments))
        return looks[-1]

    monkeypatch.setattr(Changes, "ready", look)

    async def scenario() -> None:
        async with Nodes(partitions=4096) as nodes:
            await nodes.start("n1")
            for name in ("n2", "n3"):
                await nodes.start(name, join=(nodes.running["n1"].address,), stage=True)
            await nodes.met()
            making = nodes.running["n1"].node.local.placer
            steps = making.step
            done: list[bool] = []

            def step() -> None:
                done.append(True)
                steps()

            making.step = step  # type: ignore[method-assign]
            looks.clear()
            staged = await ask(nodes, "n1", "plan_stage", changes=[*join("n2"), *join("n3")])
            assert len(done) > 3  # of 12,288 pairs, in turns of the loop
            assert looks == [False, True], "it is told when to look again"
            assert staged["copies_moved"] == 2 * 4096

            committed = await ask(nodes, "n1", "plan_commit", plan=staged["plan"])
            assert committed["committed"]
            assert len(nodes.running["n1"].node.local.routes.placement.candidates) == 3

            async def taken() -> bool:
                views = [each.node.local.routes.placement for each in nodes.running.values()]
                return len({view.digest for view in views}) == 1

            await eventually(taken, "all go by the new placement")

    run(scenario())


def test_who_asks_for_a_plan_while_too_many_wait_for_placements_is_told_when_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with Nodes(partitions=4096) as nodes:
            await nodes.start("n1")
            for name in ("n2", "n3"):
                await nodes.start(name, join=(nodes.running["n1"].address,), stage=True)
            await nodes.met()
            wanted = [*join("n2"), *join("n3")]
            with monkeypatch.context() as full:
                full.setattr(placer, "WAITING_MAX", 0)
                async with await Raw.enter(nodes.running["n1"]) as raw:
                    ask_for_it = msgspec.json.encode({"changes": wanted})
                    reply = await raw.call(Ask(1, "plan_stage", ask_for_it))
            assert isinstance(reply, Failure)
            assert (reply.code, reply.outcome) == ("overloaded", "none")
            assert reply.retry_after_ms > 0

            staged = await ask(nodes, "n1", "plan_stage", changes=wanted)
            assert staged["copies_moved"] == 2 * 4096

    run(scenario())
