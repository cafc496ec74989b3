"""Who is refused hears why, in the middle of its body too; and a flood leaves the others room."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from tests.client.fake_node import in_loop
from tests.server.http.api import KEY, client_of, one, raw
from tests.server.nodes import Raw, eventually

from everwrite.core.data.keys import VALUE_BYTES_MAX
from everwrite.server import parting, peers
from everwrite.server.http import probes
from everwrite.server.runtime import Runtime

PUT = b"PUT " + KEY.encode() + b" HTTP/1.1\r\nhost: localhost\r\n"
CHUNKED = PUT + b"transfer-encoding: chunked\r\n\r\n"
CHUNK = b"10000\r\n" + b"x" * 65536 + b"\r\n"


@in_loop
async def test_who_finds_no_room_is_told_so_while_it_sends_its_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers, "CLIENTS_MAX", 1)
    async with one() as (runtime, client):
        assert (await client.get("/health/live")).status_code == 200
        put = PUT + b"content-length: %d\r\n\r\n" % VALUE_BYTES_MAX + b"x" * VALUE_BYTES_MAX
        for _ in range(20):
            answer = await raw(runtime, put)

            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nretry-after: 1\r\n" in answer


@in_loop
async def test_who_sends_too_much_is_told_so() -> None:
    async with one() as (runtime, _):
        for _again in range(20):
            answer = await raw(runtime, CHUNKED, *[CHUNK] * 32)

            assert answer.startswith(b"HTTP/1.1 413 ")


@in_loop
async def test_who_is_refused_and_sends_on_is_not_read_from_for_ever() -> None:
    async with one() as (runtime, _):
        with pytest.raises(ConnectionError):
            await raw(runtime, CHUNKED, *[CHUNK] * (4 * parting.LEAVE_BYTES_MAX // len(CHUNK)))


@pytest.mark.parametrize("begun", [PUT, PUT + b"content-length: 9\r\n\r\nx", b"GET\r\n\r\n"])
@in_loop
async def test_a_node_that_stops_leaves_no_connection_open(begun: bytes) -> None:
    async with one() as (runtime, client):
        _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(begun)

        async def come() -> bool:
            return runtime.peers.guests == 1

        await eventually(come, "it is connected")
        assert runtime.http is not None
        await runtime.http.stop()

        async def gone() -> bool:
            return runtime.peers.guests == 0

        await eventually(gone, "nobody is left whom nobody looks after")
        writer.close()


@pytest.mark.parametrize("begun", [PUT + b"content-length: 9999999\r\n\r\nx", b"GET\r\n\r\n"])
@in_loop
async def test_who_is_refused_and_stays_is_not_kept(
    begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parting, "LEAVE_S", 0.2)
    async with one() as (runtime, client):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(begun)
        await reader.readuntil(b"\r\n\r\n")

        async def gone() -> bool:
            return runtime.peers.guests == 0

        await eventually(gone, "its place is free")
        writer.close()


@in_loop
async def test_only_so_many_who_found_no_room_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers, "CLIENTS_MAX", 1)
    monkeypatch.setattr(probes, "REFUSED_MAX", 3)
    async with one() as (runtime, client):
        assert (await client.get("/health/live")).status_code == 200
        port = client.base_url.port
        ends = [await asyncio.open_connection("127.0.0.1", port) for _ in range(6)]
        for reader, _ in ends:
            assert (await reader.read()).startswith(b"HTTP/1.1 503 ")

        assert len(_connections(runtime)) == 1 + 3
        for _, writer in ends:
            writer.close()

        async def gone() -> bool:
            return len(_connections(runtime)) == 1

        await eventually(gone, "all have gone")


LIVE = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.mark.parametrize("told", [False, True], ids=["who say nothing", "who were told and stay"])
@in_loop
async def test_those_for_whom_there_is_no_room_do_not_keep_others_from_asking_whether_it_runs(
    told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "CLIENTS_MAX", 0)
    monkeypatch.setattr(probes, "REFUSED_MAX", 3)
    monkeypatch.setattr(probes, "PROBE_S", 0 if told else 3600)
    async with one() as (runtime, client):
        port = client.base_url.port
        crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        if told:
            for reader, _ in crowd:
                assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
            monkeypatch.setattr(probes, "PROBE_S", 3600)

        assert (await raw(runtime, LIVE)).startswith(b"HTTP/1.1 200 ")

        (first, _), *others = crowd
        async with asyncio.timeout(10):
            refusal = await first.read()  # it had its place longest
        assert refusal.startswith(b"HTTP/1.1 503 ") != told
        assert refusal.endswith(b"}")

        async def gone() -> bool:
            return len(_connections(runtime)) == len(others)

        await eventually(gone, "it and the one who asked have gone, and nobody else")
        for _, writer in crowd:
            writer.close()


@in_loop
async def test_who_finds_no_room_may_ask_whether_it_runs_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers, "CLIENTS_MAX", 0)
    monkeypatch.setattr(probes, "PROBE_S", 3600)
    async with one() as (runtime, _):
        assert runtime.http is not None
        refused = runtime.http._server.config.refused  # type: ignore[attr-defined]

        async def heard(count: int) -> bool:
            (asking,) = [*refused.asking] or [None]
            return asking is None or len(asking._said) == count

        for line, answer in ((LIVE, b"200"), (b"GET /health/ready HTTP/1.1\r\n", b"503")):
            reader, writer = await asyncio.open_connection("127.0.0.1", runtime.http.port)
            for at in range(len(line)):
                writer.write(line[at : at + 1])
                await eventually(partial(heard, at + 1), "it has heard that")

            assert (await reader.readline()).startswith(b"HTTP/1.1 " + answer)
            writer.close()


@in_loop
async def test_http_clients_leave_room_for_native_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "CLIENTS_MAX", 8)
    async with one() as (runtime, client):
        others = [client, *(client_of(runtime) for _ in range(6))]
        for other in others:
            assert (await other.get("/health/live")).status_code == 200

        assert (await client_of(runtime).get("/v1/status")).status_code == 503
        async with await Raw.enter(runtime) as native:
            assert await native.ask("status")
        for other in others:
            await other.aclose()


def _connections(runtime: Runtime) -> set[object]:
    assert runtime.http is not None
    return set(runtime.http._server.server_state.connections)
