"""Data types over HTTP: operations in, what their pieces make out, through every node."""

from __future__ import annotations

import asyncio
import base64
import re
from typing import Any

import httpx
import pytest
from tests.client.fake_node import in_loop
from tests.server.http.api import lines, one, problem, three

import everwrite
from everwrite.core.data.keys import VALUE_BYTES_MAX
from everwrite.core.types.operations import OPERATIONS_MAX
from everwrite.server.http.crdt import CHANGE_BYTES_MAX

TYPED = "/v1/crdt/carts/alice"
PLAIN = "/v1/kv/carts/alice"
NO_TEXT = {"b64": base64.b64encode(b"\xff/").decode()}


async def change(client: httpx.AsyncClient, *operations: dict[str, Any], **more: Any) -> Any:
    """Return what operations came to."""
    done = await client.post(TYPED, json=operations, **more)
    assert done.status_code == 200, done.text
    return done.json()["results"]


@in_loop
async def test_each_type_is_changed_and_shown() -> None:
    async with one() as (_, client):
        results = await change(
            client,
            {"op": "add", "path": ["tea"], "amount": 2},
            {"op": "add", "path": ["tea"]},
            {"op": "include", "path": ["tags"], "elements": ["red", NO_TEXT, "blue"]},
            {"op": "exclude", "path": ["tags"], "elements": ["red", "white"]},
            {"op": "enable", "path": ["express"]},
            {"op": "assign", "path": ["to", "town"], "value": {"name": "Aarau"}},
            {"op": "assign", "path": ["to", NO_TEXT], "value_b64": "AP8="},
            {
                "op": "assign",
                "path": ["note"],
                "value": "gift",
                "content_type": "text/plain",
                "meta": {"by": "ann"},
            },
            {"op": "enable", "path": ["gone"]},
            {"op": "remove", "path": ["gone"]},
            {"op": "disable", "path": ["gone"]},
        )

        assert results == [2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0]
        found = await client.get(TYPED)
        assert found.headers["content-type"] == "application/json"
        assert found.json() == {
            "type": "map",
            "value": {
                "express": {"type": "flag", "value": True},
                "note": {
                    "type": "register",
                    "value": "gift",
                    "content_type": "text/plain",
                    "meta": {"by": "ann"},
                },
                "tags": {"type": "set", "value": ["blue", NO_TEXT]},
                "tea": {"type": "counter", "value": 3},
                "to": {
                    "type": "map",
                    "value": {
                        "town": {
                            "type": "register",
                            "value": {"name": "Aarau"},
                            "content_type": "application/json",
                        }
                    },
                    "value_b64": {
                        NO_TEXT["b64"]: {
                            "type": "register",
                            "value_b64": "AP8=",
                            "content_type": "application/octet-stream",
                        }
                    },
                },
            },
        }


@in_loop
async def test_a_key_itself_is_a_type_and_python_sees_the_same() -> None:
    async with one() as (runtime, client):
        assert await change(client, {"op": "add", "amount": -5}) == [-5]
        assert (await client.get(TYPED)).json() == {"type": "counter", "value": -5}

        async with await everwrite.connect(runtime.address) as db:
            assert await db.bucket("carts").counter("alice").add(7) == 2
        assert (await client.get(TYPED)).json()["value"] == 2
        head = await client.head(TYPED)
        assert (head.status_code, head.content) == (200, b"")


@pytest.mark.slow
@in_loop
async def test_three_nodes_add_up_and_take_away_what_was_seen() -> None:
    async with three() as (_, clients):
        step = {"op": "add", "path": ["tea"]}
        slow = {"timeout": "10s"}
        await asyncio.gather(
            *(change(client, step, params=slow) for client in clients for _ in range(5))
        )
        for client in clients:
            found = await client.get(TYPED, params={"consistency": "all"})
            assert found.json()["value"]["tea"]["value"] == 15
            assert found.headers["replicas"].startswith("owners=3")

        for client, other in zip(clients, [*clients[1:], clients[0]], strict=True):
            element = {"op": "include", "path": ["tags"], "elements": ["red"]}
            added = await client.post(TYPED, json=[element], params={"w": "1"})
            seen = {"Causal-Context": added.headers["causal-context"]}
            session = await other.get(TYPED, headers=seen, params={"consistency": "session"})
            assert session.json()["value"]["tags"]["value"] == ["red"]
            assert await change(other, {"op": "remove", "path": ["tags"]}, headers=seen) == [1]


@in_loop
async def test_the_same_idempotency_key_counts_once() -> None:
    async with one() as (_, client):
        headers = {"Idempotency-Key": "the-first"}
        for _ in range(3):
            assert await change(client, {"op": "add", "amount": 2}, headers=headers) == [2]
        assert await change(client, {"op": "add", "amount": 2}) == [4]
        other = {"op": "add", "amount": 9}  # no piece says of which operations it was made
        assert await change(client, other, headers=headers) == [4]
        assert (await client.get(TYPED)).json()["value"] == 4


@in_loop
async def test_numbers_ends_and_traces_are_those_of_plain_keys() -> None:
    async with one() as (_, client):
        told = {"ttl": "1h", "w": "1", "trace": "1"}
        done = await client.post(TYPED, json=[{"op": "enable"}], params=told)

        assert done.headers["expires-at"]
        assert "coordinates the write" in done.headers["trace"]
        assert done.headers["replicas"] == "owners=1, fallbacks=0, required=1"
        found = await client.get(TYPED, params={"r": "1"})
        assert found.headers["expires-at"] == done.headers["expires-at"]
        assert found.headers["causal-context"]
        known = {"If-None-Match": found.headers["etag"]}
        assert (await client.get(TYPED, headers=known)).status_code == 304
        explained = (await client.get("/v1/explain/carts/alice")).json()
        (version,) = explained["replicas"][0]["own"]["versions"]
        assert version["content_type"] == "piece of a flag"
        problem(await client.get(TYPED, params={"r": "7"}), 400, "bad_request")
        problem(await client.get(TYPED, params={"resolve": "lww"}), 400, "bad_request")
        encoded = await client.get("/v1/crdt/carts/YWxpY2U", params={"key_encoding": "base64url"})
        assert encoded.json() == {"type": "flag", "value": True}


@in_loop
async def test_a_delete_is_that_of_plain_keys() -> None:
    async with one() as (_, client):
        await change(client, {"op": "add", "path": ["tea"]})
        context = (await client.get(TYPED)).headers["causal-context"]
        tag = (await client.get(TYPED)).headers["etag"]
        await change(client, {"op": "add", "path": ["ink"]})
        changed = await client.get(TYPED, headers={"If-None-Match": tag})
        assert changed.status_code == 200

        seen = {"Causal-Context": context}
        assert (await client.delete(TYPED, headers=seen)).status_code == 204
        assert (await client.get(TYPED)).json()["value"].keys() == {"ink"}
        assert (await client.delete(TYPED)).status_code == 204
        assert problem(await client.get(TYPED), 404, "not_found")["absent"] == "deleted"


@in_loop
async def test_a_plain_read_of_a_type_says_where_to_read_it_and_the_other_way_a_register() -> None:
    async with one() as (_, client):
        await change(client, {"op": "add"})
        said = problem(await client.get(PLAIN), 409, "wrong_type")
        assert "/v1/crdt/" in said["hint"]
        asked = {"op": "get", "bucket": "carts", "key": "alice"}
        answered = lines(await client.post("/v1/batch", json=[asked]))
        assert answered[0]["problem"]["code"] == "wrong_type"

        await client.put("/v1/kv/carts/bob", content=b"tea", headers={"Content-Type": "text/plain"})
        found = await client.get("/v1/crdt/carts/bob")
        assert found.json() == {"type": "register", "value": "tea", "content_type": "text/plain"}


@in_loop
async def test_all_types_of_a_clash_are_told_and_the_context_supersedes_all() -> None:
    async with one() as (_, client):
        await change(client, {"op": "include", "elements": ["red"]})
        tag = (await client.get(TYPED)).headers["etag"]
        for text in ("tea", "coffee"):  # by who has seen nothing of it
            await client.put(PLAIN, content=text, headers={"Content-Type": "text/plain"})

        found = await client.get(TYPED, headers={"If-None-Match": tag})

        register = {"type": "register", "content_type": "text/plain"}
        assert found.json() == {
            **register,
            "value": "coffee",
            "beside": [{"type": "set", "value": ["red"]}, {**register, "value": "tea"}],
        }
        known = {"If-None-Match": found.headers["etag"]}
        assert (await client.get(TYPED, headers=known)).status_code == 304
        seen = {"Causal-Context": found.headers["causal-context"]}
        assert (await client.delete(TYPED, headers=seen)).status_code == 204
        problem(await client.get(TYPED), 404, "not_found")


@in_loop
async def test_a_plain_value_beside_a_set_is_taken_away_alone() -> None:
    async with one() as (_, client):
        await change(client, {"op": "include", "elements": ["red"]})
        await client.put(PLAIN, content="tea", headers={"Content-Type": "text/plain"})

        told = problem(await client.get(PLAIN), 409, "wrong_type")
        assert told["detail"] == "A plain value stands beside a data type at this key."
        add = [{"op": "include", "elements": ["blue"]}]
        refused = problem(await client.post(TYPED, json=add), 409, "wrong_type")
        (context,) = re.findall(r"with the context ([\w-]+) takes", refused["hint"])
        gone = await client.delete(PLAIN, headers={"Causal-Context": context})

        assert gone.status_code == 204
        assert (await client.post(TYPED, json=add)).json() == {"results": [1]}
        found = (await client.get(TYPED)).json()
        assert found == {"type": "set", "value": ["blue", "red"]}
        told = problem(await client.get(PLAIN), 409, "wrong_type")
        assert told["detail"] == "The key is a data type, and no plain value."


@in_loop
async def test_another_type_is_refused_and_none_of_the_operations_is_done() -> None:
    async with one() as (_, client):
        await change(client, {"op": "include", "path": ["tags"], "elements": ["red"]})
        operations = [{"op": "add", "path": ["tea"]}, {"op": "add", "path": ["tags"]}]

        problem(await client.post(TYPED, json=operations), 409, "wrong_type")
        assert (await client.get(TYPED)).json()["value"].keys() == {"tags"}


IMPOSSIBLE: list[Any] = [
    {"op": "add"},
    [],
    [{"op": "subtract"}],
    [{"op": "add", "amount": 1.5}],
    [{"op": "add", "amount": 1 << 63}],
    [{"op": "add", "amount": "2"}],
    [{"op": "add", "path": "tea"}],
    [{"op": "add", "path": [7]}],
    [{"op": "add", "path": [{"b64": "?"}]}],
    [{"op": "add", "path": ["x"] * 9}],
    [{"op": "include"}],
    [{"op": "include", "elements": [None]}],
    [{"op": "assign"}],
    [{"op": "assign", "value": 1, "value_b64": "AA=="}],
    [{"op": "assign", "value": 1, "content_type": "text/plain"}],
    [{"op": "enable", "elements": []}],
    [{"op": "enable"}] * (OPERATIONS_MAX + 1),
]


@in_loop
async def test_what_is_no_list_of_operations_is_refused() -> None:
    async with one() as (_, client):
        for operations in IMPOSSIBLE:
            problem(await client.post(TYPED, json=operations), 400, "bad_request")
        problem(await client.get(TYPED), 404, "not_found")


@in_loop
async def test_the_largest_value_may_be_assigned_and_a_body_over_the_limit_not() -> None:
    async with one() as (_, client):
        largest = base64.b64encode(b"x" * VALUE_BYTES_MAX).decode()
        made = await client.post(
            TYPED, json=[{"op": "assign", "path": ["a"], "value_b64": largest}]
        )
        assert (made.status_code, made.json()["results"]) == (200, [1])
        long = [{"op": "assign", "path": ["b"], "value": "x" * CHANGE_BYTES_MAX}]
        problem(await client.post(TYPED, json=long), 413, "too_large")


@in_loop
async def test_only_json_and_only_these_methods_are_taken() -> None:
    async with one() as (_, client):
        form = await client.post(TYPED, data={"op": "add"})
        problem(form, 415, "bad_request")
        broken = await client.post(
            TYPED, content=b"[{", headers={"Content-Type": "application/json"}
        )
        problem(broken, 400, "bad_request")
        put = await client.put(TYPED, json=[])
        problem(put, 405, "bad_request")
        assert put.headers["allow"] == "DELETE, GET, HEAD, POST"
        problem(await client.get("/v1/crdt/carts"), 404, "not_found")
        problem(
            await client.post(TYPED, json=[{"op": "add"}], headers={"If-Match": "*"}),
            501,
            "unsupported",
        )
