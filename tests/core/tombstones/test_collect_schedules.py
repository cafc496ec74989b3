"""Random schedules: messages that are late, twice or out of order, crashes, pauses, and a key that
is deleted and put again. Whatever a collected tombstone knew of is never again on any disk.

Copies that are late come between the steps, and between any two messages of a collection.

Deliberate bugs must be caught by these schedules: so they can fail.
"""

from __future__ import annotations

import random
from itertools import count

import pytest
from msgspec.structs import replace
from tests.core.tombstones.test_collect import world_of
from tests.core.tombstones.test_collect_bugs import nobody_is_asked_again
from tests.core.world import KEY

from everwrite.core.data import versions
from everwrite.core.data.versions import Clock, Record
from everwrite.core.hints.kept import split_hint
from everwrite.core.local import Local
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import FetchReply, Store
from everwrite.core.messages.tombstones import Confirm, Confirmed, Reap, Reaped
from everwrite.core.outbox import Place
from everwrite.core.records import HINT, OWN
from everwrite.sim.bugs import planted

LIFE_MS = 300
STEPS = 60
STORIES = 12
"""Schedules that the real code must pass in this test."""
HUNTED = 60
"""Schedules within which each bug is caught."""

COLLECTING = (Confirm, Confirmed, Reap, Reaped)
LATE = (Store, FetchReply, *COLLECTING)


class Broken(Exception):
    """Something came back, or could."""


class Story:
    """One schedule, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.world = world = world_of(
            rng.choice((3, 4, 5)),
            store_life_ms=LIFE_MS,
            collect_every_ms=40,
            collect_retry_ms=rng.choice((150, 400)),
            down_after_ms=400,
            ping_every_ms=100,
            hint_retry_ms=200,
            hint_pass_every_ms=100,
            repair_every_ms=rng.choice((100, 100_000)),
            spare_after_ms=60,
        )
        self.late: list[tuple[bytes, bytes, Message]] = []
        self.contexts = [b""]
        self.gone: Clock = {}
        """All that collected tombstones knew of."""
        self.collected = 0
        self.values = count(1)
        self.had: dict[bytes, Record | None] = dict.fromkeys(world.ids)
        self.trouble = rng.choice((0.0, 0.05, 0.3))
        self.meddling = rng.choice((0.0, 0.1, 0.5))
        world.lose = self.lose
        world.watch = self.look

    def lose(self, source: bytes, target: Place, message: Message) -> bool:
        """Keep some messages for later, or deliver them and keep them too."""
        if not isinstance(message, LATE) or not isinstance(target, bytes):
            return False
        if isinstance(message, COLLECTING) and self.rng.random() < self.meddling:
            self.meddle()
        if self.rng.random() >= self.trouble:
            return False
        self.late.append((source, target, message))
        return self.rng.random() < 0.7

    def look(self) -> None:
        """Look at all disks, also of those that are down."""
        for node, disk in self.world.disk.items():
            payload = disk.get(OWN + KEY)
            now = versions.decode(payload[8:]) if payload is not None else None
            before, self.had[node] = self.had[node], now
            if before is not None and now is None:
                self.collected += 1
                self.gone = versions.join(self.gone, before.clock)
        for node, disk in self.world.disk.items():
            for prefix in (OWN, HINT):
                payload = disk.get(prefix + KEY)
                if payload is None:
                    continue
                data = payload[8:] if prefix == OWN else split_hint(payload)[2]
                for version in versions.decode(data).siblings:
                    covered = versions.covers(self.gone, version.actor, version.counter)
                    if version.value is not None and covered:
                        raise Broken(f"{version.value!r} is on {node.hex()} as {prefix!r}")

    def play(self) -> int:
        """Go through it; return how many copies were collected."""
        for _ in range(STEPS):
            self.step()
        self.calm()
        return self.collected

    def step(self) -> None:
        world, rng = self.world, self.rng
        up = [node for node in world.ids if node not in world.dead | world.silent]
        what = rng.choices(
            ("put", "delete", "read", "wait", "crash", "pause", "late", "calm"),
            (4, 8, 3, 10, 1, 1, 8, 3),
        )[0]
        node = rng.choice(up)
        if what == "put":
            context = rng.choice(self.contexts[-4:])
            world.send_put(node, b"v%d" % next(self.values), context=context, w=rng.choice((1, 2)))
            world.run()
        elif what in ("delete", "read"):
            self.read(node, delete=what == "delete")
        elif what == "wait":
            world.advance(rng.choice((20, 60, 200)))
        elif what == "crash" and len(up) > 2:
            world.kill(node)
        elif what == "pause" and len(up) > 2:
            world.silent.add(node)
        elif what == "late":
            self.deliver(rng.randint(1, 3))
        else:
            self.calm()

    def read(self, node: bytes, *, delete: bool) -> None:
        """Read, and remember the context; delete what was read."""
        world = self.world
        client = world.send_get(node, r=self.rng.choice((1, 2)))
        world.run()
        for answer in world.answers[client]:
            context = getattr(answer, "context", b"")
            if context:
                self.contexts.append(context)
                if delete:
                    world.send_put(node, None, context=context, w=1)
                    world.run()

    def deliver(self, many: int) -> None:
        """Bring home some of what is late, in any order, some of it not for the last time."""
        world, rng = self.world, self.rng
        for _ in range(min(many, len(self.late))):
            at = rng.randrange(len(self.late))
            source, target, message = self.late[at]
            if rng.random() < 0.7:
                del self.late[at]
            self.receive(source, target, message)
            world.run()

    def meddle(self) -> None:
        """While a collection goes on: bring home a copy that is late, or a hint in its place, as
        who sent it does for an owner that is down.
        """
        stores = [each for each in self.late if isinstance(each[2], Store)]
        if not stores:
            return
        source, target, message = self.rng.choice(stores)
        assert isinstance(message, Store)
        spares = self.world.order()[3:]
        if spares and self.rng.random() < 0.7:
            message = replace(message, hint_for=message.hint_for or target)
            target = self.rng.choice(spares)
        self.receive(source, target, message)

    def receive(self, source: bytes, target: bytes, message: Message) -> None:
        world = self.world
        if target not in world.dead | world.silent:
            world.nodes[target].local.now = world.now
            world.nodes[target].receive(source, message)

    def calm(self) -> None:
        """Let all be up, and nothing be late, for as long as a collection takes."""
        world, trouble = self.world, self.trouble
        self.trouble = 0.0
        world.silent.clear()
        world.start(*sorted(world.dead))
        world.meet()
        world.advance(self.rng.choice((LIFE_MS, 4 * LIFE_MS)))
        self.trouble = trouble


def stories(seeds: range) -> int:
    return sum(Story(seed).play() for seed in seeds)


def test_nothing_that_a_collected_tombstone_knew_of_comes_back() -> None:
    assert stories(range(STORIES)) > STORIES  # what never goes cannot come back


def caught() -> bool:
    """Say whether a schedule breaks what is planted now."""
    for seed in range(HUNTED):
        try:
            Story(seed).play()
        except Broken:
            return True
    return False


@pytest.mark.parametrize("name", ["collects-by-a-timer", "collects-at-once"])
def test_the_schedules_reject(name: str) -> None:
    with planted(name):
        assert caught()


def test_the_schedules_reject_that_old_copies_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Local, "is_timely", lambda self, source, stamp: True)

    assert caught()


def test_the_schedules_reject_that_nobody_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody_is_asked_again(monkeypatch)

    assert caught()
