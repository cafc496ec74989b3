"""HTTP on the native port, the native protocol on the port of HTTP: each is told what it met."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

import httpx
import pytest
from tests.client.fake_node import in_loop
from tests.server.http.api import one
from tests.server.nodes import Nodes, eventually, still_serves

import everwrite
from everwrite.core.data.keys import VALUE_BYTES_MAX
from everwrite.core.errors import ProtocolError, Unreachable
from everwrite.core.handshake import Identity
from everwrite.core.wrong_port import answered_otherwise
from everwrite.server import inquiry, parting, peers
from everwrite.server.http.service import HttpService
from everwrite.server.parting import LEAVE_BYTES_MAX
from everwrite.server.runtime import Runtime

PUT = b"PUT /v1/kv/carts/alice HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1048576\r\n\r\n"


@in_loop
async def test_a_client_that_dials_the_http_port_is_told_so() -> None:
    async with one() as (node, _):
        assert node.http is not None
        port = node.http.port

        with pytest.raises(ProtocolError) as caught:
            await everwrite.connect(f"127.0.0.1:{port}")

    assert f"127.0.0.1:{port}: That is the HTTP port of an Everwrite node" in str(caught.value)
    assert f"{port - 200} if neither was chosen" in str(caught.value)
    assert "frame" not in str(caught.value)
    assert str(caught.value).endswith("Use the native port here.")
    assert not caught.value.retryable


@in_loop
async def test_a_seed_that_is_down_beside_a_wrong_port_may_come_back() -> None:
    async with one() as (node, _):
        assert node.http is not None

        with pytest.raises(Unreachable, match="That is the HTTP port") as caught:
            await everwrite.connect(f"127.0.0.1:{node.http.port},127.0.0.1:1")

    assert caught.value.retryable


@in_loop
async def test_a_client_that_dials_the_redis_port_is_told_so() -> None:
    async with Nodes() as nodes:
        node = await nodes.start("n1", redis_port=0)
        assert node.redis is not None
        port = node.redis.port

        with pytest.raises(ProtocolError) as caught:
            await everwrite.connect(f"127.0.0.1:{port}")

    assert f"127.0.0.1:{port}: That is the Redis port of an Everwrite node" in str(caught.value)
    assert f"is 100 below, {port - 100} if neither was chosen" in str(caught.value)


@in_loop
async def test_a_node_that_would_join_at_the_redis_port_is_told_so() -> None:
    async with Nodes() as nodes:
        node = await nodes.start("n1", redis_port=0)
        assert node.redis is not None
        address = "127.0.0.1", node.redis.port

        with pytest.raises(ProtocolError, match="That is the Redis port of an Everwrite node"):
            await inquiry._ask(address, Identity(name="n2", node_id=b"12345678"), b"")


@in_loop
async def test_a_node_that_would_join_at_the_http_port_is_told_so() -> None:
    async with one() as (node, _):
        assert node.http is not None
        address = "127.0.0.1", node.http.port

        with pytest.raises(ProtocolError, match="That is the HTTP port of an Everwrite node"):
            await inquiry._ask(address, Identity(name="n2", node_id=b"12345678"), b"")


@in_loop
async def test_any_other_web_server_is_called_one() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ProtocolError, match="A web server answers there"):
            await everwrite.connect(f"127.0.0.1:{port}")


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"])
@in_loop
async def test_http_on_the_native_port_is_told_where_http_is(method: str) -> None:
    async with one() as (node, _):
        assert node.http is not None
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.request(method, f"http://{node.address}/v1/kv/carts/alice")

        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        said = answer.json()
        port = urlsplit(node.http.url).port
        assert said["detail"] == (
            f"This is the native port of an Everwrite node; its HTTP port is {port}."
        )
        assert (said["code"], said["outcome"]) == ("protocol", "none")
        assert await still_serves(node)


@pytest.mark.parametrize("asked", [b"*1\r\n$4\r\nPING\r\n", b"PING\r\n", b"hello 3\r\n"])
@in_loop
async def test_redis_on_the_native_port_is_told_where_redis_is(asked: bytes) -> None:
    async with Nodes() as nodes:
        node = await nodes.start("n1", redis_port=0)
        assert node.redis is not None

        said = await told(node, asked)

        where = f"its Redis port is {node.redis.port}"
        assert said == f"-ERR this is the native port of an Everwrite node; {where}\r\n".encode()
        assert await still_serves(node)


@in_loop
async def test_who_comes_before_http_is_there_is_told_where_it_will_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[HttpService] = []
    may_begin, begin = asyncio.Event(), HttpService.start

    async def start(service: HttpService) -> None:
        begun.append(service)
        await may_begin.wait()
        await begin(service)

    monkeypatch.setattr(HttpService, "start", start)
    async with Nodes() as nodes, httpx.AsyncClient(trust_env=False) as client:
        starting = asyncio.ensure_future(nodes.start("n1", http_port=0))

        async def serves() -> bool:
            return bool(begun)

        await eventually(serves, "the node serves, and HTTP is about to")
        got = await client.get(f"http://{begun[0]._runtime.address}/")
        port = begun[0].port
        may_begin.set()
        await starting

    assert f"its HTTP port is {port}." in got.json()["detail"]


@in_loop
async def test_a_large_request_on_the_native_port_is_told_so_too() -> None:
    async with one() as (node, _):
        for _again in range(20):
            assert b"\r\n\r\n{" in await told(node, PUT + b"x" * VALUE_BYTES_MAX)
        assert await still_serves(node)


@in_loop
async def test_who_was_told_so_and_sends_on_is_not_read_from_for_ever() -> None:
    async with one() as (node, _):
        with pytest.raises(ConnectionError):
            await told(node, PUT, *[b"x" * VALUE_BYTES_MAX] * (4 * LEAVE_BYTES_MAX >> 20))


@pytest.mark.parametrize("end", ["time", "newcomer", "stop"])
@in_loop
async def test_who_was_told_so_and_stays_is_not_kept(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parting, "LEAVE_S", 0.2 if end == "time" else 60)
    monkeypatch.setattr(peers, "HANDSHAKES_MAX", 1)
    async with one() as (node, _):
        host, _, port = node.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(PUT)
        await reader.readuntil(b"\r\n\r\n")
        assert end == "time" or node.peers._strangers  # else it may be over by now
        if end == "newcomer":
            assert await still_serves(node)
        elif end == "stop":
            await node.peers.stop()

        async def gone() -> bool:
            return not node.peers._strangers

        await eventually(gone, "its place is free")
        with contextlib.suppress(ConnectionError):  # it was aborted
            while await reader.read():
                continue
        writer.close()


@in_loop
async def test_a_head_has_no_body_and_a_node_without_http_says_that_it_has_none() -> None:
    async with Nodes() as nodes, httpx.AsyncClient(trust_env=False) as client:
        node = await nodes.start("n1")

        head = await client.head(f"http://{node.address}/")
        got = await client.get(f"http://{node.address}/")

    assert (head.status_code, head.content) == (400, b"")
    assert "it has no HTTP port" in got.json()["detail"]


async def told(node: Runtime, *parts: bytes) -> bytes:
    """Send bytes to the native port, and return all that comes until it closes."""
    host, _, port = node.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for part in parts:
        writer.write(part)
        await writer.drain()
    async with asyncio.timeout(10):
        found = await reader.read()
    writer.close()
    return found


def test_a_port_that_is_not_known_is_not_guessed() -> None:
    wrong = answered_otherwise(b"HTTP/1.1 400 \r\n\r\n urn:everwrite:problem:bad_request", 0)

    assert wrong is not None
    assert wrong.message.endswith("200 below.")
    assert answered_otherwise(b"\0\0\0\x10", 7600) is None


def test_any_other_redis_is_called_one() -> None:
    wrong = answered_otherwise(b"-ERR unknown command", 6379)

    assert wrong is not None
    assert wrong.message.startswith("A Redis server answers there")
