"""A history: what the clients of one run asked, were told, and knew. The same for simulated and
for real clusters, so that one checker judges both.

Every put and delete has an id of its own, which is also its value, so a read says which writes it
found. ``seen`` are the ids that a client had read when it wrote: with them a checker knows which
write superseded which, without believing a word of what the cluster says of clocks.

    put, delete     seen: what stood in its context            found: nothing
    get, fetch      seen: what its session token demands       found: the ids it returned
    touch           seen: nothing                              found: nothing
    change, over    of a data type (sim/typed): judged there
    compose         a read of one

A put may end (``ttl_ms``), and a touch lets what it finds live longer. Neither says when: the clock
that decides is the coordinator's. So a checker knows of each end two bounds.

An operation ends as ``ok``; as ``fail``: it has surely not happened; or as ``unknown``: it may
have happened, or may yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

Kind = Literal["put", "delete", "get", "fetch", "touch", "change", "over", "compose"]
Outcome = Literal["pending", "ok", "fail", "unknown"]

WRITES = ("put", "delete")
READS = ("get", "fetch")


class Operation(msgspec.Struct):
    """One operation of one client, from its first try to its end. Times are microseconds."""

    id: str
    client: str
    kind: Kind
    key: str
    invoked: int
    seen: list[str] = []
    completed: int = -1
    outcome: Outcome = "pending"
    found: list[str] = []
    hidden: list[str] = []
    """Deletes that a read's context covers; only a simulator can know them."""
    n: int = 0
    q: int = 0
    """r of a read, w of a write, as it was in force."""
    dw: int = 0
    strict: bool = False
    tries: int = 0
    """By the client, or by a node that took it over from another."""
    owners: int = 0
    """What the answer said: owners and fallbacks that took part, and copies on disk for good."""
    fallbacks: int = 0
    durable: int = 0
    error: str = ""
    ttl_ms: int = 0
    """How long a put is to live, or what a touch finds is to live from then on; 0: for ever."""
    asked: str = ""
    """What a change of a data type is, for people."""

    @property
    def is_write(self) -> bool:
        return self.kind in WRITES

    @property
    def is_read(self) -> bool:
        return self.kind in READS

    @property
    def may_stand_twice(self) -> bool:
        """Whether a write may have been carried out by two nodes, each of which gave it a version
        of its own. Of one whose end is not known nobody said how often it was tried.
        """
        return self.is_write and (self.tries > 1 or self.outcome == "unknown")

    def describe(self) -> str:
        """Return the operation as one line for a person."""
        words = [f"{self.kind} {self.id} on {self.key}", f"by {self.client}"]
        end = f"{self.completed / 1e6:.3f}" if self.completed >= 0 else ""
        words.append(f"at {self.invoked / 1e6:.3f}..{end} s: {self.outcome}")
        if self.asked:
            words.append(self.asked)
        if self.ttl_ms:
            words.append(f"ttl {self.ttl_ms} ms")
        if self.error:
            words.append(f"({self.error})")
        if self.outcome == "ok" and self.is_write:
            words.append(f"(owners {self.owners}, fallbacks {self.fallbacks}, ")
            words[-1] += f"durable {self.durable}, w {self.q})"
        if self.seen:
            words.append(f"seen {' '.join(self.seen)}")
        if self.found:
            words.append(f"found {' '.join(self.found)}")
        return " ".join(words)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Operation).decode


def dump(operations: Iterable[Operation]) -> bytes:
    """Return a history as JSON lines, for keeping beside a failed run."""
    return b"".join(_encode(operation) + b"\n" for operation in operations)


def load(data: bytes) -> Iterator[Operation]:
    """Yield the operations of a history that ``dump`` made."""
    for line in data.splitlines():
        yield _decode(line)
