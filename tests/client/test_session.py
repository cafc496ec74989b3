"""Sessions: read your writes, monotonic reads, or an error; never less than was seen."""

from __future__ import annotations

import pytest
from tests.client.fake_node import HASTY, FakeCluster, in_loop

import everwrite
from everwrite.client.limits import SESSION_KEYS_MAX
from everwrite.core.data import context
from everwrite.core.data.versions import Clock, Seen
from everwrite.core.messages.requests import Get

A, B = b"a" * 16, b"b" * 16
KEY = b"k"


def token(clock: Clock) -> bytes:
    return context.sign(b"secret", KEY, Seen(clock, []))


def test_a_session_that_has_seen_nothing_is_satisfied_by_anything() -> None:
    session = everwrite.Session()

    assert session.satisfied(KEY, b"")
    assert session.satisfied(KEY, token({A: 1}))


def test_a_session_is_satisfied_by_what_knows_all_that_it_has_seen() -> None:
    session = everwrite.Session()
    session.note(KEY, token({A: 2}))

    assert session.satisfied(KEY, token({A: 2}))
    assert session.satisfied(KEY, token({A: 3, B: 1}))
    assert not session.satisfied(KEY, token({A: 1, B: 9}))
    assert not session.satisfied(KEY, b"")


def test_a_session_joins_what_it_sees() -> None:
    session = everwrite.Session()
    session.note(KEY, token({A: 2}))
    session.note(KEY, token({B: 1}))

    assert not session.satisfied(KEY, token({A: 2}))
    assert not session.satisfied(KEY, token({B: 1}))
    assert session.satisfied(KEY, token({A: 2, B: 1}))


def test_an_older_answer_takes_nothing_from_a_session() -> None:
    session = everwrite.Session()
    session.note(KEY, token({A: 2}))
    session.note(KEY, token({A: 1}))
    session.note(KEY, b"")

    assert session.seen(KEY) == token({A: 2})


def test_a_session_forgets_the_keys_it_has_not_touched_for_longest() -> None:
    session = everwrite.Session()
    for number in range(SESSION_KEYS_MAX):
        session.note(b"%d" % number, token({A: 1}))
    session.note(b"0", token({A: 1}))

    session.note(b"one more", token({A: 1}))

    assert session.seen(b"0")
    assert session.seen(b"one more")
    assert not session.seen(b"1")


@in_loop
async def test_a_session_reads_its_own_writes_from_owners_that_lag_behind() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things, session = db.bucket("things"), db.session()
        await things.put("k", b"v", session=session)
        for node in cluster.owners_of("k")[:2]:
            node.records.clear()

        answers = [await things.get("k", session=session) for _ in range(3)]

        assert [found.value for found in answers] == [b"v"] * 3


@in_loop
async def test_owners_that_agree_on_less_than_was_seen_are_not_believed() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url, timing=HASTY) as db:
        things, session = db.bucket("things"), db.session()
        await things.put("k", b"v", session=session)
        for node in cluster.nodes:
            node.records.clear()

        with pytest.raises(everwrite.StaleSession):
            await things.get("k", session=session)
        without = await things.get("k")

        assert without.quality.absent == "never"
        asked = [ask for node in cluster.nodes for ask in node.requests(Get)]
        assert session.seen(cluster.data_key("k")) in [ask.seen for ask in asked]


@in_loop
async def test_a_session_never_reads_backwards() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url, timing=HASTY) as db:
        things, session = db.bucket("things"), db.session()
        await things.put("k", b"old")
        old = [dict(node.records) for node in cluster.nodes]
        await things.put("k", b"new", context=(await things.get("k")).context)
        assert (await things.get("k", session=session)).value == b"new"
        for node, records in zip(cluster.nodes, old, strict=True):
            node.records = records

        with pytest.raises(everwrite.StaleSession):
            await things.get("k", session=session)


@in_loop
async def test_a_session_sees_its_delete_and_its_update() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things, session = db.bucket("things"), db.session()
        await things.update("k", lambda _: [1], session=session)
        after_update = session.seen(cluster.data_key("k"))
        await things.update("k", lambda _: None, session=session)

        found = await things.get("k", session=session)

        assert found.quality.absent == "deleted"
        assert after_update not in (b"", session.seen(cluster.data_key("k")))


@in_loop
async def test_a_quorum_of_the_callers_own_asks_for_the_session_in_one_go() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things, session = db.bucket("things"), db.session()
        await things.put("k", b"v", session=session)

        await things.get("k", r=3, session=session)

        (asked,) = [ask for node in cluster.nodes for ask in node.requests(Get)]
        assert asked.seen == session.seen(cluster.data_key("k"))
