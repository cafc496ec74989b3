"""cachelib alone, and Flask-Caching, which keeps views and functions by it."""

from __future__ import annotations

import checks
import redis
from cachelib import RedisCache


def on_node(node: int) -> RedisCache:
    return RedisCache(redis.Redis.from_url(checks.url(node)), key_prefix="lib:")


def check_recipe() -> None:
    cache = checks.recipe("cachelib")["cache"]
    other = RedisCache(redis.Redis.from_url(checks.url(3)))
    checks.seen(lambda: other.get("menu"), ["tea", "jam"])
    assert cache.get("menu") == ["tea", "jam"]
    assert 290 < redis.Redis.from_url(checks.url(1)).ttl("menu") <= 300


def check_values() -> None:
    cache, other = on_node(1), on_node(2)
    assert cache.set("a", {"x": 1}, timeout=100)
    checks.seen(lambda: other.get("a"), {"x": 1})
    assert cache.add("first", "a", timeout=100)
    assert not other.add("first", "b", timeout=100)
    assert cache.get("first") == "a"
    assert 0 < redis.Redis.from_url(checks.url(1)).ttl("lib:first") <= 100
    assert cache.has("a") and not cache.has("none")
    assert cache.set_many({"m1": 1, "m2": "two"}, timeout=100) == ["m1", "m2"]
    checks.seen(lambda: other.get_many("m1", "none", "m2"), [1, None, "two"])
    checks.seen(lambda: other.get_dict("m1", "m2"), {"m1": 1, "m2": "two"})
    assert cache.delete("a") and cache.get("a") is None
    assert cache.delete_many("m1", "m2") == ["m1", "m2"]
    checks.seen(lambda: other.get_many("a", "m1", "m2"), [None, None, None])


def check_two_count_at_once() -> None:
    def count(node: int) -> None:
        mine = on_node(node)
        for _ in range(50):
            mine.inc("visits", 2)
            mine.dec("visits")

    checks.at_once(count, 1, 2)
    checks.seen(lambda: on_node(3).get("visits"), 100)


def check_ends() -> None:
    cache, other = on_node(1), on_node(2)
    cache.set("short", 1, timeout=5)
    cache.set("kept", 1, timeout=0)  # for good
    assert cache.get("short") == 1
    checks.seen(lambda: other.get("short"), None)
    checks.seen(lambda: other.get("kept"), 1)


def check_clear_takes_what_has_the_prefix() -> None:
    cache, other = on_node(1), RedisCache(redis.Redis.from_url(checks.url(2)))
    cache.set_many({f"c{number}": number for number in range(20)})
    other.set("stays", 1)
    assert cache.clear()
    checks.seen(lambda: other.get("lib:c1"), None)
    assert other.get("stays") == 1


def check_flask_caching() -> None:
    names = checks.recipe("Flask: cache")
    app, cache = names["app"], names["cache"]
    made: list[str] = []

    @app.get("/menu")
    @cache.cached(timeout=100)
    def menu() -> str:
        made.append("menu")
        return "tea"

    @cache.memoize(100)
    def price(item: str) -> int:
        made.append(item)
        return len(item)

    visitor = app.test_client()
    assert [visitor.get("/menu").text for _ in range(3)] == ["tea"] * 3
    with app.app_context():
        assert [price("tea"), price("milk"), price("tea")] == [3, 4, 3]
        assert made == ["menu", "tea", "milk"]
        cache.delete_memoized(price, "tea")
        assert price("tea") == 3 and price("milk") == 4
        assert made == ["menu", "tea", "milk", "tea"]
        cache.clear()
    visitor.get("/menu")
    assert made == ["menu", "tea", "milk", "tea", "menu"]


checks.run(globals())
