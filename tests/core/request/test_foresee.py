"""What a get would answer: the real one's answer is among those that were foreseen."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.request.test_survey import surveyed
from tests.core.world import KEY, World

from everwrite.core.messages.requests import GetReply
from everwrite.core.records import OWN
from everwrite.core.request.foresee import Answer, answers, joined, lacking, voices


def foreseen(world: World, node: bytes, r: int) -> list[Answer]:
    """Return what a node says that a get may answer."""
    local = world.nodes[node].local
    found = surveyed(world, node)
    route = local.routes.route(KEY, 0)
    owners = route.owners if route.whole and not route.stray else ()
    return answers(voices(route, found), r, all_owners=owners, time_ms=local.time_ms)


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
