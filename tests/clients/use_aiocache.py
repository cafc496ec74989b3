"""aiocache: values, counters, its decorator and its lock."""

from __future__ import annotations

import asyncio

import checks
from aiocache import Cache
from aiocache.lock import OptimisticLock, OptimisticLockError, RedLock
from aiocache.serializers import JsonSerializer


def on_node(node: int) -> Cache:
    return Cache(
        Cache.REDIS,
        endpoint="127.0.0.1",
        port=checks.PORTS[node - 1],
        db=checks.DATABASE,
        namespace="cache",
        serializer=JsonSerializer(),
    )


async def check_recipe() -> None:
    price = checks.recipe("aiocache")["price"]
    assert await price("tea") == 3
    keys = await price.cache.raw("keys", "menu*")
    assert len(keys) == 1
    assert 50 < await price.cache.raw("ttl", keys[0]) <= 60
    await price.cache.raw("set", keys[0], "30")  # as nobody would, to see where it comes from
    assert await price("tea") == 30
    await price.cache.close()


async def check_values() -> None:
    async with on_node(1) as cache, on_node(2) as other:
        assert await cache.set("a", {"x": [1]}, ttl=100)
        await checks.seen_async(lambda: other.get("a"), {"x": [1]})
        assert await cache.add("first", "a", ttl=100)
        try:
            await cache.add("first", "b", ttl=100)
        except ValueError:
            pass
        else:
            raise AssertionError("what was there was added")
        assert await cache.multi_set([("m1", 1), ("m2", "two")], ttl=100)
        await checks.seen_async(lambda: other.multi_get(["m1", "none", "m2"]), [1, None, "two"])
        assert await cache.exists("a") and not await cache.exists("none")
        assert await cache.delete("a") == 1
        await checks.seen_async(lambda: other.exists("a"), False)


async def check_two_count_at_once() -> None:
    async with on_node(1) as cache, on_node(2) as other:
        await asyncio.gather(
            *(each.increment("n", 2) for each in (cache, other) for _ in range(50))
        )
        await checks.seen_async(lambda: cache.get("n"), 200)
        await cache.set("text", "x")
        try:
            await cache.increment("text")
        except TypeError:
            return
        raise AssertionError("a text was counted")


async def check_ends() -> None:
    async with on_node(1) as cache, on_node(2) as other:
        await cache.set("lives on", 1, ttl=5)
        assert await cache.expire("lives on", 100)
        await cache.multi_set([("s1", 1), ("s2", 2)], ttl=1)
        await cache.set("short", 1, ttl=5)
        await cache.set("by float", 1, ttl=5.2)
        names = ["short", "by float", "s1", "s2"]
        assert await cache.multi_get(["short", "by float"]) == [1, 1]
        await checks.seen_async(lambda: other.multi_get(names), [None] * 4)
        await checks.seen_async(lambda: other.get("lives on"), 1)


async def check_clear_of_a_namespace() -> None:
    async with on_node(1) as cache, on_node(2) as other:
        await cache.multi_set([(f"c{number}", number) for number in range(20)], ttl=100)
        assert await cache.clear(namespace="cache")
        await checks.seen_async(lambda: other.multi_get(["c1", "c19"]), [None, None])


async def check_locks() -> None:
    async with on_node(1) as cache, on_node(2) as other:
        made: list[str] = []
        held, go_on = asyncio.Event(), asyncio.Event()

        async def once() -> str:
            async with RedLock(cache, "job", lease=50):
                held.set()
                await go_on.wait()
                if (found := await cache.get("result")) is not None:
                    return found
                made.append("result")
                await cache.set("result", "tea", ttl=100)
                return "tea"

        # The others come when one has it: of several at once more than one may get it.
        first = asyncio.create_task(once())
        await held.wait()
        await checks.seen_async(lambda: other.exists("job-lock"), True)
        others = [asyncio.create_task(once()) for _ in range(4)]
        go_on.set()
        assert await asyncio.gather(first, *others) == ["tea"] * 5
        assert made == ["result"]
        await checks.seen_async(lambda: other.exists("job-lock"), False)  # released

        async with OptimisticLock(cache, "result") as lock:
            await lock.cas("jam", ttl=100)
        await checks.seen_async(lambda: other.get("result"), "jam")
        try:
            async with OptimisticLock(cache, "result") as lock:
                await cache.set("result", "from another")
                await lock.cas("mine")
        except OptimisticLockError:
            return
        raise AssertionError("a value was exchanged that somebody else had changed")


checks.run(globals())
