"""The node's view of its own disk: what is cached, what is being read, what this tick writes.

A *payload* is what stands on disk under one key (format 2 of a data directory):

    b"d" + data key    own epoch (8 bytes), record                  an owner's copy
    b"h" + data key    own epoch, owners and since when, record     a hint, see hints/kept.py
    b"m" + name        the node's own state
    b"x", b"g"         lists of own copies, see copies.py

A message that needs a payload which is not cached is *parked* under its key; the read goes out with
the tick, and when it comes back the message is handled again, now with the payload at hand. While a
key is being read every message that needs it parks behind, in order, so no write can slip between.
So no handler is ever half done, and each is plain straight code.

The cache has two generations: a hit in the old one moves to the young one; when the young one is
full it becomes the old one. That is close to LRU for the price of one dictionary look-up. It turns
over only between ticks, so a tick always sees its own writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from everwrite.core.config import NodeConfig
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Fetch, Store
from everwrite.core.outbox import Outbox, Place
from everwrite.core.probes import sometimes

if TYPE_CHECKING:
    from everwrite.core.trees.trees import Trees

OWN = b"d"
HINT = b"h"
STATE = b"m"
_OWN_BYTE = OWN[0]
HELD = STATE + b"held"
"""What this node serves and keeps, see core/cluster/holdings.py."""
FLOORS = STATE + b"floors"
"""For each node up to where its copies on their way are not to be taken: tombstones/collect.py."""
CONFIRMED = STATE + b"confirmed"
"""The last such floor that this node gave of itself."""

ENTRY_OVERHEAD_BYTES = 130
"""What CPython spends on an entry beside the bytes: two objects' heads and a slot (measured)."""


class Missing:
    """The payload is not cached: park the message and wait."""


class Damaged:
    """The payload cannot be read; never to be taken for absent."""

    __slots__ = ("corrupt", "reason")

    def __init__(self, reason: str, corrupt: bool) -> None:
        self.reason = reason
        self.corrupt = corrupt


MISSING = Missing()

Payload = bytes | None
"""None: proven absent."""

Parked = tuple[Place, Message, int]
"""(from, message, when it came)."""


class Records:
    """Payloads by disk key, as the handlers of one node see them."""

    __slots__ = (
        "_cap",
        "_damaged",
        "_old",
        "_outbox",
        "_parked",
        "_parked_bytes_max",
        "_parked_max",
        "_size",
        "_trees",
        "_young",
        "owed",
        "parked_bytes",
        "parked_count",
        "rewritten",
        "watched",
    )

    def __init__(self, outbox: Outbox, config: NodeConfig, trees: Trees) -> None:
        self._outbox = outbox
        self._trees = trees
        self._cap = config.cache_bytes // 2
        self._parked_max = config.parked_max
        self._parked_bytes_max = config.held_bytes_max
        self._young: dict[bytes, Payload] = {}
        self._old: dict[bytes, Payload] = {}
        self._size = 0
        self._damaged: dict[bytes, Damaged] = {}
        self._parked: dict[bytes, list[Parked]] = {}
        self.parked_count = self.parked_bytes = 0
        self.owed: dict[bytes, Payload] = {}
        """What a full disk did not take, and what must be there no later than any copy that comes
        after it: it goes with the next one."""
        self.rewritten = 0
        """Damaged payloads that memory still had."""
        self.watched: dict[bytes, int] = {}
        """Hashes of data keys of which nothing was written since, neither as copy nor as hint, with
        the mark under which that was promised: see tombstones/confirm.py."""

    def look(self, key: bytes) -> Payload | Missing | Damaged:
        """Return the payload under a disk key if it is known now."""
        payload = self._young.get(key, MISSING)
        if payload is not MISSING:
            return payload
        payload = self._old.get(key, MISSING)
        if payload is not MISSING:
            self._keep(key, payload)  # type: ignore[arg-type]
            return payload
        return self._damaged.get(key, MISSING)

    def park(self, key: bytes, source: Place, message: Message, now: int) -> bool:
        """Keep a message until the payload under ``key`` was read; False (and nothing kept)
        at the cap.
        """
        if self.parked_count >= self._parked_max or self.parked_bytes >= self._parked_bytes_max:
            sometimes("a message finds as many parked as there may be")
            return False
        waiting = self._parked.get(key)
        if waiting is None:
            self._parked[key] = [(source, message, now)]
            self._outbox.reads.append(key)
        else:
            sometimes("a message parks behind another one for the same key")
            waiting.append((source, message, now))
        self.parked_count += 1
        self.parked_bytes += weight(message)
        return True

    def is_awaited(self, key: bytes) -> bool:
        """Say whether a payload is being read now: until that is over nobody may write it."""
        return key in self._parked

    def loaded(self, key: bytes, payload: Payload | Damaged) -> list[Parked]:
        """Take note of what a read found; return the messages that waited for it, oldest first."""
        if isinstance(payload, Damaged):
            self._damaged[key] = payload
        else:
            self._keep(key, payload)
        waiting = self._parked.pop(key, [])
        self.parked_count -= len(waiting)
        self.parked_bytes -= sum(weight(message) for _, message, _ in waiting)
        return waiting

    def settle(self, key: bytes) -> None:
        """Forget damage after its messages were handled: the next one reads the disk again."""
        self._damaged.pop(key, None)

    def write(self, key: bytes, payload: Payload, before: Payload | Missing = MISSING) -> None:
        """Replace the payload under a key; it is part of this tick's batch. Whoever writes an
        owner's copy has looked at it before; or says what stood there.
        """
        writes = self._outbox.writes
        if self.owed:
            owed, self.owed = self.owed, {}
            writes.update(owed)
        if key[0] == _OWN_BYTE:
            trees = self._trees
            if writes is not trees.batch:
                trees.begin_batch(writes)
            if key not in trees.pending:
                known = self._young.get(key, MISSING)
                trees.pending[key] = self._old.get(key, before) if known is MISSING else known
        self._keep(key, payload)
        writes[key] = payload
        if self.watched:
            self.watched.pop(key[1:9], None)
        if self._damaged and self._damaged.pop(key, None) is not None:
            sometimes("a damaged copy is written anew")

    def rewrite(self, key: bytes) -> bytes | None:
        """A range shows a payload as damaged: if memory has it, write it anew, and return it.

        Else it would go on to be acknowledged from memory as what the disk has for good.
        """
        payload = self.look(key)
        if not isinstance(payload, bytes):
            return None
        sometimes("a damaged copy is written anew from memory")
        self.rewritten += 1
        self.write(key, payload)
        return payload

    def enter(self, key: bytes, payload: Payload) -> None:
        """Write an entry of an index, or remove it; it is read by scans only, and never cached."""
        self._outbox.writes[key] = payload

    def take_back(self, writes: dict[bytes, Payload]) -> None:
        """This batch was not written."""
        self._trees.take_back(writes)
        self.forget(writes)

    def forget(self, keys: Iterable[bytes]) -> None:
        """Drop what the cache says of these keys: the disk knows better."""
        for key in keys:
            self._young.pop(key, None)
            self._old.pop(key, None)
            self.watched.pop(key[1:9], None)

    def turn(self) -> None:
        """Between ticks: let the old generation go when the young one is full."""
        if self._size > self._cap:
            sometimes("the cache turns over")
            self._old = self._young
            self._young = {}
            self._size = 0
        self._outbox.answer_bytes = 0

    def _keep(self, key: bytes, payload: Payload) -> None:
        self._young[key] = payload
        self._size += len(key) + ENTRY_OVERHEAD_BYTES + (len(payload) if payload is not None else 0)


def weight(message: Message) -> int:
    """Return about how many bytes a message that waits holds."""
    kind = type(message)
    if kind is Store:  # nearly always one of these two
        return len(message.key) + len(message.record)  # type: ignore[attr-defined]
    if kind is Fetch:
        return len(message.key)  # type: ignore[attr-defined]
    inner = getattr(message, "put", None) or getattr(message, "request", message)
    held = sum(len(getattr(inner, field, None) or b"") for field in _HEAVY)
    label = getattr(inner, "kind", 0)
    held += len(label) if type(label) is bytes else 0
    return held if inner is message else held + len(getattr(message, "record", b""))


_HEAVY = ("key", "value", "record", "context", "seen")
"""Fields that may be long: a context, and what a session has seen, up to 256 KiB."""
