"""Siblings, contexts and deletes over HTTP: what supersedes what, and what is told of it."""

from __future__ import annotations

import time

import httpx
import pytest
from tests.client.fake_node import in_loop
from tests.server.http.api import KEY, client_of, one, problem, three
from tests.server.nodes import Nodes


@in_loop
async def test_siblings_are_all_told_and_a_context_settles_them() -> None:
    async with three() as (_, clients):
        await clients[0].put(KEY, json=["tea"])
        two = await clients[1].put(KEY, json=["jam"])
        assert two.headers["siblings"] == "2"

        several = await clients[2].get(KEY)
        assert several.status_code == 300
        told = several.json()
        assert sorted(each["value"][0] for each in told["siblings"]) == ["jam", "tea"]
        assert told["context"] == several.headers["causal-context"]
        assert (told["bucket"], told["key"]) == ("carts", "alice")
        assert several.headers.get_list("link")[0].endswith('rel="alternate"')

        for dot, value in ((each["dot"], each["value"]) for each in told["siblings"]):
            only = await clients[0].get(KEY, params={"dot": dot})
            assert (only.status_code, only.json()) == (200, value)

        seen = {"Causal-Context": told["context"]}
        merged = await clients[0].put(KEY, json=["jam", "tea"], headers=seen)
        assert merged.headers["siblings"] == "1"
        assert (await clients[1].get(KEY)).json() == ["jam", "tea"]


@in_loop
async def test_siblings_as_one_value_or_as_an_envelope_if_asked_for() -> None:
    async with one() as (_, client):
        await client.put(KEY, json=["tea", "jam"])
        written = time.time_ns()
        while time.time_ns() < written + 2_000_000:  # the later one by the clock of the node
            await client.get(KEY)
        await client.put(KEY, json=["jam", "milk"])

        union = await client.get(KEY, params={"resolve": "union"})
        assert (union.status_code, union.json()) == (200, ["jam", "milk", "tea"])
        assert union.headers["siblings"] == "2"
        latest = await client.get(KEY, params={"resolve": "lww"})
        assert latest.json() == ["jam", "milk"]
        assert latest.headers["etag"] != union.headers["etag"]
        for asked in (
            {"params": {"format": "envelope"}},
            {"headers": {"Accept": "application/json; profile=siblings"}},
            {"headers": {"Accept": 'application/json; profile="siblings"'}},
        ):
            enveloped = await client.get(KEY, **asked)  # type: ignore[arg-type]
            assert enveloped.status_code == 200
            assert len(enveloped.json()["siblings"]) == 2


@in_loop
async def test_what_is_no_list_has_no_union() -> None:
    async with one() as (_, client):
        await client.put(KEY, json=["tea"])
        await client.put(KEY, json={"jam": 1})

        problem(await client.get(KEY, params={"resolve": "union"}), 409, "conflict")


@in_loop
async def test_each_sibling_keeps_its_own_type_and_metadata() -> None:
    async with one() as (_, client):
        await client.put(KEY, content=b"\x00", headers={"Meta-By": "ann"})
        await client.put(KEY, content=b"a,b", headers={"Content-Type": "text/csv"})

        first, second = (await client.get(KEY)).json()["siblings"]
        assert first["meta"] == {"by": "ann"}
        assert first["value_b64"] == "AA=="
        assert second["content_type"] == "text/csv"
        assert second["value"] == "a,b"


@in_loop
async def test_absence_says_why() -> None:
    async with three() as (_, clients):
        never = problem(await clients[0].get(KEY), 404, "not_found")
        assert never["absent"] == "never"

        await clients[0].put(KEY, content=b"v")
        gone = await clients[1].delete(KEY)
        assert gone.status_code == 204
        answer = await clients[2].get(KEY)
        assert problem(answer, 404, "not_found")["absent"] == "deleted"
        assert answer.headers["causal-context"]


@in_loop
async def test_a_delete_that_only_stand_ins_have_heard_of_has_not_succeeded() -> None:
    async with Nodes(http_port=0) as nodes:
        *_, last = await nodes.grow("n1", "n2", "n3", "n4")
        async with client_of(last) as client:
            key = await _stood_in_for(client, "n4")
            assert (await client.put(f"/v1/kv/carts/{key}?w=3", content=b"v")).status_code == 204
            for name in ("n1", "n2", "n3"):
                await nodes.stop(name)
            for name in ("n1", "n2", "n3"):
                await nodes.missed(name)

            refused = await client.delete(f"/v1/kv/carts/{key}?consistency=one")

            found = problem(refused, 503, "quorum_not_met")
            assert (found["outcome"], found["acked"], found["required"]) == ("none", 0, 1)


async def _stood_in_for(client: httpx.AsyncClient, name: str) -> str:
    """Return a key that this node does not own."""
    for key in map(str, range(100)):
        told = (await client.get(f"/v1/explain/carts/{key}")).json()
        if name in [each["node"] for each in told["preference"] if each["role"] == "fallback"]:
            return key
    raise AssertionError(f"{name} owns all of them")


@in_loop
async def test_a_delete_takes_away_what_its_context_has_seen_and_no_more() -> None:
    async with one() as (_, client):
        first = await client.put(KEY, content=b"seen")
        await client.put(KEY, content=b"unseen")

        seen = {"Causal-Context": first.headers["causal-context"]}
        assert (await client.delete(KEY, headers=seen)).headers["siblings"] == "1"
        assert (await client.get(KEY)).content == b"unseen"
        assert (await client.delete("/v1/kv/carts/nobody")).status_code == 204


@in_loop
async def test_a_context_of_another_key_is_refused() -> None:
    async with one() as (_, client):
        other = await client.put("/v1/kv/carts/bob", content=b"v")
        seen = {"Causal-Context": other.headers["causal-context"]}

        problem(await client.put(KEY, content=b"v", headers=seen), 400, "bad_context")


@in_loop
async def test_a_session_reads_no_less_than_it_has_seen() -> None:
    async with three() as (_, clients):
        written = await clients[0].put(KEY, content=b"v", params={"w": 1})
        seen = {"Causal-Context": written.headers["causal-context"]}

        for client in clients:
            found = await client.get(KEY, params={"consistency": "session"}, headers=seen)
            assert found.content == b"v"
        problem(await clients[0].get(KEY, params={"consistency": "session"}), 400, "bad_request")


@pytest.mark.parametrize("encoded", [False, True], ids=["plain", "base64url"])
@in_loop
async def test_the_links_of_siblings_lead_to_them_and_do_not_repeat_the_key(encoded: bool) -> None:
    async with one() as (_, client):
        key = "/v1/kv/carts/" + "a2V5" * 200
        query = {"key_encoding": "base64url"} if encoded else {}
        for value in (b"tea", b"jam"):
            await client.put(key, params=query, content=value)

        several = await client.get(key, params=query)

        links = several.headers.get_list("link")
        assert several.status_code == 300
        assert all(len(link) < 120 for link in links)
        targets = [several.url.join(link[1:].partition(">")[0]) for link in links]
        values = {(await client.get(target)).content for target in targets}
        assert values == {b"tea", b"jam"}


@in_loop
async def test_of_a_sibling_that_is_gone_nobody_says_that_the_key_is_absent() -> None:
    async with one() as (_, client):
        written = await client.put(KEY, content=b"old")
        envelope = (await client.get(KEY, params={"format": "envelope"})).json()
        seen = {"Causal-Context": written.headers["causal-context"]}
        await client.put(KEY, content=b"new", headers=seen)

        gone = await client.get(KEY, params={"dot": envelope["siblings"][0]["dot"]})

        assert "absent" not in problem(gone, 404, "not_found")
        assert gone.headers["causal-context"]
