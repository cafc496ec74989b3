"""Simulated clients: carts that are read, merged and written back, blind puts, deletes, reads.

Some puts end after a while, and now and then a client touches a key, so that it does not.

Each client has one operation under way. It sends it to some node; when the node is gone, says no,
or stays silent, it tries the next with the same op and ``retry``, as the real client does. What it
reads it keeps as knowledge (``ledger.Knowledge``): the token, and the ids behind it.

The value of a write begins with its op id, so what a read returns names the writes it found.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Protocol

from msgspec.structs import replace

from everwrite.core.data import context, versions
from everwrite.core.data.versions import Record
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import (
    ABSENT,
    FOUND,
    Failure,
    Fetch,
    FetchReply,
    Get,
    GetReply,
    Put,
    PutReply,
    Touch,
)
from everwrite.core.wire import decode_payload
from everwrite.sim.answers import hidden, learn_read, learn_write
from everwrite.sim.causality import indices
from everwrite.sim.history import Operation
from everwrite.sim.ledger import Ledger
from everwrite.sim.options import Options, stream
from everwrite.sim.touches import Touches
from everwrite.sim.truth import NO_KNOWLEDGE, KeyLedger, Knowledge, Violation

TTL_MS = (1000, 1000, 2000, 4000, 30_000)
"""How long puts live: most end before the run does."""
TRIES_MAX = 4
PADDING = (0, 0, 0, 20, 300)
FOREIGN_CODES = ("bad_context",)


class Caller(Protocol):
    """Whoever makes connections to machines."""

    name: str

    def receive(self, connection: int, data: bytes) -> None:
        """A frame of a node came."""

    def broken(self, connection: int) -> None:
        """A connection broke: what was asked on it may have been carried out."""


class World(Protocol):
    """What a client needs of the world around it."""

    now: int
    ledger: Ledger
    options: Options
    history: list[Operation]
    touches: Touches

    def doors(self) -> list[int]:
        """Return the machines that a client may try."""
        ...

    def connect(self, caller: Caller, machine: int) -> int:
        """Return the number of a connection to a machine."""

    def request(self, connection: int, message: Message) -> None:
        """Carry a request to the machine of a connection."""

    def later(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        """Have something done after a delay."""

    def count(self, what: str) -> None:
        """Count a fault."""


class Client:
    """See the module."""

    def __init__(self, world: World, name: str, rng: random.Random, keys: list[KeyLedger]) -> None:
        self.world = world
        self.name = name
        self.rng = rng
        self.keys = keys
        self.left = 0
        self.knowledge: dict[bytes, Knowledge] = {}
        """What this client has last read or written of each key."""
        self._lives = rng
        """Says what ends and when: apart, so that the same seed without it does the same."""
        self._serial = 0
        self._rid = 0
        self._operation: Operation | None = None
        self._key = keys[0]
        self._place = -1
        self._used = NO_KNOWLEDGE
        self._message: Put | Touch | Get | None = None
        """What the operation under way asks of each node that it tries."""
        self._foreign = False
        self._doubt = False
        self._connection = 0
        self._asked: dict[int, int] = {}
        """rid -> machine, of the tries of the operation under way."""
        self._fetched: list[FetchReply] = []
        self._then_merge = False

    @property
    def busy(self) -> bool:
        return self._operation is not None

    def begin(self) -> None:
        """Do the next operation, if there are any left to do."""
        if self.left <= 0 or self._operation is not None:
            return
        self.left -= 1
        self._do_next()

    def _do_next(self) -> None:
        """Draw an operation and do it. Each draws from a stream of its own, so that one is the same
        when those before it are left out.
        """
        seed, name = self.world.options.seed, f"{self.name}.{self._serial + 1}"
        rng = self.rng = stream(seed, name)
        self._key = key = rng.choice(self.keys)
        options = self.world.options
        if options.ttl_share or options.touch_share:
            self._lives = stream(seed, f"{name} lives")
            if self._lives.random() < options.touch_share:
                self._touch(key)
                return
        dice = rng.random()
        if dice < 0.45:
            self._then_merge = True
            self._read(key)
        elif dice < 0.60:
            self._write(key, NO_KNOWLEDGE)
        elif dice < 0.72:
            self._write(key, self.knowledge.get(key.data_key, NO_KNOWLEDGE))
        elif dice < 0.80:
            self._write(key, self.knowledge.get(key.data_key, NO_KNOWLEDGE), delete=True)
        elif dice < 0.90:
            self._read(key)
        else:
            self._fetch(key)

    # -- operations --------------------------------------------------------------------------------

    def _open(self, kind: str, key: KeyLedger, used: Knowledge) -> Operation:
        self._serial += 1
        causality = key.causality
        seen = causality.frontier(used.mask | used.named)
        operation = Operation(
            f"{self.name}.{self._serial}",
            self.name,
            kind,  # type: ignore[arg-type]
            key.name,
            self.world.now,
            [causality.ids[place] for place in indices(seen)],
        )
        self._operation = operation
        self._used = used
        self._key = key
        self._doubt = False
        self._asked.clear()
        self.world.history.append(operation)
        return operation

    def _write(self, key: KeyLedger, used: Knowledge, *, delete: bool = False) -> None:
        world, rng, options = self.world, self.rng, self.world.options
        foreign = self._foreign_token(key)
        if foreign:
            used = NO_KNOWLEDGE
        operation = self._open("delete" if delete else "put", key, used)
        n, q, dw = self._quorum(operation)
        if not delete and self._lives.random() < options.ttl_share:
            operation.ttl_ms = self._lives.choice(TTL_MS)
        self._foreign = bool(foreign)
        self._place = world.ledger.invoked(key, operation, used)
        value = operation.id.encode() + b"|" + b"x" * rng.choice(PADDING)
        self._message = Put(
            0,
            key.data_key,
            None if delete else value,
            foreign or used.token,
            operation.id.encode(),
            rng.choice((0, 200, 1000)),
            rng.randrange(3),
            n,
            q,
            dw,
            operation.strict,
            ttl_ms=operation.ttl_ms,
        )
        self._try()

    def _touch(self, key: KeyLedger) -> None:
        """Let what stands under a key live longer."""
        operation = self._open("touch", key, NO_KNOWLEDGE)
        self._foreign = False
        n, q, dw = self._quorum(operation)
        operation.ttl_ms = self._lives.choice(TTL_MS)
        op, timeout_ms = operation.id.encode(), self.rng.choice((0, 200, 1000))
        self._message = Touch(
            0, key.data_key, operation.ttl_ms, op, timeout_ms, n, q, dw, operation.strict
        )
        self._try()

    def _quorum(self, operation: Operation) -> tuple[int, int, int]:
        """Draw n, w and dw, and whether all must be owners."""
        options, rng = self.world.options, self.rng
        n, q = self._numbers(wide=options.wide_puts)
        dw = rng.choice((-1, -1, -1, 0, 1, q or self._majority(n)))
        dw = min(dw, n or options.copies)
        operation.n, operation.q = n, q or self._majority(n)
        operation.dw = dw if dw >= 0 else (operation.q if options.fsync else 0)
        operation.strict = rng.random() < 0.2
        return n, q, dw

    def _read(self, key: KeyLedger) -> None:
        rng = self.rng
        session = self.knowledge.get(key.data_key, NO_KNOWLEDGE)
        used = session if rng.random() < 0.3 and not session.named else NO_KNOWLEDGE
        operation = self._open("get", key, used)
        n, q = self._numbers(wide=False)
        operation.n, operation.q = n, q or self._majority(n)
        operation.strict = rng.random() < 0.2
        timeout = rng.choice((0, 200, 1000))
        self._message = Get(0, key.data_key, timeout, n, q, operation.strict, used.token)
        self._try()

    def _fetch(self, key: KeyLedger) -> None:
        """Read some replicas by oneself (Dynamo 6.4)."""
        self._open("fetch", key, NO_KNOWLEDGE)
        self._message = None
        self._fetched = []
        machines = self.world.doors()
        self.rng.shuffle(machines)
        for machine in machines[: self.rng.randint(1, 3)]:
            self._ask(machine, Fetch(self._next_rid(machine), key.data_key, 500))
        self._watch(500_000)

    def _numbers(self, *, wide: bool) -> tuple[int, int]:
        """Return n and r or w, mostly the defaults."""
        options, rng = self.world.options, self.rng
        n = rng.randint(1, options.copies) if wide and rng.random() < 0.5 else 0
        q = rng.randint(1, n or options.copies) if rng.random() < 0.5 else 0
        return n, q

    def _majority(self, n: int) -> int:
        return (n or self.world.options.copies) // 2 + 1

    def _foreign_token(self, key: KeyLedger) -> bytes:
        """Return now and then a context of another key, alone or behind one of this key, or a
        garbled one; else nothing.
        """
        share = self.world.options.faults.get("foreign_context", 0.0)
        if not share or self.rng.random() >= share:
            return b""
        others = [
            known.token for data_key, known in self.knowledge.items() if data_key != key.data_key
        ]
        own = self.knowledge.get(key.data_key, NO_KNOWLEDGE).token
        if own and self.rng.random() < 0.5:
            at = self.rng.randrange(len(own))
            token = own[:at] + bytes((own[at] ^ (1 + self.rng.randrange(255)),)) + own[at + 1 :]
        else:
            token = next((other for other in others if other), b"")
            if own and token and self.rng.random() < 0.5:  # behind one that is good
                token = own + token
        if token:
            self.world.count("foreign_context")
        return token

    # -- tries -------------------------------------------------------------------------------------

    def _try(self) -> None:
        operation = self._operation
        if operation is None:
            return
        operation.tries += 1
        machine = self.rng.choice(self.world.doors())
        rid, asked = self._next_rid(machine), self._message
        if asked is None:
            return
        message: Message
        if isinstance(asked, Get):
            message = replace(asked, rid=rid)
        else:
            message = replace(asked, rid=rid, retry=self._doubt)
        patience = asked.timeout_ms
        self._ask(machine, message)
        # Now and then a client is less patient than the deadline that it gave.
        patience = patience or 1000
        self._watch(int(patience * 1000 * self.rng.choice((0.1, 0.5, 1.2, 1.2))))

    def _next_rid(self, machine: int) -> int:
        self._rid += 1
        self._asked[self._rid] = machine
        return self._rid

    def _ask(self, machine: int, message: Message) -> None:
        connection = self.world.connect(self, machine)
        self._connection = connection
        if isinstance(message, Put):
            self.world.ledger.tried(connection, message.rid, self._key, self._place)
        elif isinstance(message, Touch) and self._operation is not None:
            self.world.touches.asked(connection, message.rid, self._key, self._operation)
        self.world.request(connection, message)

    def _watch(self, patience_us: int) -> None:
        self.world.later(patience_us, self._silent, self._serial, self._rid)

    def _silent(self, serial: int, rid: int) -> None:
        """Nothing came in time: ask somebody else, or give up."""
        operation = self._operation
        if operation is None or serial != self._serial or rid != self._rid:
            return
        if operation.kind == "fetch":
            self._end_fetch()
            return
        self._doubt = True
        self._again("no answer in time")

    def _again(self, why: str) -> None:
        operation = self._operation
        if operation is None:
            return
        if operation.tries < TRIES_MAX and self.rng.random() < 0.8:
            self._try()
        else:
            self._end("unknown" if self._doubt and not operation.is_read else "fail", why)

    # -- answers -----------------------------------------------------------------------------------

    def receive(self, connection: int, data: bytes) -> None:
        """A frame of a node came."""
        for message in decode_payload(data[4:]):
            rid = getattr(message, "rid", 0)
            if self._operation is None or rid not in self._asked:
                continue
            if isinstance(message, GetReply):
                self._got(self._operation, message)
            elif isinstance(message, PutReply):
                self._stored(self._operation, message)
            elif isinstance(message, FetchReply):
                del self._asked[rid]
                self._fetched.append(message)
                if not self._asked:
                    self._end_fetch()
            elif isinstance(message, Failure):
                self._failed(self._operation, message)

    def broken(self, connection: int) -> None:
        """A connection broke: what was asked on it may have been carried out."""
        operation = self._operation
        if operation is not None and connection == self._connection and operation.kind != "fetch":
            self._doubt = True
            self._again("connection lost")

    def _got(self, operation: Operation, reply: GetReply) -> None:
        found = [value.partition(b"|")[0].decode() for _, value in reply.values]
        who = f"{operation.kind} {operation.id}"
        operation.owners, operation.fallbacks = reply.quality.owners, reply.quality.fallbacks
        operation.q = min(operation.q, reply.quality.required)
        self._learn_read(operation, reply.context, found, who)

    def _learn_read(self, operation: Operation, token: bytes, found: list[str], who: str) -> None:
        key = self._key
        knowledge = learn_read(key, token, found, who)
        operation.found = found
        operation.hidden = [key.causality.ids[place] for place in indices(hidden(key, knowledge))]
        self.knowledge[key.data_key] = knowledge
        merge, self._then_merge = self._then_merge, False
        self._end("ok", "")
        if merge:
            delete = self.rng.random() < self.world.options.delete_share
            self._write(key, knowledge, delete=delete)

    def _stored(self, operation: Operation, reply: PutReply) -> None:
        if self._foreign:
            raise Violation(
                "foreign context",
                f"{operation.describe()}: carried out with a context that is not for this key",
            )
        operation.owners, operation.fallbacks = reply.owners, reply.fallbacks
        operation.q = min(operation.q, reply.required)
        operation.durable = reply.durable
        if operation.kind == "touch":
            self._end("ok", "")
            return
        key = self._key
        learnt = learn_write(key, self._place, reply.context)
        if self.rng.random() < 0.7:
            self.knowledge[key.data_key] = learnt
        self._end("ok", "")

    def _end_fetch(self) -> None:
        """Join what the replicas said, as a client that coordinates its own read."""
        operation = self._operation
        replies, self._fetched = self._fetched, []
        if operation is None:
            return
        joined, tokens = b"", []
        for reply in replies:
            if reply.status == FOUND:
                joined = versions.merge_bytes(joined, reply.record) if joined else reply.record
                tokens.append(reply.context)
        if not any(reply.status in (FOUND, ABSENT) for reply in replies):
            self._end("fail", "no replica could say")
            return
        record = versions.decode(joined) if joined else Record({}, [])
        time_ms = max(reply.time_ms for reply in replies)
        found = [version.op.decode() for version in versions.live(record, time_ms)]
        self._learn_read(operation, context.combine(tokens), found, f"fetch {operation.id}")

    def _failed(self, operation: Operation, failure: Failure) -> None:
        if failure.outcome != "none":
            self._doubt = True
        if failure.code == "internal":
            raise Violation("internal", f"{operation.describe()}: {failure.message}")
        if self._foreign and failure.code in FOREIGN_CODES:
            self._end("fail", failure.code)
        elif failure.code in ("bad_context", "bad_request", "protocol", "invariant"):
            raise Violation(
                "refused", f"{operation.describe()}: refused as {failure.code}: {failure.message}"
            )
        elif operation.kind == "fetch":
            del self._asked[failure.rid]
            if not self._asked:
                self._end_fetch()
        elif failure.code == "too_large":
            self._end("unknown" if self._doubt else "fail", failure.code)
        else:
            self._again(failure.code)

    def _end(self, outcome: str, error: str) -> None:
        operation = self._operation
        if operation is None:
            return
        self._operation = None
        operation.outcome = outcome  # type: ignore[assignment]
        operation.completed = self.world.now
        operation.error = error
        if operation.is_write:
            self.world.ledger.finished(self._key, self._place, operation)
        self._then_merge = False
        pace = int(self.rng.expovariate(1.0) * self.world.options.pace_ms * 1000)
        self.world.later(pace, self.begin)
