"""Entity tags: equal for equal values on every node of a cluster, and for no others."""

from __future__ import annotations

from functools import partial

import xxhash
from hypothesis import given
from hypothesis import strategies as st
from tests.client.fake_node import in_loop
from tests.server.http.api import KEY, one, three

from everwrite.core.data.labels import KIND_BYTES, KIND_TEXT, Kind, kind_of
from everwrite.server.http.tags import Tags, matches

TAGS = Tags(b"k" * 32, partial(xxhash.xxh3_128_digest, seed=7))
VALUES = st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=8)), min_size=1, max_size=4)


@given(VALUES, VALUES)
def test_equal_tags_are_equal_values(
    one: list[tuple[Kind, bytes]], other: list[tuple[Kind, bytes]]
) -> None:
    assert (TAGS.of(one) == TAGS.of(other)) == (one == other)


def test_a_tag_says_in_which_form_and_of_which_type_a_value_is() -> None:
    values: list[tuple[Kind, bytes]] = [(KIND_BYTES, b"v")]
    tags = {
        TAGS.of(values),
        TAGS.of(values, "-envelope"),
        TAGS.of([(KIND_TEXT, b"v")]),
        TAGS.of([(kind_of(KIND_BYTES, "image/png"), b"v")]),
        TAGS.of([(kind_of(KIND_BYTES, "image/gif"), b"v")]),
    }
    assert len(tags) == 5
    assert matches(b'"x", ' + TAGS.of(values), TAGS.of(values))
    assert not matches(b'"x"', TAGS.of(values))


@in_loop
async def test_every_node_of_a_cluster_gives_the_same_tag() -> None:
    async with three(secret=b"a secret of some length") as (_, clients):
        known = {"Authorization": "Bearer a secret of some length"}
        await clients[0].put(KEY, content=b"v", headers=known)
        tags = {(await client.get(KEY, headers=known)).headers["etag"] for client in clients}
        await clients[0].put(KEY, content=b"w", headers=known)
        several = [await client.get(KEY, headers=known) for client in clients]

        assert len(tags) == 1
        assert {each.status_code for each in several} == {300}
        assert len({each.headers["etag"] for each in several}) == 1


@in_loop
async def test_nobody_outside_a_cluster_can_tell_what_tag_a_value_gets() -> None:
    async with one() as (_, client), one() as (_, other):
        await client.put(KEY, content=b"v")
        await other.put(KEY, content=b"v")

        mine, theirs = (await client.get(KEY)).headers, (await other.get(KEY)).headers
        assert mine["etag"] != theirs["etag"]


@in_loop
async def test_a_tag_does_not_show_by_what_names_nodes_know_records() -> None:
    async with one() as (runtime, client):
        await client.put(KEY, content=b"v")

        assert (
            runtime.node.local.fingerprint(b"v").hex()
            not in (await client.get(KEY)).headers["etag"]
        )
