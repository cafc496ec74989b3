"""A load generator: many requests in flight through the public client, and what became of them.

A fixed number of workers each send one request, wait for its answer, and send the next (a closed
loop). Every key is written by one worker only, with the context of its last write, so that no
siblings pile up; reads go to all keys. A read that finds nothing counts as an error, since all keys
were loaded before.

``Load`` runs in the caller's loop. ``python -m everwrite.cli.load`` is the same in a process of its
own, told what to do line by line: options, then "load", "begin", "measure", "stop"; it answers
each line with one.

Costs: about 1 us per request besides the client's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from everwrite.cli.histogram import Histogram, Plain
from everwrite.core.errors import EverwriteError

if TYPE_CHECKING:
    from everwrite.client import AsyncBucket, AsyncClient

BUCKET = "bench"
REQUEST_SECONDS = 5.0
RETRIES = 1
"""Tries after the first: a request fails only if two nodes in a row do not serve it."""

_LOADERS = 256
_PAUSE_SECONDS = 0.01
_VALUES = 64
"""Different values in rotation: random bytes, so that no engine can compress them."""


class LoadOptions(msgspec.Struct, frozen=True):
    """What to send. ``part`` of ``parts``: the share of workers and keys of one process."""

    urls: list[str]
    mix: str
    concurrency: int
    value_bytes: int
    keys: int
    part: int = 0
    parts: int = 1


class LoadResult(msgspec.Struct):
    """What one process has measured."""

    seconds: float
    reads: int
    writes: int
    cpu_us: float
    errors: dict[str, int]
    read_us: Plain
    write_us: Plain


class Load:
    """Workers on one client; ``open`` it, ``load`` keys, ``begin``, ``measure``, ``stop``."""

    def __init__(self, options: LoadOptions, db: AsyncClient) -> None:
        self._options = options
        self._bucket: AsyncBucket = db.bucket(BUCKET)
        self._keys = [f"{number:08d}" for number in range(options.keys)]
        self._own = range(options.part, options.keys, options.parts)
        self._contexts: dict[int, bytes | None] = {}
        self._values = [os.urandom(options.value_bytes) for _ in range(_VALUES)]
        self._errors: dict[str, int] = {}
        self._read_us = Histogram()
        self._write_us = Histogram()
        self._workers: list[asyncio.Task[None]] = []
        self._stopped = False
        self._measured_at = 0.0
        self._cpu_before = 0.0

    async def load(self) -> None:
        """Write each key of this part once."""
        waiting = iter(self._own)

        async def work() -> None:
            for number in waiting:
                await self._write(number)

        async with asyncio.TaskGroup() as loaders:
            for _ in range(_LOADERS):
                loaders.create_task(work())
        if self._errors:
            said = ", ".join(f"{count} x {code}" for code, count in self._errors.items())
            raise EverwriteError(
                f"Not all keys could be loaded: {said}.", hint="See the nodes' logs."
            )

    def begin(self) -> None:
        """Start all workers; what they do counts from ``measure`` on."""
        for worker in range(self._options.concurrency):
            own = self._own[worker :: self._options.concurrency] or self._own
            self._workers.append(asyncio.create_task(self._work(own)))

    def measure(self) -> None:
        """Count from now on."""
        self._errors = {}
        self._read_us, self._write_us = Histogram(), Histogram()
        self._cpu_before = time.process_time()
        self._measured_at = time.perf_counter()

    def counted(self) -> LoadResult:
        """Return what was counted since ``measure``."""
        reads, writes = self._read_us, self._write_us
        return LoadResult(
            seconds=time.perf_counter() - self._measured_at,
            reads=reads.count,
            writes=writes.count,
            cpu_us=(time.process_time() - self._cpu_before) * 1e6,
            errors=dict(self._errors),
            read_us=reads.to_dict(),
            write_us=writes.to_dict(),
        )

    async def stop(self) -> LoadResult:
        """Count no more, let the requests in flight end, and return what was counted."""
        result = self.counted()
        self._stopped = True
        await asyncio.gather(*self._workers)
        return result

    async def aclose(self) -> None:
        """End all workers, whatever they are at."""
        self._stopped = True
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self, own: range) -> None:
        reads = {"read": 1.0, "write": 0.0, "mixed": 0.5}[self._options.mix]
        chance, keys = random.random, self._options.keys
        while not self._stopped:
            if chance() < reads:
                await self._read(int(chance() * keys))
            else:
                await self._write(own[int(chance() * len(own))])

    async def _read(self, number: int) -> None:
        began = time.perf_counter_ns()
        try:
            found = await self._bucket.get(self._keys[number])
        except EverwriteError as error:
            await self._failed(error.code)
            return
        self._read_us.record((time.perf_counter_ns() - began) // 1000)
        if not found.values:
            await self._failed("absent")

    async def _write(self, number: int) -> None:
        key = self._keys[number]
        try:
            context = self._contexts.get(number, b"")
            if context is None:
                context = (await self._bucket.get(key)).context
            began = time.perf_counter_ns()
            stored = await self._bucket.put(key, self._values[number % _VALUES], context=context)
        except EverwriteError as error:
            # What is there now is not known: look before the next write.
            self._contexts[number] = None
            await self._failed(error.code)
            return
        self._write_us.record((time.perf_counter_ns() - began) // 1000)
        self._contexts[number] = stored.context if stored.siblings <= 1 else None

    async def _failed(self, code: str) -> None:
        self._errors[code] = self._errors.get(code, 0) + 1
        # Some errors come at once, and a worker that never waits would have the loop for itself.
        await asyncio.sleep(_PAUSE_SECONDS)


async def connect(urls: list[str]) -> AsyncClient:
    """Return the client as a benchmark uses it; the secret is that of the environment."""
    import everwrite

    return await everwrite.connect(urls, timeout=REQUEST_SECONDS, retries=RETRIES)


async def _obey() -> None:
    """Do what the lines on standard input say."""

    async def heard() -> str:
        line: str = await asyncio.to_thread(sys.stdin.readline)
        return line.strip()

    def answer(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    options = msgspec.json.decode(await heard(), type=LoadOptions)
    async with await connect(options.urls) as db, contextlib.aclosing(Load(options, db)) as load:
        answer("ready")
        while order := await heard():
            match order:
                case "load":
                    await load.load()
                case "begin":
                    load.begin()
                case "measure":
                    load.measure()
                case _:
                    answer(msgspec.json.encode(await load.stop()).decode())
                    return
            answer("done")


if __name__ == "__main__":
    from everwrite.cli.loop import run_on_uvloop

    run_on_uvloop(_obey())
