"""Estimates, asked of a real Redis server and of a node: the same answers, and the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.client.fake_node import in_loop
from tests.server.redis.real_redis import beside, differences, real
from tests.server.redis.redis_api import one

pytestmark = beside

ESTIMATES = """
PFADD
PFADD p
PFADD p
PFADD p a b c
PFADD p a
PFCOUNT p
PFCOUNT none
PFADD q c d e "" f
PFCOUNT p q none
PFMERGE r p q
PFCOUNT r
PFMERGE empty
PFMERGE empty none
PFCOUNT empty
TYPE p
STRLEN p
GETRANGE p 0 3
EXPIRE p 100
PFADD p z
TTL p
SET a 1
HSET h a 1
PFADD a x
PFCOUNT a
PFMERGE q a
PFADD h x
PFCOUNT p h
PFCOUNT
"""


@pytest.mark.parametrize("protocol", [2, 3])
@in_loop
async def test_a_node_answers_as_redis_does(tmp_path: Path, protocol: int) -> None:
    _, differ = await differences(tmp_path, ESTIMATES, protocol)
    assert differ == {}


@in_loop
async def test_an_estimate_is_the_same_to_the_byte(tmp_path: Path) -> None:
    async with real(tmp_path) as theirs, one() as (_, ours):
        for size in (10, 100, 1000, 30_000):
            for begin in range(0, size, 1000):
                elements = [f"element {at}" for at in range(begin, min(begin + 1000, size))]
                for each in (theirs, ours):
                    await each.pfadd("p", *elements)
            count = await theirs.pfcount("p")
            assert await ours.pfcount("p") == count
            assert abs(count - size) < 0.03 * size
            for one_, other in ((theirs, ours), (ours, theirs)):  # each reads what the other wrote
                sketch = await one_.get("p")
                assert sketch is not None
                await other.set("q", sketch)
                assert await other.pfcount("q") == count
