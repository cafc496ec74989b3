"""redis-py, as most programs use it: values, batches, counters, locks, scans; RESP2 and RESP3."""

from __future__ import annotations

import checks
import redis
from redis.exceptions import LockNotOwnedError

NAMES = checks.recipe("redis-py")


def client(node: int, protocol: int = 2, **options: object) -> redis.Redis:
    return redis.Redis.from_url(checks.url(node), protocol=protocol, **options)


def check_recipe() -> None:
    r = NAMES["r"]
    assert isinstance(r, redis.Redis)
    assert 3590 <= r.ttl("session:7") <= 3600
    with client(3) as other:
        checks.seen(lambda: other.get("session:7"), b"alice")


def check_values_are_seen_through_another_node() -> None:
    for protocol in (2, 3):
        with client(1, protocol) as r, client(2, protocol) as other:
            assert r.set("name", f"alice{protocol}", ex=100)
            checks.seen(lambda other=other: other.get("name"), b"alice%d" % protocol)
            assert 90 < other.ttl("name") <= 100
            assert r.get("none") is None
            assert r.mset({"a": "1", "b": "2"})
            assert r.mget("a", "none", "b") == [b"1", None, b"2"]
            r.hset("user", mapping={"name": "bob", "visits": 1})
            assert r.hincrby("user", "visits", 2) == 3
            checks.seen(
                lambda other=other: other.hgetall("user"), {b"name": b"bob", b"visits": b"3"}
            )
            r.sadd("tags", "x", "y")
            checks.seen(lambda other=other: other.smembers("tags"), {b"x", b"y"})
            assert r.srem("tags", "x") == 1
            assert r.delete("name", "a", "b", "user", "tags") == 5
            checks.seen(lambda other=other: other.exists("name", "a", "b", "user", "tags"), 0)


def check_text_comes_as_text_if_asked() -> None:
    with client(1, 3, decode_responses=True) as r:
        r.set("menu", "Grüße")
        assert r.get("menu") == "Grüße"
        assert r.config_get("maxmemory")["maxmemory"] == "0"
        assert r.info()["redis_version"]


def check_ends() -> None:
    with client(1) as r, client(2) as other:
        assert r.set("short", "1", ex=5)
        assert r.set("kept", "1", ex=100)
        assert r.get("short") == b"1"
        checks.seen(lambda: other.get("short"), None)
        checks.seen(lambda: r.exists("short", "kept"), 1)
        assert r.set("short", "2", nx=True, ex=100)  # free again
        assert r.expire("kept", 1000)
        assert 990 < r.ttl("kept") <= 1000


def check_batches() -> None:
    for protocol in (2, 3):
        with client(1, protocol) as r, client(2, protocol) as other:
            for transaction in (True, False):
                with r.pipeline(transaction=transaction) as batch:
                    batch.set("p", "5").incr("p").hset("q", "f", "v").get("p").expire("p", 50)
                    assert batch.execute()[:1] == [True]
                checks.seen(lambda other=other: other.get("p"), b"6")
                assert 40 < other.ttl("p") <= 50
                with r.pipeline(transaction=transaction) as batch:
                    batch.set("p", "text").incr("p").get("p")
                    said, failed, found = batch.execute(raise_on_error=False)
                assert said is True and found == b"text"
                assert isinstance(failed, redis.ResponseError)
                r.delete("p", "q")


def check_many_in_one_pipeline() -> None:
    with client(1, 3) as r, client(2, 3) as other:
        with r.pipeline(transaction=False) as batch:
            for number in range(500):
                batch.set(f"many:{number}", number, ex=600)
            assert batch.execute() == [True] * 500
        wanted = [b"%d" % number for number in range(500)]
        checks.seen(lambda: other.mget([f"many:{number}" for number in range(500)]), wanted)
        found = list(other.scan_iter(match="many:*", count=50))
        assert sorted(set(found)) == sorted(b"many:%d" % number for number in range(500))
        r.hset("wide", mapping={str(number): number for number in range(50)})
        assert len(dict(r.hscan_iter("wide"))) == 50
        r.sadd("wide set", *range(50))
        assert len(set(r.sscan_iter("wide set"))) == 50


def check_two_count_at_once() -> None:
    def count(node: int) -> None:
        with client(node) as r:
            for _ in range(100):
                r.incr("both")
                r.hincrby("pages", "start", 2)

    checks.at_once(count, 1, 2)
    with client(3) as r:
        checks.seen(lambda: r.get("both"), b"200")
        checks.seen(lambda: r.hget("pages", "start"), b"400")


def check_locks() -> None:
    with client(1) as r, client(2) as other:
        with r.lock("job", timeout=50) as lock:
            assert lock.owned()
            second = other.lock("job", timeout=50)
            assert not second.acquire(blocking=False)
            assert lock.extend(100)
            assert 140 < r.ttl("job") <= 150
            assert lock.extend(200, replace_ttl=True)
            assert 190 < r.ttl("job") <= 200
            assert lock.reacquire()
            assert 40 < r.ttl("job") <= 50
        assert second.acquire(blocking_timeout=checks.PATIENCE_S)  # released, so it is free
        second.release()
        checks.seen(lambda: r.exists("job"), 0)


def check_a_lock_that_ended_is_not_owned_and_free() -> None:
    with client(1) as r, client(2) as other:
        lock = r.lock("short job", timeout=1)
        assert lock.acquire(blocking=False)
        second = other.lock("short job", timeout=100)
        assert second.acquire(blocking_timeout=checks.PATIENCE_S)
        checks.seen(lock.owned, False)
        checks.failure(LockNotOwnedError, lock.reacquire)
        checks.failure(LockNotOwnedError, lock.extend, 5)
        checks.failure(LockNotOwnedError, lock.release)
        assert second.owned()
        second.release()


checks.run(globals())
