"""The first frames of a connection."""

from __future__ import annotations

from everwrite.core.messages.message import Message

PROTOCOL_MIN = 2
PROTOCOL_MAX = 2
"""2: a node's proof is for the number of collections too, and for what it has confirmed."""


SPEAKS_CHANNELS = 1
"""What a node understands that others of protocol 2 may not, in bits: publications (tags 80 to 87).
A message of a kind that is not known ends a connection, so it is not sent to whoever does not say
that it knows it."""


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
    incarnation: int = 0
    life: bytes = b""
    """Nodes only: which start of this identity speaks, see ``Member``."""
    generation: int = 0
    confirmed: int = 0
    """Nodes only: which collection of tombstones they know of, and what they confirmed last."""
    speaks: int = 0
    """Nodes only: SPEAKS_CHANNELS, ...; no part of what is signed."""


class Proof(Message, tag=2, frozen=True):
    """Connector's second message: MAC of both nonces under the secret."""

    proof: bytes


class Refused(Message, tag=3, frozen=True):
    """The handshake failed, or the connection must end; it closes after this."""

    code: str
    message: str
    hint: str = ""
