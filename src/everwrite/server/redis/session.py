"""What is known of one connection's client, and the messages that its commands ask with."""

from __future__ import annotations

from base64 import b64encode
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from everwrite.core.config import RECORD_BYTES_MAX
from everwrite.core.data.keys import KEY_BYTES_MAX, VALUE_BYTES_MAX, data_key, spoken
from everwrite.core.data.labels import Kind
from everwrite.core.messages.listing import List
from everwrite.core.messages.requests import Ask, Get, GetReply, Put, PutReply, Touch
from everwrite.core.request.limits import TTL_MAX_MS, TTL_MIN_MS
from everwrite.core.types.operations import Operation, encode
from everwrite.server.redis.replies import RESP2, Problem

if TYPE_CHECKING:
    from everwrite.server.redis.front import Front

DATABASES = 16
BUCKETS = [f"redis:{number}".encode() for number in range(DATABASES)]
"""The bucket of each database."""

SEEN_MAX = 256
"""Of so many keys a connection remembers that it wrote them."""
SEEN_BYTES = 300
"""What one of them costs beside the key and the context."""
SEEN_S = 60.0
"""For so long: by then all owners that are up have what was written."""


class Session:
    """One connection's client."""

    __slots__ = (
        "_bucket",
        "_database",
        "_front",
        "_seen",
        "_seen_bytes",
        "agent",
        "born",
        "front",
        "here",
        "holds",
        "hush",
        "known",
        "name",
        "number",
        "protocol",
        "r",
        "subscribed",
        "unknown_since",
        "w",
        "where",
    )

    def __init__(self, front: Front, number: int, where: str, here: str = "") -> None:
        self.front = front
        self.number = number
        """The connection's own, in this run of the node."""
        self.where = where
        """HOST:PORT of the other end,"""
        self.here = here
        """and of this one."""
        self.born = front.now()
        self.holds = 0
        """How many bytes its commands hold of what they have read."""
        self.subscribed = 0
        """To so many channels and patterns."""
        self.known = True
        self._seen: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        """The oldest first."""
        self._seen_bytes = 0
        self.begin_anew()

    def begin_anew(self) -> None:
        """Be as after the connection was made."""
        known = not self.front.secret
        if self.known and not known:
            self.unknown_since = self.front.now()
        self.known = known
        """Whether it may ask: it has said the secret, or there is none."""
        self.protocol = RESP2
        self.name = b""
        self.agent: dict[bytes, bytes] = {}
        """What the client's library says of itself."""
        self.r = self.w = 0
        """How many nodes answer its reads and take its writes (DYN.CONSISTENCY); 0: as the cluster
        was made."""
        self.hush: int | None = 0
        """From the answer of this command on so many are not sent; negative: none is (CLIENT
        REPLY). None: as before."""
        self.select(0)

    @property
    def database(self) -> int:
        """The number of the database that it has selected."""
        return self._database

    @property
    def bucket(self) -> bytes:
        """The bucket of that database."""
        return self._bucket

    def select(self, database: int) -> None:
        """Change to another database."""
        self._database = database
        self._bucket = BUCKETS[database]

    def key(self, key: bytes) -> bytes:
        """Return the data key of a key; a Problem if it cannot be one."""
        if not 0 < len(key) <= KEY_BYTES_MAX:
            raise Problem(
                f"ERR a key of {len(key)} bytes is not possible here, use 1 to {KEY_BYTES_MAX}"
            )
        return data_key(self._bucket, key)

    # -- messages ----------------------------------------------------------------------------------

    def read(self, data: bytes) -> Get:
        """Ask for what stands under a data key: no older than what this connection wrote there."""
        rid = self.front.place.next_rid()
        # by place: it is asked ten thousand times a second
        return Get(rid, data, 0, 0, self.r, False, self.seen(data), b"", False, True)

    def write(self, data: bytes, value: bytes, ttl_ms: int = 0, kind: Kind = 0) -> Put:
        """Let a value stand there, in the place of all that its coordinator or this connection
        knows: else a write of its own that went by another node might be taken for the later one.
        """
        if len(value) > VALUE_BYTES_MAX:
            raise too_long(data, len(value))
        place = self.front.place
        context, op = self.seen(data), place.next_op()
        rid, w = place.next_rid(), self.w
        return Put(rid, data, value, context, op, 0, kind, w=w, ttl_ms=ttl_ms, over=True)

    def supersede(self, data: bytes, value: bytes, context: bytes, ttl_ms: int = 0) -> Put:
        """Let this value stand in the place of what was read (its context), and of nothing else."""
        place = self.front.place
        return Put(
            place.next_rid(), data, value, context, place.next_op(), 0, w=self.w, ttl_ms=ttl_ms
        )

    def change(
        self, data: bytes, operations: Sequence[Operation], ttl_ms: int = 0, context: bytes = b""
    ) -> Put:
        """Change what stands there by operations on a data type, by a node that knows what this
        connection wrote there, or what it read (its context). What is new ends with what is there,
        unless it is said when.
        """
        value = encode(list(operations))
        if len(value) > RECORD_BYTES_MAX:
            raise Problem(
                f"ERR a change of {len(value)} bytes is not possible here, the most is "
                f"{RECORD_BYTES_MAX}; nothing was done"
            )
        place = self.front.place
        context, op = context or self.seen(data), place.next_op()
        rid, w = place.next_rid(), self.w
        return Put(rid, data, value, context, op, 0, w=w, ttl_ms=ttl_ms, change=True)

    def take_away(self, data: bytes, context: bytes) -> Put:
        """Take away what a read has seen."""
        place = self.front.place
        return Put(place.next_rid(), data, None, context, place.next_op(), 0, w=self.w)

    def live_on(self, data: bytes, ttl_ms: int) -> Touch:
        """Let what stands there and ends live for so long at least."""
        place = self.front.place
        return Touch(place.next_rid(), data, ttl_ms, place.next_op(), 0, w=self.w)

    def list(self, bucket: bytes, prefix: bytes, after: bytes) -> List:
        """Ask which keys lie behind a place on the ring."""
        return List(self.front.place.next_rid(), bucket, prefix, after, 0, self.r)

    def list_all(self, after: bytes) -> List:
        """Ask the same of all databases; data keys are told."""
        first, *others = BUCKETS
        return List(self.front.place.next_rid(), first, b"", after, 0, self.r, others)

    def ask(self, verb: str, key: bytes) -> Ask:
        """Ask the node itself about a key: a verb of its administration."""
        named: dict[str, Any] = {
            "bucket": self._bucket.decode(),
            "key": {"base64": b64encode(key).decode()},
        }
        if verb == "explain":
            named["r"] = self.r
        return Ask(self.front.place.next_rid(), verb, msgspec.json.encode(named))

    # -- what it wrote -----------------------------------------------------------------------------

    def wrote(self, data: bytes, reply: PutReply) -> None:
        """Remember a write: reads of that key are to know it."""
        seen = self._seen
        if data in seen:
            self._forget(data)
        seen[data] = reply.context, self.front.now() + SEEN_S
        self._seen_bytes += len(data) + len(reply.context) + SEEN_BYTES
        if len(seen) > SEEN_MAX:
            self._forget(next(iter(seen)))

    def _forget(self, data: bytes) -> None:
        context, _ = self._seen.pop(data)
        self._seen_bytes -= len(data) + len(context) + SEEN_BYTES

    def look(self, now: float) -> None:
        """From time to time: forget what was written too long ago."""
        seen = self._seen
        while seen:
            data, (_, until) = next(iter(seen.items()))
            if until >= now:
                break
            self._forget(data)

    @property
    def kept(self) -> int:
        """How many bytes are held for what it remembers."""
        return self._seen_bytes

    def seen(self, data: bytes) -> bytes:
        """Return the context of what this connection wrote under a data key lately."""
        if not self._seen:
            return b""
        found = self._seen.get(data)
        if found is None:
            return b""
        context, until = found
        if until < self.front.now():
            self._forget(data)
            return b""
        return context


def lifetime(ms: int) -> int:
    """Return a time to live that the core takes, no shorter than this one; a Problem if it is far
    too long.
    """
    if ms > TTL_MAX_MS:
        raise Problem(f"ERR a key ends within {TTL_MAX_MS // 1000} seconds here, or never")
    return max(TTL_MIN_MS, ms)


def left_of(reply: GetReply) -> int:
    """Return how long what was read still has to live, in milliseconds; 0: for ever."""
    ends = reply.ends
    if not ends or not all(ends):
        return 0
    return max(1, max(ends) - reply.time_ms)


def too_long(data: bytes, size: int) -> Problem:
    """Return what is said of a value over the limit, for this data key."""
    return Problem(
        f"ERR a value of {size} bytes is not possible at {spoken(data)}, the most is "
        f"{VALUE_BYTES_MAX}; nothing was done"
    )
