"""Changes under faults: whatever is lost, killed and tried again, each add counts once.

The increment of each put is a power of two, so the value of the counter tells which of them count,
and how often: it must have the bit of each that was acknowledged, and no other but those of puts
that may have been carried out. The elements of a set tell the same of what was included.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.world import World

from everwrite.core.messages.requests import PutReply
from everwrite.core.types import operations
from everwrite.core.types.composed import Counter, Map, Set
from everwrite.core.types.composing import compose
from everwrite.core.types.operations import Add, Exclude, Include

NODES = 5
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, NODES - 1), st.integers(1, 2)),
        st.tuples(st.just("again"), st.integers(0, NODES - 1), st.integers(0, 9)),
        st.tuples(st.just("lonely"), st.integers(0, NODES - 1), st.integers(0, NODES - 1)),
        st.tuples(st.just("cut"), st.integers(0, NODES - 1), st.integers(0, NODES - 1)),
        st.tuples(st.just("mend"), st.just(0), st.just(0)),
        st.tuples(st.just("kill"), st.integers(0, NODES - 1), st.just(0)),
        st.tuples(st.just("start"), st.just(0), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 20), st.just(0)),
    ),
    min_size=5,
    max_size=50,
)


class Story:
    """What clients did in one world, and what they were told."""

    def __init__(self) -> None:
        self.world = World(NODES)
        self.cuts: set[tuple[object, object]] = set()
        self.world.lose = lambda source, target, message: (source, target) in self.cuts
        self.tries: list[list[int]] = []
        """For each put the clients' numbers of its tries."""

    def step(self, kind: str, one: int, other: int) -> None:
        world = self.world
        if kind == "put":
            self._try(len(self.tries), one, other)
        elif kind == "again" and self.tries:
            self._try(other % len(self.tries), one, 2)
        elif kind == "lonely" and world.ids[one] not in world.dead and len(world.dead) < 2:
            # Its node dies alone with it, and another one is asked again: it is minted twice.
            self.cuts |= {(world.ids[one], node) for node in world.ids}
            self._try(len(self.tries), one, 1)
            world.kill(world.ids[one])
            self.cuts = {(a, b) for a, b in self.cuts if a != world.ids[one]}
            self._try(len(self.tries) - 1, other, 1)
        elif kind == "cut":
            self.cuts.add((world.ids[one], world.ids[other]))
        elif kind == "mend":
            self.cuts.clear()
        elif kind == "kill" and len(world.dead) < 2 and world.ids[one] not in world.dead:
            world.kill(world.ids[one])
        elif kind == "start":
            world.start(*sorted(world.dead))
        elif kind == "wait":
            world.advance(one * 20)

    def _try(self, put: int, at: int, w: int) -> None:
        """Send a put, or one more try of it."""
        node = self.world.ids[at]
        retry = put < len(self.tries)
        if node in self.world.dead or put < 0:
            return
        if not retry:
            self.tries.append([])
        asked = [Add(["n"], 1 << put), Include(["s"], [str(put)])]
        op = b"put%d" % put
        value = operations.encode(asked)  # type: ignore[arg-type]
        self.tries[put].append(
            self.world.send_put(node, value, change=True, op=op, retry=retry, w=w)
        )
        self.world.run()

    def acknowledged(self) -> set[int]:
        return {
            put
            for put, clients in enumerate(self.tries)
            if any(type(each) is PutReply for c in clients for each in self.world.answers[c])
        }

    def end(self) -> None:
        """Let all faults end, and all copies come home."""
        world = self.world
        self.cuts.clear()
        world.start(*sorted(world.dead))
        world.advance(3000)
        world.until(lambda: not any(node.hints.notes for node in world.nodes.values()))

    def shown(self) -> Map | None:
        reply = self.world.get(self.world.order()[0], r=3, marks=True)
        found = compose(reply.values, reply.marks)
        assert found is None or isinstance(found, Map)
        return found


@given(steps)
@settings(max_examples=60, deadline=None)
def test_each_change_that_was_acknowledged_counts_once(told: list[tuple[str, int, int]]) -> None:
    story = Story()
    for step in told:
        story.step(*step)
    story.end()

    shown = story.shown()
    count, elements = 0, set[operations.Name]()
    if shown is not None:
        number, there = shown.fields["n"], shown.fields["s"]
        assert isinstance(number, Counter) and isinstance(there, Set)
        count, elements = number.value, set(there.elements)
    done = story.acknowledged()
    assert {put for put in range(len(story.tries)) if count >> put & 1} >= done
    assert count < 1 << len(story.tries)
    assert {str(put) for put in range(len(story.tries)) if count >> put & 1} == elements


@given(steps, st.integers(0, NODES - 1))
@settings(max_examples=40, deadline=None)
def test_a_remove_takes_what_it_has_seen_and_nothing_else(
    told: list[tuple[str, int, int]], at: int
) -> None:
    """Everybody has met before it, and afterwards more is added."""
    story = Story()
    for step in told:
        story.step(*step)
    story.end()
    world, before = story.world, story.shown()
    there = before.fields["s"] if before is not None else Set([])
    assert isinstance(there, Set)

    gone = operations.encode([Exclude(["s"], there.elements[::2])])
    reply = world.put(world.ids[at], gone, change=True)
    late = operations.encode([Include(["s"], ["late"])])
    world.put(world.ids[-1 - at], late, change=True)

    assert reply.results == [len(there.elements[::2])]
    after = story.shown()
    assert after is not None
    assert after.fields["s"] == Set(sorted([*there.elements[1::2], "late"]))  # type: ignore[type-var]
