"""Large hashes and sets, and what is over the largest."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError
from tests.client.fake_node import in_loop
from tests.server.redis.asked import note_asked
from tests.server.redis.redis_api import client_of, one, three

from everwrite.core.data.keys import VALUE_BYTES_MAX
from everwrite.core.messages.listing import List

FIELDS = 4_000
FIELDS_MAX = 16_384


@in_loop
async def test_a_hash_of_many_fields_is_made_and_lives_on() -> None:
    """Of all that a key can have: tests/core/types/test_changing_ends.py."""
    async with one() as (_, client):
        fields = {f"f{at}": str(at) for at in range(FIELDS)}

        assert await client.hset("h", mapping=fields) == FIELDS
        assert await client.expire("h", 100)
        assert 0 < await client.ttl("h") <= 100
        assert await client.persist("h")
        assert await client.ttl("h") == -1
        assert await client.hlen("h") == FIELDS
        assert await client.hget("h", "f77") == b"77"
        assert await client.hset("h", "f77", "new") == 0
        more = {f"more{at}": "1" for at in range(FIELDS, FIELDS_MAX + 1)}
        with pytest.raises(ResponseError, match="the most is 16384"):
            await client.hset("h", mapping=more)
        assert await client.hlen("h") == FIELDS


@in_loop
async def test_values_of_hashes_are_as_long_as_those_of_keys_and_can_be_given_an_end() -> None:
    async with three() as (_, (client, other, _)):
        long = b"x" * VALUE_BYTES_MAX

        assert await client.hset("h", "f", long) == 1
        assert await client.hset("h", "g", long[: VALUE_BYTES_MAX // 2]) == 1
        assert await client.expire("h", 100)
        assert await other.hget("h", "f") == long
        assert await client.persist("h")
        with pytest.raises(ResponseError, match="nothing was done"):
            await client.hset("i", mapping={"f": long, "g": long})
        assert await client.exists("i") == 0
        assert await client.hlen("h") == 2


@in_loop
async def test_all_databases_are_flushed_on_one_way_through_the_ring(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with one() as (runtime, client):
        steps = note_asked(monkeypatch, List)
        await client.flushdb()
        once = len(steps)
        steps.clear()
        for database in (0, 1, 9, 15):
            async with client_of(runtime, db=database) as each:
                await each.mset({f"k{at}": "v" for at in range(50)})

        assert await client.flushall()

        assert 0 < len(steps) <= once
        for database in (0, 1, 9, 15):
            async with client_of(runtime, db=database) as each:
                assert await each.dbsize() == 0
