"""The node's view of its own disk: what is cached, what is being read, what this tick writes.

A *payload* is what stands on disk under one key (format 1 of a data directory):

    b"d" + data key    own epoch (8 bytes), record                  an owner's copy
    b"h" + data key    own epoch, count, owners (8 each), record    a copy kept for those owners
    b"m" + name        the node's own state

A message that needs a payload which is not cached is *parked* under its key; the read goes out with
the tick, and when it comes back the message is handled again, now with the payload at hand. While a
key is being read every message that needs it parks behind, in order, so no write can slip between.
So no handler is ever half done, and each is plain straight code.

The cache has two generations: a hit in the old one moves to the young one; when the young one is
full it becomes the old one. That is close to LRU for the price of one dictionary look-up. It turns
over only between ticks, so a tick always sees its own writes.
"""

from __future__ import annotations

from everwrite.core.messages import Message
from everwrite.core.outbox import Outbox, Place
from everwrite.core.probes import sometimes

OWN = b"d"
HINT = b"h"
STATE = b"m"
HELD = STATE + b"held"
"""What this node serves and keeps, see core/cluster/holdings.py."""

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
        "_young",
        "parked_bytes",
        "parked_count",
    )

    def __init__(
        self, outbox: Outbox, cache_bytes: int, parked_max: int, parked_bytes_max: int
    ) -> None:
        self._outbox = outbox
        self._cap = cache_bytes // 2
        self._parked_max = parked_max
        self._parked_bytes_max = parked_bytes_max
        self._young: dict[bytes, Payload] = {}
        self._old: dict[bytes, Payload] = {}
        self._size = 0
        self._damaged: dict[bytes, Damaged] = {}
        self._parked: dict[bytes, list[Parked]] = {}
        self.parked_count = self.parked_bytes = 0

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

    def write(self, key: bytes, payload: Payload) -> None:
        """Replace the payload under a key; it is part of this tick's batch."""
        self._keep(key, payload)
        self._outbox.writes[key] = payload
        if self._damaged and self._damaged.pop(key, None) is not None:
            sometimes("a damaged copy is written anew")

    def forget(self, keys: list[bytes]) -> None:
        """Drop what the cache says of these keys: their batch was not written, the disk
        knows better.
        """
        for key in keys:
            self._young.pop(key, None)
            self._old.pop(key, None)

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
    inner = getattr(message, "put", None) or getattr(message, "request", message)
    held = len(getattr(inner, "value", None) or b"") + len(getattr(inner, "record", b""))
    return held if inner is message else held + len(getattr(message, "record", b""))
