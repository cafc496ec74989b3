"""Somebody who asks one thing at a time of a machine that he chooses, and waits for the answer.

The clients (clients.py) have the world's time pass around them; who asks here makes it pass. So do
the audit and the survivors: each asks of a cluster what it must be able to do now.

Costs: the events until the answer is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from everwrite.core.messages.requests import Failure, Get, GetReply, Put, PutReply
from everwrite.core.wire import decode_payload

if TYPE_CHECKING:
    from everwrite.sim.truth import KeyLedger
    from everwrite.sim.world import World

TRANSIENT = ("overloaded", "hints_full", "unavailable")
"""Refusals that a node gives while it catches its breath: they say to try again."""

Answer = GetReply | PutReply | Failure | None
"""None: no answer came in time, or the connection broke."""


class Asker:
    """A caller of the nodes like any client; ``rid`` is the number of its last request."""

    def __init__(self, world: World, name: str, *, within_us: int, pause_us: int) -> None:
        self.name = name
        self.rid = 0
        self._world = world
        self._within_us = within_us
        self._pause_us = pause_us
        self._answer: Answer = None

    def ask(
        self, machine: int, message: Get | Put, key: KeyLedger | None = None, place: int = -1
    ) -> Answer:
        """Return a machine's answer; a put's ``key`` and its place there are for the ledger."""
        world = self._world
        self.rid += 1
        self._answer = None
        connection = world.connect(self, machine)
        if key is not None and place >= 0:
            world.ledger.tried(connection, self.rid, key, place)
        world.request(connection, msgspec.structs.replace(message, rid=self.rid))
        world.run(world.now + self._within_us, lambda: self._answer is not None)
        return self._answer

    def ask_again(
        self,
        tries: int,
        machine: int,
        message: Get | Put,
        key: KeyLedger | None = None,
        place: int = -1,
    ) -> Answer:
        """Return a machine's answer, asked for again while it says that it is out of breath."""
        answer: Answer = None
        for _ in range(tries):
            answer = self.ask(machine, message, key, place)
            if not (isinstance(answer, Failure) and answer.code in TRANSIENT):
                break
            self.pause()
        return answer

    def pause(self) -> None:
        """Let some time pass before the next try."""
        self._world.run(self._world.now + self._pause_us)

    def receive(self, connection: int, data: bytes) -> None:
        """A frame of a node came."""
        for message in decode_payload(data[4:]):
            if isinstance(message, GetReply | PutReply | Failure) and message.rid == self.rid:
                self._answer = message

    def broken(self, connection: int) -> None:
        """The connection broke: the next try makes another."""
        self._answer = None
