"""What the tree costs: the processor's part of a write, memory, and how fast it is made anew.

    python bench/micro/tree.py [--keys 1000000] [--engine rocksdb|sqlite|memory]

Three figures, each beside what was promised (docs/design/repair.md):

    write    CPU time of a put that three owners take, with the tree and without, in pairs; the
             least of many, as everything that disturbs a run makes it longer
    memory   bytes of a tree's leaves
    rebuild  copies a second that a node which was killed counts anew, while nobody is served: wall
             time on an idle machine, and CPU time, which is what other work on it does not change
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import xxhash

from everwrite.core.cluster.members import MemberTable, founding
from everwrite.core.config import ClusterConfig, NodeConfig
from everwrite.core.data import versions
from everwrite.core.data.epochs import Epochs
from everwrite.core.data.keys import data_key
from everwrite.core.data.versions import Record, Version
from everwrite.core.messages.members import Member
from everwrite.core.messages.requests import Put, PutReply
from everwrite.core.node import Node
from everwrite.core.outbox import Outbox
from everwrite.core.records import OWN
from everwrite.core.trees.trees import Trees
from everwrite.core.wire import decode_payload, encode_frame
from everwrite.server.disk import Disk
from everwrite.storage.store import Store as Storage
from everwrite.storage.store import open_store

WRITE_MOST = 0.10
MEMORY_MOST = 16 << 20
REBUILD_LEAST = 300_000

ACTOR = b"a" * 16
ALL = b"\xff" * 32
BATCH = 64
ROUNDS = 40
VALUE = b"v" * 100


def main() -> int:
    """Measure; exit code 1 if anything is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--engine", choices=("rocksdb", "sqlite", "memory"), default="rocksdb")
    chosen = parser.parse_args()
    plain_us, with_us = _writes()
    part = (with_us - plain_us) / plain_us
    size = _memory()
    wall, cpu = asyncio.run(_rebuild(chosen.keys, chosen.engine))
    rows = [
        ("a put, at 3 owners", f"{plain_us:.2f} us without, {with_us:.2f} us with the tree"),
        ("its part", f"{part:.1%}   (at most {WRITE_MOST:.0%})"),
        ("memory", f"{size / 2**20:.2f} MiB   (at most {MEMORY_MOST >> 20} for a million keys)"),
        ("rebuild", f"{wall:,.0f} copies/s, {cpu:,.0f} per second of the processor"),
        ("", f"(at least {REBUILD_LEAST:,}; {chosen.keys:,} keys, {chosen.engine})"),
    ]
    for name, text in rows:
        print(f"{name:20} {text}")
    return int(part > WRITE_MOST or size > MEMORY_MOST or wall < REBUILD_LEAST)


def _node(me: bytes, members: list[Member]) -> Node:
    cluster = ClusterConfig(cluster_id=b"c" * 16)
    mine = next(member for member in members if member.node_id == me)
    table = MemberTable(mine, members, founding(members))
    return Node(NodeConfig(), cluster, table, Epochs(me, 1, 7), b"k" * 32, 1_000_000)


# -- the price of a write --------------------------------------------------------------------------


class Three:
    """Three owners in one process. What they say to each other goes through the wire's codec and
    what they write into a store, as in the server: all of a put but for its system calls."""

    def __init__(self, folder: Path) -> None:
        ids = [bytes((number,)) * 8 for number in (1, 2, 3)]
        members = [Member(me, me.hex(), "h", 1, me.hex(), 1.0, 1, 1, b"", ALL, ALL) for me in ids]
        self.nodes = {me: _node(me, members) for me in ids}
        self.stores = {me: open_store(folder / me.hex()) for me in ids}
        for node in self.nodes.values():
            node.local.trees.empty()
            for other in ids:
                if other != node.local.me:
                    node.heard(other)
        self.keys = [data_key(b"bench", b"%d" % number) for number in range(BATCH)]
        for node in self.nodes.values():
            for key in self.keys:
                node.local.records.loaded(OWN + key, None)
        self._op = 0
        self.context = [b""] * BATCH
        self.batch()

    def batch(self) -> float:
        """Return the CPU time of a put to each key, all that the three do for it."""
        frames = []
        for at, key in enumerate(self.keys):
            self._op += 1
            put = Put(at, key, VALUE, self.context[at], b"op%10d" % self._op, 1000)
            frames.append(encode_frame([put]))
        first = self.nodes[min(self.nodes)]
        inbox: list[tuple[bytes, bytes | int, bytes]] = []
        began = time.process_time()
        for frame in frames:
            for message in decode_payload(frame[4:]):
                first.receive(1, message)
        self._tick(first.local.me, inbox)
        while inbox:
            to, source, frame = inbox.pop(0)
            for message in decode_payload(frame[4:]):
                self.nodes[to].receive(source, message)
            self._tick(to, inbox)
        return time.process_time() - began

    def _tick(self, me: bytes, inbox: list[tuple[bytes, bytes | int, bytes]]) -> None:
        node = self.nodes[me]
        out = node.out
        while out:
            writes, out.writes = out.writes, {}
            if writes:
                self.stores[me].write(list(writes.items()))
            for place, message in (*out.on_write, *out.on_sync):
                out.send(place, message)
            out.on_write, out.on_sync = [], []
            sends, out.sends = out.sends, {}
            for place, messages in sends.items():
                if place == me:
                    for message in messages:
                        node.receive(me, message)
                    continue
                frame = encode_frame(messages)
                if isinstance(place, bytes):
                    inbox.append((place, me, frame))
                    continue
                for reply in messages:
                    assert isinstance(reply, PutReply), reply
                    self.context[reply.rid] = reply.context
        node.local.records.turn()


def _writes() -> tuple[float, float]:
    """Return the least CPU time of a put, without the tree and with it, in microseconds."""
    with tempfile.TemporaryDirectory() as folder:
        three = Three(Path(folder))
        right = Trees._count
        least = {False: 1e9, True: 1e9}
        for turn in range(2 * ROUNDS):
            counts = bool(turn % 2)
            Trees._count = right if counts else _free  # type: ignore[method-assign]
            for _ in range(8):
                least[counts] = min(least[counts], three.batch())
        Trees._count = right  # type: ignore[method-assign]
        for store in three.stores.values():
            store.close()
        return least[False] * 1e6 / BATCH, least[True] * 1e6 / BATCH


def _free(trees: Trees) -> None:
    """Count nothing."""
    trees.pending = {}


# -- memory ----------------------------------------------------------------------------------------


def _memory() -> int:
    trees = Trees(Outbox(), 1, 256)
    parts = (trees._leaves, trees._flags, trees._roots, trees._stale)
    return sum(sys.getsizeof(part) for part in parts)


# -- a rebuild -------------------------------------------------------------------------------------


async def _rebuild(keys: int, engine: str) -> tuple[float, float]:
    """Return copies a second of wall time and of CPU time."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "n" if engine != "memory" else None, engine)
        _fill(store, keys)
        me = Member(b"n" * 8, "n", "h", 1, "z", 1.0, 1, 1, b"", ALL, ALL)
        node = _node(me.node_id, [me])
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def ignore(*_: object) -> None:
            """Nothing of this happens here."""

        disk = Disk(loop, store, synced=ignore, loaded=ignore, failed=ignore, broken=_fail(done))

        def pump() -> None:
            scans, node.out.scans = node.out.scans, []
            for scan in scans:
                disk.scan(scan, came)
            if not node.local.trees.any_wrong and not done.done():
                done.set_result(None)

        def came(scan: object, found: object) -> None:
            node.local.now = time.monotonic_ns() // 1_000_000
            node.walk.scanned(found)  # type: ignore[arg-type]
            pump()

        node.local.now = time.monotonic_ns() // 1_000_000
        began, used = time.monotonic(), time.process_time()
        node.walk.wake()
        pump()
        await done
        took, cpu = time.monotonic() - began, time.process_time() - used
        assert node.walk.keys == keys
        disk.close()
        return keys / took, keys / cpu


def _fail(done: asyncio.Future[None]) -> Callable[[BaseException], None]:
    return lambda error: done.done() or done.set_exception(error)


def _fill(store: Storage, keys: int) -> None:
    record = versions.encode(Record({ACTOR: 1}, [Version(ACTOR, 1, VALUE, 1, b"o" * 16)]))
    payload = bytes(8) + record
    digest = xxhash.xxh3_64_digest
    batch: list[tuple[bytes, bytes | None]] = []
    for number in range(keys):
        tail = b"\x05bench%d" % number
        batch.append((OWN + digest(tail) + tail, payload))
        if len(batch) == 1000:
            store.write(batch)
            batch.clear()
    store.write(batch)
    store.sync()


if __name__ == "__main__":
    sys.exit(main())
