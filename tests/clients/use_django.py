"""Django's own cache on Redis, and the sessions that it keeps in a cache."""

from __future__ import annotations

import checks

cache, other = checks.in_django(
    checks.recipe("Django: cache and sessions"),
    OPTIONS=checks.recipe("All nodes under one name")["again"],
)

from django.contrib.sessions.backends.cache import SessionStore  # noqa: E402 - wants settings


def check_set_get_delete() -> None:
    cache.set("menu", {"tea": 3, "jam": [1, 2]}, timeout=100)
    cache.set("number", 7)
    checks.seen(lambda: other.get("menu"), {"tea": 3, "jam": [1, 2]})
    checks.seen(lambda: other.get("number"), 7)
    assert cache.get("none", "default") == "default"
    assert cache.has_key("menu") and not cache.has_key("none")
    assert cache.get_or_set("made", lambda: "once", 100) == "once"
    assert cache.get_or_set("made", lambda: "twice", 100) == "once"
    assert cache.delete("menu") and not cache.delete("menu")
    checks.seen(lambda: other.get("menu"), None)


def check_add_takes_only_what_is_free() -> None:
    assert cache.add("first", "a", 100)
    assert not other.add("first", "b", 100)
    assert cache.get("first") == "a"


def check_many() -> None:
    values = {f"many{number}": number for number in range(30)}
    assert cache.set_many(values, timeout=100) == []
    checks.seen(lambda: other.get_many([*values, "none"]), values)
    cache.delete_many(list(values))
    checks.seen(lambda: other.get_many(values), {})
    cache.set_many({"for good": 1}, timeout=None)
    assert cache.get("for good") == 1


def check_counters() -> None:
    checks.two_count_in_django()
    checks.failure(ValueError, cache.incr, "none")
    cache.set("versioned", "v")
    assert cache.incr_version("versioned") == 2
    assert cache.get("versioned", version=2) == "v" and cache.get("versioned") is None


def check_ends() -> None:
    cache.set("lives on", 1, timeout=5)
    assert cache.touch("lives on", 1000)
    cache.set("kept", 1, timeout=5)
    assert cache.touch("kept", None)
    assert not cache.touch("none", 10)
    cache.set("short", 1, timeout=5)  # last, so the others would have ended before it
    cache.set_many({"short many": 1}, timeout=5)
    assert cache.get("short") == 1
    checks.seen(lambda: other.get_many(["short", "short many"]), {})
    checks.seen(lambda: other.get_many(["lives on", "kept"]), {"lives on": 1, "kept": 1})
    cache.set("at once", 1, timeout=0)
    assert cache.get("at once") is None


def check_clear() -> None:
    cache.set_many({f"c{number}": number for number in range(20)}, 100)
    assert cache.clear()
    checks.seen(lambda: other.get_many([f"c{number}" for number in range(20)]), {})


def check_sessions() -> None:
    session = SessionStore()
    session["user"] = "alice"
    session.save()
    key = session.session_key

    again = SessionStore(key)  # the next request
    assert again["user"] == "alice"
    again["cart"] = ["tea"]
    again.save()
    again.cycle_key()  # at a login: another name, the same content
    assert again.session_key != key
    assert not SessionStore(key).exists(key)
    assert dict(SessionStore(again.session_key).items()) == {"user": "alice", "cart": ["tea"]}

    held = again.session_key
    again.flush()  # at a logout
    assert dict(SessionStore(held).items()) == {}
    checks.seen(lambda: other.get("django.contrib.sessions.cache" + held), None)


def check_a_session_ends() -> None:
    session = SessionStore()
    session["user"] = "bob"
    session.set_expiry(5)
    session.save()
    key = session.session_key
    assert SessionStore(key)["user"] == "bob"
    checks.seen(lambda: SessionStore(key).get("user"), None)


checks.run(globals())
