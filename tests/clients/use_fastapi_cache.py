"""fastapi-cache2: routes of a FastAPI application are kept, end, and are cleared by namespace."""

from __future__ import annotations

import logging
from logging.handlers import BufferingHandler

import checks
import fastapi
import redis
from fastapi.testclient import TestClient
from fastapi_cache import FastAPICache
from fastapi_cache.decorator import cache

made: list[str] = []
# It answers without a cache when the cache fails, and only logs why.
complaints = BufferingHandler(1000)
logging.getLogger("fastapi_cache").addHandler(complaints)


def application() -> fastapi.FastAPI:
    app = fastapi.FastAPI(on_startup=[lambda: checks.recipe("FastAPI: cache")])

    @app.get("/price/{item}")
    @cache(expire=100, namespace="prices")
    async def price(item: str) -> dict[str, int]:
        made.append(item)
        return {item: len(item)}

    @app.get("/now")
    @cache(expire=1, namespace="short")
    async def now() -> int:
        made.append("now")
        return len(made)

    @app.post("/clear")
    async def clear() -> str:
        await FastAPICache.clear(namespace="prices")
        return ""

    return app


def check_routes_are_kept() -> None:
    with TestClient(application()) as visitor:
        first, second = visitor.get("/price/tea"), visitor.get("/price/tea")
        assert first.json() == second.json() == {"tea": 3}
        assert made == ["tea"]
        assert first.headers["X-FastAPI-Cache"] == "MISS"
        assert second.headers["X-FastAPI-Cache"] == "HIT"
        assert second.headers["Cache-Control"] in {"max-age=100", "max-age=99", "max-age=98"}
        with redis.Redis.from_url(checks.url(2)) as other:
            checks.seen(lambda: len(other.keys("cache:prices:*")), 1)

        before = visitor.get("/now").json()
        checks.seen(lambda: visitor.get("/now").json() > before, True)  # it has ended

        visitor.get("/price/milk")
        made.clear()
        visitor.post("/clear")
        visitor.get("/price/milk"), visitor.get("/price/tea"), visitor.get("/price/tea")
        assert made == ["milk", "tea"]
    assert not [record.getMessage() for record in complaints.buffer]


checks.run(globals())
