"""A load generator: many requests in flight through the public client, and what became of them.

A fixed number of workers each send one request, wait for its answer, and send the next (a closed
loop). With a rate, requests come at random times by themselves, whether or not the ones before were
answered (an open loop), and their latencies count from when they were to be sent: so it is with
many users, and only so can a store be asked for more than it can do. Every key is written by one
worker only, with the context of its last write, so that no siblings pile up; reads go to all keys.
A read that finds nothing counts as an error, since all keys were loaded before.

With a ``ttl`` the keys are logins (logins.py): a write touches one that lives, and makes a new one
in place of one that has ended. A read counts as an error if it finds what has ended, or misses what
has not.

``Load`` runs in the caller's loop. ``python -m everwrite.cli.load`` is the same in a process of its
own, told what to do line by line: options, then "load", "begin" with a rate or 0, "measure", "stop"
and again; it answers each line with one.

Costs: about 1 us per request besides the client's.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import random
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec

from everwrite.cli.connection import read_secret
from everwrite.cli.histogram import Histogram, Plain
from everwrite.cli.logins import Login, Logins
from everwrite.core.errors import EverwriteError
from everwrite.core.wrong_port import HTTP_ABOVE

if TYPE_CHECKING:
    from everwrite.cli.httpload import HttpBucket
    from everwrite.client import AsyncBucket, AsyncClient

BUCKET = "bench"
REQUEST_SECONDS = 5.0
RETRIES = 1
"""Tries after the first: a request fails only if two nodes in a row do not serve it."""

_READS = {"read": 1.0, "write": 0.0, "mixed": 0.5}
"""Part of the requests that are reads, in each mix."""
_STEP_SECONDS = 0.001
"""How exact the times of an open loop are."""
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
    ttl_s: float = 0.0
    """How long a value lives; 0: for ever."""
    http: list[str] = []
    """Ask over HTTP, at these URLs; empty: by the native client."""
    rate: float = 0.0
    """Requests a second, of all parts together; 0: as ``concurrency`` allows."""


class LoadResult(msgspec.Struct):
    """What one process has measured."""

    seconds: float
    reads: int
    writes: int
    cpu_us: float
    errors: dict[str, int]
    read_us: Plain
    write_us: Plain
    touch_us: Plain
    ended: int
    """Reads of logins that had ended, and of which nothing was found."""

    def told(self) -> dict[str, Any]:
        """Return reads and writes, how many and how long, for JSON."""
        requests = self.reads + self.writes
        return {
            "seconds": round(self.seconds, 2),
            "requests": requests,
            "per_s": round(requests / self.seconds, 1),
            "errors": self.errors,
            "read_ms": Histogram.from_dict(self.read_us).in_milliseconds(),
            "write_ms": Histogram.from_dict(self.write_us).in_milliseconds(),
        }


class Load:
    """Workers on one client; ``open`` it, ``load`` keys, ``begin``, ``measure``, ``stop``."""

    def __init__(self, options: LoadOptions, db: AsyncClient) -> None:
        self._options = options
        self._over_http = _http_bucket(options) if options.http else None
        self._bucket: AsyncBucket = self._over_http or db.bucket(BUCKET)  # type: ignore[assignment]
        self._keys = [f"{number:08d}" for number in range(options.keys)]
        self._own = range(options.part, options.keys, options.parts)
        self._contexts: dict[int, bytes | None] = {}
        self._values = [os.urandom(options.value_bytes) for _ in range(_VALUES)]
        self._errors: dict[str, int] = {}
        self._read_us = Histogram()
        self._write_us = Histogram()
        self._touch_us = Histogram()
        self._ended = 0
        self._logins = Logins(f"{os.urandom(4).hex()}-{options.part}", self._own)
        self._workers: list[asyncio.Task[None]] = []
        self._stopped = False
        self._measured_at = 0.0
        self._cpu_before = 0.0

    async def load(self) -> None:
        """Write each key of this part once."""
        waiting = iter(self._own)

        async def work() -> None:
            for number in waiting:
                await self._turn(number, writes=True)

        async with asyncio.TaskGroup() as loaders:
            for _ in range(_LOADERS):
                loaders.create_task(work())
        if self._errors:
            said = ", ".join(f"{count} x {code}" for code, count in self._errors.items())
            raise EverwriteError(
                f"Not all keys could be loaded: {said}.", hint="See the nodes' logs."
            )

    def begin(self, rate: float | None = None) -> None:
        """Start all workers, or the open loop; what they do counts from ``measure`` on. A rate here
        is in place of that in the options.
        """
        rate = self._options.rate if rate is None else rate
        self._stopped = False
        if rate:
            task = asyncio.create_task(self._come(rate / self._options.parts))
            self._workers.append(task)
            return
        for worker in range(self._options.concurrency):
            own = self._own[worker :: self._options.concurrency] or self._own
            self._workers.append(asyncio.create_task(self._work(own)))

    def measure(self) -> None:
        """Count from now on."""
        self._errors = {}
        self._read_us, self._write_us, self._touch_us = Histogram(), Histogram(), Histogram()
        self._ended = 0
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
            touch_us=self._touch_us.to_dict(),
            ended=self._ended,
        )

    async def stop(self) -> LoadResult:
        """Count no more, let the requests in flight end, and return what was counted."""
        result = self.counted()
        self._stopped = True
        await asyncio.gather(*self._workers)
        self._workers.clear()
        return result

    async def aclose(self) -> None:
        """End all workers, whatever they are at."""
        self._stopped = True
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        if self._over_http is not None:
            self._over_http.close()

    async def _work(self, own: range) -> None:
        reads = _READS[self._options.mix]
        chance, keys = random.random, self._readable()
        while not self._stopped:
            if chance() < reads:
                await self._turn(keys[int(chance() * len(keys))], writes=False)
            else:
                await self._turn(own[int(chance() * len(own))], writes=True)

    def _readable(self) -> range:
        """Return the keys of which it is known what must be found: logins only of our own part."""
        return self._own if self._options.ttl_s else range(self._options.keys)

    async def _come(self, rate: float) -> None:
        """Send requests at random times, so many a second, until stopped; then let those in flight
        end.
        """
        reads = _READS[self._options.mix]
        chance, keys = random.random, self._readable()
        free = list(self._own)
        random.shuffle(free)
        idle = collections.deque(free)
        flying: set[asyncio.Task[None]] = set()
        due = time.perf_counter_ns()
        while not self._stopped:
            now = time.perf_counter_ns()
            while due <= now:
                if chance() < reads or not idle:
                    number = keys[int(chance() * len(keys))]
                    task = asyncio.create_task(self._turn(number, writes=False, due=due))
                else:
                    task = asyncio.create_task(self._write_alone(idle, due))
                flying.add(task)
                task.add_done_callback(flying.discard)
                due += int(random.expovariate(rate) * 1e9)
            await asyncio.sleep(max(_STEP_SECONDS, (due - now) / 1e9))
        await asyncio.gather(*flying)

    async def _write_alone(self, idle: collections.deque[int], due: int) -> None:
        """Write a key that no other request of ours is writing."""
        number = idle.popleft()
        try:
            await self._turn(number, writes=True, due=due)
        finally:
            idle.append(number)

    async def _turn(self, number: int, *, writes: bool, due: int = 0) -> None:
        """Read or write one key; it counts from when it was ``due``, or from now."""
        if not self._options.ttl_s:
            await (self._write(number, due) if writes else self._read(number, due))
            return
        login = self._logins.of(number)
        if not writes:
            await self._visit(login, due)
        elif login.over(time.perf_counter()):
            await self._enter(self._logins.renew(number), number, due)
        else:
            await self._touch(login, due)

    # -- what stays ------------------------------------------------------------------------------

    async def _read(self, number: int, due: int = 0) -> None:
        began = due or time.perf_counter_ns()
        try:
            found = await self._bucket.get(self._keys[number])
        except EverwriteError as error:
            await self._failed(error.code, pause=not due)
            return
        self._read_us.record((time.perf_counter_ns() - began) // 1000)
        if not found.values:
            await self._failed("absent", pause=not due)

    async def _write(self, number: int, due: int = 0) -> None:
        key = self._keys[number]
        try:
            context = self._contexts.get(number, b"")
            if context is None:
                context = (await self._bucket.get(key)).context
            began = due or time.perf_counter_ns()
            stored = await self._bucket.put(key, self._values[number % _VALUES], context=context)
        except EverwriteError as error:
            if error.outcome != "none":  # what is there now is not known: look before the next
                self._contexts[number] = None
            await self._failed(error.code, pause=not due)
            return
        self._write_us.record((time.perf_counter_ns() - began) // 1000)
        self._contexts[number] = stored.context if stored.siblings <= 1 else None

    # -- what ends -------------------------------------------------------------------------------

    async def _visit(self, login: Login, due: int) -> None:
        """Look for a login."""
        began = time.perf_counter()
        try:
            found = await self._bucket.get(login.name)
        except EverwriteError as error:
            await self._failed(error.code)
            return
        now = time.perf_counter()
        self._read_us.record(round((now - (due / 1e9 or began)) * 1e6))
        self._ended += not found.values
        if wrong := login.judge(bool(found.values), began, now):
            await self._failed(wrong)

    async def _enter(self, login: Login, number: int, due: int) -> None:
        """Log in."""
        began, ttl = time.perf_counter(), self._options.ttl_s
        login.sent(began, ttl, REQUEST_SECONDS)
        try:
            await self._bucket.put(login.name, self._values[number % _VALUES], ttl=ttl)
        except EverwriteError as error:
            await self._failed(error.code)
            return
        now = time.perf_counter()
        self._write_us.record(round((now - (due / 1e9 or began)) * 1e6))
        login.answered(began, now, ttl)

    async def _touch(self, login: Login, due: int) -> None:
        """Stay logged in."""
        began, ttl = time.perf_counter(), self._options.ttl_s
        login.sent(began, ttl, REQUEST_SECONDS)
        try:
            touched = await self._bucket.touch(login.name, ttl)
        except EverwriteError as error:
            await self._failed(error.code)
            return
        now = time.perf_counter()
        self._touch_us.record(round((now - (due / 1e9 or began)) * 1e6))
        if touched.siblings:
            login.answered(began, now, ttl)
        elif wrong := login.judge(False, began, now):
            await self._failed(wrong)

    async def _failed(self, code: str, *, pause: bool = True) -> None:
        self._errors[code] = self._errors.get(code, 0) + 1
        if pause:
            # Some errors come at once, and a worker that never waits would have the loop for
            # itself.
            await asyncio.sleep(_PAUSE_SECONDS)


def _http_bucket(options: LoadOptions) -> HttpBucket:
    """Return the bucket over HTTP, with a connection for each worker."""
    from everwrite.cli.httpload import HttpBucket

    return HttpBucket(options.http, BUCKET, options.concurrency, read_secret(None))


def http_urls(urls: list[str]) -> list[str]:
    """Return where nodes that are known by their native addresses answer HTTP."""
    from everwrite.server.settings import split_address

    addresses = [split_address(url) for url in urls]
    return [f"http://{host}:{port + HTTP_ABOVE}" for host, port in addresses]


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
            order, _, rate = order.partition(" ")
            match order:
                case "load":
                    await load.load()
                case "begin":
                    load.begin(float(rate or 0))
                case "measure":
                    load.measure()
                case "stop":
                    answer(msgspec.json.encode(await load.stop()).decode())
                    continue
                case _:
                    return
            answer("done")


if __name__ == "__main__":
    from everwrite.cli.loop import run_on_uvloop

    run_on_uvloop(_obey())
