"""Clients that write all the time, know what was acknowledged, and look whether it is there.

Each writer has keys of its own and writes numbers that go up, each with the context of the last
one, so one sentence says what must be there at the end: the highest acknowledged number or a higher
one, that was tried and of which nobody heard. Everything else that is found is a lie. Readers look
at the same meanwhile: a read may find what was acknowledged before it began, or more.
"""

from __future__ import annotations

import asyncio
import random
import time
from types import TracebackType
from typing import Self

from everwrite import AsyncClient, EverwriteError

BUCKET = "load"
PATIENCE_S = 30.0
LOOK_EVERY_S = 0.02
WRITERS = 16
KEYS_EACH = 4


class Load:
    """``async with``: the clients run until the block ends; ``errors`` are requests that failed,
    ``lies`` reads that found less than was acknowledged, or what nobody wrote.
    """

    def __init__(
        self,
        db: AsyncClient,
        *,
        w: int = 0,
        name: str = "k",
        keys_each: int = KEYS_EACH,
        readers: int = 0,
    ) -> None:
        self._bucket = db.bucket(BUCKET, w=w)
        self._name = name
        self._keys_each = keys_each
        self._readers = readers
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False
        self.acked: dict[str, int] = {}
        self.tried: dict[str, int] = {}
        self.errors: list[EverwriteError] = []
        self.lies: list[str] = []
        self.acks = 0
        self.reads = 0

    async def __aenter__(self) -> Self:
        for writer in range(WRITERS):
            keys = [f"{self._name}{writer}-{number}" for number in range(self._keys_each)]
            self._tasks.append(asyncio.create_task(self._write(keys)))
        for reader in range(self._readers):
            self._tasks.append(asyncio.create_task(self._read(random.Random(reader))))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped = True
        await asyncio.gather(*self._tasks)

    async def more(self, acks: int) -> None:
        """Return once so many more writes were acknowledged."""
        wanted = self.acks + acks
        end = time.monotonic() + PATIENCE_S
        while self.acks < wanted:
            assert time.monotonic() < end, f"{self.acks} of {wanted} acks; {self.errors[-3:]}"
            await asyncio.sleep(LOOK_EVERY_S)

    async def check(self, db: AsyncClient) -> None:
        """Fail if an acknowledged write is missing, or something is there that nobody wrote."""
        bucket = db.bucket(BUCKET)
        for key, acked in self.acked.items():
            found = await bucket.get(key, r=3)
            assert found.values, f"{key}: {acked} was acknowledged, and nothing is there"
            assert acked <= max(found.values) <= self.tried[key], f"{key}: {found.values}"

    async def _read(self, rng: random.Random) -> None:
        known: list[str] = []
        while not self._stopped:
            if len(known) < len(self.acked):
                known = list(self.acked)
            if not known:
                await asyncio.sleep(LOOK_EVERY_S)
                continue
            key = rng.choice(known)
            least = self.acked[key]
            try:
                found = await self._bucket.get(key)
            except EverwriteError as error:
                self.errors.append(error)
                continue
            self.reads += 1
            if not found.values or not least <= max(found.values) <= self.tried[key]:
                self.lies.append(f"{key}: {found.values}, and {least} was acknowledged before")

    async def _write(self, keys: list[str]) -> None:
        contexts: dict[str, bytes | None] = dict.fromkeys(keys, b"")
        number = 0
        while not self._stopped:
            number += 1
            for key in keys:
                try:
                    context = contexts[key]
                    if context is None:  # what became of the last write is not known: look
                        context = (await self._bucket.get(key)).context
                    self.tried[key] = number
                    done = await self._bucket.put(key, number, context=context)
                except EverwriteError as error:
                    contexts[key] = None
                    self.errors.append(error)
                    continue
                contexts[key] = done.context
                self.acked[key] = number
                self.acks += 1
