"""Contexts over HTTP: what a header holds of them, and where the rest comes."""

from __future__ import annotations

import httpx
import pytest
from tests.client.fake_node import in_loop
from tests.server.http.api import KEY, lines, one, problem, three

from everwrite.core.data.base64url import encode64
from everwrite.core.data.context import sign
from everwrite.core.data.keys import data_key
from everwrite.core.data.versions import ACTOR_BYTES, Seen
from everwrite.server.runtime import Runtime

HEADER_MAX = 4096
"""What usual proxies pass of one header."""


def context_of(runtime: Runtime, writers: int) -> str:
    """Return a context of a key that so many writers have written."""
    clock = {each.to_bytes(ACTOR_BYTES, "big"): 1 for each in range(1, writers + 1)}
    local = runtime.node.local
    return encode64(sign(local.context_key, data_key(b"carts", b"alice"), Seen(clock, []))).decode()


async def put(client: httpx.AsyncClient, context: str, **query: str) -> httpx.Response:
    headers = {"Causal-Context": context}
    return await client.put(KEY, content=b"v", headers=headers, params=query)


@in_loop
async def test_a_context_up_to_four_kib_comes_in_its_header() -> None:
    async with one() as (runtime, client):
        written = await put(client, context_of(runtime, 150))

        assert written.status_code == 204
        assert 2048 < len(written.headers["causal-context"]) <= HEADER_MAX
        found = await client.get(KEY)
        assert (found.status_code, found.content) == (200, b"v")
        assert found.headers["causal-context"] == written.headers["causal-context"]


@in_loop
async def test_no_answer_has_a_longer_header_and_none_goes_without_its_context() -> None:
    async with one() as (runtime, client):
        written = await put(client, context_of(runtime, 190))
        found = await client.get(KEY)
        known = await client.get(KEY, headers={"If-None-Match": found.headers["etag"]})
        deleted = await client.delete(KEY, headers={"Causal-Context": found.json()["context"]})
        gone = await client.get(KEY)

        assert [each.status_code for each in (written, found, known)] == [200, 300, 300]
        assert [each["value_b64"] for each in found.json()["siblings"]] == ["dg=="]
        assert deleted.status_code == 200
        assert problem(gone, 404, "not_found")["absent"] == "deleted"
        for answer in (written, found, known, deleted, gone):
            assert len(answer.json()["context"]) > HEADER_MAX
            assert "causal-context" not in answer.headers
        anew = await put(client, gone.json()["context"])
        assert anew.json()["siblings"] == 1


@pytest.mark.parametrize("query", [{"resolve": "lww"}, {"resolve": "union"}, {}])
@in_loop
async def test_a_reader_of_one_value_is_given_the_envelope_for_its_context(
    query: dict[str, str],
) -> None:
    async with one() as (runtime, client):
        await put(client, context_of(runtime, 190))

        found = await client.get(KEY, params=query)
        head = await client.head(KEY, params=query)

        assert (found.status_code, head.status_code) == (300, 300)
        assert "causal-context" not in head.headers  # the body of a GET has it
        assert len(found.json()["context"]) > HEADER_MAX


@in_loop
async def test_a_line_of_a_batch_has_a_long_context_once() -> None:
    async with one() as (runtime, client):
        written = await put(client, context_of(runtime, 190))
        operations = [
            {
                "op": "delete",
                "bucket": "carts",
                "key": "alice",
                "context": written.json()["context"],
            },
        ]
        (deleted,) = lines(await client.post("/v1/batch", json=operations))
        (gone,) = lines(
            await client.post("/v1/batch", json=[{"op": "get", "bucket": "carts", "key": "alice"}])
        )

        assert (deleted["status"], gone["status"]) == (204, 404)
        assert len(gone["context"]) > HEADER_MAX
        assert "context" not in gone["problem"]


@in_loop
async def test_a_context_that_is_none_is_refused_though_it_binds_nothing() -> None:
    async with one() as (_, client):
        garbled = await client.get(KEY, headers={"Causal-Context": "!"})

        problem(garbled, 400, "bad_context")


@in_loop
async def test_a_context_binds_a_read_only_where_that_is_asked_for() -> None:
    async with three() as (nodes, clients):
        driver = nodes.running["n1"].driver
        driver.mute_to |= {each.driver.me for each in nodes.running.values()} - {driver.me}
        written = await clients[0].put(KEY, content=b"v", params={"w": 1})
        seen = {"Causal-Context": written.headers["causal-context"]}
        await nodes.stop("n1")
        await nodes.missed("n1")

        for query in ("", "?r=1", "?consistency=one", "?consistency=quorum"):
            plain = await clients[1].get(KEY + query, headers=seen)
            assert problem(plain, 404, "not_found")["absent"] == "unknown", query
        for query in ("?consistency=session", "?consistency=session&r=1"):
            bound = await clients[1].get(f"{KEY}{query}&timeout=3s", headers=seen)
            problem(bound, 503, "stale_session")
        get = {"op": "get", "bucket": "carts", "key": "alice", "context": seen["Causal-Context"]}
        for word, status in (("quorum", 404), ("session", 503)):
            each = {**get, "consistency": word, "timeout": "3s"}
            (line,) = lines(await clients[1].post("/v1/batch", json=[each]))
            assert line["status"] == status, word
