"""What nodes and clients say to each other: frozen structs, encoded as tagged MessagePack arrays.

A frame carries a list of messages, all that one side had to say in one tick. ``rid`` pairs an
answer with its question within one connection (client) or one coordinator (node). Deadlines travel
as milliseconds left, since clocks differ. New fields go at the end with a default: a neighbouring
version ignores what it does not know.

Who sends what:
    client -> node   Get, Put, Fetch, Ask
    node -> client   GetReply, PutReply, FetchReply, Told, Failure
    node -> node     Fetch, Store, Ping, Members
    node -> node     FetchReply, StoreReply, Pong
"""

from __future__ import annotations

from typing import Literal

import msgspec

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1


class Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Base of all messages; every one is acyclic, so the collector need not look at it."""


# -- the first frames of a connection ----------------------------------------------------------


class Hello(Message, tag=1, frozen=True):
    """First message of either side.

    A client leaves ``node_id`` empty, a node that is new ``cluster_id``. The connector speaks
    first; the acceptor answers with its own Hello and ``proof``; the connector ends with Proof.
    """

    protocol_min: int
    protocol_max: int
    cluster_id: bytes
    node_id: bytes
    name: str
    nonce: bytes
    proof: bytes = b""
    """Acceptor only: MAC of both nonces under the secret, so that it proves itself first."""
    cluster_name: str = ""
    partitions: int = 0
    replicas: int = 0
    salt: bytes = b""
    """Acceptor to a node only: see ``ClusterConfig.salt``."""


class Proof(Message, tag=2, frozen=True):
    """Connector's second message: MAC of both nonces under the secret."""

    proof: bytes


class Refused(Message, tag=3, frozen=True):
    """The handshake failed, or the connection must end; it closes after this."""

    code: str
    message: str
    hint: str = ""


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


class Put(Message, tag=11, frozen=True):
    """Write a key (value None: delete); the node mints the dot, or forwards once to a replica."""

    rid: int
    key: bytes
    value: bytes | None
    context: bytes
    op: bytes
    """The client's id of this put, the same in every retry; 1 to 32 bytes."""
    timeout_ms: int
    kind: int = 0
    """What the bytes are, for the reader: KIND_BYTES, KIND_TEXT or KIND_JSON."""
    n: int = 0
    w: int = 0
    dw: int = -1
    """Acks that must be fsynced; -1: all W on a node with fsync on, none on one without."""
    strict: bool = False
    retry: bool = False
    """An earlier try may have been carried out: look for it on other replicas before minting."""
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
    """Read repair or a delivered hint: may replace a copy that is corrupt."""
    base: bytes = b""
    """A put's: the ``local.fingerprint`` of the copy from which the coordinator made the record. A
    replica that holds just that copy takes the record as it comes: their join is the record."""
    op: bytes = b""
    """A put's request id, for the table of recent puts."""


# -- answers -----------------------------------------------------------------------------------

FOUND, ABSENT, UNREADABLE, STORED, REFUSED, STALE_VIEW, BUSY = range(7)
"""Outcomes of one replica. UNREADABLE is never taken for ABSENT; BUSY: not ready, ask another."""

KIND_BYTES, KIND_TEXT, KIND_JSON = range(3)


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
    absent: Literal["", "never", "deleted", "unknown"] = ""
    """Why there is no value; empty where there is one. "unknown": too few owners answered to
    say.
    """
    unreadable: int = 0
    """Replicas whose copy could not be read; never counted as answers."""


class GetReply(Message, tag=33, frozen=True):
    rid: int
    values: list[tuple[int, bytes]]
    """(kind, value) of each live sibling, in the order of their dots."""
    context: bytes
    quality: Quality
    stale_view: bool = False
    """Forwarded, since the client went by another placement: it should ask for the view again."""


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


# -- membership and liveness -------------------------------------------------------------------


class Ping(Message, tag=40, frozen=True):
    rid: int


class Pong(Message, tag=41, frozen=True):
    rid: int


class Member(Message, frozen=True):
    """A node as the others know it; written by that node alone, a higher ``version`` wins."""

    node_id: bytes
    name: str
    host: str
    port: int
    zone: str
    weight: float
    incarnation: int
    version: int


class Members(Message, tag=42, frozen=True):
    members: list[Member]
    holds_data: bool = False
    """Whether any node of the cluster holds data, as far as the sender knows."""


AnyMessage = (
    Hello
    | Proof
    | Refused
    | Get
    | Put
    | Ask
    | Fetch
    | Store
    | FetchReply
    | StoreReply
    | GetReply
    | PutReply
    | Failure
    | Told
    | Ping
    | Pong
    | Members
)
