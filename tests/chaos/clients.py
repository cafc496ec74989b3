"""Real clients that write their history: the public ``AsyncClient``, and a log of what it did.

Every value is a map with ``ops``, the ids of the writes that it holds: one as it is written, more
where siblings were merged. So a read says which writes it found, and the log has the same format as
the simulator's (``sim/history.py``), for the same judge.

How an operation ends follows from the error alone: ``outcome`` "none" is ``fail``, all else is
``unknown``; a read has nothing to leave behind, so it fails. An error that is not about being
unavailable is a finding: nothing that these clients ask for is wrong.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from everwrite import AsyncBucket, AsyncClient, EverwriteError, Found, Session, Stored
from everwrite.core.errors import TooLarge, UnavailableError
from everwrite.sim.checkers import Breach
from everwrite.sim.history import Kind, Operation

REPLICAS = 3
QUORUM = 2
RETRIES = 1
TIMEOUT_S = 5.0
BREACHES_MAX = 20

Change = Callable[[Any, str], dict[str, Any]]
"""From the value that was read (None: nothing) and the id of the write: the new value."""


class Log:
    """The history of one run."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._ids: Counter[str] = Counter()
        self.history: list[Operation] = []
        self.verbs: Counter[str] = Counter()
        """What succeeded, as "workload verb"."""
        self.errors: Counter[str] = Counter()
        """What failed, by the error's code."""
        self.done = self.failures = self.acked = 0
        self.breaches: list[Breach] = []

    def now_us(self) -> int:
        return int((self._clock() - self._began) * 1e6)

    def open(
        self, client: str, kind: Kind, key: str, seen: Iterable[str] = (), *, strict: bool = False
    ) -> Operation:
        """Begin an operation."""
        self._ids[client] += 1
        operation = Operation(
            f"{client}.{self._ids[client]}", client, kind, key, self.now_us(), sorted(seen)
        )
        operation.q = operation.dw = QUORUM
        operation.strict = strict
        self.history.append(operation)
        return operation

    def succeeded(self, operation: Operation, verb: str, tries: int) -> None:
        """End it well; without a verb, what it was is counted by who knows."""
        operation.completed = self.now_us()
        operation.outcome = "ok"
        operation.tries = tries
        self.done += 1
        self.acked += operation.is_write
        if verb:
            self.verbs[f"{workload_of(operation)} {verb}"] += 1

    def failed(self, operation: Operation, error: EverwriteError, tries: int) -> None:
        """End it with an error."""
        operation.completed = self.now_us()
        surely_not = error.outcome == "none" or not operation.is_write
        operation.outcome = "fail" if surely_not else "unknown"
        operation.error = error.code
        operation.tries = tries
        self.failures += 1
        self.errors[error.code] += 1
        if not isinstance(error, UnavailableError | TooLarge):
            self.breach("refused", f"{operation.describe()}: {error}")

    def breach(self, rule: str, sentence: str) -> None:
        if len(self.breaches) < BREACHES_MAX:
            self.breaches.append(Breach(rule, sentence))


def workload_of(operation: Operation) -> str:
    """Return the workload of an operation, which is its bucket."""
    return operation.key.partition("/")[0]


def ids_in(values: Iterable[Any]) -> list[str]:
    """Return the writes that these values hold."""
    return sorted({op for value in values for op in value["ops"]})


class Client:
    """One client, which does one thing after the other: so what its counters count is of that."""

    def __init__(self, name: str, db: AsyncClient, log: Log) -> None:
        self.name = name
        self.log = log
        self._db = db

    def bucket(self, name: str, merge: Callable[[list[Any]], Any] | None = None) -> AsyncBucket:
        return self._db.bucket(name, merge=merge, timeout=TIMEOUT_S)

    def session(self) -> Session:
        return self._db.session()

    async def get(
        self,
        bucket: AsyncBucket,
        key: str,
        *,
        verb: str = "read",
        session: Session | None = None,
        seen: Iterable[str] = (),
        strict: bool = False,
    ) -> Found | None:
        """Read; None if that is not possible now."""
        operation = self.log.open(self.name, "get", _name(bucket, key), seen, strict=strict)
        before = self._again()
        try:
            found = await bucket.get(key, session=session, strict=strict)
        except EverwriteError as error:
            self.log.failed(operation, error, self._again() - before + 1)
            return None
        operation.found = ids_in(found.values)
        operation.owners, operation.fallbacks = found.quality.owners, found.quality.fallbacks
        self.log.succeeded(operation, verb, self._again() - before + 1)
        return found

    async def put(
        self,
        bucket: AsyncBucket,
        key: str,
        value: dict[str, Any] | None,
        *,
        verb: str,
        context: bytes,
        seen: Iterable[str],
        session: Session | None = None,
        strict: bool = False,
    ) -> Operation:
        """Write a value, or delete (None), in knowledge of what was seen."""
        kind: Kind = "put" if value is not None else "delete"
        operation = self.log.open(self.name, kind, _name(bucket, key), seen, strict=strict)
        before = self._again()
        try:
            if value is None:
                stored = await bucket.delete(key, context=context, session=session, strict=strict)
            else:
                value = {**value, "ops": [operation.id]}
                stored = await bucket.put(
                    key, value, context=context, session=session, strict=strict
                )
        except EverwriteError as error:
            self.log.failed(operation, error, self._again() - before + 1)
            return operation
        self._stored(operation, stored, verb, before)
        return operation

    async def update(
        self, bucket: AsyncBucket, key: str, change: Change, *, verb: str
    ) -> Operation | None:
        """Read, change, write, by the client's own ``update``; None if there was nothing to read
        from.
        """
        reading = self.log.open(self.name, "get", _name(bucket, key))
        writing: Operation | None = None
        before = self._again()

        def changed(value: Any) -> dict[str, Any]:
            nonlocal writing, before
            reading.found = ids_in([value] if value is not None else [])
            self.log.succeeded(reading, "read", self._again() - before + 1)
            writing = self.log.open(self.name, "put", _name(bucket, key), reading.found)
            before = self._again()
            return {**change(value, writing.id), "ops": [writing.id]}

        try:
            stored = await bucket.update(key, changed)
        except EverwriteError as error:
            self.log.failed(writing or reading, error, self._again() - before + 1)
            return writing
        if writing is not None:
            self._stored(writing, stored, verb, before)
        return writing

    def _stored(self, operation: Operation, stored: Stored, verb: str, before: int) -> None:
        operation.owners, operation.fallbacks = stored.owners, stored.fallbacks
        operation.durable = stored.durable
        if stored.durable < operation.dw:
            self.log.breach(
                "not durable", f"{operation.describe()}: acknowledged with less than was asked for"
            )
        tries = self._again() - before + 1
        if stored.retried:  # a node took the write over from another one: also a second try
            tries = max(tries, 2)
        self.log.succeeded(operation, verb, tries)

    def _again(self) -> int:
        counters = self._db.counters
        return counters.hedges + counters.failovers


def _name(bucket: AsyncBucket, key: str) -> str:
    return f"{bucket.name}/{key}"
