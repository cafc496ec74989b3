"""django-redis: Django's cache, and what it adds: ends, patterns, locks, sets, hashes."""

from __future__ import annotations

import checks

cache, other = checks.in_django(checks.recipe("django-redis"))

from django.contrib.sessions.backends.cache import SessionStore  # noqa: E402 - wants settings


def check_set_get_delete() -> None:
    assert cache.set("menu", {"tea": 3}, timeout=100)
    assert cache.set("menu", "other", nx=True) is False
    checks.seen(lambda: other.get("menu"), {"tea": 3})
    assert cache.add("first", "a", 100)
    assert not other.add("first", "b", 100)
    assert cache.get_or_set("made", lambda: "once", 100) == "once"
    assert cache.has_key("menu")
    assert cache.delete("menu") and not cache.delete("menu")
    checks.seen(lambda: other.has_key("menu"), False)


def check_many() -> None:
    values = {f"many{number}": number for number in range(30)}
    cache.set_many(values, timeout=100)
    checks.seen(lambda: other.get_many([*values, "none"]), values)
    assert sorted(other.keys("many*")) == sorted(values)
    assert sorted(set(other.iter_keys("many*", itersize=7))) == sorted(values)
    assert cache.delete_many(["many0", "many1"]) == 2
    assert cache.delete_pattern("many*") == 28
    checks.seen(lambda: other.keys("many*"), [])


def check_counters() -> None:
    checks.two_count_in_django()
    assert cache.incr("new", 5, ignore_key_check=True) == 5
    checks.failure(ValueError, cache.incr, "none")
    checks.failure(ValueError, cache.decr, "none")


def check_ends() -> None:
    cache.set("short", 1, timeout=1)
    cache.set("other", 1, timeout=1.5)
    checks.seen(lambda: other.get_many(["short", "other"]), {})
    cache.set("long", 1, timeout=100)
    assert 90 < cache.ttl("long") <= 100
    assert cache.expire("long", timeout=200)
    assert 190_000 < cache.pttl("long") <= 200_000
    assert cache.pexpire("long", timeout=50_000)
    assert 40 < cache.ttl("long") <= 50
    assert cache.touch("long", 300)
    assert 290 < cache.ttl("long") <= 300
    assert cache.persist("long")
    assert cache.ttl("long") is None
    assert cache.ttl("none") == 0


def check_locks() -> None:
    with cache.lock("job", timeout=50):
        second = other.lock("job", timeout=50)
        assert not second.acquire(blocking=False)
    assert second.acquire(blocking_timeout=checks.PATIENCE_S)
    second.release()


def check_sets_and_hashes() -> None:
    assert cache.sadd("tags", "x", "y") == 2
    checks.seen(lambda: other.smembers("tags"), {"x", "y"})
    assert cache.srem("tags", "x") == 1
    assert cache.sismember("tags", "y") and not cache.sismember("tags", "x")
    assert cache.scard("tags") == 1
    cache.hset("user", "name", "bob")
    assert cache.hexists("user", "name")
    checks.seen(lambda: other.hkeys("user"), ["name"])
    assert cache.hlen("user") == 1
    assert cache.hdel("user", "name") == 1


def check_clear() -> None:
    cache.set("a", 1)
    cache.clear()
    checks.seen(lambda: other.keys("*"), [])


def check_sessions() -> None:
    session = SessionStore()
    session["user"] = "alice"
    session.set_expiry(5)
    session.save()
    assert SessionStore(session.session_key)["user"] == "alice"
    checks.seen(lambda: SessionStore(session.session_key).get("user"), None)
    session = SessionStore()
    session["user"] = "bob"
    session.save()
    held = session.session_key
    session.flush()
    assert not SessionStore(held).exists(held)


checks.run(globals())
