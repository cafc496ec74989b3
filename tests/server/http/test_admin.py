"""What operators ask over HTTP: the same answers as the command line has, and plans."""

from __future__ import annotations

import pytest
from tests.client.fake_node import in_loop
from tests.server.http.api import one, problem, three
from tests.server.nodes import Raw


@pytest.mark.parametrize(
    ("path", "verb", "field"),
    [
        ("status", "status", "cluster"),
        ("ring", "ring", "partitions"),
        ("hints", "hints", "cap"),
        ("transfers", "transfers", "moves_max"),
        ("repairs", "repairs", "id"),
        ("plans", "plan_show", "staged"),
    ],
)
@in_loop
async def test_a_question_has_the_answer_of_its_verb(path: str, verb: str, field: str) -> None:
    async with one() as (runtime, client):
        async with await Raw.enter(runtime) as raw:
            native = await raw.ask(verb)
        found = await client.get(f"/v1/{path}")

        assert found.status_code == 200
        assert found.headers["content-type"] == "application/json"
        assert found.headers["cache-control"] == "no-store"
        assert found.json().keys() == native.keys()
        assert found.json()[field] == native[field]
        problem(await client.get(f"/v1/{path}?x=1"), 400, "bad_request")


@in_loop
async def test_nodes_are_told_as_this_one_sees_them() -> None:
    async with three() as (_, clients):
        nodes = (await clients[1].get("/v1/nodes")).json()["nodes"]

        assert {each["name"]: each["state"] for each in nodes} == {
            "n1": "up",
            "n2": "self",
            "n3": "up",
        }


@in_loop
async def test_health_is_open_and_says_whether_requests_are_taken() -> None:
    async with one() as (runtime, client):
        assert (await client.get("/health/live")).json() == {"live": True}
        assert (await client.get("/health/ready")).json() == {"ready": True}
        assert (await client.head("/health/ready")).status_code == 200

        runtime.node.ready = False
        refused = await client.get("/health/ready")
        assert problem(refused, 503, "unavailable")["retryable"]
        assert (await client.get("/health/live")).status_code == 200


@in_loop
async def test_a_node_that_stops_is_not_ready_while_it_still_answers() -> None:
    async with one() as (runtime, client):
        assert runtime.http is not None
        http, stop = runtime.http, runtime.http.stop
        answers = [await client.get("/health/ready")]

        async def look_and_stop() -> None:
            http.stop = stop  # type: ignore[method-assign]
            answers.append(await client.get("/health/ready"))
            await stop()

        http.stop = look_and_stop  # type: ignore[method-assign]
        await runtime.stop()

        assert [answer.status_code for answer in answers] == [200, 503]


@in_loop
async def test_a_plan_is_staged_shown_cancelled_and_committed() -> None:
    async with three() as (nodes, clients):
        change = {"changes": [{"verb": "weight", "node": "n2", "weight": 2.0}]}
        staged = (await clients[0].post("/v1/plans", json=change)).json()
        assert staged["staged"]
        assert staged["changes"][0]["name"] == "n2"
        plan = staged["plan"]
        assert (await clients[0].get("/v1/plans")).json()["plan"] == plan

        problem(await clients[0].delete("/v1/plans/00ff"), 404, "not_found")
        problem(await clients[0].post("/v1/plans/00ff/commit"), 404, "not_found")
        cancelled = (await clients[0].delete(f"/v1/plans/{plan}")).json()
        assert cancelled == {"plan": plan, "cancelled": True}
        problem(await clients[0].delete(f"/v1/plans/{plan}"), 404, "not_found")

        again = (await clients[0].post("/v1/plans", json=change)).json()["plan"]
        done = (await clients[0].post(f"/v1/plans/{again}/commit", json={})).json()
        assert done["committed"]
        await nodes.settled()
        weights = {each["name"]: each["weight"] for each in
                   (await clients[0].get("/v1/nodes")).json()["nodes"]}  # fmt: skip
        assert weights["n2"] == 2.0


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"changes": 1}', b'{"changes": [], "x": 1}', b'{"changes": [{}]}']
)
@in_loop
async def test_a_plan_that_is_not_understood_changes_nothing(body: bytes) -> None:
    async with one() as (_, client):
        problem(await client.post("/v1/plans", content=body), 400, "bad_request")
        assert (await client.get("/v1/plans")).json() == {"plan": "", "staged": False}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/plans%2F00ff%2Fcommit"),
        ("DELETE", "/v1/plans%2F00ff"),
        ("GET", "/v1%2Fexplain/carts/alice"),
    ],
)
@in_loop
async def test_a_slash_in_percents_parts_no_path(method: str, path: str) -> None:
    async with one() as (_, client):
        problem(await client.request(method, path), 404, "not_found")


@in_loop
async def test_a_path_that_leads_nowhere_names_the_ones_that_do() -> None:
    async with one() as (_, client):
        said = problem(await client.get("/"), 404, "not_found")

        for path in ("/openapi.json", "/ui/"):
            assert path in said["hint"]
            assert (await client.get(path)).status_code == 200
