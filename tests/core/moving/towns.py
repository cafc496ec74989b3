"""A cluster with values in it, for tests of partitions on their way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.core.world import World

from everwrite.core.cluster.holdings import partitions_in
from everwrite.core.data.keys import data_key
from everwrite.core.messages.message import Message
from everwrite.core.messages.moving import GaveUp, GiveUp, Match, Matched, Pull, Slice
from everwrite.core.messages.requests import GetReply
from everwrite.core.outbox import Place
from everwrite.core.records import OWN

KEYS = [data_key(b"town", b"%d" % number) for number in range(48)]
MOVES = (Pull, Slice, GiveUp, GaveUp, Match, Matched)


def settled_town(nodes: int = 3, **knobs: Any) -> World:
    """Return a world at rest in which each key has a value on all its owners."""
    world = World(nodes, **knobs)
    for key in KEYS:
        world.put(world.order(key)[0], value_of(key), key=key, w=min(3, nodes))
    return world


def value_of(key: bytes) -> bytes:
    return b"value of " + key[-2:]


def owned(world: World, node: bytes) -> set[int]:
    return set(partitions_in(world.nodes[node].local.routes.owned))


def served(world: World, node: bytes) -> set[int]:
    return set(partitions_in(world.nodes[node].local.serves))


def kept(world: World, node: bytes) -> set[int]:
    return set(partitions_in(world.nodes[node].local.keeps))


def partition(world: World, key: bytes) -> int:
    return world.nodes[world.ids[0]].local.routes.partition_of(key)


def keys_on(world: World, node: bytes) -> list[bytes]:
    """Return the keys of which a node's disk has an owner's copy."""
    return sorted(key[1:] for key in world.disk[node] if key.startswith(OWN))


def standing(world: World, node: bytes) -> int | None:
    return world.nodes[world.ids[0]].local.members.standing(node)


def moved_bytes(world: World) -> int:
    """Return how many bytes of records all nodes have taken over by moves."""
    return sum(node.moves.counters.bytes_in for node in world.nodes.values())


def owners_have(world: World) -> None:
    """Check that every key is on all its owners and on nobody else, as they are at rest."""
    here = next(node for node in world.ids if node not in world.dead)
    placement = world.nodes[here].local.routes.placement
    for key in KEYS:
        owners = placement.owners(placement.partition_of(key))
        for node in world.ids:
            if node in owners:
                assert world.values(node, key) == [value_of(key)]
            elif node not in world.dead:
                assert world.values(node, key) == []


class Reader:
    """Reads keys in turn through every node that runs, at each round of ticks, with r = 2, so many
    times at most.
    """

    def __init__(self, world: World, most: int = 1000) -> None:
        self._world = world
        self._most = most
        self._asked: dict[int, bytes] = {}
        self._turn = _in_turn()
        world.watch = self._look

    def _look(self) -> None:
        for node in self._world.ids:
            ready = self._world.nodes[node].local.members.rulings
            if node not in self._world.dead and node not in self._world.silent and ready:
                key = next(self._turn)
                if len(self._asked) < self._most:
                    self._asked[self._world.send_get(node, key=key, r=2)] = key

    def check(self, *, failures: int = 0) -> int:
        """Check that each read found its value, but for so many that failed; return how many did.

        A failure is an answer too; what must never come is another value, or none.
        """
        self._world.watch = lambda: None
        self._world.advance(1200)
        failed = 0
        for client, key in self._asked.items():
            answers = self._world.answers[client]
            if not answers or not isinstance(answers[0], GetReply):
                failed += 1
                continue
            assert [value for _, value in answers[0].values] == [value_of(key)], answers[0]
        assert failed <= failures, failed
        return len(self._asked) - failed


def _in_turn() -> Iterator[bytes]:
    while True:
        yield from KEYS


class Stop:
    """Does something after the ``count``-th message of a kind between two nodes was sent (or, with
    ``lost``, in its stead); once.
    """

    def __init__(
        self,
        world: World,
        kind: type[Message],
        action: Callable[[bytes, bytes], None],
        *,
        count: int = 1,
        lost: bool = False,
    ) -> None:
        self._left = count
        self._kind = kind
        self._lost = lost
        self._action = action
        self._between: tuple[bytes, bytes] | None = None
        self.happened = False
        world.lose = self._see
        world.watch = self._watch

    def _see(self, source: bytes, target: Place, message: Message) -> bool:
        if self._between is not None:
            return self._lost and not self.happened and isinstance(message, MOVES)
        if isinstance(message, self._kind) and isinstance(target, bytes):
            self._left -= 1
            if not self._left:
                self._between = (source, target)
                return self._lost
        return False

    def _watch(self) -> None:
        if self._between is not None and not self.happened:
            self.happened = True
            self._action(*self._between)


def read(world: World, node: bytes, key: bytes, **options: Any) -> GetReply:
    """Read a key, with time for whoever is silent."""
    client = world.send_get(node, key=key, **options)
    world.advance(500)
    found: GetReply = world.reply(client, GetReply)
    return found
