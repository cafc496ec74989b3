"""What comes between the messages of one collection: late copies, late answers, slow members."""

from __future__ import annotations

from msgspec.structs import replace
from tests.core.hints.test_hints import keys_of
from tests.core.tombstones.test_collect import CYCLE_MS, copies, deleted, reasons, stale, world_of
from tests.core.world import World

from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Store
from everwrite.core.messages.tombstones import Confirm, Confirmed, Reap, Reaped
from everwrite.core.outbox import Place
from everwrite.core.pace.pace import Kind, Pace
from everwrite.core.records import FLOORS
from everwrite.core.tombstones.confirm import CHANGED, CLEAR, HINT_KEPT, NO_ROOM, decode_floors


def late_hint(world: World) -> Store:
    """Put and delete the key; return its value as it goes to a stand-in of its second owner."""
    a, b = world.order()[:2]
    world.put(a, b"old", w=3)
    late = replace(stale(world), hint_for=b)
    world.put(a, None, context=world.get(a).context, w=3)
    return late


def test_a_hint_that_comes_after_the_second_answer_and_before_the_floors_stops_it() -> None:
    world = world_of(5)
    late = late_hint(world)
    a, e = world.order()[0], world.order()[4]
    stopped: list[set[int]] = []

    def lose(source: bytes, target: Place, message: Message) -> bool:
        if source == e and isinstance(message, Confirmed) and message.floor and not stopped:
            stopped.append(set())
            world.nodes[e].receive(a, late)
        return False

    def watch() -> None:
        if stopped:
            stopped[0] |= reasons(world)

    world.lose, world.watch = lose, watch
    world.advance(3 * CYCLE_MS)

    assert stopped and stopped[0] & {CHANGED, HINT_KEPT}
    assert copies(world) == 0
    assert world.get(a, r=3).values == []


def test_a_hint_that_comes_once_the_floors_are_there_is_not_kept() -> None:
    world = world_of(5)
    late = late_hint(world)
    a, e = world.order()[0], world.order()[4]
    came: list[int] = []

    def lose(source: bytes, target: Place, message: Message) -> bool:
        if source == e and isinstance(message, Reaped) and not came:
            came.append(world.now)
            world.nodes[e].receive(a, late)
        return False

    world.lose = lose
    world.advance(CYCLE_MS)

    assert came and world.nodes[e].local.counters.stale_refused == 1
    assert copies(world) == 0


def test_a_second_answer_that_comes_twice_is_not_taken_for_the_third() -> None:
    world = world_of(5)
    deleted(world)
    a, e = world.order()[0], world.order()[4]
    second: list[Message] = []

    def lose(source: bytes, target: Place, message: Message) -> bool:
        if source == e and isinstance(message, Confirmed) and message.floor:
            second.append(message)
        if target == e and isinstance(message, Confirm) and message.generation:
            world.nodes[a].receive(e, second[-1])
            return True
        return False

    world.lose = lose
    world.advance(2 * CYCLE_MS)

    assert second and copies(world) == 6


def test_members_watch_nothing_any_more_once_a_tombstone_is_gone() -> None:
    world = world_of(5)
    deleted(world)

    world.advance(CYCLE_MS)

    assert copies(world) == 0
    assert not any(world.nodes[node].local.records.watched for node in world.ids)


def test_each_phase_has_as_much_time_as_the_first() -> None:
    world = world_of(5, collect_retry_ms=1000)
    deleted(world)
    e = world.order()[4]
    asked: list[Message] = []

    def lose(source: bytes, target: Place, message: Message) -> bool:
        if target == e and (getattr(message, "mark", 0) or isinstance(message, Reap)):
            asked.append(message)
            world.unsynced.add(e)
        return False

    world.lose = lose
    world.until(lambda: bool(asked))
    for many in (1, 2, 3):  # the question, the floors, the question
        assert len(asked) == many
        world.advance(700)
        world.unsynced.discard(e)
        world.advance(20)

    assert copies(world) == 0


def test_a_collection_has_a_higher_number_than_any_that_a_member_has_heard_of() -> None:
    """One that came to a single member and no further is known to that one only."""
    world = world_of(5)
    deleted(world)
    e = world.order()[4]
    world.nodes[e].local.generation = 7

    world.advance(CYCLE_MS)

    known = [decode_floors(world.state[node][FLOORS]) for node in world.ids]
    assert [each.generation for each in known] == [8] * 5
    assert [each.attended for each in known] == [8] * 5


def test_a_collection_of_which_not_all_have_heard_is_not_one_that_a_member_had_a_part_in() -> None:
    world = world_of(5)
    deleted(world)
    d, e = world.order()[3:]
    world.lose = lambda source, target, message: isinstance(message, Reap) and target == d

    world.advance(CYCLE_MS)

    known = decode_floors(world.state[e][FLOORS])
    assert known.generation > 0
    assert known.attended == 0
    assert copies(world) == 6


def test_a_member_takes_no_more_keys_in_one_question_than_it_would_ask_itself() -> None:
    world = world_of(collect_batch=4)
    keys = keys_of(world, 6)
    for key in keys:
        deleted(world, key)
    a, b = world.order(keys[0])[:2]
    node = world.nodes[b]

    node.receive(a, Confirm(7, node.confirmations.view(), 0, keys))
    world.run()

    (answer,) = [each for each in world.messages(Confirmed, to=a) if each.rid == 7]
    assert answer.objections == [CLEAR] * 4 + [NO_ROOM] * 2
    assert [bool(each) for each in answer.fingerprints[4:]] == [False, False]


class Busy(Pace):
    """A pace that grants nothing."""

    __slots__ = ()

    def wait_ms(self, kind: Kind, now: int) -> int:
        return 100


def test_a_question_that_nobody_waits_for_any_more_takes_no_slice() -> None:
    """Else a busy member would answer such ones only, each too late."""
    world = world_of(5)
    deleted(world)
    node = world.nodes[world.order()[4]]
    right = node.local.pace
    node.local.pace = Busy(world.now, on=True, floor_ms=1, cap_ms=10)
    world.until(lambda: node.confirmations.answering > 0)

    world.advance(10 * CYCLE_MS)
    assert node.confirmations.answering <= 2

    node.local.pace = right
    world.advance(CYCLE_MS)
    assert copies(world) == 0
