"""Scripts that clients are known to send: recognised by their SHA-1, done by commands of our own.

Their texts are not here: locks are redis-py's own, all else is asked for by the SHA-1.
"""

from __future__ import annotations

import asyncio
from hashlib import sha1
from typing import Any

import pytest
import redis.asyncio as redis
from msgspec.structs import replace
from redis.exceptions import LockError, LockNotOwnedError, NoScriptError
from redis.lock import Lock
from tests.client.fake_node import in_loop
from tests.server.nodes import until
from tests.server.redis.redis_api import client_of, one, three
from tests.server.redis.test_steps import NOW_MS, QUALITY, WRITTEN, session

from everwrite.core.messages.requests import Get, GetReply, Put
from everwrite.server.redis.known import BY_SHA1, KNOWN, known_by_text, release, where
from everwrite.server.redis.limiting import fixed_window
from everwrite.server.redis.place import RedisPlace

PROTOCOLS = pytest.mark.parametrize("protocol", [2, 3])


async def run(client: redis.Redis, name: str, keys: list[str], *words: str | int) -> Any:
    """Run a script by its name in the table."""
    (known,) = (each for each in KNOWN if each.name == name and each.run is not None)
    return await client.evalsha(known.sha1, len(keys), *keys, *words)


def test_the_texts_of_redis_py_are_known() -> None:
    for text, name in (
        (Lock.LUA_RELEASE_SCRIPT, "lock release"),
        (Lock.LUA_EXTEND_SCRIPT, "lock extend"),
        (Lock.LUA_REACQUIRE_SCRIPT, "lock reacquire"),
    ):
        found = known_by_text(text.encode())
        assert found is not None
        assert found.name == name


def test_no_sha1_stands_twice() -> None:
    assert len(BY_SHA1) == len(KNOWN)


@PROTOCOLS
@in_loop
async def test_a_lock_of_redis_py(protocol: int) -> None:
    async with one() as (runtime, _), client_of(runtime, protocol=protocol) as r:
        mine, theirs = r.lock("lock", timeout=100), r.lock("lock", blocking=False)
        assert await mine.acquire()
        assert not await theirs.acquire()

        assert await mine.extend(50)
        assert 140_000 < await r.pttl("lock") <= 150_000
        assert await mine.extend(1000, replace_ttl=True)
        assert 990_000 < await r.pttl("lock") <= 1_000_000
        assert await mine.reacquire()
        assert 90_000 < await r.pttl("lock") <= 100_000

        await mine.release()
        assert await theirs.acquire()
        with pytest.raises(LockError):
            await mine.release()
        mine.local.token = b"stale"
        for ask in (mine.release, mine.reacquire, lambda: mine.extend(5)):
            mine.local.token = b"stale"
            with pytest.raises(LockNotOwnedError):
                await ask()
        assert await theirs.owned()
        with pytest.raises(LockError):  # it was taken without an end
            await theirs.extend(5)


@in_loop
async def test_a_lock_is_counted_as_advice() -> None:
    async with one() as (runtime, r):
        async with r.lock("lock", timeout=10):
            pass

        assert runtime.redis is not None
        families = {each.name: each for each in runtime.redis.front.measures.collect()}
        advised = families["everwrite_redis_advisory"].samples
        counts = {each.labels["command"]: each.value for each in advised}
        assert counts == {"set": 1, "script lock release": 1}


def test_a_release_takes_away_what_it_read_and_nothing_else() -> None:
    client = session()
    data = client.key(b"lock")
    steps = where(1, release)(client, [data], [b"token"])
    assert isinstance(next(steps), Get)

    asked = steps.send(GetReply(1, [(0, b"token")], b"read", QUALITY))

    assert isinstance(asked, Put)
    assert (asked.value, asked.context, asked.over) == (None, b"read", False)
    with pytest.raises(StopIteration) as end:
        steps.send(WRITTEN)
    assert end.value.value == 1


@PROTOCOLS
@in_loop
async def test_compare_and_set(protocol: int) -> None:
    async with one() as (runtime, _), client_of(runtime, protocol=protocol) as r:
        await r.set("a", "1")
        assert await run(r, "OptimisticLock cas", ["a"], "2", "wrong") == 0
        assert await run(r, "OptimisticLock cas", ["none"], "2", "") == 0
        assert await run(r, "OptimisticLock cas", ["a"], "2", "1") in (b"OK", "OK")
        assert (await r.get("a"), await r.ttl("a")) == (b"2", -1)
        assert await run(r, "OptimisticLock cas", ["a"], "3", "2", "PX", 50_000) in (b"OK", "OK")
        assert await r.get("a") == b"3"
        assert 45 < await r.ttl("a") <= 50
        assert await run(r, "RedLock release", ["a"], "2") == 0
        assert await run(r, "RedLock release", ["a"], "3") == 1
        assert await r.exists("a") == 0


@in_loop
async def test_incr_of_django_redis() -> None:
    async with one() as (_, r):
        assert await run(r, "incr", ["n"], 5) is None
        assert await r.exists("n") == 0
        assert await run(r, "incr, unlooked", ["n"], 5) == 5
        assert await run(r, "incr", ["n"], -2) == 3
        await r.set("text", "pickled")
        with pytest.raises(redis.ResponseError, match="not an integer"):
            await run(r, "incr", ["text"], 1)


@in_loop
async def test_a_fixed_window_ends_when_its_first_add_said() -> None:
    async with one() as (_, r):
        assert await run(r, "fixed window", ["w"], 100, 2) == 2
        assert 95 < await r.ttl("w") <= 100
        assert await run(r, "fixed window", ["w"], 500, 3) == 5
        assert await run(r, "fixed window, older", ["w"], 500) == 6
        assert 95 < await r.ttl("w") <= 100
        assert await r.get("w") == b"6"


@in_loop
async def test_adds_of_all_nodes_at_once_all_count_in_a_fixed_window() -> None:
    async with three() as (_, clients):
        adds = [run(r, "fixed window", ["w"], 100, 1) for r in clients for _ in range(20)]
        await asyncio.gather(*adds)

        for r in clients:
            assert await r.get("w") == b"60"
            assert 95 <= await r.ttl("w") <= 101


def test_a_window_that_ended_between_the_read_and_the_add_gets_an_end() -> None:
    client = session()
    data = client.key(b"w")
    steps = fixed_window(client, [data], [b"100", b"1"])
    next(steps)
    there = GetReply(1, [(0, b"7")], b"read", QUALITY, ends=[NOW_MS + 1], time_ms=NOW_MS)
    asked = steps.send(there)
    assert isinstance(asked, Put)
    assert (asked.change, asked.ttl_ms, asked.context) == (True, 0, b"read")

    assert isinstance(steps.send(replace(WRITTEN, results=[1])), Get)
    asked = steps.send(GetReply(1, [(0, b"1")], b"read", QUALITY))

    assert isinstance(asked, Put)
    assert (asked.value, asked.ttl_ms) == (b"1", 100_000)


@in_loop
async def test_a_value_that_is_exchanged_leaves_what_was_set_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held: list[Any] = []
    async with one() as (runtime, r):
        await r.set("a", "1")
        ask = RedisPlace.ask

        def holding(place: RedisPlace, message: Any, *more: Any) -> None:
            if type(message) is Put and message.value == b"2":
                held.append((message, *more))
            else:
                ask(place, message, *more)

        monkeypatch.setattr(RedisPlace, "ask", holding)
        exchange = asyncio.ensure_future(run(r, "OptimisticLock cas", ["a"], "2", "1"))
        await until(lambda: held, "it has looked, and writes")
        await r.set("a", "theirs")
        assert runtime.redis is not None
        ask(runtime.redis.place, *held[0])

        assert await exchange == b"OK"
        found = await r.execute_command("DYN.GET", "a")
        assert sorted(found[b"siblings"]) == [b"2", b"theirs"]


@PROTOCOLS
@in_loop
async def test_a_sliding_window(protocol: int) -> None:
    async with one() as (runtime, _), client_of(runtime, protocol=protocol) as r:
        keys = ["w/-1", "w"]
        assert await run(r, "sliding window", keys, 60) == [None, -2, None, -2]
        assert await run(r, "sliding window, take", keys, 10, 60, 11) is None
        assert await run(r, "sliding window, take", keys, 10, 60, 4) == 1
        assert await run(r, "sliding window, take", keys, 10, 60, 6) == 1
        assert await run(r, "sliding window, take", keys, 10, 60, 1) is None
        before, before_ms, now, now_ms = await run(r, "sliding window", keys, 60)
        assert (before, before_ms, now) == (None, -2, b"10")
        assert 115_000 < now_ms <= 120_000


@in_loop
async def test_a_sliding_window_that_is_over_is_the_one_before() -> None:
    async with one() as (_, r):
        keys = ["w/-1", "w"]
        await r.set("w", 10, px=30_000)  # of two minutes half a minute is left: it ended, half ago

        before, before_ms, now, now_ms = await run(r, "sliding window", keys, 60)

        assert (before, now) == (b"10", b"0")
        assert 25_000 < before_ms <= 30_000
        assert now_ms == before_ms + 60_000
        assert 25_000 < await r.pttl("w/-1") <= 30_000
        assert 85_000 < await r.pttl("w") <= 90_000
        # of the ten, less than a half and more than four tenths counts still
        assert await run(r, "sliding window, take", keys, 10, 60, 7) is None
        assert await run(r, "sliding window, take", keys, 10, 60, 5) == 1
        assert await run(r, "sliding window, take", keys, 10, 60, 2) is None
        assert await r.get("w") == b"5"
        assert 85_000 < await r.pttl("w") <= 90_000


@in_loop
async def test_adds_beside_a_window_that_is_begun_anew_stay() -> None:
    async with three() as (_, clients):
        keys = ["w/-1", "w"]
        await clients[0].set("w", 3, px=30_000)
        takes = [
            run(r, "sliding window, take", keys, 1000, 60, 1) for r in clients for _ in range(10)
        ]

        assert set(await asyncio.gather(*takes)) == {1}

        # who reads after another one began it anew adds there; who read before writes a 0 beside
        # that, which supersedes no add: all 30 stand
        assert await clients[1].get("w") == b"30"


@in_loop
async def test_keys_that_fit_are_cleared() -> None:
    async with one() as (_, r):
        await r.mset({f"LIMITS:{at}": at for at in range(300)} | {"other": 1, "LIMITS": 2})
        assert await run(r, "clear", ["LIMITS:*"]) == 300
        assert sorted(await r.keys("*")) == [b"LIMITS", b"other"]


@in_loop
async def test_a_script_runs_behind_what_came_before_it() -> None:
    async with one() as (_, r):
        (clear,) = (each.sha1 for each in KNOWN if each.name == "clear")
        async with r.pipeline(transaction=False) as pipe:
            for at in range(50):
                pipe.set(f"a:{at}", at)
            pipe.evalsha(clear, 1, "a:*")
            pipe.set("a:after", 1)
            pipe.dbsize()
            assert (await pipe.execute())[-3:] == [50, True, 1]


@PROTOCOLS
@in_loop
async def test_what_is_not_known_does_not_run(protocol: int) -> None:
    async with one() as (runtime, _), client_of(runtime, protocol=protocol) as r:
        text = "return redis.call('set', KEYS[1], 'x')"
        digest = sha1(text.encode(), usedforsecurity=False).hexdigest()
        with pytest.raises(NoScriptError):
            await r.evalsha(digest, 1, "a")
        for ask in (r.eval(text, 1, "a"), r.script_load(text)):
            with pytest.raises(redis.ResponseError, match=r"only known.*docs/redis.md") as error:
                await ask
            assert digest in str(error.value)
        assert await r.exists("a") == 0


@in_loop
async def test_a_script_that_needs_lists_is_refused_by_name() -> None:
    async with one() as (_, r):
        lists = [each.sha1 for each in KNOWN if each.run is None]
        for digest in lists:
            with pytest.raises(redis.ResponseError, match=r"'moving window' of limits .* no lists"):
                await r.evalsha(digest, 1, "a", 1, 2, 3, 4)
        assert await r.script_exists(*lists) == [False] * len(lists)


@in_loop
async def test_script_load_exists_and_flush() -> None:
    async with one() as (_, r):
        digest = await r.script_load(Lock.LUA_RELEASE_SCRIPT)
        assert (digest if isinstance(digest, str) else digest.decode()) in {
            each.sha1 for each in KNOWN if each.name == "lock release"
        }
        assert await r.script_flush()
        assert await r.script_exists(digest, "0" * 40) == [True, False]


@in_loop
async def test_too_few_keys_or_words_are_an_error() -> None:
    async with one() as (_, r):
        for keys, words in (([], ["a", "b"]), (["a", "b"], ["c"]), (["a"], [])):
            with pytest.raises(redis.ResponseError, match="takes 1 keys and 1 words"):
                await run(r, "lock release", keys, *words)
