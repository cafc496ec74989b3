"""A node starts with a million hints on its disk: when does it serve, and when are they counted?

    python bench/counting.py [--hints 1000000] [--value-bytes 200]

Two nodes on RocksDB are started and stopped, the directory of the one gets the hints, all for the
other, and it is started again. It prints one JSON object, and fails (exit code 1) unless the start
with them takes at most a second more than the one without, and every one of them is counted to the
byte.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import xxhash

from everwrite.core.data import versions
from everwrite.core.data.keys import data_key
from everwrite.core.data.versions import Record, Version
from everwrite.core.hints.kept import join_hint
from everwrite.core.records import HINT
from everwrite.server.runtime import Runtime, start
from everwrite.server.settings import ServeOptions
from everwrite.storage.store import open_store

BATCH = 5_000
MORE_S = 1.0


async def started(directory: Path, seed: str = "") -> tuple[Runtime, float]:
    """Start a node; return it, and how long that took."""
    began = time.monotonic()
    join = (seed,) if seed else ()
    options = ServeOptions(data=directory, name=directory.name, port=0, join=join, partitions=64)
    runtime = await start(options)
    return runtime, time.monotonic() - began


def fill(directory: Path, owner: bytes, count: int, value_bytes: int) -> int:
    """Write so many hints into a directory; return how many bytes they take."""
    store = open_store(directory)
    actor, size = b"actor" + bytes(11), 0
    since = int(time.time()) - 3600
    try:
        for first in range(0, count, BATCH):
            batch = []
            for number in range(first, min(first + BATCH, count)):
                value = xxhash.xxh3_128_digest(number.to_bytes(8, "big")) * (value_bytes // 16)
                record = versions.encode(Record({actor: 1}, [Version(actor, 1, value, 0, b"op")]))
                payload = join_hint(bytes(8), {owner: since + number // 1000}, record)
                batch.append((HINT + data_key(b"carts", b"%d" % number), payload))
            store.write(batch)
            size += sum(len(key) + len(payload) for key, payload in batch)
        store.sync()
    finally:
        store.close()
    return size


async def measure(directory: Path, count: int, value_bytes: int) -> dict[str, float | int | bool]:
    runtime, _ = await started(directory / "n1")
    other, _ = await started(directory / "n2", runtime.address)
    owner = other.node.local.me
    while not runtime.node.local.routes.takes(owner, bytes(8)):  # noqa: ASYNC110 (no event for it)
        await asyncio.sleep(0.01)
    await other.stop()
    await runtime.stop()
    runtime, bare_s = await started(directory / "n1")
    await runtime.stop()
    size = fill(directory / "n1", owner, count, value_bytes)
    cpu = time.process_time()
    runtime, start_s = await started(directory / "n1")
    hints = runtime.node.hints
    at_start = hints.notes
    began, late_s = time.monotonic(), 0.0
    while not hints.whole:
        before = time.monotonic()
        await asyncio.sleep(0.001)
        late_s = max(late_s, time.monotonic() - before - 0.001)
    counted_s = time.monotonic() - began
    right = hints.notes == count and hints.kept.bytes == size
    await runtime.stop()
    return {
        "hints": count,
        "bytes": size,
        "start_without_s": round(bare_s, 3),
        "start_s": round(start_s, 3),
        "counted_at_start": at_start,
        "counted_s": round(counted_s, 3),
        "loop_late_ms": round(late_s * 1000, 1),
        "cpu_s": round(time.process_time() - cpu, 2),
        "right": right,
        "ok": right and start_s <= bare_s + MORE_S,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--hints", type=int, default=1_000_000)
    parser.add_argument("--value-bytes", type=int, default=200)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = asyncio.run(measure(Path(directory), chosen.hints, chosen.value_bytes))
    print(json.dumps(found))
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
