"""The stream: what every node says, for as long as somebody listens, and no longer."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from tests.client.fake_node import in_loop
from tests.server.http.api import KEY, client_of, one, problem, three
from tests.server.nodes import PATIENCE_S, eventually
from tests.server.ui.events import first, glance_of, listening

from everwrite.server.http import service
from everwrite.server.ui import feed


@in_loop
async def test_one_stream_has_the_words_of_all_nodes() -> None:
    async with three() as (_, clients), listening(clients[0]) as events:
        said = await first(events, "cluster", lambda said: all(n["said"] for n in said["nodes"]))

        assert said["by"] == "n1"
        assert [node["name"] for node in said["nodes"]] == ["n1", "n2", "n3"]
        for name in ("n1", "n2", "n3"):
            glance = glance_of(said, name)
            assert glance is not None
            assert glance["node"]["name"] == name
            assert {peer["name"] for peer in glance["nodes"]} == {"n1", "n2", "n3"}
            assert glance["blocked"] == []
            assert glance["http"].startswith("http://127.0.0.1:")


@in_loop
async def test_the_ring_comes_first_with_owners_and_what_moves() -> None:
    async with three() as (_, clients), listening(clients[1]) as events:
        ring = await first(events, "ring")

        assert (ring["partitions"], ring["replicas"]) == (16, 3)
        assert len(ring["owners"]) == 16
        assert all(sorted(row) == [0, 1, 2] for row in ring["owners"])
        assert ring["moving"] == {}


@in_loop
async def test_a_node_that_is_gone_says_nothing_and_the_others_go_on() -> None:
    async with three() as (nodes, clients), listening(clients[0]) as events:
        await first(events, "cluster")

        await nodes.stop("n3")
        said = await first(events, "cluster", lambda said: glance_of(said, "n3") is None)

        assert glance_of(said, "n2") is not None


@in_loop
async def test_both_sides_of_a_cut_are_told() -> None:
    async with three() as (nodes, clients), listening(clients[0]) as events:
        driver = nodes.running["n1"].driver
        driver.deaf_to |= {nodes.running["n3"].node.local.me}
        said = await first(
            events,
            "cluster",
            lambda said: (glance_of(said, "n1") or {"blocked": 0})["blocked"] == ["n3"],
        )

        assert glance_of(said, "n3") is not None


@in_loop
async def test_a_write_is_counted_in_the_next_glance() -> None:
    async with one() as (_, client), listening(client) as events:
        await client.put(KEY, content=b"tea", params={"w": 1})

        said = await first(
            events, "cluster", lambda said: (glance_of(said, "n1") or {})["took"]["put_ms"]
        )

        glance = glance_of(said, "n1")
        assert glance is not None
        assert sum(count for _, count in glance["took"]["put_ms"]) == 1


@in_loop
async def test_nobody_is_asked_while_nobody_listens() -> None:
    async with three() as (nodes, clients):
        async with listening(clients[0]) as events:
            await first(events, "cluster", lambda said: glance_of(said, "n2"))
            assert nodes.running["n2"].peers.counts[0] > 0

        async def quiet() -> bool:
            return nodes.running["n2"].peers.counts[0] == 0

        await eventually(quiet, "n1 has hung up on n2")


@in_loop
async def test_listeners_have_a_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "LISTENERS_MAX", 2)
    async with one() as (runtime, client), AsyncExitStack() as stack:
        for _ in range(2):
            listener = await stack.enter_async_context(client_of(runtime))
            events = await stack.enter_async_context(listening(listener))
            await first(events, "cluster")

        refused = await client.get("/v1/events")

        assert problem(refused, 429, "overloaded")["retry_after_ms"] > 0


@in_loop
async def test_a_node_that_stops_ends_its_streams_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "END_S", 3600)  # what it waits for those who do not end
    async with one() as (runtime, client), listening(client) as events:
        await first(events, "cluster")

        async with asyncio.timeout(PATIENCE_S):
            await runtime.stop()

            assert [event async for event in events] == []
