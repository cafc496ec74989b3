"""?trace=1: what happened to a request, and when; nothing of it stays behind."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
from tests.client.fake_node import in_loop
from tests.server.http.api import KEY, client_of, one, problem, raw, three
from tests.server.nodes import Nodes

from everwrite.server.http.place import Request
from everwrite.server.tracing import current


def trace_of(response: httpx.Response) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(response.headers["trace"])
    times = [event["us"] for event in found]
    assert times == sorted(times)
    assert (found[0]["what"], found[-1]["what"]) == ("asked", "answered")
    return found


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
            for runtime in nodes.running.values():
                local = runtime.node.local
                assert not (local.traces or local.traced)

    asyncio.run(run())


@in_loop
async def test_an_error_has_its_trace_and_nothing_stays_behind() -> None:
    async with three() as (nodes, clients):
        await nodes.stop("n2")
        await nodes.stop("n3")
        refused = await clients[0].get(KEY, params={"trace": 1, "r": 3, "timeout": "2s"})

        problem(refused, 503, "quorum_not_met")
        assert trace_of(refused)
        local = nodes.running["n1"].node.local
        assert not (local.traces or local.traced)


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
        problem(await client.get("/v1/kv/carts?trace=1"), 400, "bad_request")


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
