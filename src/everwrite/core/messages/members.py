"""What nodes say to each other of members, and of who seems up."""

from __future__ import annotations

from everwrite.core.messages.message import Message


class Ping(Message, tag=40, frozen=True):
    rid: int
    """0 to 127: one byte. Some are sent again under their number; 0: this one is not timed."""


class Pong(Message, tag=41, frozen=True):
    rid: int
    disk_ms: int = -1
    """How long the sender's disk takes for a sync these days; -1: it made none lately."""
    time_ms: int = 0
    """What its machine's wall clock says (core/expiry/clock.py); 0: it does not say."""


class Probe(Message, tag=45, frozen=True):
    """To a third node: do you hear this peer? If so, it answers once the peer answered a ping."""

    peer: bytes


class Probed(Message, tag=46, frozen=True):
    """The answer to Probe: how long the sender has heard nothing of the peer (0: it answered just
    now); -1: nothing ever.
    """

    peer: bytes
    silent_ms: int


class Member(Message, frozen=True):
    """A node as the others know it; written by that node alone, a higher (incarnation, version)
    wins. Zone and weight are what it asks for: what counts is the ruling on it.
    """

    node_id: bytes
    name: str
    host: str
    port: int
    zone: str
    weight: float
    incarnation: int
    version: int
    life: bytes = b""
    """Drawn at each start: two processes of one incarnation are copies of one directory."""
    serves: bytes = b""
    """Bit p, lowest first: its copies of partition p count in quorums."""
    keeps: bytes = b""
    """Bit p: it has copies of partition p on its disk, whether or not they count."""


IN, LEAVING, REMOVED = range(3)
"""What a node is to the cluster by an operator's word."""


class Ruling(Message, frozen=True):
    """An operator's word on one node; the higher (stamp, plan) wins, and REMOVED for ever."""

    node_id: bytes
    name: str
    standing: int
    zone: str
    weight: float
    stamp: int
    plan: bytes


class Draft(Message, frozen=True):
    """A plan that nobody goes by yet; the higher (stamp, plan) wins. Without rulings: none."""

    stamp: int
    plan: bytes
    rulings: list[Ruling]


NO_DRAFT = Draft(0, b"", [])


class Summary(Message, tag=42, frozen=True):
    """Gossip: the digest of all that the sender knows of the members. No answer: "so do I"."""

    digest: bytes


class Rows(Message, tag=43, frozen=True):
    """Gossip: what the sender has, so that the other can send what it lacks."""

    entries: list[tuple[bytes, int, int]]
    """(node id, incarnation, version)."""
    rulings: list[tuple[bytes, int, bytes, int]]
    """(node id, stamp, plan, standing)."""
    draft: tuple[int, bytes]
    answer: bool = False
    """Whether the receiver's own rows are asked for in turn."""


class News(Message, tag=44, frozen=True):
    """Gossip: entries, rulings and the draft that the receiver seems to lack."""

    entries: list[Member]
    rulings: list[Ruling]
    draft: Draft | None = None
