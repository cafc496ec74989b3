"""limits, on which Flask-Limiter and slowapi build: windows fill, are shared by nodes, and end."""

from __future__ import annotations

import threading
import time

import checks
import limits
import redis
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter


def storage(node: int) -> limits.storage.Storage:
    return limits.storage.storage_from_string(checks.url(node))


def hits(limiter: limits.strategies.RateLimiter, limit: limits.RateLimitItem, who: str) -> int:
    """Return how many of twenty hits were let through."""
    return sum(limiter.hit(limit, who) for _ in range(20))


def check_recipe() -> None:
    names = checks.recipe("Rate limits")
    assert names["may_go_on"] is True
    left = (
        names["limiter"]
        .get_window_stats(limits.parse("100/minute"), "login", "203.0.113.7")
        .remaining
    )
    assert left == 99
    assert storage(2).check()


def check_fixed_window() -> None:
    limiter = limits.strategies.FixedWindowRateLimiter(storage(1))
    other = limits.strategies.FixedWindowRateLimiter(storage(2))
    limit = limits.parse("10/hour")
    assert hits(limiter, limit, "fixed") == 10
    checks.seen(lambda: other.test(limit, "fixed"), False)
    assert not other.hit(limit, "fixed")
    assert 3500 < storage(2).get_expiry(limit.key_for("fixed")) - time.time() <= 3601
    limiter.clear(limit, "fixed")
    checks.seen(lambda: other.test(limit, "fixed"), True)


def check_sliding_window() -> None:
    limiter = limits.strategies.SlidingWindowCounterRateLimiter(storage(1))
    other = limits.strategies.SlidingWindowCounterRateLimiter(storage(2))
    limit = limits.parse("10/hour")
    assert hits(limiter, limit, "sliding") == 10
    checks.seen(lambda: other.test(limit, "sliding"), False)
    assert limiter.get_window_stats(limit, "sliding").remaining == 0
    limiter.clear(limit, "sliding")
    checks.seen(lambda: other.test(limit, "sliding"), True)


def check_a_moving_window_is_refused_with_the_reason() -> None:
    limiter = limits.strategies.MovingWindowRateLimiter(storage(1))
    said = checks.failure(redis.ResponseError, limiter.hit, limits.parse("10/hour"), "moving")
    assert "there are no lists here" in said


def check_a_window_ends() -> None:
    limiter = limits.strategies.FixedWindowRateLimiter(storage(1))
    limit = limits.parse("3/second")
    checks.seen(lambda: limiter.hit(limit, "short"), False)
    checks.seen(lambda: limiter.hit(limit, "short"), True)


def check_two_hit_at_once_and_each_window_has_an_end() -> None:
    limit = limits.parse("1000/hour")
    ready = threading.Barrier(2)

    def hit(node: int) -> None:
        limiter = limits.strategies.FixedWindowRateLimiter(storage(node))
        for number in range(25):
            ready.wait()
            limiter.hit(limit, f"both{number}")

    checks.at_once(hit, 1, 2)
    kept = storage(3)
    for number in range(25):
        key = limit.key_for(f"both{number}")
        checks.seen(lambda key=key: kept.get(key), 2)
        assert 3500 < kept.storage.ttl(kept.prefixed_key(key)) <= 3600


async def check_asyncio() -> None:
    limiter = FixedWindowRateLimiter(
        RedisStorage(f"async+{checks.url(1)}", implementation="redispy")
    )
    limit = limits.parse("10/hour")
    # One after another: of several at once two may be told the same number, and one more is let in.
    assert [await limiter.hit(limit, "async") for _ in range(20)] == [True] * 10 + [False] * 10
    assert not await limiter.test(limit, "async")


def check_reset_takes_all_windows_away() -> None:
    limiter = limits.strategies.FixedWindowRateLimiter(storage(1))
    limit = limits.parse("1/hour")
    assert limiter.hit(limit, "reset") and not limiter.hit(limit, "reset")
    assert storage(1).reset() >= 1
    checks.seen(lambda: limiter.test(limit, "reset"), True)


checks.run(globals())
