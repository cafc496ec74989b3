"""One of three nodes loses some of its keys: how much is carried until all three have the same?

    python bench/repairing.py [--keys 200000] [--value-bytes 100] [--lose 0.01]

Real nodes on RocksDB, without fsync while they are loaded. The third node is killed, keys are taken
out of its store, and it is started again: so it makes its tree anew first. Then all owners are
compared, as `everwrite repair --all` does it. Nothing is written meanwhile, so all that is said in
exchanges is said for the loss.

It prints one JSON object, and fails (exit code 1) unless the three stores have the same records at
the end, and what was carried is at most three times the bytes of the lost keys, and 64 KiB for each
partition that had lost some.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import xxhash

from everwrite import AsyncClient
from everwrite.cli.devcluster import DevCluster
from everwrite.cli.load import Load, LoadOptions, connect
from everwrite.cli.loop import run_on_uvloop
from everwrite.cli.output import say, size
from everwrite.cli.repairs import ask_all, repair_now
from everwrite.core.data.keys import hash_of
from everwrite.core.records import OWN
from everwrite.storage.store import Store, Unreadable, open_store

NODES, LOSER = 3, 3
PARTITIONS = 256
TIMES_MAX, EACH_MAX = 3, 64 << 10
REPAIR_S = 900.0
START_S = 120.0
PAGE = 4096
EVERYTHING = {"all": True}


async def run(options: argparse.Namespace, place: Path) -> dict[str, Any]:
    """Return the report of one run."""
    with DevCluster.create(place / "cluster", nodes=NODES, fsync=False) as made:
        await made.start(START_S)
        say(f"loading {options.keys:,} keys")
        async with await connect(made.addresses) as db:
            await _load(options, db)
            await _agree(db)
            before = await _carried(db, but=LOSER)  # whose counters begin anew
        made.kill(LOSER)
        lost, lost_bytes, partitions = await asyncio.to_thread(
            _take_out, made.directory, options.lose
        )
        say(f"node {LOSER} has lost {lost:,} keys, {size(lost_bytes)}, of {partitions} partitions")
        made.spawn(LOSER)
        await made.wait_ready(START_S)
        async with await connect(made.addresses) as db:
            made_anew_s = await _trees_whole(db)
            began = time.monotonic()
            await _agree(db)
            seconds = time.monotonic() - began
            carried = await _carried(db) - before
        made.stop()
        same = await asyncio.to_thread(_same, made.directory)
    allowed = TIMES_MAX * lost_bytes + EACH_MAX * partitions
    return {
        "options": vars(options),
        "lost_keys": lost,
        "lost_bytes": lost_bytes,
        "partitions": partitions,
        "tree_made_anew_s": round(made_anew_s, 2),
        "seconds": round(seconds, 2),
        "bytes_carried": carried,
        "bytes_allowed": allowed,
        "times_lost_bytes": round(carried / max(1, lost_bytes), 3),
        "same": same,
    }


async def _load(options: argparse.Namespace, db: AsyncClient) -> None:
    chosen = LoadOptions(
        urls=[],
        mix="write",
        concurrency=64,
        value_bytes=options.value_bytes,
        keys=options.keys,
    )
    async with contextlib.aclosing(Load(chosen, db)) as load:
        await load.load()


async def _agree(db: AsyncClient) -> None:
    """Return when all owners agree."""
    outcome = await repair_now(db, EVERYTHING, REPAIR_S)
    if outcome.left:
        raise RuntimeError(f"not all owners came to agree: {outcome.left}")


async def _trees_whole(db: AsyncClient) -> float:
    """Return how long it took until all trees were whole."""
    began = time.monotonic()
    async with asyncio.timeout(REPAIR_S):
        while True:
            answers = (await ask_all(db)).values()
            if all(answer is not None and not answer.leaves["made_anew"] for answer in answers):
                return time.monotonic() - began
            await asyncio.sleep(0.05)


async def _carried(db: AsyncClient, but: int = 0) -> int:
    """Return all bytes that nodes have said to each other in exchanges so far."""
    total = 0
    for name, answer in (await ask_all(db)).items():
        if name == f"n{but}":
            continue
        if answer is None:
            raise RuntimeError(f"{name} does not answer")
        counters = answer.counters
        total += counters["said"] + counters["bytes_in"] + counters["bytes_out"]
    return total


def _take_out(directory: Path, share: float) -> tuple[int, int, int]:
    """Take a share of all keys out of a node's store; return (keys, bytes, partitions)."""
    limit = int(share * (1 << 32))
    keys = total = 0
    partitions: set[int] = set()
    with _store(directory, LOSER) as store:
        for key, payload in _copies(store):
            if xxhash.xxh32_intdigest(key) < limit:
                store.write([(OWN + key, None)])
                keys += 1
                total += len(key) + len(payload) - 8
                partitions.add(hash_of(key) * PARTITIONS >> 64)
        store.sync()
    return keys, total, len(partitions)


def _same(directory: Path) -> bool:
    """Say whether all stores have the same records."""
    sums = []
    for number in range(1, NODES + 1):
        with _store(directory, number) as store:
            digest = xxhash.xxh3_128()
            for key, payload in _copies(store):
                digest.update(key + payload[8:])
            sums.append(digest.hexdigest())
    return len(set(sums)) == 1


def _store(directory: Path, number: int) -> Store:
    return open_store(directory / f"node{number}", "rocksdb")


def _copies(store: Store) -> Any:
    """Yield (data key, payload) of all copies of owners."""
    start, end = OWN, bytes((OWN[0] + 1,))
    while page := store.scan(start, end, PAGE):
        for key, payload in page:
            if isinstance(payload, Unreadable):
                raise RuntimeError(f"{key.hex()} cannot be read: {payload.reason}")
            yield key[1:], payload
        start = page[-1][0] + b"\0"


def main() -> None:
    parser = argparse.ArgumentParser(description="One of three nodes loses some of its keys.")
    parser.add_argument("--keys", type=int, default=200_000)
    parser.add_argument("--value-bytes", type=int, default=100)
    parser.add_argument("--lose", type=float, default=0.01, help="share of all keys")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="everwrite-repair-") as place:
        report = run_on_uvloop(run(options, Path(place)))
    print(json.dumps(report, indent=2))
    say(
        f"{size(report['bytes_carried'])} carried, {report['times_lost_bytes']} times what was "
        f"lost; allowed {size(report['bytes_allowed'])}"
    )
    wrong = not report["same"] or report["bytes_carried"] > report["bytes_allowed"]
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
