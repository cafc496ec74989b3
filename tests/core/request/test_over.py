"""Who writes a key twice by nodes that do not hear each other, and whose clocks differ."""

from __future__ import annotations

import pytest
from tests.core.world import World

from everwrite.core.messages.requests import GetReply
from everwrite.core.types.composed import Register
from everwrite.core.types.composing import compose


@pytest.mark.parametrize("carried", [True, False])
def test_a_put_over_all_supersedes_the_writers_own_whatever_clocks_say(carried: bool) -> None:
    """Where it carries what the first one came to: without that the clocks decide."""
    world = World(3)
    a, b, _c = world.order()
    world.nodes[b].local.clock._offset -= 5000  # behind
    world.nodes[b].local.clock._told_ms = 0
    world.lose = lambda source, target, message: a in (source, target)
    first = world.put(a, b"first", over=True, w=1)
    second = world.put(b, b"second", over=True, context=first.context if carried else b"")
    assert first.siblings == second.siblings == 1
    early, late = (world.record(node).siblings[0].time_ms for node in (b, a))
    assert early < late, "by its clock the second write is the earlier one"
    world.lose = lambda source, target, message: False

    read: GetReply = world.get(b, r=3, marks=True)

    assert compose(read.values, read.marks) == Register(b"second" if carried else b"first", 0)
    assert len(read.values) == (1 if carried else 2)
