"""The keys of a bucket as a stream, in the order of the ring, to be gone on with anywhere."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from tests.client.fake_node import in_loop
from tests.server.http.api import lines, one, problem, three
from tests.server.nodes import eventually

from everwrite.core.data.keys import data_key


async def fill(client: httpx.AsyncClient, count: int, bucket: str = "carts") -> list[str]:
    """Write so many keys and return them as a listing tells them."""
    names = [f"k{each:03}" for each in range(count)]
    await asyncio.gather(*(client.put(f"/v1/kv/{bucket}/{name}", content=b"v") for name in names))
    return sorted(names, key=lambda name: data_key(bucket.encode(), name.encode()))


def told(response: httpx.Response) -> tuple[list[str], dict[str, Any]]:
    """Return the keys and the last line."""
    *keys, last = lines(response)
    return [each["key"] for each in keys], last


@in_loop
async def test_every_node_tells_all_keys_in_the_order_of_the_ring() -> None:
    async with three() as (_, clients):
        names = await fill(clients[0], 60)
        await fill(clients[1], 5, bucket="other")

        for client in clients:
            keys, last = told(await client.get("/v1/kv/carts"))
            assert keys == names
            assert last == {"end": True, "keys": 60}


@in_loop
async def test_a_listing_goes_on_behind_the_last_key_on_any_node() -> None:
    async with three() as (_, clients):
        names = await fill(clients[0], 30)

        found: list[str] = []
        for turn in range(7):
            after = {"after": found[-1]} if found else {}
            asked = clients[turn % 3].get("/v1/kv/carts", params={"limit": 5, **after})
            keys, last = told(await asked)
            found += keys
            assert last["keys"] == len(keys)
            if last["end"]:
                break

        assert found == names


@in_loop
async def test_only_keys_with_the_prefix_that_are_there_are_told() -> None:
    async with one() as (_, client):
        await fill(client, 12)
        await client.delete("/v1/kv/carts/k010")

        keys, last = told(await client.get("/v1/kv/carts", params={"prefix": "k01"}))

        assert keys == ["k011"]
        assert last["end"]


@in_loop
async def test_a_key_that_is_no_text_is_told_in_base64() -> None:
    async with one() as (_, client):
        await client.put("/v1/kv/carts/%FF%00", content=b"v")

        first, _ = lines(await client.get("/v1/kv/carts"))
        assert first == {"key_b64": "_wA"}
        after = {"after": "_wA", "key_encoding": "base64url"}
        assert lines(await client.get("/v1/kv/carts", params=after)) == [{"end": True, "keys": 0}]


@pytest.mark.parametrize(
    "query", ["limit=0", "r=4", "after=", "w=1", "key_encoding=base64url&after=?"]
)
@in_loop
async def test_a_question_that_cannot_be_is_refused(query: str) -> None:
    async with one() as (_, client):
        answer = await client.get(f"/v1/kv/carts?{query}")

        if query == "after=":
            assert answer.status_code == 200
        else:
            problem(answer, 400, "bad_request")


@in_loop
async def test_a_listing_that_cannot_begin_is_refused_by_its_status() -> None:
    async with three() as (nodes, clients):
        for name in ("n2", "n3"):
            await nodes.stop(name)
        for name in ("n2", "n3"):
            await nodes.missed(name)

        refused = await clients[0].get("/v1/kv/carts?timeout=5s")

        found = problem(refused, 503, "quorum_not_met")
        assert (found["acked"], found["required"]) == (1, 2)
        assert (await clients[0].get("/v1/kv/carts?r=1")).status_code == 200


@in_loop
async def test_a_listing_that_cannot_go_on_says_so_in_its_last_line() -> None:
    async with three() as (nodes, clients):
        names = await fill(clients[0], 60)
        first = nodes.running["n1"]
        others = {each.driver.me for each in nodes.running.values()} - {first.driver.me}
        assert first.http is not None
        ask, steps = first.http.place.ask, []

        async def until_it_is_cut_off(message: Any) -> Any:
            steps.append(message)
            if len(steps) == 4:
                first.driver.mute_to |= others
            return await ask(message)

        first.http.place.ask = until_it_is_cut_off  # type: ignore[method-assign,assignment]

        answer = await clients[0].get("/v1/kv/carts?timeout=5s")

        *keys, last = lines(answer)
        found = [each["key"] for each in keys]
        assert answer.status_code == 200
        assert 0 < len(found) < len(names)
        assert found == names[: len(found)]
        assert last["problem"]["code"] == "quorum_not_met"
        assert last["problem"]["request_id"] == answer.headers["request-id"]
        first.driver.mute_to.clear()
        rest, end = told(await clients[1].get("/v1/kv/carts", params={"after": found[-1]}))
        assert found + rest == names
        assert end["end"]


@in_loop
async def test_a_listing_for_nobody_ends() -> None:
    async with one() as (runtime, _):
        assert runtime.http is not None
        ask, asked, going_on = runtime.http.place.ask, [], asyncio.Event()

        async def slowly(message: Any) -> Any:
            asked.append(message)
            if len(asked) == 2:
                await going_on.wait()
            return await ask(message)

        async def half_way() -> bool:
            return len(asked) == 2

        async def gone() -> bool:
            return runtime.peers.guests == 0

        async def over() -> bool:
            assert runtime.http is not None
            return ("list_keys", "2xx") in runtime.http.front.measures._took

        runtime.http.place.ask = slowly  # type: ignore[method-assign,assignment]
        _, writer = await asyncio.open_connection("127.0.0.1", runtime.http.port)
        writer.write(b"GET /v1/kv/carts HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await eventually(half_way, "it goes through the ring")
        writer.close()
        await eventually(gone, "its reader is gone")
        going_on.set()
        await eventually(over, "it has ended")

        assert len(asked) == 2, "of 16 partitions"
