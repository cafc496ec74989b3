"""A publication reaches the subscribers of all nodes, each at most once and in its order, whatever
the network does; and whoever does not understand it hears nothing of it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.world import World

from everwrite.core.channels import (
    AGAIN_MS,
    ANSWER_MS,
    CHANNEL_BYTES_MAX,
    FORGET_MS,
    LINGER_MS,
    LISTEN_MS,
    WINDOW_BYTES_MAX,
    WINDOW_MAX,
)
from everwrite.core.data.keys import VALUE_BYTES_MAX
from everwrite.core.messages.channels import (
    Listen,
    Listening,
    Noted,
    Publish,
    Published,
    Reached,
    Spread,
    Wanted,
)
from everwrite.core.messages.message import Message
from everwrite.core.outbox import Place

BETWEEN_NODES = (Wanted, Noted, Spread, Reached)


class Cluster(World):
    """A world with subscribers: ``subscribers`` says how many each node has."""

    def __init__(self, nodes: int = 3, *, old: int = 0, **knobs: Any) -> None:
        self.old: set[bytes] = {bytes((nodes - at,)) * 8 for at in range(old)}
        """Nodes that do not know these messages."""
        self.subscribers: dict[bytes, int] = defaultdict(int)
        self.heard: dict[bytes, list[tuple[bytes, bytes]]] = defaultdict(list)
        """What the subscribers of each node heard: its source, and the payload."""
        self.busy: set[bytes] = set()
        """Nodes whose shell hands nothing on just now."""
        self._waits: list[tuple[bytes, bytes, Spread]] = []
        super().__init__(nodes, **knobs)

    def meet(self) -> None:
        for node in self._running():
            for other in self._running():
                if node not in self.old:
                    self.nodes[node].channels.met(other, speaks=other not in self.old)
        super().meet()

    def _tick(self, me: bytes) -> bool:
        node = self.nodes[me]
        heard, node.out.heard = node.out.heard, []
        self._waits += [(me, source, spread) for source, spread in heard]
        waits, self._waits = self._waits, []
        for at, source, spread in waits:
            if at in self.busy:
                self._waits.append((at, source, spread))
                continue
            if self.subscribers[at]:
                self.heard[at].append((source, spread.payload))
            self.nodes[at].channels.handed_on(source, spread.number, self.subscribers[at])
        return super()._tick(me) or bool(heard)

    def kill(self, *nodes: bytes) -> None:
        super().kill(*nodes)
        self._waits = [each for each in self._waits if each[0] not in nodes]

    def listen(self, node: bytes) -> int:
        """Say that somebody is about to subscribe; return the client's number."""
        client = self._client()
        self.nodes[node].local.now = self.now
        self.nodes[node].receive(client, Listen(client))
        return client

    def subscribe(self, *nodes: bytes) -> None:
        """Let one more subscriber come to each node, and be told so."""
        for node in nodes:
            client = self.listen(node)
            self.run()
            assert self.answers[client] == [Listening(client)]
            self.subscribers[node] += 1
            self.nodes[node].channels.occupied(True)

    def send(self, node: bytes, payload: bytes = b"hello") -> int:
        """Publish at a node; return the client's number, nothing has happened yet."""
        client = self._client()
        self.nodes[node].local.now = self.now
        self.nodes[node].receive(client, Publish(client, b"news", payload))
        return client

    def publish(self, node: bytes, payload: bytes = b"hello") -> int:
        """Publish, and return how many were reached; no time may pass."""
        client = self.send(node, payload)
        self.run()
        return self.reached(client)

    def reached(self, client: int) -> int:
        answer = self.reply(client, Published)
        assert isinstance(answer, Published)
        return answer.count

    def counted(self, node: bytes) -> Any:
        return self.nodes[node].channels.counted


def test_subscribers_of_all_nodes_are_reached_and_counted() -> None:
    world = Cluster()
    one, two, three = world.ids
    world.subscribe(one, two, two)

    assert world.publish(one, b"a") == 3
    assert world.publish(three, b"b") == 3

    assert world.heard == {one: [(one, b"a"), (three, b"b")], two: [(one, b"a"), (three, b"b")]}
    assert world.heard[three] == []


def test_nothing_is_sent_to_a_node_without_subscribers() -> None:
    world = Cluster()
    one, two, three = world.ids
    world.subscribe(two)

    world.publish(one)

    assert world.messages(Spread, to=two)
    assert not world.messages(Spread, to=three)
    assert world.publish(two) == 1
    assert not world.messages(Spread, to=one)


def test_a_node_of_an_older_version_is_sent_nothing_that_it_does_not_know() -> None:
    world = Cluster(old=1)
    one, two, three = world.ids

    world.subscribe(one, two)
    assert world.publish(one) == 2
    world.advance(10 * AGAIN_MS)
    world.kill(three)
    world.start(three)
    assert world.publish(one) == 2

    for kind in BETWEEN_NODES:
        assert not world.messages(kind, to=three)


def test_a_node_that_comes_back_as_an_older_version_is_sent_nothing_more() -> None:
    world = Cluster()
    one, _two, three = world.ids
    world.subscribe(one, three)
    world.kill(three)
    world.old.add(three)
    world.sent.clear()
    world.start(three)

    assert world.publish(one) == 1

    assert not any(world.messages(kind, to=three) for kind in BETWEEN_NODES)


def test_a_subscriber_is_told_so_once_all_who_are_up_have_noted_it() -> None:
    world = Cluster()
    one, two, three = world.ids
    world.lose = lambda source, target, message: type(message) is Wanted and target == two
    client = world.listen(one)
    world.run()
    assert world.answers[client] == []
    world.lose = lambda source, target, message: False

    world.advance(AGAIN_MS)

    assert world.answers[client] == [Listening(client)]
    world.subscribers[one] = 1
    assert world.publish(two) == world.publish(three) == 1


@pytest.mark.parametrize("dies", [True, False])
def test_a_subscriber_does_not_wait_for_who_is_gone_nor_long_for_who_is_silent(dies: bool) -> None:
    world = Cluster()
    one, _two, three = world.ids
    world.silent.add(three)
    client = world.listen(one)
    world.run()
    assert world.answers[client] == []

    if dies:
        world.kill(three)
        world.run()
    else:
        world.advance(LISTEN_MS)

    assert world.answers[client] == [Listening(client)]


def test_a_publisher_waits_for_a_silent_node_once_and_then_no_more() -> None:
    world = Cluster()
    one, two, three = world.ids
    world.subscribe(two, three)
    world.silent.add(three)

    first = world.send(one)
    world.run()
    assert world.answers[first] == []
    world.advance(ANSWER_MS + 20)
    assert world.reached(first) == 1
    assert world.publish(one, b"later") == 1
    assert world.counted(one).unanswered == 1
    world.silent.discard(three)
    world.publish(one, b"again")
    assert world.publish(one, b"waits") == 2  # it has answered, and is waited for

    assert [payload for _, payload in world.heard[three]] == [b"again", b"waits"]


def test_a_publisher_does_not_wait_for_a_node_that_dies() -> None:
    world = Cluster()
    one, two, three = world.ids
    world.subscribe(two, three)
    world.silent.add(three)
    client = world.send(one)
    world.run()

    world.kill(three)
    world.run()

    assert world.reached(client) == 1
    assert world.publish(one) == 1


def test_a_window_that_is_full_drops_what_comes_and_room_comes_with_answers() -> None:
    world = Cluster()
    one, two, _ = world.ids
    world.subscribe(two)
    world.busy.add(two)

    clients = [world.send(one, b"%d" % at) for at in range(WINDOW_MAX + 5)]
    world.run()
    assert world.counted(one).full == 5
    assert all(world.reached(client) == 0 for client in clients[WINDOW_MAX:])
    world.busy.discard(two)
    world.run()

    assert all(world.reached(client) == 1 for client in clients[:WINDOW_MAX])
    assert world.publish(one) == 1


def test_the_bytes_of_a_window_are_limited_too() -> None:
    world = Cluster()
    one, two, _ = world.ids
    world.subscribe(two)
    world.busy.add(two)
    size = VALUE_BYTES_MAX

    for _ in range(2 * WINDOW_BYTES_MAX // size):
        world.send(one, b"x" * size)
    world.run()

    assert len(world.messages(Spread)) < WINDOW_BYTES_MAX / size
    assert world.counted(one).full > WINDOW_BYTES_MAX // size


def test_what_a_broken_line_has_taken_leaves_the_window_in_time() -> None:
    world = Cluster()
    one, two, _ = world.ids
    world.subscribe(two)
    world.lose = lambda source, target, message: type(message) is Spread
    for _ in range(WINDOW_MAX + 1):
        world.send(one)
    world.run()
    assert world.counted(one).full == 1
    world.lose = lambda source, target, message: False

    world.advance(FORGET_MS + 20)
    world.publish(one, b"again")

    assert world.heard[two] == [(one, b"again")]


def test_publishers_of_a_node_wait_for_its_own_subscribers_however_long() -> None:
    world = Cluster()
    one, *_ = world.ids
    world.subscribe(one)
    world.busy.add(one)
    client = world.send(one)
    world.advance(2 * FORGET_MS)
    world.send(one)
    assert world.answers[client] == []

    world.busy.discard(one)
    world.run()

    assert world.reached(client) == 1
    assert world.publish(one) == 1


def test_a_node_that_starts_again_is_heard_and_hears() -> None:
    world = Cluster()
    one, two, _ = world.ids
    world.subscribe(one, two)
    for _ in range(5):
        world.publish(one)
        world.publish(two)
    world.kill(one)
    world.start(one)
    world.heard.clear()
    world.subscribers[one] = 0

    assert world.publish(one, b"a") == 1
    world.subscribe(one)
    assert world.publish(two, b"b") == 2

    assert world.heard == {two: [(one, b"a"), (two, b"b")], one: [(two, b"b")]}


def test_a_node_wants_publications_for_a_while_after_the_last_subscriber() -> None:
    world = Cluster()
    one, two, _ = world.ids
    world.subscribe(two)
    world.nodes[two].channels.occupied(False)
    world.subscribers[two] = 0
    world.advance(LINGER_MS // 2)
    world.sent.clear()
    world.subscribe(two)
    assert not world.messages(Wanted)  # they still know
    world.nodes[two].channels.occupied(False)
    world.subscribers[two] = 0

    world.advance(LINGER_MS + 20)
    world.sent.clear()
    assert world.publish(one) == 0

    assert not world.messages(Spread)
    assert world.messages(Wanted) == []
    world.advance(10 * AGAIN_MS)
    assert not any(world.messages(kind) for kind in BETWEEN_NODES)  # at rest nothing is said


def test_whoever_says_that_he_subscribes_and_does_not_come_is_forgotten() -> None:
    world = Cluster()
    one, two, _ = world.ids
    world.listen(two)
    world.run()
    world.publish(one)
    assert len(world.messages(Spread)) == 1

    world.advance(LINGER_MS + 20)
    world.publish(one)

    assert len(world.messages(Spread)) == 1


def test_a_node_that_is_sent_what_it_does_not_want_says_so() -> None:
    world = Cluster()
    one, two, _ = world.ids
    world.nodes[two].receive(one, Wanted(1 << 60, True))  # of a start of which it knows no end
    world.run()

    world.publish(two)
    world.nodes[one].receive(two, Spread(1 << 60, b"news", b"again"))
    world.run()

    assert world.heard == {}
    assert world.messages(Reached, to=two)[-1] == Reached(1 << 60, 0)
    assert isinstance(world.messages(Wanted, to=two)[-1], Wanted)


@pytest.mark.parametrize(
    ("channel", "payload"),
    [(b"c" * (CHANNEL_BYTES_MAX + 1), b""), (b"c", b"p" * (VALUE_BYTES_MAX + 1))],
)
def test_what_is_too_large_is_refused(channel: bytes, payload: bytes) -> None:
    world = Cluster()
    one, two, _ = world.ids
    world.subscribe(two)
    client = world._client()

    world.nodes[one].receive(client, Publish(client, channel, payload))
    world.run()

    assert world.failure(client).code == "too_large"
    assert not world.messages(Spread)


# -- a bad network ---------------------------------------------------------------------------------


class Chaos(Cluster):
    """A cluster whose lines a test empties itself, message by message."""

    def __init__(self) -> None:
        self.lines: list[tuple[bytes, Place, Message]] = []
        self.calm = True
        super().__init__()
        self.lives: dict[bytes, int] = dict.fromkeys(self.ids, 0)

    def _deliver(self, me: bytes, place: Place, messages: list[Message]) -> None:
        if self.calm or isinstance(place, int):
            super()._deliver(me, place, messages)
            return
        for message in messages:
            if isinstance(message, BETWEEN_NODES):
                self.lines.append((me, place, message))
            else:
                super()._deliver(me, place, [message])

    def bring(self, at: int) -> None:
        """Let one of the messages that are under way arrive."""
        source, place, message = self.lines[at]
        if place not in self.dead:
            super()._deliver(source, place, [message])
        self.run()


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["publish"] * 4 + ["bring"] * 6 + ["twice", "lose", "kill", "wait"]),
        st.integers(0, 2),
        st.integers(0, 30),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=60)
@given(ACTIONS)
def test_each_is_heard_once_at_most_and_in_its_order_whatever_the_network_does(
    actions: list[tuple[str, int, int]],
) -> None:
    world = Chaos()
    world.subscribe(*world.ids)
    world.calm = False
    published: dict[bytes, int] = {}
    heard: dict[tuple[bytes, int], list[tuple[bytes, bytes]]] = {}

    def note() -> None:
        for node in world.ids:
            heard.setdefault((node, world.lives[node]), []).extend(world.heard.pop(node, []))

    for what, which, index in actions:
        node = world.ids[which]
        at = index % len(world.lines) if world.lines else -1
        if what == "publish" and node not in world.dead:
            payload = b"%d" % len(published)
            published[payload] = world.send(node, payload)
            world.run()
        elif what == "kill":
            note()
            world.kill(node)
            world.start(node)
            world.lives[node] += 1
            world.nodes[node].receive(world._client(), Listen(1))
        elif what == "wait":
            world.advance(20 * index)
        elif at >= 0 and what in ("bring", "twice", "lose"):
            if what != "lose":
                world.bring(at)
            if what != "twice":
                del world.lines[at]
        note()

    while world.lines:
        world.bring(0)
        del world.lines[0]
    world.advance(ANSWER_MS + 20)
    note()
    times: dict[bytes, int] = defaultdict(int)
    for of_one in heard.values():
        for source in world.ids:
            numbers = [int(payload) for sender, payload in of_one if sender == source]
            assert numbers == sorted(set(numbers))
        for _, payload in of_one:
            times[payload] += 1
    for payload, client in published.items():
        answers = world.answers[client]
        if answers:  # else its node died
            assert isinstance(answers[0], Published)
            assert answers[0].count <= times[payload]
