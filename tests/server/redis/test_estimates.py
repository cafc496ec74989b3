"""PFADD, PFCOUNT, PFMERGE: estimates, and that no add is lost."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ResponseError
from tests.client.fake_node import in_loop
from tests.server.redis.redis_api import one, three

from everwrite.server.redis.hyperlog import (
    NONE,
    REGISTERS,
    SPARSE_BYTES_MAX,
    added,
    decode,
    encode,
    estimate,
    is_sketch,
    merged,
)
from everwrite.server.redis.replies import Problem


def some(seed: int, filled: int, most: int) -> bytes:
    """Registers of which so many have something."""
    draw = random.Random(seed)
    registers = bytearray(REGISTERS)
    for at in draw.sample(range(REGISTERS), filled):
        registers[at] = draw.randint(1, most)
    return bytes(registers)


registers_ = st.builds(
    some,
    st.integers(0, 1 << 30),
    st.one_of(st.integers(0, 40), st.integers(0, REGISTERS)),
    st.sampled_from([1, 5, 32, 33, 51]),
)


@given(registers_)
def test_what_is_written_is_read_back(registers: bytes) -> None:
    sketch = encode(registers)
    assert is_sketch(sketch)
    assert decode(sketch) == registers


def test_few_registers_are_short() -> None:
    assert len(encode(NONE)) == 18
    assert len(encode(added(NONE, [b"a", b"b", b"c"]))) < 40
    assert len(encode(some(1, 1000, 20))) <= SPARSE_BYTES_MAX
    assert len(encode(NONE[1:] + b"\x20")) < 40
    assert len(encode(NONE[1:] + b"\x21")) == 12_304  # a run cannot say more than 32


@given(registers_, registers_, registers_)
def test_merges_come_to_the_same_in_any_order(one: bytes, two: bytes, three: bytes) -> None:
    both = merged([one, two])
    assert both == bytes(map(max, one, two)) == merged([two, one])
    assert merged([both, three]) == merged([one, merged([two, three])]) == merged([one, two, three])
    assert merged([one, one]) == one


@given(st.lists(st.binary(max_size=20)), st.lists(st.binary(max_size=20)))
def test_adds_apart_merge_to_adds_together(some: list[bytes], more: list[bytes]) -> None:
    assert merged([added(NONE, some), added(NONE, more)]) == added(NONE, some + more)


def test_an_add_that_changes_nothing_is_the_same() -> None:
    registers = added(NONE, [b"a", b"b"])
    assert added(registers, [b"b", b"a"]) is registers


def test_the_error_is_as_it_should_be() -> None:
    errors = []
    for seed in range(12):
        count = 20_000
        found = estimate(added(NONE, (b"%d:%d" % (seed, at) for at in range(count))))
        errors.append((found - count) / count)
    deviation = (sum(error * error for error in errors) / len(errors)) ** 0.5
    assert deviation < 0.0162  # twice 0.81 %: of twelve this fails less than once in a billion
    assert max(map(abs, errors)) < 0.04


@given(st.binary(max_size=60))
def test_garbled_runs_are_told(runs: bytes) -> None:
    sketch = encode(NONE)[:16] + runs
    try:
        registers = decode(sketch)
    except Problem as problem:
        said = str(problem)
    else:
        said = "INVALIDOBJ" if len(registers) == REGISTERS else "a wrong number of registers"
    assert said.startswith("INVALIDOBJ")


@in_loop
async def test_adds_of_all_nodes_at_once_all_count() -> None:
    async with three() as (_, clients):
        adds = [
            client.pfadd("p", *(f"{node}:{turn}:{at}" for at in range(5)))
            for turn in range(8)
            for node, client in enumerate(clients)
        ]
        await asyncio.gather(*adds)

        elements = [
            f"{node}:{turn}:{at}".encode()
            for turn in range(8)
            for node in range(3)
            for at in range(5)
        ]
        for client in clients:
            assert await client.pfcount("p") == estimate(added(NONE, elements))
            assert await client.type("p") == b"string"


@in_loop
async def test_siblings_are_merged_by_readers_and_superseded_by_the_next_add() -> None:
    async with one() as (_, r):
        for element in (b"a", b"b", b"c"):  # writes that have seen nothing of each other
            await r.execute_command("DYN.PUT", "p", encode(added(NONE, [element])))
        all_three = encode(added(NONE, [b"a", b"b", b"c"]))
        assert len(await r.execute_command("DYN.SIBLINGS", "p")) == 3

        assert await r.pfcount("p") == 3
        assert await r.get("p") == all_three
        assert await r.pfadd("p", "a") == 0

        assert len(await r.execute_command("DYN.SIBLINGS", "p")) == 1
        assert await r.get("p") == all_three


@in_loop
async def test_an_end_that_is_given_to_siblings_loses_none() -> None:
    async with one() as (_, r):
        for element in (b"a", b"b"):
            await r.execute_command("DYN.PUT", "p", encode(added(NONE, [element])))

        assert await r.expire("p", 100)

        assert await r.pfcount("p") == 2
        assert 95 < await r.ttl("p") <= 100
        assert await r.pfadd("p", "c") == 1
        assert 95 < await r.ttl("p") <= 100


@in_loop
async def test_a_sibling_that_is_no_sketch_counts_as_other_types_do() -> None:
    async with one() as (_, r):
        await r.execute_command("DYN.PUT", "p", encode(added(NONE, [b"a"])))
        await r.execute_command("DYN.PUT", "p", "tea")
        with pytest.raises(ResponseError, match="not a valid HyperLogLog"):
            await r.pfcount("p")
        await r.execute_command("DYN.PUT", "p", encode(added(NONE, [b"b"])))
        assert await r.pfcount("p") == 2  # the last one is a sketch: so all sketches are shown
        assert await r.pfadd("p", "c") == 1
        assert len(await r.execute_command("DYN.SIBLINGS", "p")) == 1


@in_loop
async def test_what_is_garbled_is_an_error() -> None:
    async with one() as (_, r):
        await r.set("p", encode(NONE)[:17])
        await r.execute_command("DYN.PUT", "q", encode(NONE)[:17])
        await r.execute_command("DYN.PUT", "q", encode(NONE))
        assert await r.get("q") == encode(NONE)
        with pytest.raises(ResponseError, match="Corrupted HLL"):
            await r.pfcount("q")
        with pytest.raises(ResponseError, match="Corrupted HLL"):
            await r.pfcount("p")
        with pytest.raises(ResponseError, match="Corrupted HLL"):
            await r.pfadd("p", "a")
