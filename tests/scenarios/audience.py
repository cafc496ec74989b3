"""The client of a stage: what it asks, and what becomes of it."""

from __future__ import annotations

import msgspec

from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Failure, Get, GetReply, Put, PutReply
from everwrite.core.wire import decode_payload
from everwrite.sim.answers import learn_read, learn_write
from everwrite.sim.history import Operation
from everwrite.sim.truth import NO_KNOWLEDGE, KeyLedger
from everwrite.sim.world import World

NOTHING = NO_KNOWLEDGE


class Call:
    """One request of a client, and what became of it."""

    def __init__(self, key: KeyLedger, operation: Operation, place: int, asked_us: int) -> None:
        self.key = key
        self.operation = operation
        self.place = place
        self.asked_us = asked_us
        self.took_ms = -1.0
        self.answer: PutReply | GetReply | Failure | None = None
        self.broken = False
        """Whether its connection broke before an answer came."""
        self.seen = NOTHING
        """What the client knows now: hand it to the next write."""
        self.values: list[str] = []
        """A read's: the ids of the writes that it found, sorted."""

    @property
    def done(self) -> bool:
        return self.answer is not None or self.broken

    @property
    def ok(self) -> PutReply | GetReply:
        """The answer, which must be a good one."""
        assert isinstance(self.answer, PutReply | GetReply), self.answer
        return self.answer

    @property
    def stored(self) -> PutReply:
        """The answer to a put, which must have succeeded."""
        assert isinstance(self.answer, PutReply), self.answer
        return self.answer

    @property
    def found(self) -> GetReply:
        """The answer to a get, which must have succeeded."""
        assert isinstance(self.answer, GetReply), self.answer
        return self.answer

    @property
    def failure(self) -> Failure:
        """The answer, which must be a failure."""
        assert isinstance(self.answer, Failure), self.answer
        return self.answer


class Audience:
    """The one client of a stage: any number of requests at a time, to any nodes."""

    name = "audience"
    left = 0
    busy = False

    def __init__(self, world: World) -> None:
        self.world = world
        self.calls: dict[int, tuple[int, Call]] = {}
        """rid -> connection and call."""
        self._rid = 0

    def ask(self, node: int, call: Call, message: Get | Put) -> None:
        world = self.world
        self._rid += 1
        connection = world.connect(self, node - 1)
        self.calls[self._rid] = connection, call
        if isinstance(message, Put):
            world.ledger.tried(connection, self._rid, call.key, call.place)
        world.request(connection, msgspec.structs.replace(message, rid=self._rid))

    def receive(self, connection: int, data: bytes) -> None:
        for message in decode_payload(data[4:]):
            _, call = self.calls.pop(getattr(message, "rid", 0), (0, None))
            if call is not None:
                self._answered(call, message)

    def broken(self, connection: int) -> None:
        for rid, (over, call) in list(self.calls.items()):
            if over == connection:
                del self.calls[rid]
                call.broken = True
                self._finish(call, "unknown" if call.operation.is_write else "fail")

    def _answered(self, call: Call, message: Message) -> None:
        operation, key = call.operation, call.key
        call.took_ms = (self.world.now - call.asked_us) / 1000
        if isinstance(message, PutReply):
            operation.owners, operation.durable = message.owners, message.durable
            operation.fallbacks = message.fallbacks
            call.answer = message
            call.seen = learn_write(key, call.place, message.context)
            self._finish(call, "ok")
        elif isinstance(message, GetReply):
            call.answer = message
            found = [value.partition(b"|")[0].decode() for _, value in message.values]
            operation.found = found
            operation.owners = message.quality.owners
            call.values = sorted(found)
            call.seen = learn_read(key, message.context, found, operation.id)
            self._finish(call, "ok")
        elif isinstance(message, Failure):
            call.answer = message
            self._finish(call, "fail" if message.outcome == "none" else "unknown")

    def _finish(self, call: Call, outcome: str) -> None:
        operation = call.operation
        if operation.outcome in ("unknown", "ok") and outcome == "fail":
            return  # an earlier try may have been carried out
        operation.outcome = outcome  # type: ignore[assignment]
        operation.completed = self.world.now
        if operation.is_write:
            self.world.ledger.finished(call.key, call.place, operation)
