"""redis-py's asyncio client: values, batches, counters, locks and scans, in RESP2 and RESP3."""

from __future__ import annotations

import asyncio

import checks
import redis.asyncio as redis
from redis.exceptions import ResponseError


def client(node: int, protocol: int = 2, **options: object) -> redis.Redis:
    return redis.Redis.from_url(checks.url(node), protocol=protocol, **options)


async def check_recipe() -> None:
    names = checks.recipe("redis-py with asyncio")
    assert await names["page"]() == b"<h1>Tea</h1>"
    async with client(3) as other:
        await checks.seen_async(lambda: other.get("page:start"), b"<h1>Tea</h1>")
        assert 50 < await other.ttl("page:start") <= 60


async def check_values_and_batches() -> None:
    for protocol in (2, 3):
        async with client(1, protocol) as r, client(2, protocol) as other:
            await asyncio.gather(*(r.set(f"k{n}", n, ex=100) for n in range(50)))
            wanted = [b"%d" % n for n in range(50)]
            keys = [f"k{n}" for n in range(50)]
            await checks.seen_async(lambda o=other, keys=keys: o.mget(keys), wanted)
            for transaction in (True, False):
                async with r.pipeline(transaction=transaction) as batch:
                    answers = await batch.set("p", "5").incr("p").get("p").delete("p").execute()
                assert answers == [True, 6, b"6", 1]
                async with r.pipeline(transaction=transaction) as batch:
                    batch.hset("h", "f", "v").incr("h").hgetall("h")
                    _, failed, found = await batch.execute(raise_on_error=False)
                assert isinstance(failed, ResponseError) and str(failed).startswith("WRONGTYPE")
                assert found == {b"f": b"v"}
            found = [key async for key in other.scan_iter(match="k*", count=20)]
            assert sorted(set(found)) == sorted(key.encode() for key in keys)
            await r.delete(*keys, "h")


async def check_ends() -> None:
    async with client(1) as r, client(2) as other:
        assert await r.set("short", "1", px=5000)
        assert await r.get("short") == b"1"
        await checks.seen_async(lambda: other.get("short"), None)
        assert await r.setnx("short", "2")


async def check_two_count_at_once() -> None:
    async with client(1) as r, client(2) as other:
        await asyncio.gather(*(each.incr("visits") for each in (r, other) for _ in range(100)))
        await checks.seen_async(lambda: r.get("visits"), b"200")


async def check_locks() -> None:
    async with client(1) as r, client(2) as other:
        async with r.lock("job", timeout=50) as lock:
            assert await lock.owned()
            second = other.lock("job", timeout=50)
            assert not await second.acquire(blocking=False)
            assert await lock.extend(100)
            assert 140 < await r.ttl("job") <= 150
            assert await lock.reacquire()
            assert 40 < await r.ttl("job") <= 50
        assert await second.acquire(blocking_timeout=checks.PATIENCE_S)
        await second.release()
        await checks.seen_async(lambda: r.exists("job"), 0)


checks.run(globals())
