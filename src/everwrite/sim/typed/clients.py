"""Simulated clients of data types: they change counters, sets, maps and flags, and read them.

Each key has a kind, which says what is done to it:

    tally     a counter that only grows, and is never removed: its sum is exact
    till      a number: increments both ways, assignments, removes
    bag       a set: names go in and out
    map       a counter, a set, a register, a flag, and maps of such
    session   a map of which most ends
    wild      one name, now of this type, now of that, and puts over all there is
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Failure, Get, GetReply, Put, PutReply
from everwrite.sim.clients import TTL_MS, Client, World
from everwrite.sim.history import Operation
from everwrite.sim.options import stream
from everwrite.sim.truth import NO_KNOWLEDGE, Violation
from everwrite.sim.typed.answers import counted, judge_written, learn
from everwrite.sim.typed.pieces import Asked, Path
from everwrite.sim.typed.rules import encode
from everwrite.sim.typed.truth import TypedKey

KINDS = ("tally", "map", "bag", "tally", "session", "till", "tally", "wild")
NAMES = ("ant", "bee", "cat", "dog", b"\xff")
FEW = ("m", "m2")
"""Names of maps within a map."""

Change = tuple[str, Path, Any]


class Session(NamedTuple):
    """What a client knows of a key: a context, the pieces that it stands for, and, of a counter
    that only grows, what it came to.
    """

    token: bytes
    mask: int
    low: int = 0


NO_SESSION = Session(b"", 0)


class TypedClient(Client):
    """See the module."""

    def __init__(self, world: World, name: str, rng: random.Random, keys: list[TypedKey]) -> None:
        super().__init__(world, name, rng, list(keys))
        self.typed = keys
        self.sessions: dict[bytes, Session] = {}
        self._typed = keys[0]
        self._asked_put: Asked | None = None
        self._session = NO_SESSION

    def _do_next(self) -> None:
        self._serial += 1
        rng = self.rng = stream(self.world.options.seed, f"{self.name}.{self._serial}")
        self._key = key = self._typed = rng.choice(self.typed)
        kind = kind_of(key)
        self._asked_put = None
        if rng.random() < 0.25:
            self._compose(key)
            return
        session = self._choose_session(key, 0.5)
        if kind in ("wild", "till", "session") and rng.random() < (0.3 if kind == "wild" else 0.04):
            value = None if rng.random() < 0.3 else b"%d" % rng.randrange(50)
            value = None if kind == "session" else value
            if kind == "wild" and rng.random() < 0.5 and value is not None:
                value = b"text"
            self._put(key, session, [], value, over=True)
            return
        self._put(key, session, draw_changes(kind, rng), None, over=False)

    def _choose_session(self, key: TypedKey, share: float) -> Session:
        session = self.sessions.get(key.data_key, NO_SESSION)
        return session if self.rng.random() < share else NO_SESSION

    def _begin(self, kind: str, key: TypedKey, session: Session, what: str) -> Operation:
        operation = Operation(
            f"{self.name}.{self._serial}",
            self.name,
            kind,  # type: ignore[arg-type]
            key.name,
            self.world.now,
            asked=what,
        )
        self._operation = operation
        self._session = session
        self._used = NO_KNOWLEDGE
        self._foreign = self._doubt = False
        self._asked.clear()
        self.world.history.append(operation)
        return operation

    def _compose(self, key: TypedKey) -> None:
        rng = self.rng
        session = self._choose_session(key, 0.6)
        operation = self._begin("compose", key, session, "")
        n, q = self._numbers(wide=False)
        operation.n, operation.q = n, q or self._majority(n)
        operation.strict = rng.random() < 0.2
        timeout = rng.choice((0, 200, 1000))
        self._message = Get(
            0, key.data_key, timeout, n, q, operation.strict, session.token, marks=True
        )
        self._try()

    def _put(
        self,
        key: TypedKey,
        session: Session,
        changes: list[Change],
        value: bytes | None,
        *,
        over: bool,
    ) -> None:
        rng = self.rng
        what = f"over {value!r}" if over else repr(changes)
        operation = self._begin("over" if over else "change", key, session, what)
        n, q, dw = self._quorum(operation)
        if kind_of(key) == "session" and not over and rng.random() < 0.4:
            operation.ttl_ms = rng.choice(TTL_MS)
        asked = Asked(operation, changes, value, over, session.mask)
        key.invoked(asked)
        self._asked_put = asked
        self._message = Put(
            0,
            key.data_key,
            value if over else encode(changes),
            session.token,
            operation.id.encode(),
            rng.choice((0, 200, 1000)),
            0,
            n,
            q,
            dw,
            operation.strict,
            ttl_ms=operation.ttl_ms,
            change=not over,
            over=over,
        )
        self._try()

    def _ask(self, machine: int, message: Message) -> None:
        connection = self.world.connect(self, machine)
        self._connection = connection
        if isinstance(message, Put) and self._asked_put is not None:
            self.world.ledger.tried_typed(connection, message.rid, self._typed, self._asked_put)
        self.world.request(connection, message)

    # -- answers -----------------------------------------------------------------------------------

    def _got(self, operation: Operation, reply: GetReply) -> None:
        key, session = self._typed, self._session
        operation.owners, operation.fallbacks = reply.quality.owners, reply.quality.fallbacks
        operation.q = min(operation.q, reply.quality.required)
        found = learn(key, reply, operation.describe())
        operation.found = [key.causality.ids[each.place] for each in found.pieces]
        if lacks := session.mask & ~found.known & ~key.forgettable():
            raise Violation(
                "session",
                f"{operation.describe()}: its session knew {key.causality.names(lacks)}",
            )
        low = 0
        if kind_of(key) == "tally":
            low = self._judge_growth(operation, found.value[1] if found.value else 0)
        self.sessions[key.data_key] = Session(reply.context, found.known, low)
        self._end("ok", "")

    def _judge_growth(self, operation: Operation, value: int, more: int = 0) -> int:
        """Return what a counter came to that only grows, for the session: never less than it was,
        and than that and what it has just added.
        """
        key = self._typed
        if value < self._session.low + more and not key.weakened:
            raise Violation(
                "session",
                f"{operation.describe()}: {key.name} is {value}, and its session knew it as "
                f"{self._session.low} and added {more}",
            )
        return value

    def _stored(self, operation: Operation, reply: PutReply) -> None:
        key, asked = self._typed, self._asked_put
        if asked is None:
            return
        operation.owners, operation.fallbacks = reply.owners, reply.fallbacks
        operation.q = min(operation.q, reply.required)
        operation.durable = reply.durable
        operation.outcome, operation.completed = "ok", self.world.now
        judge_written(key, asked, reply)
        asked.elsewhere = not key.claims_pieces(asked, reply)
        if kind_of(key) == "tally" and reply.results:
            more = sum(what for _, _, what in asked.changes)
            self._judge_growth(operation, reply.results[-1], more)
        if self.rng.random() < 0.7 and reply.context:
            mask = key.known_by(reply.context)
            low = counted(key, mask) if kind_of(key) == "tally" else 0
            self.sessions[key.data_key] = Session(reply.context, mask, low)
        self._end("ok", "")

    def _failed(self, operation: Operation, failure: Failure) -> None:
        if failure.code == "wrong_type" and kind_of(self._typed) != "wild":
            raise Violation(
                "wrong type",
                f"{operation.describe()}: {failure.message} Nobody writes another type there.",
            )
        super()._failed(operation, failure)

    def _end(self, outcome: str, error: str) -> None:
        asked, self._asked_put = self._asked_put, None
        if asked is None and outcome == "unknown":
            outcome = "fail"  # a read has changed nothing
        super()._end(outcome, error)
        if asked is not None:
            self._typed.finished(asked)


def kind_of(key: TypedKey) -> str:
    """Return the kind of a key: its name without its number."""
    return key.name.rstrip("0123456789")


def draw_changes(kind: str, rng: random.Random) -> list[Change]:
    """Return what is done to a key of a kind."""
    if kind == "tally":
        return [("add", (), rng.randint(1, 9)) for _ in range(rng.choice((1, 1, 1, 2)))]
    if kind == "till":
        return [_number((), rng)]
    if kind == "bag":
        return [_set((), rng) for _ in range(rng.choice((1, 1, 2)))]
    if kind == "wild":
        path = rng.choice(((), ("x",), ("x", "y")))
        return [rng.choice((_number, _set, _flag, _register))(path, rng)]
    return [_field(rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))]


def _field(rng: random.Random) -> Change:
    dice = rng.random()
    if dice < 0.03:
        return ("remove", (), None)
    inside: Path = (rng.choice(FEW),) if rng.random() < 0.3 else ()
    if dice < 0.10 and inside:
        return ("remove", inside, None)
    if dice < 0.5:
        return _number((*inside, "n"), rng)
    if dice < 0.75:
        return _set((*inside, "s"), rng)
    return (_register if dice < 0.9 else _flag)((*inside, "r" if dice < 0.9 else "f"), rng)


def _number(path: Path, rng: random.Random) -> Change:
    dice = rng.random()
    if dice < 0.04:
        return ("assign", path, [0, b"%d" % rng.randint(-20, 20)])
    if dice < 0.08:
        return ("remove", path, None)
    return ("add", path, rng.choice((1, 1, 2, 5, -1, -3)))


def _set(path: Path, rng: random.Random) -> Change:
    dice = rng.random()
    if dice < 0.04:
        return ("remove", path, None)
    names = rng.sample(NAMES, rng.choice((1, 1, 2, 3)))
    return ("include" if dice < 0.6 else "exclude", path, names)


def _register(path: Path, rng: random.Random) -> Change:
    if rng.random() < 0.05:
        return ("remove", path, None)
    return ("assign", path, [rng.randrange(3), rng.choice((b"7", b"seven", b""))])


def _flag(path: Path, rng: random.Random) -> Change:
    return ("enable" if rng.random() < 0.6 else "disable", path, None)
