"""/v1/explain and the verb: where a key lives, what each node has, what a get answers."""

from __future__ import annotations

import base64

from tests.client.fake_node import in_loop
from tests.server.http.api import KEY, one, problem, three

from everwrite.cli.explain import (
    Explanation,
    place_rows,
    read_lines,
    repair_lines,
    version_rows,
)
from everwrite.cli.reports import read

EXPLAIN = "/v1/explain/carts/alice"


@in_loop
async def test_an_explanation_says_where_a_key_lives_what_is_there_and_what_is_answered() -> None:
    async with three() as (_, clients):
        await clients[0].put(KEY, json=["tea"], params={"w": 3})
        await clients[1].put(KEY, json=["jam"], params={"w": 3})

        told = (await clients[2].get(EXPLAIN)).json()

        assert (told["bucket"], told["key"], told["asked"]) == ("carts", "alice", "n3")
        assert {place["node"] for place in told["preference"]} == {"n1", "n2", "n3"}
        assert all("rank" in place["reason"] for place in told["preference"])
        assert all(replica["answered"] for replica in told["replicas"])
        envelope = (await clients[0].get(KEY)).json()
        ids = {sibling["dot"] for sibling in envelope["siblings"]}
        for replica in told["replicas"]:
            assert {version["id"] for version in replica["own"]["versions"]} == ids
            assert replica["kept"] is None
        assert told["read"]["certain"]
        assert len(told["read"]["answers"][0]["dots"]) == 2
        assert told["repair"] == []


@in_loop
async def test_no_value_is_told() -> None:
    async with one() as (_, client):
        await client.put(KEY, content=b"secretvalue")

        assert "secretvalue" not in (await client.get(EXPLAIN)).text


@in_loop
async def test_a_deleted_key_and_one_that_ends_say_so() -> None:
    async with three() as (_, clients):
        await clients[0].put(KEY, content=b"tea", params={"w": 3})
        await clients[0].delete(KEY, params={"w": 3})
        deleted = (await clients[0].get(EXPLAIN)).json()
        await clients[0].put("/v1/kv/carts/bob", content=b"tea", params={"w": 3, "ttl": "1h"})
        ends = (await clients[0].get("/v1/explain/carts/bob")).json()

        assert deleted["read"]["answers"][0]["absent"] == "deleted"
        assert deleted["replicas"][0]["own"]["versions"][0]["tombstone"]
        assert [each["what"] for each in deleted["repair"]] == ["collect"]
        (version,) = ends["replicas"][0]["own"]["versions"]
        left_ms = version["expires_ms"] - ends["time_ms"]
        assert 3_500_000 < left_ms <= 3_600_000


@in_loop
async def test_a_node_that_is_down_and_the_hint_for_it_are_named() -> None:
    async with three() as (nodes, clients):
        await nodes.stop("n3")
        await clients[0].put(KEY, content=b"tea", params={"w": 2, "timeout": "5s"})

        told = (await clients[0].get(EXPLAIN)).json()

        (silent,) = [replica for replica in told["replicas"] if not replica["answered"]]
        assert silent["node"] == "n3"
        kept_for = [
            owner["node"]
            for replica in told["replicas"]
            if replica["answered"]
            for owner in replica["kept_for"]
        ]
        assert set(kept_for) <= {"n3"}


@in_loop
async def test_what_is_asked_wrongly_is_refused() -> None:
    async with three() as (_, clients):
        client = clients[0]
        problem(await client.get("/v1/explain/carts/alice?r=9"), 400, "bad_request")
        problem(await client.get("/v1/explain/carts/alice?w=1"), 400, "bad_request")
        problem(await client.get("/v1/explain/carts"), 404, "not_found")
        problem(await client.delete(EXPLAIN), 405, "bad_request")


@in_loop
async def test_keys_with_slashes_and_keys_that_are_no_text_are_explained() -> None:
    async with one() as (_, client):
        assert (await client.get("/v1/explain/carts/a/b")).json()["key"] == "a/b"
        assert (await client.get("/v1/explain/carts/a%2Fb")).json()["key"] == "a/b"
        found = (await client.get("/v1/explain/carts/_w?key_encoding=base64url")).json()
        assert base64.b64decode(found["key"]["base64"]) == b"\xff"


@in_loop
async def test_a_person_reads_it_as_tables_and_sentences() -> None:
    async with three() as (_, clients):
        await clients[0].put(KEY, json=["tea"], params={"w": 3})
        found = read((await clients[0].get(EXPLAIN)).json(), Explanation)

        assert [row[0] for row in place_rows(found)] == ["1", "2", "3"]
        rows = version_rows(found)
        assert len(rows) == 3
        assert {row[1] for row in rows} == {"own copy"}
        assert all("application/json" in row[-1] for row in rows)
        assert read_lines(found)[0].startswith("A get with n=3, r=2: Whoever answers first")
        assert repair_lines(found) == ["Nothing to repair: all that answered agree."]
