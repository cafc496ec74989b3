"""Answers that come twice: the second is not taken for the answer to the next question."""

from __future__ import annotations

from typing import Any

from tests.core.moving.towns import (
    KEYS,
    keys_on,
    owned,
    owners_have,
    partition,
    served,
    settled_town,
)
from tests.core.world import World

from everwrite.core.messages.message import Message
from everwrite.core.messages.moving import Match, Matched, Pull, Slice
from everwrite.core.records import OWN


class Twice:
    """Hands each answer to a question of a move in again when the next question is asked."""

    def __init__(self, world: World, question: type[Any], answer: type[Any]) -> None:
        self._world, self._question, self._answer = world, question, answer
        self._last: dict[tuple[bytes, bytes, int], Message] = {}
        self.times = 0
        world.lose = self.lose

    def lose(self, source: bytes, target: Any, message: Any) -> bool:
        if isinstance(message, self._answer):
            self._last[source, target, message.rid] = message
        elif isinstance(message, self._question) and message.after:
            again = self._last.get((target, source, message.rid))
            if again is not None:
                self.times += 1
                self._world.nodes[source].receive(target, again)
        return False


def test_an_answer_to_a_pull_that_comes_twice_skips_no_range() -> None:
    """Seed 2784151942 of the simulator: "the same" of one range was taken for the next one."""
    world = settled_town(3, slice_keys=1)
    world.lose = lambda source, target, message: isinstance(message, Pull)
    node = world.join()
    for number in owned(world, node):  # it has all but one key in the middle
        here = sorted(key for key in KEYS if partition(world, key) == number)
        for key in here[:1] + here[2:]:
            owner = world.order(key)[0] if world.order(key)[0] != node else world.order(key)[1]
            world.disk[node][OWN + key] = world.disk[owner][OWN + key]
    twice = Twice(world, Pull, Slice)

    def serves_what_it_has() -> None:
        there = set(keys_on(world, node))
        assert {key for key in KEYS if partition(world, key) in served(world, node)} <= there

    world.watch = serves_what_it_has
    world.settle()
    assert twice.times > 5
    owners_have(world)


def test_an_answer_to_a_match_that_comes_twice_lets_nothing_go() -> None:
    world = settled_town(3, slice_keys=1)
    twice = Twice(world, Match, Matched)
    forgotten: set[bytes] = set()
    lose = twice.lose

    def forget(source: bytes, target: Any, message: Any) -> bool:
        """When the first range of a partition is compared its newcomer loses what is behind it."""
        if isinstance(message, Match) and not message.after and target == world.ids[3]:
            for key in keys_on(world, target):
                behind = key > message.until and partition(world, key) == message.partition
                if behind and key not in forgotten:
                    forgotten.add(key)
                    del world.disk[target][OWN + key]
                    world.nodes[target].local.records.forget([OWN + key])
        return lose(source, target, message)

    world.lose = forget
    world.join()

    world.settle()
    assert forgotten and twice.times > 5
    owners_have(world)
