"""?trace=1: what happened to a request, and when; nothing of it stays behind."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.client.fake_node import in_loop
from tests.server.http.api import KEY, client_of, lines, one, problem, raw, three
from tests.server.nodes import Nodes

from everwrite.core.moving.ranges import first_key
from everwrite.core.request.listing import Listing
from everwrite.server.http.place import Request
from everwrite.server.tracing import EVENTS_MAX, current


def trace_of(response: httpx.Response) -> list[dict[str, Any]]:
    return whole(json.loads(response.headers["trace"]))


def whole(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a timeline, which has its beginning and its end."""
    times = [event["us"] for event in found]
    assert times == sorted(times)
    assert (found[0]["what"], found[-1]["what"]) == ("asked", "answered")
    return found


def nothing_left(nodes: Nodes) -> None:
    """Nothing of a trace stays behind when its request is over."""
    for runtime in nodes.running.values():
        local = runtime.node.local
        assert not (local.traces or local.traced)


async def batch(
    client: httpx.AsyncClient, operations: list[dict[str, Any]], query: str = "?trace=1"
) -> list[dict[str, Any]]:
    """Return the answers of a batch, in the order of its operations."""
    answers = lines(await client.post("/v1/batch" + query, json=operations))
    return sorted(answers, key=lambda line: line["line"])


def said(events: list[dict[str, Any]], what: str) -> list[str]:
    """Return the nodes of which this is told, in order."""
    return [event["node"] for event in events if event["what"] == what]


@in_loop
async def test_a_read_tells_whom_it_asked_and_what_they_said() -> None:
    async with three() as (_, clients):
        await clients[0].put(KEY, content=b"tea", params={"w": 3})
        answer = await clients[1].get(KEY, params={"trace": 1, "r": 3})

        events = trace_of(answer)
        assert answer.content == b"tea"
        assert len(said(events, "coordinates the read")) == 1
        assert sorted(said(events, "is sent the question")) == ["n1", "n2", "n3"]
        assert sorted(said(events, "has a copy")) == ["n1", "n2", "n3"]


def test_a_write_tells_when_each_copy_was_written_and_when_it_was_fsynced(tmp_path: Path) -> None:
    async def run() -> None:
        async with Nodes(tmp_path, http_port=0) as nodes:
            await nodes.grow("n1", "n2", "n3")
            async with client_of(nodes.running["n1"]) as client:
                answer = await client.put(KEY, content=b"tea", params={"trace": 1, "w": 3})
                plain = await client.put(KEY, content=b"tea", params={"w": 3})

            events = trace_of(answer)
            assert sorted(said(events, "has it written")) == ["n1", "n2", "n3"]
            assert sorted(said(events, "has it fsynced")) == ["n1", "n2", "n3"]
            assert any(event["what"].startswith("writes its batch in") for event in events)
            assert answer.headers["durable"] == plain.headers["durable"] == "3"
            assert answer.headers["replicas"] == plain.headers["replicas"]
            nothing_left(nodes)

    asyncio.run(run())


@in_loop
async def test_an_error_has_its_trace_and_nothing_stays_behind() -> None:
    async with three() as (nodes, clients):
        await nodes.stop("n2")
        await nodes.stop("n3")
        refused = await clients[0].get(KEY, params={"trace": 1, "r": 3, "timeout": "2s"})

        problem(refused, 503, "quorum_not_met")
        assert trace_of(refused)
        nothing_left(nodes)


@in_loop
async def test_two_requests_for_one_key_at_a_time_have_each_their_own_trace() -> None:
    async with three() as (_, clients):
        await clients[0].put(KEY, content=b"tea", params={"w": 3})
        asked = [clients[0].get(KEY, params={"trace": 1, "r": 3}) for _ in range(8)]
        for answer in await asyncio.gather(*asked):
            assert len(said(trace_of(answer), "has a copy")) == 3


@in_loop
async def test_who_asks_for_no_trace_is_told_none() -> None:
    async with one() as (_, client):
        for query in ("", "?trace=0"):
            assert "trace" not in (await client.put(KEY + query, content=b"tea")).headers
        problem(await client.get(KEY + "?trace=2"), 400, "bad_request")
        problem(await client.get("/v1/status?trace=1"), 400, "bad_request")
        listed = lines(await client.get("/v1/kv/carts"))
        assert listed == [{"key": "alice"}, {"end": True, "keys": 1}]
        (line,) = await batch(client, [{"op": "get", "bucket": "carts", "key": "alice"}], "")
        assert "trace" not in line


@in_loop
async def test_a_value_under_a_new_key_is_traced_by_that_key() -> None:
    async with three() as (nodes, clients):
        answer = await clients[0].post("/v1/kv/carts?trace=1&w=3", content=b"tea")

        assert answer.status_code == 201
        events = trace_of(answer)
        assert sorted(said(events, "has it written")) == ["n1", "n2", "n3"]
        batches = [event for event in events if event["what"].startswith("writes its batch in")]
        assert [event["node"] for event in batches] == ["n1"], "what the disk did is told by key"
        nothing_left(nodes)


@in_loop
async def test_each_line_of_a_batch_has_its_own_trace() -> None:
    async with three() as (nodes, clients):
        await clients[0].put(KEY, content=b"tea", params={"w": 3})
        key = {"bucket": "carts", "key": "alice"}
        asked: list[dict[str, Any]] = [{"op": "get", **key, "r": 3} for _ in range(8)]
        asked += [{"op": "put", "bucket": "carts", "key": "bob", "value": 7, "w": 3}]
        asked += [{"op": "get", "bucket": "carts"}, {"op": "get", **key, "r": 4}]

        answers = await batch(clients[1], asked)

        assert [line["status"] for line in answers] == [200] * 8 + [204, 400, 400]
        for line in answers[:8]:
            events = whole(line["trace"])
            assert sorted(said(events, "has a copy")) == ["n1", "n2", "n3"]
            assert len(said(events, "coordinates the read")) == 1
        assert sorted(said(whole(answers[8]["trace"]), "has it written")) == ["n1", "n2", "n3"]
        assert answers[9]["trace"] == [], "it never came to a request"
        assert [event["what"] for event in answers[10]["trace"]] == ["asked", "answered"]
        nothing_left(nodes)


@in_loop
async def test_a_listing_ends_with_its_trace() -> None:
    async with three() as (nodes, clients):
        for name in ("alice", "bob"):
            await clients[0].put(f"/v1/kv/carts/{name}", content=b"tea", params={"w": 3})

        *keys, last = lines(await clients[1].get("/v1/kv/carts?trace=1&r=3"))

        assert (sorted(line["key"] for line in keys), last["keys"]) == (["alice", "bob"], 2)
        events = last["trace"]
        assert len(events) == EVENTS_MAX, "a ring is read in many steps: the rest is left out"
        first = events[: [event["what"] for event in events].index("answered") + 1]
        whole(first)
        assert said(first, "coordinates a step of the listing") == ["n2"]
        assert sorted(said(first, "is sent the question")) == ["n1", "n2", "n3"]
        assert sorted(said(first, "tells its keys")) == ["n1", "n2", "n3"]
        assert said(first, "reads its disk") == said(first, "has read its disk") == ["n2"]
        nothing_left(nodes)


@in_loop
async def test_a_listing_that_breaks_off_tells_what_happened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with three() as (nodes, clients):
        local = nodes.running["n1"].node.local
        partitions = local.routes.placement.partitions
        broken = first_key(1, partitions)
        hand_in = Listing.begin

        def begin(step: Listing) -> None:
            if step._list.after == broken:
                raise step._too_few("can be reached")
            hand_in(step)

        monkeypatch.setattr(Listing, "begin", begin)
        (last,) = lines(await clients[0].get("/v1/kv/carts?trace=1"))
        refused = await clients[0].get("/v1/kv/carts?trace=1&r=4")

        assert last["problem"]["code"] == "quorum_not_met"
        whole(last["trace"])
        problem(refused, 400, "bad_request")
        assert [event["what"] for event in trace_of(refused)] == ["asked", "answered"]
        nothing_left(nodes)


@in_loop
async def test_a_request_behind_a_traced_one_is_not_traced() -> None:
    async with one() as (runtime, _):
        head = b" HTTP/1.1\r\nhost: localhost\r\n"
        traced = b"GET " + KEY.encode() + b"?trace=1" + head + b"\r\n"
        plain = b"GET " + KEY.encode() + head
        timelines: list[object] = []
        assert runtime.http is not None
        hand_in = runtime.http.place.ask

        def look(message: Request) -> asyncio.Future[Any]:
            timelines.append(current.get())
            return hand_in(message)

        runtime.http.place.ask = look  # type: ignore[method-assign]
        await raw(runtime, traced + plain + b"\r\n" + plain + b"connection: close\r\n\r\n")

        assert [timeline is not None for timeline in timelines] == [True, False, False]
