"""How much CPU the async client needs per put and per read.

    python bench/micro/client_cpu.py [--seconds 3] [--in-flight 64] [--profile]

Three nodes that give canned answers run in a process of their own, so what is measured here is the
client alone: its process time, divided by the operations done. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import multiprocessing
import os
import pstats
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection as Pipe
from typing import cast

import uvloop
import xxhash

import everwrite
from everwrite.core.cluster.placement import Candidate, place
from everwrite.core.config import FRAME_BYTES_MAX
from everwrite.core.data import context, versions
from everwrite.core.data.versions import Record, Seen, Version
from everwrite.core.handshake import Identity, answer
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.greeting import Hello, Proof
from everwrite.core.messages.requests import FOUND, Ask, Fetch, FetchReply, Put, PutReply, Told
from everwrite.core.wire import FrameReader, encode_frames

NODES = 3
VALUE = bytes(100)
ACTOR = b"a" * 16
RECORD = versions.encode(Record({ACTOR: 1}, [Version(ACTOR, 1, VALUE, 1, b"o" * 12)]))
DIGEST = xxhash.xxh3_64_digest(RECORD)
TOKEN = context.sign(b"key", b"", Seen({ACTOR: 1}, []))


class CannedNode(asyncio.Protocol):
    """Answers every request with the same record."""

    def __init__(self, number: int, view: Callable[[], bytes]) -> None:
        self._me = Identity(name=f"n{number}", cluster_id=b"c" * 16, node_id=_node_id(number))
        self._view = view
        self._reader = FrameReader(FRAME_BYTES_MAX)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        answers = [said for message in self._reader.feed(data) if (said := self._answer(message))]
        if answers:
            self._transport.write(encode_frames(answers))

    def _answer(self, message: AnyMessage) -> AnyMessage | None:
        match message:
            case Fetch(digest=True):
                return FetchReply(message.rid, FOUND, DIGEST)
            case Fetch():
                return FetchReply(message.rid, FOUND, RECORD, TOKEN)
            case Put():
                return PutReply(message.rid, TOKEN, 2, 0, 0, 1, 2)
            case Ask():
                return Told(message.rid, self._view())
            case Hello():
                return answer(self._me, b"", b"n" * 16, message)
            case Proof():
                return None
        raise AssertionError(message)


def serve(pipe: Pipe) -> None:
    """Run the nodes until the parent hangs up."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ports: list[int] = []
        for number in range(NODES):
            server = await loop.create_server(
                lambda n=number: CannedNode(n, lambda: _view(ports)), "127.0.0.1", 0
            )
            ports.append(server.sockets[0].getsockname()[1])
        pipe.send(ports)
        done = asyncio.Event()
        loop.add_reader(pipe.fileno(), done.set)
        await done.wait()

    uvloop.run(main())


def _node_id(number: int) -> bytes:
    return bytes([number]) * 8


def _view(ports: list[int]) -> bytes:
    placement = place([Candidate(_node_id(i), "", 1.0) for i in range(NODES)], 256, 3)
    members = [
        {
            "id": _node_id(i).hex(),
            "name": f"n{i}",
            "host": "127.0.0.1",
            "port": port,
            "zone": "",
            "weight": 1.0,
        }
        for i, port in enumerate(ports)
    ]
    told = {
        "version": "1",
        "cluster_id": (b"c" * 16).hex(),
        "cluster_name": "",
        "partitions": 256,
        "replicas": 3,
        "digest": placement.digest.hex(),
        "stamp": 0,
        "members": members,
        "candidates": [{"id": _node_id(i).hex(), "zone": "", "weight": 1.0} for i in range(NODES)],
        "moving": {},
    }
    return json.dumps(told).encode()


async def drive(
    call: Callable[[str], Awaitable[object]], seconds: float, in_flight: int
) -> dict[str, float]:
    """Run ``call`` over and over in so many coroutines; return what each operation cost."""
    keys = [f"key:{i}" for i in range(10_000)]
    until = time.perf_counter() + seconds
    count = 0

    async def worker(at: int) -> None:
        nonlocal count
        while time.perf_counter() < until:
            for i in range(at, at + 100):
                await call(keys[i % 10_000])
            count += 100
            at += 100

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker(i * 100) for i in range(in_flight)))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu_us": round(cpu / count * 1e6, 2), "ops_per_s": round(count / wall)}


async def measure(ports: list[int], arguments: argparse.Namespace) -> dict[str, object]:
    results: dict[str, object] = {"in_flight": arguments.in_flight}
    async with await everwrite.connect([f"127.0.0.1:{port}" for port in ports]) as db:
        bucket = db.bucket("bench")
        calls = {"put": lambda key: bucket.put(key, VALUE), "get": bucket.get}
        for name, call in calls.items():
            await drive(call, 0.3, arguments.in_flight)
            profile = cProfile.Profile()
            if arguments.profile:
                profile.enable()
            runs = [await drive(call, arguments.seconds / 3, arguments.in_flight) for _ in range(3)]
            if arguments.profile:
                profile.disable()
                pstats.Stats(profile).sort_stats("tottime").print_stats(18)
            results[name] = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        results["fallbacks"] = db.counters.fallbacks
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    nodes = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,))
    nodes.start()
    try:
        results = uvloop.run(measure(ours.recv(), arguments))
    finally:
        ours.send("done")
        nodes.join()
    print(json.dumps({"cores": os.cpu_count(), **results}))


if __name__ == "__main__":
    main()
