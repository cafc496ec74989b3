"""What nodes and clients say to each other: frozen structs, encoded as tagged MessagePack arrays.

A frame carries a list of messages, all that one side had to say in one tick. ``rid`` pairs an answer with its
question within one connection (client) or one coordinator (node). Deadlines travel as milliseconds left, since clocks
differ. New fields go at the end with a default: a neighbouring version ignores what it does not know.

Who sends what:
    client -> node   Get, Put, Fetch, Ask              node -> client   GetReply, PutReply, FetchReply, Failure, Told
    node -> node     Fetch, Store, Ping, Members       node -> node     FetchReply, StoreReply, Pong
"""

from __future__ import annotations

from typing import Literal

import msgspec

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1


class Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Base of all messages; every one is acyclic, so the collector need not look at it."""


# -- the first frames of a connection -----------------------------------------------------------------------------


class Hello(Message, tag=1):
    """First message of either side. A client leaves ``node_id`` empty; a node that is new leaves ``cluster_id``."""

    protocol_min: int
    protocol_max: int
    cluster_id: bytes
    node_id: bytes
    name: str
    nonce: bytes
    proof: bytes = b""
    """Acceptor only: MAC of both nonces under the secret, so that the connector knows whom it reached."""


class Proof(Message, tag=2):
    """Connector's second message: MAC of both nonces under the secret; empty where the cluster has none."""

    proof: bytes


class Refused(Message, tag=3):
    """The handshake failed; the connection closes after this."""

    code: str
    message: str


# -- requests of clients --------------------------------------------------------------------------------------------


class Get(Message, tag=10):
    """Read a key; the node coordinates. 0 for r or n means the default."""

    rid: int
    key: bytes
    """Data key, see core/data/keys.py."""
    timeout_ms: int
    n: int = 0
    r: int = 0
    strict: bool = False
    seen: bytes = b""
    """Session: a context that the answer must know; else the read fails as stale."""
    forwarded: bool = False


class Put(Message, tag=11):
    """Write a key (value None: delete); the node mints the dot, or forwards once to a replica that does."""

    rid: int
    key: bytes
    value: bytes | None
    context: bytes
    op: bytes
    """The client's id of this put, the same in every retry."""
    timeout_ms: int
    n: int = 0
    w: int = 0
    dw: int = -1
    """How many of the acks must be fsynced; -1 means all W."""
    strict: bool = False
    retry: bool = False
    """An earlier try may have been carried out: look for it on other replicas before minting."""
    forwarded: bool = False


class Ask(Message, tag=12):
    """An administrative question or order: a verb and its JSON arguments."""

    rid: int
    verb: str
    arguments: bytes


# -- between coordinator and replica ----------------------------------------------------------------------------


class Fetch(Message, tag=20):
    """Ask one replica for its record. With ``digest`` equal to what it has, it answers SAME without the bytes."""

    rid: int
    key: bytes
    left_ms: int
    view: bytes = b""
    """Clients only: the placement that they went by; a node with another one says so."""


class Store(Message, tag=21):
    """Merge this record into yours and say when it is committed (``sync``: when it is fsynced)."""

    rid: int
    key: bytes
    record: bytes
    left_ms: int
    sync: bool
    hint_for: list[bytes]
    """Owners whom the receiver stands in for; empty for an owner's own copy."""


# -- answers ----------------------------------------------------------------------------------------------------

FOUND, ABSENT, UNREADABLE, STORED, REFUSED, STALE_VIEW = range(6)
"""Outcomes of one replica. UNREADABLE is never taken for ABSENT."""


class FetchReply(Message, tag=30):
    rid: int
    status: int
    record: bytes
    context: bytes = b""
    """Clients only: the signed token of this record's clock."""
    role: int = 0
    """0: an owner's copy; 1: a fallback's."""


class StoreReply(Message, tag=31):
    rid: int
    status: int
    durable: bool


class Quality(Message, tag=32):
    """How good an answer is (promise P3)."""

    owners: int
    """Owners that answered."""
    fallbacks: int
    required: int
    absent: Literal["", "never", "deleted"] = ""
    """Why there is no value; empty where there is one."""
    unreadable: int = 0
    """Replicas whose copy could not be read; never counted as answers."""


class GetReply(Message, tag=33):
    rid: int
    values: list[bytes]
    context: bytes
    quality: Quality


class PutReply(Message, tag=34):
    rid: int
    context: bytes
    """Covers the written version and what it superseded; siblings that the writer has not seen are not covered."""
    owners: int
    fallbacks: int
    durable: int
    siblings: int
    required: int = 0


class Failure(Message, tag=35):
    """A request that failed, with all that an EverwriteError carries."""

    rid: int
    code: str
    message: str
    hint: str
    outcome: str
    acked: int
    required: int
    retry_after_ms: int = 0


class Told(Message, tag=36):
    """The answer to Ask, as JSON."""

    rid: int
    answer: bytes


# -- membership and liveness ------------------------------------------------------------------------------------


class Ping(Message, tag=40):
    rid: int


class Pong(Message, tag=41):
    rid: int


class Member(Message):
    """A node as the others know it; written by that node alone, a higher ``version`` wins."""

    node_id: bytes
    name: str
    host: str
    port: int
    zone: str
    weight: float
    incarnation: int
    version: int


class Members(Message, tag=42):
    members: list[Member]


AnyMessage = (
    Hello | Proof | Refused | Get | Put | Ask | Fetch | Store | FetchReply | StoreReply | GetReply | PutReply
    | Failure | Told | Ping | Pong | Members
)
