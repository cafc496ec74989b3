"""Caps and patience of HTTP connections: who sends too much, or too little, keeps nobody out."""

from __future__ import annotations

import asyncio
import socket

import msgspec
import pytest
from tests.client.fake_node import in_loop
from tests.server.http.api import KEY, client_of, lines, one, problem, raw, under_way
from tests.server.nodes import PATIENCE_S, eventually

import everwrite
from everwrite.core.data.keys import VALUE_BYTES_MAX
from everwrite.server import fronts, peers, sockets, turns
from everwrite.server.http import batch, connection, probes
from everwrite.server.http.place import HttpPlace
from everwrite.server.runtime import Runtime

HOST = b"host: localhost\r\n"


@in_loop
async def test_a_value_of_the_limit_is_taken_and_a_byte_more_is_not() -> None:
    async with one() as (_, client):
        largest = b"x" * VALUE_BYTES_MAX
        assert (await client.put(KEY, content=largest)).status_code == 204
        assert (await client.get(KEY)).content == largest

        more = await client.put("/v1/kv/carts/bob", content=largest + b"x")
        problem(more, 413, "too_large")
        assert (await client.get("/v1/kv/carts/bob")).status_code == 404


@in_loop
async def test_a_body_of_unknown_length_ends_at_the_limit() -> None:
    async with one() as (runtime, client):
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        head = (
            b"PUT " + KEY.encode() + b" HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n"
        )
        answer = await raw(runtime, head, *[chunk] * 17)

        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer
        assert (await client.get(KEY)).status_code == 404


@in_loop
async def test_a_body_in_pieces_is_one_value() -> None:
    async with one() as (_, client):

        async def pieces():  # type: ignore[no-untyped-def]
            for piece in (b"a" * 100_000, b"b" * 100_000):
                yield piece
                await asyncio.sleep(0.01)

        assert (await client.put(KEY, content=pieces())).status_code == 204
        assert (await client.get(KEY)).content == b"a" * 100_000 + b"b" * 100_000


@in_loop
async def test_what_http_clients_send_at_once_is_read_by_portions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "GUESTS_TURN_BYTES", 1 << 20)
    async with one() as (runtime, client):
        puts = (client.put(f"/v1/kv/carts/k{each}", content=b"v" * 400_000) for each in range(20))
        stored = await asyncio.gather(*puts)

        assert {each.status_code for each in stored} == {204}
        # A portion ends with the read that fills it, of which uvloop's are up to 256 KiB.
        assert runtime.peers.turns.rests >= 20 * 400_000 // ((1 << 20) + (1 << 18)) == 6


@in_loop
async def test_a_client_that_is_not_read_from_is_read_from_when_that_is_over_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "TURN_BYTES", 300_000)
    async with one() as (runtime, client):
        resting: list[list[turns.Held]] = []
        go_on = runtime.peers.turns._go_on
        monkeypatch.setattr(runtime.peers.turns, "_go_on", resting.append)
        async with await everwrite.connect(runtime.address) as db:
            waiting = asyncio.ensure_future(client.put(KEY, content=b"v" * VALUE_BYTES_MAX))

            async def rests() -> bool:
                return len(resting) == 1

            await eventually(rests, "nobody is read from")
            for _ in range(100):  # the handler asks for the rest of the body, in vain
                await asyncio.sleep(0)
            (held,) = resting
            kinds = {type(each) for each in held}
            assert kinds == {connection.HttpConnection, peers.Connection}
            (guest,) = (each for each in held if isinstance(each, connection.HttpConnection))
            assert not guest.transport.is_reading()

            monkeypatch.setattr(runtime.peers.turns, "_go_on", go_on)
            go_on(held)
            assert guest.transport.is_reading()
            assert (await waiting).status_code == 204
            assert (await db.bucket("carts").get("alice")).value == b"v" * VALUE_BYTES_MAX


@in_loop
async def test_a_head_over_the_limit_is_refused() -> None:
    async with one() as (runtime, client):
        head = b"GET / HTTP/1.1\r\n" + HOST + b"x-long: "
        answer = await raw(runtime, head + b"y" * 66_000)

        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b'"code":"too_large"' in answer
        assert (await client.get("/health/live")).status_code == 200


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        b"hello\r\n\r\n",
        b"\x00" * 100,
        b"GET http://localhost HTTP/1.1\r\n" + HOST + b"\r\n",
    ],
)
@in_loop
async def test_bytes_that_are_no_http_get_a_problem(nonsense: bytes) -> None:
    async with one() as (runtime, client):
        answer = await raw(runtime, nonsense)

        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"application/problem+json" in answer
        assert (await client.get("/health/live")).status_code == 200


@pytest.mark.parametrize(
    ("begun", "status"),
    [(b"", b""), (b"GET / HT", b"HTTP/1.1 408 "), (b"PUT /v1/kv/b/k HTTP/1.1\r\n" + HOST
     + b"content-length: 9\r\n\r\nabc", b"HTTP/1.1 408 ")],
    ids=["silence", "half a head", "half a body"],
)  # fmt: skip
@in_loop
async def test_who_says_nothing_for_long_is_not_waited_for(
    begun: bytes, status: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEAD_S", "BODY_S", "IDLE_S"):
        monkeypatch.setattr(connection, name, 0.2)
    async with one() as (runtime, _):
        assert (await raw(runtime, begun)).startswith(status)


@in_loop
async def test_who_was_answered_before_its_body_came_is_idle_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "IDLE_S", 0.2)
    async with one() as (runtime, _):
        assert runtime.http is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", runtime.http.port)
        put = b"PUT " + KEY.encode() + b" HTTP/1.1\r\n" + HOST + b"if-match: x\r\n"
        writer.write(put + b"content-length: 1\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 501 ")

        writer.write(b"v")

        async with asyncio.timeout(10):
            await reader.read()
        writer.close()


@in_loop
async def test_a_request_that_waits_for_its_answer_is_not_cut_off() -> None:
    async with one() as (runtime, client):
        assert runtime.http is not None
        held = runtime.http.place._hand_in
        runtime.http.place._hand_in = lambda: None  # type: ignore[method-assign]
        waiting = asyncio.ensure_future(client.get("/v1/status"))
        await under_way(runtime, 1)
        (found,) = runtime.peers._guests

        found.look(asyncio.get_running_loop().time() + 3600)  # type: ignore[attr-defined]

        assert not found.transport.is_closing()  # type: ignore[attr-defined]
        runtime.http.place._hand_in = held  # type: ignore[method-assign]
        held()
        assert (await waiting).status_code == 200


@in_loop
async def test_native_and_http_clients_share_one_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "CLIENTS_MAX", 3)
    async with one() as (runtime, client):
        assert (await client.get("/health/live")).status_code == 200
        others = [client_of(runtime) for _ in range(2)]
        for other in others:
            assert (await other.get("/health/live")).status_code == 200
        assert runtime.peers.guests == 3

        monkeypatch.setattr(probes, "PROBE_S", 0)
        silent = await raw(runtime)
        monkeypatch.setattr(probes, "PROBE_S", 3600)
        for answer in (silent, await raw(runtime, b"GET /v1/status HTTP/1.1\r\n" + HOST + b"\r\n")):
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b'"code":"overloaded"' in answer
            assert b"as many clients as it takes" in answer
        live = await raw(runtime, b"GET /health/live HTTP/1.1\r\n" + HOST + b"\r\n")
        assert live.startswith(b"HTTP/1.1 200 "), "it runs, and nobody shall end it"
        assert live.endswith(b'{"live":true}')

        for other in others:
            await other.aclose()

        async def left() -> bool:
            return runtime.peers.guests == 1

        await eventually(left, "connections that are over are counted no more")


@in_loop
async def test_only_so_many_requests_wait_for_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HttpPlace, "most", 0)
    async with one() as (_, client):
        refused = await client.get(KEY)

        assert problem(refused, 429, "overloaded")["outcome"] == "none"


@in_loop
async def test_a_retry_that_is_turned_away_is_not_told_that_nothing_has_happened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with one() as (runtime, client):
        again = {"Idempotency-Key": "order-7"}
        assert (await client.put(KEY, content=b"v", headers=again)).status_code == 204

        runtime.node.ready = False
        refused = await client.put(KEY, content=b"v", headers=again)
        assert problem(refused, 503, "unavailable")["outcome"] == "unknown"
        runtime.node.ready = True

        monkeypatch.setattr(HttpPlace, "most", 0)
        for ask in (client.put, client.patch):
            refused = await ask(f"{KEY}?ttl=1h", headers=again)
            assert problem(refused, 429, "overloaded")["outcome"] == "unknown"
        refused = await client.delete(KEY, headers=again)
        assert problem(refused, 429, "overloaded")["outcome"] == "unknown"
        line = b'{"op":"delete","bucket":"carts","key":"alice","idempotency_key":"order-7"}'
        kind = {"content-type": "application/x-ndjson"}
        batch = await client.post("/v1/batch", content=line, headers=kind)
        assert lines(batch)[0]["problem"]["outcome"] == "unknown"


@in_loop
async def test_an_overloaded_node_says_when_to_come_again() -> None:
    async with one() as (runtime, client):
        # The door is that of native clients: at its cap all are refused.
        runtime.node.clients.door._waiting_max = 0
        runtime.driver._may_begin = lambda now_ns, count: False  # type: ignore[method-assign]
        refused = await client.get(KEY)

        found = problem(refused, 429, "overloaded")
        assert found["retry_after_ms"] > 0
        assert refused.headers["retry-after"]


@in_loop
async def test_what_the_core_has_lost_sight_of_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fronts, "GRACE_S", 0.0)
    async with one() as (runtime, client):
        assert runtime.http is not None
        runtime.http.place._hand_in = lambda: None  # type: ignore[method-assign]

        lost = await client.put(f"{KEY}?timeout=100ms", content=b"v")

        assert problem(lost, 504, "deadline_exceeded")["outcome"] == "unknown"


@in_loop
async def test_who_does_not_read_its_answer_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "UNREAD_S", 0.5)
    async with one() as (runtime, client):
        await client.put(KEY, content=b"x" * VALUE_BYTES_MAX)
        _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port, limit=1024)
        get = b"GET " + KEY.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n"
        writer.write(get * 20)

        await _cut_off(runtime)
        writer.close()


@in_loop
async def test_all_that_nobody_reads_has_a_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "KEPT_BYTES_MAX", 100_000)
    async with one() as (runtime, client):
        await client.put(KEY, content=b"x" * VALUE_BYTES_MAX)
        _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port, limit=1024)
        get = b"GET " + KEY.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n"
        writer.write(get * 20)

        await _cut_off(runtime)
        assert (await client.get("/health/live")).status_code == 200
        writer.close()


@in_loop
async def test_lines_of_a_batch_that_nobody_reads_are_under_that_cap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sockets, "KEPT_BYTES_MAX", 16 << 20)
    async with one() as (runtime, client):
        await client.put(KEY, content=b"x" * VALUE_BYTES_MAX)
        _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port, limit=1024)
        get = b'{"op":"get","bucket":"carts","key":"alice"}\n' * batch.IN_FLIGHT
        head = b"POST /v1/batch HTTP/1.1\r\n" + HOST + b"content-type: application/x-ndjson\r\n"
        writer.write(head + b"content-length: %d\r\n\r\n" % len(get) + get)

        await _cut_off(runtime)
        assert (await client.get("/health/live")).status_code == 200
        writer.close()


async def _cut_off(runtime: Runtime) -> None:
    """Return once the second connection was there, and is gone."""

    async def there() -> bool:
        return runtime.peers.guests == 2

    async def gone() -> bool:
        return runtime.peers.guests == 1

    await eventually(there, "it is connected")
    await eventually(gone, "who reads nothing is cut off")


@in_loop
async def test_much_that_comes_at_once_is_handed_in_by_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("everwrite.server.http.place.TURN_BYTES", 1000)
    async with one() as (_, client):
        names = [f"/v1/kv/carts/k{each}" for each in range(20)]
        puts = (client.put(name, content=b"x" * 900) for name in names)

        assert {each.status_code for each in await asyncio.gather(*puts)} == {204}
        for name in names:
            assert (await client.get(name)).content == b"x" * 900


@pytest.mark.parametrize(
    "lengths",
    [
        b"content-length: 3\r\ncontent-length: 5\r\n",
        b"content-length: 3\r\ntransfer-encoding: chunked\r\n",
        b"content-length: -1\r\n",
        b"content-length: 3x\r\n",
        b"transfer-encoding: chunked, identity\r\n",
        b"content-length : 3\r\n",
    ],
)
@in_loop
async def test_a_body_of_two_lengths_is_no_request(lengths: bytes) -> None:
    async with one() as (runtime, client):
        put = b"PUT " + KEY.encode() + b" HTTP/1.1\r\n" + HOST + lengths
        answer = await raw(runtime, put + b"connection: close\r\n\r\nabc0\r\n\r\n")

        assert answer.startswith(b"HTTP/1.1 400 ")
        assert (await client.get(KEY)).status_code == 404


@in_loop
async def test_who_asks_before_it_sends_is_told_to_go_on_or_not_to() -> None:
    async with one() as (runtime, _):
        put = b"PUT " + KEY.encode() + b" HTTP/1.1\r\n" + HOST + b"expect: 100-continue\r\n"
        close = b"connection: close\r\n"
        assert runtime.http is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", runtime.http.port)
        writer.write(put + close + b"content-length: 1\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            told = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"v")
            fits = await reader.read()
        writer.close()
        over = await raw(runtime, put + close + b"content-length: 1048577\r\n\r\n")

        assert told == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert fits.startswith(b"HTTP/1.1 204 ")
        assert over.startswith(b"HTTP/1.1 413 ")


@in_loop
async def test_old_clients_are_answered_and_let_go() -> None:
    async with one() as (runtime, _):
        answer = await raw(runtime, b"GET /health/live HTTP/1.0\r\nhost: localhost\r\n\r\n")

        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b'{"live":true}')


@pytest.mark.parametrize("what", ["listing", "batch"])
@in_loop
async def test_old_clients_get_a_stream_up_to_the_end_of_the_connection(what: str) -> None:
    async with one() as (runtime, client):
        await client.put(KEY, content=b"v")
        ask = b"GET /v1/kv/carts HTTP/1.0\r\nconnection: keep-alive\r\n" + HOST + b"\r\n"
        line = b'{"op":"get","bucket":"carts","key":"alice"}\n'
        if what == "batch":
            ask = b"POST /v1/batch HTTP/1.0\r\n" + HOST
            ask += b"content-type: application/x-ndjson\r\n"
            ask += b"content-length: %d\r\n\r\n" % len(line) + line
        head, _, body = (await raw(runtime, ask)).partition(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"transfer-encoding" not in head
        assert b"connection: close" in head
        told = [msgspec.json.decode(each) for each in body.splitlines()]
        assert told[0]["line" if what == "batch" else "key"] in (1, "alice")


@in_loop
async def test_who_reads_slowly_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sockets, "LOOK_S", 3600.0)  # the test looks instead, by a clock of its own
    async with one() as (runtime, client):
        await client.put(KEY, content=b"x" * VALUE_BYTES_MAX)
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            slow.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(slow, ("127.0.0.1", client.base_url.port))
            get = b"GET " + KEY.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n"
            await loop.sock_sendall(slow, get * 6)
            served = await _unread(runtime)
            now = loop.time()
            served.look(now)
            for _ in range(10):
                left = served.left_bytes
                assert await loop.sock_recv(slow, 100_000)

                async def taken(left: int = left) -> bool:
                    return served.left_bytes < left

                await eventually(taken, "the node sees that something was read")
                now += connection.UNREAD_S * 0.9
                served.look(now)
                assert not served.transport.is_closing()

            served.look(now + connection.UNREAD_S * 0.9)
            assert not served.transport.is_closing()
            served.look(now + connection.UNREAD_S * 1.1)
            assert served.transport.is_closing()

        async def gone() -> bool:
            return runtime.peers.guests == 1

        await eventually(gone, "who reads no more is cut off")
        assert (await client.get("/health/live")).status_code == 200
        assert not [each for each in caplog.records if each.levelname == "ERROR"]


async def _unread(runtime: Runtime) -> connection.HttpConnection:
    """Return the connection that has so much to read that the kernel takes no more of it."""
    assert runtime.http is not None
    server = runtime.http._server

    async def full() -> list[connection.HttpConnection]:
        connections = [
            each
            for each in server.server_state.connections
            if isinstance(each, connection.HttpConnection)
        ]
        return [each for each in connections if each.flow.write_paused]

    await eventually(full, "it has more to read than fits on the way")
    (found,) = await full()
    return found
