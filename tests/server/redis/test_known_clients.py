"""The packages themselves, where they are installed: their scripts are the ones that are known.

They are no part of what developers install: `pip install django-redis aiocache[redis] limits
fastapi-cache2`. What their scripts do here is tested without them, in test_scripts.py.
"""

from __future__ import annotations

import asyncio

import pytest
from tests.client.fake_node import in_loop
from tests.server.redis.redis_api import one, port_of


@in_loop
async def test_limits() -> None:
    limits = pytest.importorskip("limits")
    async with one() as (runtime, r):
        uri = f"redis://127.0.0.1:{port_of(runtime)}"
        storage = await asyncio.to_thread(limits.storage.storage_from_string, uri)
        rate = limits.RateLimitItemPerMinute(3)
        for strategy in (
            limits.strategies.FixedWindowRateLimiter(storage),
            limits.strategies.SlidingWindowCounterRateLimiter(storage),
        ):
            hits = [await asyncio.to_thread(strategy.hit, rate, "me") for _ in range(5)]
            assert hits == [True, True, True, False, False]
            assert not await asyncio.to_thread(strategy.test, rate, "me")
            assert (await asyncio.to_thread(strategy.get_window_stats, rate, "me")).remaining == 0
        assert await asyncio.to_thread(storage.reset) == 2
        assert await r.dbsize() == 0
        moving = limits.strategies.MovingWindowRateLimiter(storage)
        with pytest.raises(Exception, match="'moving window' of limits is not supported"):
            await asyncio.to_thread(moving.hit, rate, "me")


@in_loop
async def test_aiocache() -> None:
    aiocache = pytest.importorskip("aiocache")
    lock = pytest.importorskip("aiocache.lock")
    async with one() as (runtime, r):
        cache = aiocache.RedisCache(endpoint="127.0.0.1", port=port_of(runtime))
        async with lock.RedLock(cache, "a", lease=10):
            assert await r.exists("a-lock") == 1
        assert await r.exists("a-lock") == 0
        await cache.set("b", "tea")
        async with lock.OptimisticLock(cache, "b") as optimistic:
            await optimistic.cas("coffee")
            assert await cache.get("b") == "coffee"
            with pytest.raises(lock.OptimisticLockError):
                await optimistic.cas("milk")
        await cache.close()


@in_loop
async def test_fastapi_cache() -> None:
    backends = pytest.importorskip("fastapi_cache.backends.redis")
    async with one() as (_, r):
        backend = backends.RedisBackend(r)
        await r.mset({"ns:a": 1, "ns:b": 2, "nsx": 3})
        await backend.clear(namespace="ns")
        assert await r.keys("*") == [b"nsx"]


@in_loop
async def test_django_redis() -> None:
    pytest.importorskip("django_redis")
    conf = pytest.importorskip("django.conf")
    async with one() as (runtime, _):
        place = {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{port_of(runtime)}/1",
        }
        conf.settings.configure(CACHES={"default": place})
        cache = pytest.importorskip("django.core.cache").cache

        def use() -> None:
            cache.set("n", 1, timeout=100)
            assert cache.incr("n") == 2
            assert cache.decr("n", 5) == -3
            assert cache.incr("new", ignore_key_check=True) == 1
            with pytest.raises(ValueError, match="not found"):
                cache.incr("none")
            assert 95 < cache.ttl("n") <= 100
            with cache.lock("lock", timeout=10):
                pass

        await asyncio.to_thread(use)
