"""What is counted of requests: each once, by who answers it, with what became of it."""

from __future__ import annotations

from tests.core.repair.test_read_repair import lagging
from tests.core.world import KEY, World

from everwrite.core.measures import Measures
from everwrite.core.records import OWN


def measured(world: World) -> list[Measures]:
    return [node.local.measures for node in world.nodes.values()]


def counted(world: World) -> dict[str, int]:
    """Return how many requests of all nodes went how."""
    found: dict[str, int] = {}
    for measures in measured(world):
        for operation, tally in measures.took.items():
            found[operation] = found.get(operation, 0) + tally.count
        for (operation, outcome), tally in measures.failed.items():
            name = f"{operation} {outcome}"
            found[name] = found.get(name, 0) + tally.count
    return {name: count for name, count in found.items() if count}


def test_each_request_is_counted_once_by_whoever_answers_it() -> None:
    world = World(5)
    owners, outsider = world.order()[:3], world.order()[4]
    first = world.put(owners[0], b"v")
    world.put(outsider, b"w", context=first.context)  # it is handed on to an owner
    found = world.get(owners[1])
    world.put(owners[2], None, context=found.context)

    assert counted(world) == {"put": 2, "get": 1, "delete": 1}
    assert sum(measures.get_siblings[1] for measures in measured(world)) == 1


def test_a_request_that_fails_is_counted_by_what_its_error_says() -> None:
    world = World(3)
    a, b, c = world.order()
    world.kill(b, c)
    world.refused_put(a, b"v", w=2)
    world.refused_get(a, r=2)

    assert counted(world) == {"put none": 1, "get none": 1}
    assert world.nodes[a].local.measures.errors == {"quorum_not_met": 2}


def test_a_put_that_may_have_happened_is_counted_as_that_and_for_as_long_as_it_took() -> None:
    world = World(3)
    a, b, c = world.order()
    world.lose = lambda source, target, message: target in (b, c)
    client = world.send_put(a, b"v", w=2)
    world.advance(20_000)

    assert world.failure(client).outcome == "unknown"
    failed = world.nodes[a].local.measures.failed["put", "unknown"]
    assert failed.count == 1
    assert failed.total >= 1000


def test_siblings_are_counted_with_puts_and_gets() -> None:
    world = World(3)
    a, b = world.order()[:2]
    world.put(a, b"1")
    world.put(a, b"2")
    world.get(b)

    assert world.nodes[a].local.measures.put_siblings[:4] == [0, 1, 1, 0]
    assert world.nodes[b].local.measures.get_siblings[:4] == [0, 0, 1, 0]


def test_a_put_is_visible_once_its_last_owner_has_it() -> None:
    world = World(3)
    a, _, c = world.order()
    world.lose = lambda source, target, message: target == c
    world.put(a, b"v", w=2)
    visible = world.nodes[a].local.measures.visible
    assert visible.count == 0

    world.lose = lambda source, target, message: False
    world.put(a, b"w", w=2)

    assert visible.count == 1


def test_what_a_read_repair_brings_is_late() -> None:
    world = World(3)
    _, b, c = lagging(world)
    late = world.nodes[c].local.measures.late
    assert late.count == 0

    world.get(b, r=2)

    assert world.values(c) == [b"new"]
    assert late.count == 1
    assert world.nodes[b].local.measures.stale_gets == 1


def test_a_hint_that_comes_home_is_late() -> None:
    world = World(4)
    a, _, c, _ = world.order()
    world.kill(c)
    world.put(a, b"v", w=3)
    assert world.nodes[a].local.measures.fallback_puts == 1
    world.advance(5_000)

    world.start(c)
    world.until(lambda: OWN + KEY in world.disk[c])

    late = world.nodes[c].local.measures.late
    assert late.count == 1
    assert late.total >= 5_000


def test_what_a_node_reads_for_itself_is_no_request() -> None:
    world = World(3)
    a, _, c = world.order()
    world.put(a, b"v", w=3)
    world.nodes[c].unreadable(OWN + KEY, "a test says so", corrupt=True)
    world.advance(10_000)

    assert counted(world) == {"put": 1}
