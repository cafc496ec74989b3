"""Detectors that ping each other over virtual lines, in virtual time, and nothing else.

What goes wrong is said by plain attributes; times are ms:

    lines      (from, to) -> how long a frame takes, None: it is lost; else ``way_ms``
    slow       how much later than it should a node does what it does with a frame
    paused     nodes that do not run: what comes for them waits, and their time stands still
    dead       processes that are gone; ``kill`` tells their peers, as a broken connection does
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from typing import Any

from everwrite.core.cluster.members import MemberTable
from everwrite.core.config import ClusterConfig, NodeConfig
from everwrite.core.data.epochs import Epochs
from everwrite.core.gossip.detector import Detector
from everwrite.core.local import Local
from everwrite.core.messages.members import Member, Ping, Pong, Probe, Probed
from everwrite.core.messages.message import Message

Line = Callable[[int], float | None]
CLUSTER = ClusterConfig(cluster_id=b"c" * 16, partitions=1)


class Place:
    """One node: its detector, and what its shell keeps."""

    def __init__(self, number: int, members: list[Member], config: NodeConfig, now: int) -> None:
        me = members[number]
        table = MemberTable(me, members)
        epochs = Epochs(me.node_id, 1, number)
        self.local = Local(config, CLUSTER, table, epochs, b"k" * 32, now)
        self.detector = Detector(self.local)
        self.inbox: list[tuple[int, list[Message]]] = []
        self.timer = -1


class Crowd:
    """See the module. Nodes are numbered from 0; all know each other and have a connection."""

    def __init__(self, nodes: int, *, way_ms: float = 0.5, meet: bool = True, **knobs: Any) -> None:
        self.config = NodeConfig(**{"leaf_bits": 1, **knobs})
        self.now = 1_000_000
        self.way_ms = way_ms
        self.lines: dict[tuple[int, int], Line] = {}
        self.slow: dict[int, float] = {}
        self.paused: set[int] = set()
        self.dead: set[int] = set()
        self.flips: list[tuple[int, int, int, str]] = []
        """(when, who, of whom, what it is from now on)."""
        self.said: Counter[type] = Counter()
        self.wakes_first = True
        """What a node does first after a pause: wake, or read what came."""
        self.members = [
            Member(bytes((0, number)) * 4, f"n{number}", "h", 1, f"z{number}", 1.0, 1, 1)
            for number in range(nodes)
        ]
        every = self.config.ping_every_ms  # nodes that started together would ping together
        self.places = [
            Place(number, self.members, self.config, self.now + number * 137 % every)
            for number in range(nodes)
        ]
        self._events: list[tuple[float, int, int, int, list[Message] | None]] = []
        self._serial = 0
        self._arrived: dict[tuple[int, int], float] = {}
        self._thought: dict[tuple[int, int], str] = {}
        if meet:
            self.meet()
        for number in range(nodes):
            self._settle(number)

    def id(self, number: int) -> bytes:
        return self.members[number].node_id

    def state(self, who: int, of: int) -> str:
        return self.places[who].detector.state(self.id(of))

    def states(self, of: int) -> set[str]:
        """Return what the others that run take a node for."""
        return {
            self.state(who, of)
            for who in range(len(self.places))
            if who not in self.dead and who not in self.paused and who != of
        }

    # -- what happens ------------------------------------------------------------------------------

    def meet(self) -> None:
        """Have all nodes hear of all others, as when their connections are made."""
        for number, place in enumerate(self.places):
            for other in range(len(self.places)):
                if other != number:
                    place.detector.heard(self.id(other))
                    self._thought[number, other] = "up"

    def say(self, source: int, target: int) -> None:
        """Have a node send a frame that is no business of the detector."""
        self._send(source, target, [])

    def advance(self, ms: int) -> None:
        end = self.now + ms
        while self._events and self._events[0][0] <= end:
            at, _, number, source, frame = heapq.heappop(self._events)
            self.now = max(self.now, int(at))
            self._happen(number, source, frame)
        self.now = end

    def until(self, done: Callable[[], bool], most_ms: int) -> int:
        """Let time pass until something is so; return how long it took, -1 if it never was."""
        start = self.now
        while self.now < start + most_ms:
            self.advance(10)
            if done():
                return self.now - start
        return -1

    def kill(self, number: int) -> None:
        """End a process: its connections break."""
        self.dead.add(number)
        for other, place in enumerate(self.places):
            if other != number and other not in self.dead:
                place.local.now = self.now
                place.detector.lost(self.id(number))
                self._settle(other)

    def vanish(self, number: int) -> None:
        """End a machine: nobody is told."""
        self.dead.add(number)

    def revive(self, number: int) -> None:
        """Have a process again, with the memory of the old one."""
        self.dead.discard(number)
        self._at(self.now, number, -1, None)
        for other in range(len(self.places)):
            if other != number and other not in self.dead:
                self._at(self.now, other, number, [])
                self._at(self.now, number, other, [])

    def pause(self, number: int) -> None:
        self.paused.add(number)

    def resume(self, number: int) -> None:
        self.paused.discard(number)
        place = self.places[number]
        inbox, place.inbox = place.inbox, []
        if self.wakes_first:
            self._wake(number)
        for source, frame in inbox:
            self._happen(number, source, frame)
        self._wake(number)

    # -- parts -------------------------------------------------------------------------------------

    def _at(self, at: float, number: int, source: int, frame: list[Message] | None) -> None:
        self._serial += 1
        heapq.heappush(self._events, (at, self._serial, number, source, frame))

    def _happen(self, number: int, source: int, frame: list[Message] | None) -> None:
        if number in self.dead:
            return
        place = self.places[number]
        if frame is None:
            if number not in self.paused:
                self._wake(number)
            return
        if number in self.paused:
            place.inbox.append((source, frame))
            return
        place.local.now = self.now
        place.detector.heard(self.id(source))
        for message in frame:
            self.said[type(message)] += 1
            handle = {
                Ping: place.detector.ping,
                Pong: place.detector.pong,
                Probe: place.detector.probe,
                Probed: place.detector.probed,
            }[type(message)]
            handle(self.id(source), message)  # type: ignore[arg-type]
        self._settle(number)

    def _wake(self, number: int) -> None:
        place = self.places[number]
        place.local.now = self.now
        up = set(place.local.liveness.up)
        gone = place.detector.wake()
        assert gone == sorted(gone)
        assert set(gone) <= up - place.local.liveness.up, "only who was up is said to be gone"
        place.timer = -1
        self._settle(number)

    def _settle(self, number: int) -> None:
        """Send what a node left in its outbox, and note what it thinks now."""
        place = self.places[number]
        sends, place.local.out.sends = place.local.out.sends, {}
        for target, frame in sends.items():
            assert isinstance(target, bytes)
            self._send(number, self.members.index(self._member(target)), frame)
        due = place.detector.next_wake_ms()
        if place.timer < 0 or due < place.timer:
            place.timer = max(due, self.now)
            self._at(place.timer, number, -1, None)
        for other in range(len(self.places)):
            if other != number:
                state = self.state(number, other)
                if self._thought.get((number, other)) != state:
                    self._thought[number, other] = state
                    self.flips.append((self.now, number, other, state))
                assert (state == "up") == (self.id(other) in place.local.liveness.up)

    def _member(self, node_id: bytes) -> Member:
        return next(member for member in self.members if member.node_id == node_id)

    def _send(self, source: int, target: int, frame: list[Message]) -> None:
        line = self.lines.get((source, target))
        takes = self.way_ms if line is None else line(self.now)
        if takes is None:
            return
        late = self.slow.get(target, 0.0) + self.slow.get(source, 0.0)
        arrives = max(self.now + takes + late, self._arrived.get((source, target), 0.0))
        self._arrived[source, target] = arrives  # a connection keeps the order
        self._at(arrives, target, source, frame)
