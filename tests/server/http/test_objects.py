"""Objects over HTTP, from outside: values, metadata, keys, numbers, tags."""

from __future__ import annotations

import asyncio

import pytest
from tests.client.fake_node import in_loop
from tests.server.http.api import KEY, client_of, one, problem, three
from tests.server.nodes import eventually

import everwrite


@in_loop
async def test_a_value_comes_back_from_every_node_with_its_type_and_metadata() -> None:
    async with three() as (_, clients):
        png = b"\x89PNG\x00\xff"
        headers = {"Content-Type": "image/png", "Meta-Made-By": "ann", "Meta-Size": "3x4"}
        written = await clients[0].put(KEY, content=png, headers=headers)

        assert written.status_code == 204
        for client in clients:
            found = await client.get(KEY)
            assert found.content == png
            assert found.headers["content-type"] == "image/png"
            assert found.headers["meta-made-by"] == "ann"
            assert found.headers["meta-size"] == "3x4"
            assert found.headers["siblings"] == "1"
            assert found.headers["causal-context"] == written.headers["causal-context"]
            assert found.headers["replicas"].endswith("required=2")


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        ("application/json", b'{"a": [1, null]}', {"a": [1, None]}),
        ("application/ld+json", b'["x"]', ["x"]),
        ("text/plain; charset=utf-8", "gr\u00fcn".encode(), "gr\u00fcn"),
        ("text/csv", b"a,b", "a,b"),
        ("text/plain; charset=latin-1", b"gr\xfcn", b"gr\xfcn"),
        ("application/octet-stream", b"\x00", b"\x00"),
        (None, b"\x00", b"\x00"),
    ],
)
@in_loop
async def test_native_clients_read_what_http_has_written(
    content_type: str | None, body: bytes, value: object
) -> None:
    async with one() as (runtime, client):
        headers = {"Content-Type": content_type} if content_type else {}
        assert (await client.put(KEY, content=body, headers=headers)).status_code == 204

        async with await everwrite.connect(runtime.address) as db:
            assert (await db.bucket("carts").get("alice")).value == value
        back = await client.get(KEY)
        assert back.content == body
        assert back.headers["content-type"] == (content_type or "application/octet-stream")


@in_loop
async def test_http_reads_what_native_clients_have_written() -> None:
    async with one() as (runtime, client), await everwrite.connect(runtime.address) as db:
        carts = db.bucket("carts")
        for key, value, media in [
            ("a", {"tea": 1}, "application/json"),
            ("b", "tea", "text/plain; charset=utf-8"),
            ("c", b"tea", "application/octet-stream"),
        ]:
            await carts.put(key, value)
            found = await client.get(f"/v1/kv/carts/{key}")
            assert found.headers["content-type"] == media
        assert (await client.get("/v1/kv/carts/a")).json() == {"tea": 1}


@in_loop
async def test_who_has_the_bytes_need_not_fetch_them_again() -> None:
    async with one() as (_, client):
        await client.put(KEY, content=b"v")
        tag = (await client.get(KEY)).headers["etag"]

        for same in (tag, f'"other", W/{tag}', "*"):
            had = await client.get(KEY, headers={"If-None-Match": same})
            assert (had.status_code, had.content) == (304, b"")
            assert had.headers["causal-context"]
        await client.put(
            KEY, content=b"w", headers={"Causal-Context": had.headers["causal-context"]}
        )
        assert (await client.get(KEY, headers={"If-None-Match": tag})).content == b"w"


@in_loop
async def test_a_head_has_no_body() -> None:
    async with one() as (_, client):
        await client.put(KEY, content=b"four")

        found = await client.head(KEY)
        assert (found.status_code, found.content) == (200, b"")
        assert found.headers["content-length"] == "4"
        assert (await client.head("/v1/kv/carts/nobody")).status_code == 404


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [("Content-Range", "bytes 1-1/4", 400), ("Content-Encoding", "gzip", 415)],
)
@in_loop
async def test_a_body_that_is_not_the_value_itself_is_refused(
    name: str, value: str, status: int
) -> None:
    async with one() as (_, client):
        await client.put(KEY, content=b"four")
        for ask, path in ((client.put, KEY), (client.post, "/v1/kv/carts")):
            refused = await ask(path, content=b"x", headers={name: value})

            assert problem(refused, status, "bad_request")["outcome"] == "none"
        assert (await client.get(KEY)).content == b"four"
        plain = await client.put(KEY, content=b"v", headers={"Content-Encoding": "identity"})
        assert plain.status_code == 204


@in_loop
async def test_a_write_on_a_condition_is_refused_by_name() -> None:
    async with one() as (_, client):
        for name, value in (("If-Match", '"x"'), ("If-None-Match", "*")):
            refused = await client.put(KEY, content=b"v", headers={name: value})
            assert name in problem(refused, 501, "unsupported")["detail"]
        assert (await client.get(KEY)).status_code == 404


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/v1/kv/carts/a/b/c", b"a/b/c"),
        ("/v1/kv/carts/a%2Fb", b"a/b"),
        ("/v1/kv/carts/%00%FF", b"\x00\xff"),
        ("/v1/kv/carts/gr%C3%BCn", "gr\u00fcn".encode()),
        ("/v1/kv/carts/Li4?key_encoding=base64url", b".."),
        ("/v1/kv/carts/a+b", b"a+b"),
    ],
)
@in_loop
async def test_any_bytes_can_be_a_key(path: str, key: bytes) -> None:
    async with one() as (runtime, client):
        assert (await client.put(path, content=b"v")).status_code == 204

        async with await everwrite.connect(runtime.address) as db:
            assert (await db.bucket("carts").get(key)).value == b"v"
        assert (await client.get(path)).content == b"v"


@in_loop
async def test_a_retry_under_its_key_is_carried_out_once() -> None:
    async with three() as (_, clients):
        same = {"Idempotency-Key": "9d6f"}
        for client in clients:
            written = await client.put(KEY, content=b"v", headers=same)
            assert (written.status_code, written.headers["siblings"]) == (204, "1")
        other = await clients[0].put(KEY, content=b"w", headers=same)
        problem(other, 400, "bad_request")

        made = [await client.post("/v1/kv/carts", content=b"x", headers=same) for client in clients]
        assert {each.status_code for each in made} == {201}
        assert len({each.headers["location"] for each in made}) == 1


@in_loop
async def test_a_value_gets_a_key_that_is_made_for_it() -> None:
    async with one() as (_, client):
        made = [await client.post("/v1/kv/carts", content=b"%d" % each) for each in range(3)]

        places = [each.headers["location"] for each in made]
        assert len(set(places)) == 3
        assert (await client.get(places[2])).content == b"2"


@in_loop
async def test_a_value_ends_and_a_touch_lets_it_live() -> None:
    async with one() as (_, client):
        written = await client.put(KEY, content=b"v", params={"ttl": "1s"})
        assert written.headers["expires-at"].endswith("Z")
        touched = await client.patch(KEY, params={"ttl": "1h"})
        assert touched.status_code == 204
        assert touched.headers["expires-at"] > written.headers["expires-at"]
        assert (await client.get(KEY)).headers["expires-at"] == touched.headers["expires-at"]

        problem(await client.patch("/v1/kv/carts/nobody", params={"ttl": "1h"}), 404, "not_found")
        problem(await client.patch(KEY), 400, "bad_request")


@pytest.mark.parametrize(
    "query",
    [
        "w=0", "w=4", "w=x", "w=-1", "w=1&w=1", "W=1", "dw=9", "timeout=0", "timeout=61s",
        "timeout=1s2", "ttl=%D9%A3s", "ttl=11y", "ttl=3651d",
        "timeout=soon", "consistency=strong", "consistency=one&w=2", "consistency=session&w=1",
        "strict=yes", "ttl=1ms", "n=4", "key_encoding=hex", "w=%FF", "r=1", "timeout=1%00s",
    ],
)  # fmt: skip
@in_loop
async def test_a_parameter_that_cannot_be_is_refused_and_changes_nothing(query: str) -> None:
    async with one() as (_, client):
        refused = await client.put(f"{KEY}?{query}", content=b"v")

        assert problem(refused, 400, "bad_request")["outcome"] == "none"
        assert (await client.get(KEY)).status_code == 404


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        ({"Causal-Context": "!"}, b"v", "bad_context"),
        ({"Causal-Context": "AAAA"}, b"v", "bad_context"),
        ({"Content-Type": "application/json"}, b"{", "bad_request"),
        ({"Content-Type": "application/json"}, b'"\xff"', "bad_request"),
        ({"Content-Type": "text/plain; charset=utf-8"}, b"\xff", "bad_request"),
        ({"Content-Type": "nonsense"}, b"v", "bad_request"),
        ({"Meta-A": "x" * 5000}, b"v", "too_large"),
        ({"Idempotency-Key": "x" * 256}, b"v", "bad_request"),
    ],
)
@in_loop
async def test_a_put_that_is_wrong_changes_nothing(
    headers: dict[str, str], body: bytes, code: str
) -> None:
    async with one() as (_, client):
        refused = await client.put(KEY, content=body, headers=headers)

        problem(refused, 413 if code == "too_large" else 400, code)
        assert (await client.get(KEY)).status_code == 404


@in_loop
async def test_numbers_and_words_say_how_many_nodes_must_answer() -> None:
    async with three() as (nodes, clients):
        for query, required in (
            ("", 2), ("?w=1", 1), ("?w=3", 3), ("?consistency=one", 1), ("?consistency=all", 3),
            ("?consistency=quorum", 2), ("?n=1&consistency=all", 1),
        ):  # fmt: skip
            key = f"/v1/kv/carts/k{query.replace('/', '')[1:] or 'x'}".replace("?", "")
            written = await clients[0].put(f"{key}{query}", content=b"v")
            assert written.headers["replicas"].endswith(f"required={required}"), query
            read = await clients[1].get(key + query.replace("w=", "r="))
            assert read.headers["replicas"].endswith(f"required={required}"), query

        await nodes.stop("n3")
        await nodes.missed("n3")
        refused = await clients[0].put(f"{KEY}?consistency=all&timeout=5s", content=b"v")
        found = problem(refused, 503, "quorum_not_met")
        assert (found["required"], found["outcome"], found["retryable"]) == (3, "none", True)
        assert refused.headers["retry-after"]
        assert (await clients[0].put(KEY, content=b"v")).status_code == 204


@in_loop
async def test_all_means_as_many_owners_as_there_are() -> None:
    async with one() as (_, client):
        written = await client.put(f"{KEY}?consistency=all", content=b"v")
        assert written.headers["replicas"].endswith("required=1")
        assert (await client.get(f"{KEY}?consistency=all")).content == b"v"


@in_loop
async def test_a_node_that_hears_nobody_says_that_the_time_is_over() -> None:
    async with three() as (nodes, clients):
        driver = nodes.running["n1"].driver
        driver.mute_to |= {each.driver.me for each in nodes.running.values()} - {driver.me}

        late = await clients[0].put(f"{KEY}?timeout=5s&w=3", content=b"v")

        found = problem(late, 503, "quorum_not_met")
        assert (found["acked"], found["required"], found["outcome"]) == (1, 3, "unknown")


@in_loop
async def test_requests_have_an_id_of_the_client_or_a_new_one() -> None:
    async with one() as (_, client):
        assert (await client.get(KEY, headers={"Request-Id": "mine-1"})).headers[
            "request-id"
        ] == "mine-1"
        made = {(await client.get(KEY)).headers["request-id"] for _ in range(3)}
        assert len(made) == 3
        assert (await client.get(KEY, headers={"Request-Id": "x" * 200})).headers[
            "request-id"
        ] != "x" * 200


@in_loop
async def test_paths_and_methods_that_are_not_there_are_problems() -> None:
    async with one() as (_, client):
        problem(await client.get("/"), 404, "not_found")
        problem(await client.get("/v1/kv"), 404, "not_found")
        refused = await client.post(KEY, content=b"v")
        assert "PUT" in problem(refused, 405, "bad_request")["hint"]
        assert "PUT" in refused.headers["allow"]
        assert (await client.put("/v1/status")).headers["allow"] == "GET"
        problem(await client.get("/v1/kv//k"), 400, "bad_request")
        problem(await client.get(f"/v1/kv/{'b' * 129}/k"), 413, "too_large")
        problem(await client.get(f"/v1/kv/b/{'k' * 1025}"), 413, "too_large")
        problem(await client.get("/v1/kv/%01/k"), 400, "bad_request")


@in_loop
async def test_a_stored_page_cannot_act_for_the_node() -> None:
    async with one() as (_, client):
        await client.put(KEY, content=b"<script>", headers={"Content-Type": "text/html"})

        found = await client.get(KEY)
        assert found.headers["content-security-policy"] == "sandbox"
        assert found.headers["x-content-type-options"] == "nosniff"


@in_loop
async def test_a_write_that_is_under_way_when_the_node_stops_is_told_so() -> None:
    async with three() as (nodes, clients):
        driver = nodes.running["n1"].driver
        driver.mute_to |= {each.driver.me for each in nodes.running.values()} - {driver.me}
        waiting = asyncio.ensure_future(clients[0].put(f"{KEY}?w=3&timeout=30s", content=b"v"))
        http = nodes.running["n1"].http
        assert http is not None

        async def under_way() -> bool:
            return http.place.under_way > 0

        await eventually(under_way, "the put is under way")
        await nodes.stop("n1")

        assert problem(await waiting, 503, "unavailable")["outcome"] == "unknown"


@in_loop
async def test_a_node_without_http_has_no_port_for_it() -> None:
    async with one() as (runtime, _):
        assert runtime.http is not None
        async with client_of(runtime) as other:
            assert (await other.get("/health/live")).json() == {"live": True}
    assert runtime.http.place.under_way == 0


@pytest.mark.parametrize(
    "name", ["Meta-Colour", "Causal-Context", "Idempotency-Key", "Content-Type"]
)
@in_loop
async def test_a_header_that_is_given_twice_is_not_half_taken(name: str) -> None:
    async with one() as (_, client):
        refused = await client.put(KEY, content=b"v", headers=[(name, "a"), (name.lower(), "b")])

        assert f"The header {name} is given twice." in refused.text
        assert refused.status_code == 400
        assert (await client.get(KEY)).status_code == 404


@in_loop
async def test_a_header_that_is_a_list_may_be_given_in_parts() -> None:
    async with one() as (_, client):
        parts = [("Accept", "text/plain"), ("Accept", "*/*"), ("Meta-A", "1"), ("Meta-B", "2")]

        assert (await client.put(KEY, content=b"v", headers=parts)).status_code == 204


@pytest.mark.parametrize("second", ["other bytes", "other type", "delete"])
@in_loop
async def test_another_write_under_a_key_that_was_used_is_refused_with_true_words(
    second: str,
) -> None:
    """Not that to repeat it may help; nor that surely it never happened, which nobody can know."""
    async with three() as (_, (client, other, _)):
        used = {"Idempotency-Key": "9d6f"}
        first = await client.put(KEY, content=b"tea", headers=used)
        assert first.status_code == 204
        match second:
            case "other bytes":
                answer = await other.put(KEY, content=b"jam", headers=used)
            case "other type":
                answer = await other.put(
                    KEY, content=b"tea", headers={**used, "Content-Type": "text/plain"}
                )
            case _:
                answer = await other.delete(KEY, headers=used)

        found = problem(answer, 400, "bad_request")
        assert "Another write of this key" in found["detail"]
        assert "Idempotency-Key" in found["detail"]
        assert "is not if you repeat it" in found["hint"]
        assert found["retryable"] is False
        assert found["outcome"] == "unknown"
        assert (await client.get(KEY)).content == b"tea"
