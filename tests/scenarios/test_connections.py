"""C and H, on real sockets: connections that come in floods, break in the middle, or carry names
that mean something to a file system. tests/server has the rest of what strangers may send.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.client.fake_node import in_loop
from tests.scenarios.stage import scenario
from tests.server.nodes import Nodes, Raw, a_put, eventually, still_serves

import everwrite
from everwrite.core.data.keys import KEY_BYTES_MAX, data_key
from everwrite.core.errors import EverwriteError, TooLarge
from everwrite.core.messages.requests import Get, GetReply, PutReply
from everwrite.core.wire import encode_frame
from everwrite.server import turns

DESCRIPTORS = 192
SOCKETS = 400


@scenario(18)
@scenario(75)
@pytest.mark.process
@in_loop
async def test_a_flood_of_connections_takes_no_file_from_the_store_and_no_service_from_clients(
    tmp_path: Path,
) -> None:
    """More connections than the node may have descriptors, while so much is written that the store
    must open new files.
    """
    address = f"127.0.0.1:{_free_port()}"
    node = _serve(tmp_path / "n1", address)
    flood: list[socket.socket] = []
    try:
        db = await _connected(address)
        async with db:
            carts = db.bucket("carts")
            for _ in range(SOCKETS):
                flood.append(socket.create_connection(("127.0.0.1", _port(address)), 5))
            clients = [await _client_or_none(address) for _ in range(150)]
            turned_away = clients.count(None)
            held = _descriptors(node)

            for number in range(60):
                await carts.put(f"k{number}", b"%02d" % number * 500_000)
            assert len(list((tmp_path / "n1").rglob("*.sst"))) > 1, "the store opened new files"
            assert (await carts.get("k59")).value == b"59" * 500_000

            assert turned_away > 0, "the flood was met by a limit"
            assert held < DESCRIPTORS, "which is not the system's"
            for connection in flood:
                connection.close()
            for client in clients:
                if client is not None:
                    await client.close()

            async def let_in() -> bool:
                client = await _client_or_none(address)
                if client is not None:
                    await client.close()
                return client is not None

            await eventually(let_in, "newcomers are let in again")
    finally:
        for connection in flood:
            connection.close()
        node.terminate()
        _, said = node.communicate(timeout=20)
    assert "Too many open files" not in said
    assert "connection refused" in said, "the log tells of the flood"


@scenario(35)
@in_loop
async def test_a_client_that_leaves_in_the_middle_of_a_put_leaves_all_of_it_or_nothing() -> None:
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        value = b"v" * 300_000
        whole = cut = 0
        for turn in range(20):
            key = data_key(b"carts", b"%d" % turn)
            frame = encode_frame([a_put(value, key)])
            raw = await Raw.enter(node)
            raw.write(frame if turn % 2 else frame[: len(frame) * turn // 20])
            await raw.writer.drain()
            raw.writer.close()
            await raw.writer.wait_closed()

        async def at_rest() -> bool:
            return not node.node.local.requests and not node.peers.unfinished_bytes

        await eventually(at_rest, "the node has forgotten what was under way")
        async with await Raw.enter(node) as raw:
            for turn in range(20):
                answer = await raw.call(Get(1, data_key(b"carts", b"%d" % turn), 3000))
                assert isinstance(answer, GetReply)
                assert answer.values in ([], [(0, value)])
                whole += bool(answer.values)
                cut += not answer.values

        assert cut >= 10, "half of a put is no put"
        assert whole > 0 and node.node.local.counters.puts >= whole
        assert len(node.peers._clients) <= 1


HOSTILE_KEYS = [
    b"../../escaped",
    b"/etc/passwd",
    b"with\0nul",
    b"..",
    b".",
    b"a/b/c",
    b"con",
    b"\xff\xfe\xfd",
    "päyload".encode(),
    "pa\u0308yload".encode(),
    "раypal".encode(),
    b"paypal",
    b"%2e%2e%2f",
    b"x" * KEY_BYTES_MAX,
]


@scenario(74)
@scenario(19)
@in_loop
async def test_what_many_clients_send_at_once_is_never_one_batch_that_stops_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    largest, rests = await _largest_batch(monkeypatch, turn_bytes=1 << 30)
    assert rests == 0 and largest > 8 << 20, "the fault: all of it in one turn"

    largest, rests = await _largest_batch(monkeypatch, turn_bytes=1 << 20)
    assert rests > 5 and largest < 3 << 20, "what one turn takes, and what was being read then"


async def _largest_batch(monkeypatch: pytest.MonkeyPatch, turn_bytes: int) -> tuple[int, int]:
    """Return the bytes of the largest batch while many clients put, and how often they were not
    read from.
    """
    monkeypatch.setattr(turns, "TURN_BYTES", turn_bytes)
    async with Nodes() as nodes:
        (node,) = await nodes.grow("n1")
        disk, batches = node.driver.disk, [0]
        write = disk.write

        def watched(batch: list[tuple[bytes, bytes | None]]) -> None:
            batches.append(sum(len(payload or b"") for _, payload in batch))
            write(batch)

        monkeypatch.setattr(disk, "write", watched)
        clients = [await Raw.enter(node) for _ in range(40)]
        for number, client in enumerate(clients):
            for turn in range(2):
                key = data_key(b"carts", b"%d %d" % (number, turn))
                client.send(a_put(b"v" * 400_000, key, dw=0))
        for client in clients:
            for _ in range(2):
                assert isinstance(await client.next(), PutReply)
            client.writer.close()
        return max(batches), node.peers.turns.rests


@scenario(80)
@pytest.mark.parametrize("engine", ["rocksdb", "sqlite"])
@in_loop
async def test_a_key_is_opaque_bytes_and_never_a_path(engine: str, tmp_path: Path) -> None:
    async with Nodes(tmp_path / "nodes", engine=engine) as nodes:
        (node,) = await nodes.grow("n1")
        async with await everwrite.connect(nodes.url()) as db:
            carts = db.bucket("carts")
            await carts.put("plain", b"v")
            before = _names(tmp_path)
            for number, key in enumerate(HOSTILE_KEYS):
                await carts.put(key, b"%d" % number)
            for number, key in enumerate(HOSTILE_KEYS):
                assert (await carts.get(key)).value == b"%d" % number, "each is a key of its own"
            with pytest.raises(TooLarge):
                await carts.put(b"x" * 65_536, b"v")

        assert _names(tmp_path) == before
        assert await still_serves(node)


def _names(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _serve(data: Path, address: str) -> subprocess.Popen[str]:
    """Start a node that may have few descriptors."""
    return subprocess.Popen(
        [
            *("sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "sh"),
            *(sys.executable, "-m", "everwrite", "serve", "--name", "n1", "--data", str(data)),
            *("--base-port", str(_port(address))),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _descriptors(node: subprocess.Popen[str]) -> int:
    return len(list(Path(f"/proc/{node.pid}/fd").iterdir()))


async def _connected(address: str) -> everwrite.AsyncClient:
    """Return a client of a node that is starting."""
    found: list[everwrite.AsyncClient] = []

    async def try_once() -> bool:
        client = await _client_or_none(address)
        if client is not None:
            found.append(client)
        return client is not None

    await eventually(try_once, "the node starts")
    return found[0]


async def _client_or_none(address: str) -> everwrite.AsyncClient | None:
    try:
        return await everwrite.connect(address, timeout=2, retries=0)
    except EverwriteError:
        return None
