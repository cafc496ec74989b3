"""What a get would answer: the real one's answer is among those that were foreseen."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.data.histories import version
from tests.core.request.test_survey import surveyed
from tests.core.world import KEY, World

from everwrite.core.data import versions
from everwrite.core.data.versions import Record
from everwrite.core.messages.requests import GetReply
from everwrite.core.records import OWN
from everwrite.core.request import foresee
from everwrite.core.request.foresee import Answer, Voice, answers, joined, lacking, voices


def foreseen(world: World, node: bytes, r: int) -> list[Answer]:
    """Return what a node says that a get may answer."""
    local = world.nodes[node].local
    found = surveyed(world, node)
    route = local.routes.route(KEY, 0)
    owners = route.owners if route.whole and not route.stray else ()
    return answers(voices(route, found), r, all_owners=owners, time_ms=local.time_ms).answers


def answered(world: World, node: bytes, r: int) -> tuple[str, tuple[tuple[bytes, int], ...]] | None:
    """Return what a get answers: why nothing, or which versions; None: it fails."""
    client = world.send_get(node, r=r, marks=True)
    world.run()
    world.until(lambda: bool(world.answers[client]))
    (reply,) = world.answers[client]
    if not isinstance(reply, GetReply):
        return None
    return reply.quality.absent, tuple((actor, counter) for actor, counter, _ in reply.marks)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_what_a_get_answers_was_foreseen(data: st.DataObject) -> None:
    world = World(data.draw(st.integers(3, 5)))
    order = world.order()
    owners = order[:3]
    for number in range(data.draw(st.integers(0, 3))):
        lost = data.draw(st.sets(st.sampled_from(order), max_size=2))
        world.lose = lambda source, target, message, lost=lost: target in lost
        value = data.draw(st.sampled_from([b"%d" % number, None]))
        world.send_put(data.draw(st.sampled_from(owners)), value, w=1)
        world.run()
    world.lose = lambda source, target, message: False
    for node in data.draw(st.sets(st.sampled_from(owners), max_size=2)):
        world.nodes[node].local.records.forget([OWN + KEY])
        if data.draw(st.booleans()):
            world.broken.add((node, OWN + KEY))
    asked = data.draw(st.sampled_from(owners))
    down = data.draw(st.sets(st.sampled_from([n for n in order if n != asked]), max_size=2))
    world.kill(*down)
    r = data.draw(st.integers(1, 3))

    may = foreseen(world, asked, r)
    does = answered(world, asked, r)

    if does is None:
        assert not may
    else:
        assert does in [(answer.absent, answer.live) for answer in may]


def test_where_owners_differ_it_depends_on_who_answers_first() -> None:
    world = World(3)
    a, b, c = world.order()
    first = world.put(a, b"old", w=3)
    world.lose = lambda source, target, message: target in (b, c)
    world.send_put(a, b"new", w=1, context=first.context)
    world.run()
    world.lose = lambda source, target, message: False

    found = foreseen(world, b, 2)

    assert len(found) == 2
    assert {len(answer.live) for answer in found} == {1}
    assert len(foreseen(world, b, 3)) == 1


def test_never_written_is_foreseen_only_once_all_owners_say_so() -> None:
    world = World(3)
    a, b, c = world.order()
    assert [answer.absent for answer in foreseen(world, a, 1)] == ["never"]

    world.kill(b, c)

    assert [answer.absent for answer in foreseen(world, a, 1)] == ["unknown"]


def test_an_owner_lacks_what_the_join_has_and_it_has_not() -> None:
    world = World(3)
    a, b, c = world.order()
    world.lose = lambda source, target, message: target == c
    world.put(a, b"v", w=2)
    world.lose = lambda source, target, message: False
    local = world.nodes[a].local
    heard = voices(local.routes.route(KEY, 0), surveyed(world, a))
    whole = joined(heard)

    gaps = {voice.node: lacking(voice.record, whole) for voice in heard}

    assert gaps[a] == gaps[b] == []
    assert len(gaps[c]) == 1


def differing(count: int) -> list[Voice]:
    """Return voices of owners of which each has a value that no other has."""
    found = []
    for number in range(count):
        mine = version(b"%016d" % number, 1)
        record = versions.encode(Record({mine.actor: 1}, [mine]))
        found.append(Voice(b"node%04d" % number, "owner", record))
    return found


def test_each_set_of_records_is_joined_once(monkeypatch: pytest.MonkeyPatch) -> None:
    merges = []
    merge = versions.merge

    def counted(mine: Record, theirs: Record) -> Record:
        merges.append((mine, theirs))
        return merge(mine, theirs)

    monkeypatch.setattr(foresee.versions, "merge", counted)
    a, b, _ = differing(3)
    heard = [Voice(b"node%04d" % at, "owner", (a, b)[at % 2].record) for at in range(9)]

    found = answers(heard, 5, all_owners=(), time_ms=0)

    assert found.whole
    assert sorted(len(answer.live) for answer in found.answers) == [1, 2]
    assert len(merges) == 1


def test_of_too_many_sets_only_what_all_together_answer_is_told() -> None:
    heard = differing(18)

    found = answers(heard, 5, all_owners=(), time_ms=0)

    assert not found.whole
    assert [len(answer.live) for answer in found.answers] == [18]
    assert not answers(heard, 19, all_owners=(), time_ms=0).answers
