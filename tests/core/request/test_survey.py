"""What all nodes have of a key: asked of each, and changed by nobody."""

from __future__ import annotations

import msgspec
import pytest
from tests.core.world import KEY, World

from everwrite.core.data import versions
from everwrite.core.errors import Overloaded
from everwrite.core.messages.explain import Show
from everwrite.core.messages.requests import ABSENT, FOUND, UNREADABLE
from everwrite.core.records import OWN
from everwrite.core.request.survey import SURVEYS_MAX, Found


def surveyed(world: World, node: bytes) -> Found:
    """Return what a survey by a node finds."""
    found: list[Found] = []
    world.nodes[node].surveys.ask(KEY, found.append)
    world.run()
    world.until(lambda: bool(found))
    assert world.nodes[node].surveys.running == 0
    return found[0]


def test_every_node_says_what_it_has() -> None:
    world = World(5)
    a, b, c, d, e = world.order()
    world.kill(c)
    world.put(a, b"v", w=3)

    found = surveyed(world, e)

    assert found.keys() == {a, b, c, d, e}
    assert found[c] is None
    for node in (a, b):
        said = found[node]
        assert said is not None
        assert (said.own.status, said.kept.status) == (FOUND, ABSENT)
        assert versions.decode(said.own.record) == world.record(node)
    kept = found[d]
    assert kept is not None
    assert (kept.own.status, kept.kept.status, list(kept.owners)) == (ABSENT, FOUND, [c])
    nothing = found[e]
    assert nothing is not None
    assert (nothing.own.status, nothing.kept.status) == (ABSENT, ABSENT)


def test_a_survey_changes_nothing() -> None:
    world = World(4)
    a, _, c, _ = world.order()
    world.lose = lambda source, target, message: target == c and not isinstance(message, Show)
    world.put(a, b"v", w=2)
    world.lose = lambda source, target, message: False
    disk = {node: dict(pairs) for node, pairs in world.disk.items()}
    counted = {n: msgspec.structs.asdict(node.local.counters) for n, node in world.nodes.items()}

    surveyed(world, a)

    assert world.disk == disk
    for node, counters in counted.items():
        assert msgspec.structs.asdict(world.nodes[node].local.counters) == counters
        assert world.nodes[node].local.background == 0 or node == a


def test_what_no_cache_has_is_read_from_the_disk() -> None:
    world = World(3)
    a, b, _ = world.order()
    world.put(a, b"v", w=3)
    world.nodes[b].local.records.forget([OWN + KEY])

    said = surveyed(world, a)[b]

    assert said is not None
    assert said.own.status == FOUND


def test_a_copy_that_cannot_be_read_is_told_with_the_reason() -> None:
    world = World(3)
    a, b, _ = world.order()
    world.put(a, b"v", w=3)
    world.broken.add((b, OWN + KEY))
    world.nodes[b].local.records.forget([OWN + KEY])

    said = surveyed(world, a)[b]

    assert said is not None
    assert said.own.status == UNREADABLE
    assert "input/output error" in said.own.reason


def test_who_stays_silent_is_not_waited_for_for_ever() -> None:
    world = World(3)
    a, b, c = world.order()
    world.put(a, b"v", w=3)
    world.silent.add(c)

    found = surveyed(world, a)

    assert found[c] is None
    assert found[b] is not None


def test_a_node_explains_a_few_keys_at_a_time_and_refuses_more() -> None:
    world = World(3)
    a, _, c = world.order()
    world.silent.add(c)
    found: list[Found] = []
    for _ in range(SURVEYS_MAX):
        world.nodes[a].surveys.ask(KEY, found.append)

    with pytest.raises(Overloaded, match="explains"):
        world.nodes[a].surveys.ask(KEY, found.append)

    world.until(lambda: len(found) == SURVEYS_MAX)
    assert world.nodes[a].surveys.running == 0
