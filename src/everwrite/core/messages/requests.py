"""What clients ask of nodes, coordinators of replicas, and what is answered."""

from __future__ import annotations

from typing import Literal

import msgspec

from everwrite.core.data.labels import Kind
from everwrite.core.messages.message import Message

# -- requests of clients -----------------------------------------------------------------------


class Get(Message, tag=10, frozen=True):
    """Read a key; the node coordinates, or forwards once to a replica. 0: the default n or r."""

    rid: int
    key: bytes
    """Data key, see core/data/keys.py."""
    timeout_ms: int
    n: int = 0
    r: int = 0
    strict: bool = False
    seen: bytes = b""
    """Session: a context that the answer must know; else the read fails as stale."""
    view: bytes = b""
    """The placement that the client went by (its digest); empty: it has none."""
    forwarded: bool = False
    marks: bool = False
    """Say of each value which write it was, and when."""


class Put(Message, tag=11, frozen=True):
    """Write a key (value None: delete); the node mints the dot, or forwards once to a replica."""

    rid: int
    key: bytes
    value: bytes | None
    context: bytes
    op: bytes
    """The client's id of this put, the same in every retry; 1 to 32 bytes."""
    timeout_ms: int
    kind: Kind = 0
    """What the bytes are, for the reader: KIND_BYTES, KIND_TEXT, KIND_JSON, or a label."""
    n: int = 0
    w: int = 0
    dw: int = -1
    """Acks that must be fsynced; -1: all W on a node with fsync on, none on one without."""
    strict: bool = False
    retry: bool = False
    """An earlier try may have been carried out: look for it on other replicas before minting."""
    view: bytes = b""
    forwarded: bool = False
    ttl_ms: int = 0
    """How long the version is to live, from the moment at which it is minted; 0: for ever."""
    change: bool = False
    """The value is a list of operations (core/types/operations.py), which the coordinator applies
    to what it knows. A context is not what they supersede, but what the coordinator must know."""
    over: bool = False
    """Supersede all that the coordinator knows, whatever the writer has seen: the last one wins."""


class Touch(Message, tag=13, frozen=True):
    """Let what stands under a key end no sooner than in ``ttl_ms``: the same versions, with a later
    end. Answered with PutReply; the fields are those of Put.
    """

    rid: int
    key: bytes
    ttl_ms: int
    op: bytes
    timeout_ms: int
    n: int = 0
    w: int = 0
    dw: int = -1
    strict: bool = False
    retry: bool = False
    view: bytes = b""
    forwarded: bool = False


class Ask(Message, tag=12, frozen=True):
    """An administrative question or order: a verb and its JSON arguments."""

    rid: int
    verb: str
    arguments: bytes


# -- between coordinator and replica -----------------------------------------------------------


class Fetch(Message, tag=20, frozen=True):
    """Ask one replica for its record: a node does, or a client that reads by itself (paper 6.4)."""

    rid: int
    key: bytes
    left_ms: int
    view: bytes = b""
    """Clients only: the digest of their placement; a node with another one says STALE_VIEW."""
    digest: bool = False
    """Answer with the 8-byte xxh3_64 of the record's bytes in its place, and without a context."""
    op: bytes = b""
    """A coordinator that looks around: was the put with this request id stored there lately?"""


SYNC_NO, SYNC_YES, SYNC_BOTH = range(3)
"""A replica acks a Store when it is written; when it is fsynced; at both, saying what is true."""


class Store(Message, tag=21, frozen=True):
    """Merge this record into yours and say when it is committed."""

    rid: int
    key: bytes
    record: bytes
    left_ms: int
    sync: int
    hint_for: bytes = b""
    """Owner whom the receiver stands in for; empty for an owner's own copy."""
    repair: bool = False
    """Read repair, or what a gain has merged: may replace a copy that is corrupt. Hints do not say
    so: they may know less."""
    base: bytes = b""
    """A put's: the ``local.fingerprint`` of the copy from which the coordinator made the record. A
    replica that holds just that copy takes the record as it comes: their join is the record."""
    op: bytes = b""
    """A put's request id, for the table of recent puts."""
    sent_ms: int = 0
    """When the record was read off a disk, by the sender's own count (``Local.stamp``); 0: it never
    left this node."""
    plain: bool = False
    """With ``base``: neither the record nor the copy it was made from is listed anywhere beside
    (core/copies.py), so who holds that copy need not look into them."""
    touch: int = 0
    """A touch's: whatever lives in the join is to end no sooner than this. The coordinator's copy
    may be superseded here, and who touched the key was promised that what stands there lives."""


# -- answers -----------------------------------------------------------------------------------

FOUND, ABSENT, UNREADABLE, STORED, REFUSED, STALE_VIEW, BUSY, NOT_HERE, SAME = range(9)
"""Outcomes of one replica. UNREADABLE is never taken for ABSENT; BUSY: not ready, ask another;
NOT_HERE: this node does not serve the partition; a copy that it has may come with that, and it
counts in no quorum."""


class FetchReply(Message, tag=30, frozen=True):
    rid: int
    status: int
    record: bytes
    context: bytes = b""
    """Clients only: the signed token of this record's clock."""
    fallback: bool = False
    """True if the copy is one that the replica keeps for an owner whom it stands in for."""
    op_known: bool = False
    """The put that was asked for was stored here lately, though it may be superseded."""
    time_ms: int = 0
    """Clients only: the time of day, by which they hide what has ended; 0: not known here, and
    nothing here has an end."""


class StoreReply(Message, tag=31, frozen=True):
    rid: int
    status: int
    durable: bool


class Quality(Message, frozen=True):
    """How good an answer is (promise P3)."""

    owners: int
    """Owners that answered."""
    fallbacks: int
    required: int
    absent: Literal["", "never", "deleted", "expired", "unknown"] = ""
    """Why there is no value; empty where there is one. "expired": its end has come; once nothing is
    left of it that is "never". "unknown": too few owners answered to say.
    """
    unreadable: int = 0
    """Replicas whose copy could not be read; never counted as answers."""


class GetReply(Message, tag=33, frozen=True):
    rid: int
    values: list[tuple[Kind, bytes]]
    """(kind, value) of each live sibling, in the order of their dots."""
    context: bytes
    quality: Quality
    stale_view: bool = False
    """Forwarded, since the client went by another placement: it should ask for the view again."""
    ends: list[int] = msgspec.field(default_factory=list)
    """When each of these values ends, in milliseconds since 1970 (0: never); empty: none does."""
    time_ms: int = 0
    """Where there are ends: the time of day."""
    marks: list[tuple[bytes, int, int]] = msgspec.field(default_factory=list)
    """(actor, counter, coordinator's time of day in milliseconds) of each value, if asked for."""


class PutReply(Message, tag=34, frozen=True):
    rid: int
    context: bytes
    """Covers the written version and what it superseded, no sibling that the writer never saw."""
    owners: int
    fallbacks: int
    durable: int
    siblings: int
    required: int = 0
    stale_view: bool = False
    ends: int = 0
    """When what was written, or the last of what was touched, ends, in milliseconds since 1970; 0:
    never. Of a write that stands twice: when the last of its copies ends that the node has heard
    of, which is what a reader is told. A try that is carried out later elsewhere may end later."""
    time_ms: int = 0
    """With ``ends``: the time of day."""
    retried: bool = False
    """Whether another try may have been carried out too, so that the write may stand twice."""
    results: list[int] = msgspec.field(default_factory=list)
    """A change's: one for each operation, as operations.py says of it. Of a try that finds an
    earlier one carried out: as it would be if it were made once more, and nothing were new."""


class Failure(Message, tag=35, frozen=True):
    """A request that failed, with all that an EverwriteError carries."""

    rid: int
    code: str
    message: str
    hint: str
    outcome: str
    acked: int
    required: int
    retry_after_ms: int = 0


class Told(Message, tag=36, frozen=True):
    """The answer to Ask, as JSON."""

    rid: int
    answer: bytes
