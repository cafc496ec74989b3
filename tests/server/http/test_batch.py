"""Batches: lines in, a line out for each, in the order in which they end."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.client.fake_node import in_loop
from tests.server.http.api import KEY, lines, one, problem, three
from tests.server.nodes import eventually

from everwrite.core.data.keys import VALUE_BYTES_MAX
from everwrite.server.http import batch
from everwrite.server.http.asked import Budget, Part

NDJSON = {"Content-Type": "application/x-ndjson"}


async def send(client: httpx.AsyncClient, *operations: Any) -> list[dict[str, Any]]:
    """Send a batch of operations, or of lines as they are; return the answers by their lines."""
    sent = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in operations]
    response = await client.post("/v1/batch", content=b"\n".join(sent), headers=NDJSON)
    assert response.status_code == 200, response.text
    return sorted(lines(response), key=lambda each: each["line"])


def put(key: str, **fields: Any) -> dict[str, Any]:
    return {"op": "put", "bucket": "carts", "key": key, **fields}


def get(key: str, **fields: Any) -> dict[str, Any]:
    return {"op": "get", "bucket": "carts", "key": key, **fields}


@in_loop
async def test_each_operation_has_its_own_status_and_id() -> None:
    async with three() as (_, clients):
        answers = await send(
            clients[0],
            put("a", value={"tea": 1}, id="first"),
            get("nobody", id=7),
            put("b", value=1, w=9),
            b"rubbish",
            {"op": "steal", "bucket": "carts", "key": "a"},
            put("", value=1),
            b"",
            b"   ",
            {"op": "touch", "bucket": "carts", "key": "nobody", "ttl": "1h"},
        )

        statuses = [(each["line"], each.get("id"), each["status"]) for each in answers]
        assert statuses == [
            (1, "first", 204), (2, 7, 404), (3, None, 400), (4, None, 400), (5, None, 400),
            (6, None, 400), (7, None, 404),
        ]  # fmt: skip
        assert answers[1]["problem"]["absent"] == "never"
        assert all(each["problem"]["code"] for each in answers[1:])
        assert (await clients[1].get("/v1/kv/carts/a")).json() == {"tea": 1}


@in_loop
async def test_what_is_written_in_a_batch_is_as_if_it_was_sent_alone() -> None:
    async with one() as (_, client):
        stored = await send(
            client,
            put("json", value=[1, 2]),
            put("text", value="a,b", content_type="text/csv", meta={"by": "ann"}),
            put(
                "bytes", value_b64=base64.b64encode(b"\x00\xff").decode(), content_type="image/png"
            ),
            put("ends", value=1, ttl="1h"),
        )

        assert [each["status"] for each in stored] == [204] * 4
        assert stored[3]["expires"].endswith("Z")
        assert (await client.get("/v1/kv/carts/json")).json() == [1, 2]
        text = await client.get("/v1/kv/carts/text")
        assert (text.text, text.headers["content-type"], text.headers["meta-by"]) == (
            "a,b",
            "text/csv",
            "ann",
        )
        assert (await client.get("/v1/kv/carts/bytes")).content == b"\x00\xff"
        found = await send(client, get("json"), get("text"), get("bytes"), get("ends"))
        assert [each["siblings"][0].get("value") for each in found] == [[1, 2], "a,b", None, 1]
        assert found[2]["siblings"][0]["value_b64"] == "AP8="


@in_loop
async def test_contexts_go_through_a_batch() -> None:
    async with one() as (_, client):
        await client.put(KEY, content=b"old")
        (read,) = await send(client, get("alice"))
        (written,) = await send(client, put("alice", value="new", context=read["context"]))
        assert written["siblings"] == 1
        gone = {"op": "delete", "bucket": "carts", "key": "alice", "context": written["context"]}
        (deleted,) = await send(client, gone)
        assert deleted["status"] == 204
        assert (await client.get(KEY)).status_code == 404
        (bad,) = await send(client, put("bob", value=1, context=read["context"]))
        assert bad["problem"]["code"] == "bad_context"


@pytest.mark.parametrize(
    "operation",
    [
        put("k"), put("k", value=1, value_b64="AA=="), put("k", value_b64="?"),
        put("k", value=1, content_type="text/plain"), put("k", value=1, r=1),
        put("k", value=1, meta={"A B": "x"}), put("k", value=1, meta={"a": "x\ny"}),
        put("k", value=1, unknown=1), get("k", w=1), get("k", timeout="never"),
        {"op": "delete", "bucket": "carts", "key": "k", "ttl": "1h"},
        {"op": "get", "bucket": "carts", "key": "k", "key_b64": "aw"},
        {"op": "get", "bucket": "carts", "key_b64": "?"}, {"op": "get", "bucket": "", "key": "k"},
        {"op": "touch", "bucket": "carts", "key": "k"},
        put("k", value=1, consistency="one", w=1), put("k", value=1, context="!"),
    ],
)  # fmt: skip
@in_loop
async def test_an_operation_that_cannot_be_is_refused_alone(operation: dict[str, Any]) -> None:
    async with one() as (_, client):
        refused, served = await send(client, operation, put("other", value=1))

        assert refused["status"] == 400
        assert refused["problem"]["outcome"] == "none"
        assert served["status"] == 204
        assert (await client.get("/v1/kv/carts/k")).status_code == 404


@in_loop
async def test_a_list_is_a_batch_too_up_to_a_thousand() -> None:
    async with one() as (_, client):
        operations = [put(f"k{each}", value=each) for each in range(batch.ARRAY_MAX)]
        answered = lines(await client.post("/v1/batch", json=operations))
        assert sorted(each["line"] for each in answered) == list(range(1, batch.ARRAY_MAX + 1))
        assert {each["status"] for each in answered} == {204}

        over = await client.post("/v1/batch", json=[*operations, get("k1")])
        problem(over, 413, "too_large")
        problem(await client.post("/v1/batch", json={"op": "get"}), 400, "bad_request")


@in_loop
async def test_a_body_of_another_type_is_no_batch() -> None:
    async with one() as (_, client):
        refused = await client.post("/v1/batch", content=b"x", headers={"Content-Type": "text/csv"})

        problem(refused, 415, "bad_request")


@in_loop
async def test_answers_come_while_lines_are_still_sent() -> None:
    async with one() as (_, client):
        heard: asyncio.Queue[str] = asyncio.Queue()

        async def talk() -> AsyncIterator[bytes]:
            for number in range(3):
                yield json.dumps(put(f"k{number}", value=number)).encode() + b"\n"
                await asyncio.wait_for(heard.get(), 5)  # the next line is sent once this is here

        # httpx sends all before it reads, so this is spoken by hand.
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        head = b"POST /v1/batch HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n"
        writer.write(head + b"content-type: application/x-ndjson\r\n\r\n")

        async def listen() -> None:
            while line := await reader.readline():
                if b'"status":204' in line:
                    heard.put_nowait("one")

        listening = asyncio.ensure_future(listen())
        async for line in talk():
            writer.write(b"%x\r\n%s\r\n" % (len(line), line))
        writer.write(b"0\r\n\r\n")
        await asyncio.sleep(0)
        listening.cancel()
        writer.close()


@in_loop
async def test_the_largest_value_fits_a_line_and_a_longer_line_ends_the_batch() -> None:
    async with one() as (_, client):
        largest = base64.b64encode(b"x" * VALUE_BYTES_MAX).decode()
        (stored,) = await send(client, put("large", value_b64=largest))
        assert stored["status"] == 204

        first, ended = await send(
            client, put("a", value=1), b"x" * (batch.LINE_BYTES_MAX + 1), put("b", value=1)
        )
        assert (first["status"], ended["status"], ended["line"]) == (204, 413, 2)
        assert (await client.get("/v1/kv/carts/b")).status_code == 404


@in_loop
async def test_who_hangs_up_leaves_nothing_behind() -> None:
    async with one() as (runtime, client):
        _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        head = b"POST /v1/batch HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n"
        writer.write(head + b"content-type: application/x-ndjson\r\n\r\n" + b'{"op"')
        await writer.drain()
        assert runtime.http is not None
        budget = runtime.http.front._budget

        async def came() -> bool:
            return budget.held > 0

        await eventually(came, "the part of the line is there")
        writer.close()

        answers = await send(client, put("a", value=1))

        assert answers[0]["status"] == 204
        assert runtime.http.place.under_way == 0


async def lines_of(budget: Budget, *pieces: bytes) -> AsyncIterator[bytes]:
    """Yield the lines of a body that comes in these pieces; each is done at once."""

    async def take(size: int, part: Part | None = None) -> None:
        budget.take(size, part)

    async for line in batch._lines(Pieces(*pieces), take, budget):  # type: ignore[arg-type]
        budget.give(len(line))
        yield line


class Pieces:
    """A request whose body comes in these pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    def new_part(self) -> Part:
        return Part(lambda: None)

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


@in_loop
async def test_lines_are_the_same_however_they_are_cut() -> None:
    body, budget = b"one\n\n two \n\nlast", Budget()
    for size in range(1, len(body) + 1):
        cut = [body[at : at + size] for at in range(0, len(body), size)]
        found = [line async for line in lines_of(budget, *cut)]

        assert found == [b"one", b" two ", b"last"]
    assert budget.held == 0


@in_loop
async def test_a_long_line_in_tiny_pieces_does_not_hold_up_the_node() -> None:
    pieces = [b"x" * (batch.LINE_BYTES_MAX - 5000), *[b"y"] * 5000]
    began = time.thread_time()
    found = [line async for line in lines_of(Budget(), *pieces)]

    assert [len(line) for line in found] == [batch.LINE_BYTES_MAX]
    assert time.thread_time() - began < 0.25, "a byte is looked at once, not with all before it"


@in_loop
async def test_lines_wait_for_room_while_others_of_their_batch_will_give_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Budget, "__init__", _narrow)
    async with one() as (_, client):
        answers = await send(client, *(put(f"k{each}", value="v" * 40_000) for each in range(20)))

        assert [each["status"] for each in answers] == [204] * 20


@in_loop
async def test_a_list_needs_no_more_room_than_it_has_and_gives_it_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Budget, "__init__", _narrow)
    async with one() as (_, client):
        for _again in range(3):
            items = [put(f"k{each}", value="v" * 20_000) for each in range(4)]
            answer = await client.post("/v1/batch", json=items)

            assert sorted(each["status"] for each in lines(answer)) == [204] * 4


@in_loop
async def test_a_line_for_which_there_is_no_room_ends_its_batch_and_is_not_carried_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Budget, "__init__", _narrow)
    async with one() as (_, client):
        small, large = "v" * 10, "v" * 120_000
        answers = await send(
            client, put("a", value=small), put("b", value=large), put("c", value=small)
        )

        assert [(each["line"], each["status"]) for each in answers] == [(1, 204), (2, 429)]
        assert answers[1]["problem"]["outcome"] == "none"
        for key, status in (("a", 200), ("b", 404), ("c", 404)):
            assert (await client.get(f"/v1/kv/carts/{key}")).status_code == status


@in_loop
async def test_lines_hold_their_room_while_they_are_carried_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Budget, "__init__", _narrow)
    async with one() as (runtime, client):
        assert runtime.http is not None
        place = runtime.http.place
        hand_in = place._hand_in
        place._hand_in = lambda: None  # type: ignore[method-assign]
        sent = (put("a", value="v" * 60_000), put("b", value="v" * 60_000))
        waiting = asyncio.ensure_future(send(client, *sent))

        async def waits() -> bool:
            return place.under_way == 1

        await eventually(waits, "one of both has room")
        refused = await client.put(KEY, content=b"v" * 60_000)
        problem(refused, 429, "overloaded")
        place._hand_in = hand_in  # type: ignore[method-assign]
        hand_in()

        assert [each["status"] for each in await waiting] == [204, 204]


def _narrow(budget: Budget) -> None:
    budget.held, budget.most, budget._parts = 0, 100_000, {}
