"""The handshake: who is there, do we speak the same protocol, do both know the secret.

    connector                                    acceptor (always a node)
    hello()    Hello(nonce_c)            ->
                                         <-      answer()   Hello(nonce_n, proof of "accept")
    confirm()  Proof(of "connect")       ->      admit()

A proof is a MAC of both nonces, each with its side's node id, incarnation and life, and the cluster
id under the secret: it can't be replayed, since each side draws a nonce, nor sent back, since the
roles differ. The acceptor proves itself first, so that a connector never sends a request to a
stranger; the connector may send its requests right behind its Proof. A cluster without a secret
uses a public one: then anybody who reaches the port gets in.

Whatever is wrong raises ProtocolError or DeniedError before any state is touched; ``refusal`` turns
that into the message to send before closing.
"""

from __future__ import annotations

from hashlib import blake2b
from hmac import compare_digest

import msgspec

from everwrite.core.config import STARTS_MAX
from everwrite.core.errors import (
    DeniedError,
    EverwriteError,
    OtherCluster,
    ProtocolError,
    error_from_code,
)
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.greeting import (
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    SPEAKS_CHANNELS,
    Hello,
    Proof,
    Refused,
)

NONCE_BYTES = 16
NODE_ID_BYTES = 8
LIFE_BYTES = 8
_NUMBER_BYTES = 8
_PROOF_BYTES = 32
_KEY_BYTES_MAX = 64
_NO_SECRET = b"everwrite"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What one side says of itself. ``cluster_id`` is empty where it is not known yet, ``life``
    with a client and with a node that is still to start.

    The salt goes to connectors that say that they are nodes; without the secret it is of no use.
    """

    name: str
    cluster_id: bytes = b""
    node_id: bytes = b""
    cluster_name: str = ""
    partitions: int = 0
    replicas: int = 0
    salt: bytes = b""
    incarnation: int = 0
    life: bytes = b""
    generation: int = 0
    confirmed: int = 0


def mac(secret: bytes, role: bytes, cluster_id: bytes, nonce_c: bytes, nonce_n: bytes) -> bytes:
    """Return the proof that the side in this role ("accept" or "connect") knows the secret.

    ``nonce_c`` and ``nonce_n`` are each side's nonce and, behind it, who it is (``signed``), so
    that nobody in between can change that.
    """
    key = secret or _NO_SECRET
    if len(key) > _KEY_BYTES_MAX:
        key = blake2b(key).digest()
    digest = blake2b(key=key, digest_size=_PROOF_BYTES)
    for part in (role, cluster_id, nonce_c, nonce_n):
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()


def signed(said: Hello) -> bytes:
    """Return the part of a Hello that its sender's proof is for: the nonce; a node's id; and the
    numbers and the life of one that runs. Their lengths tell which of them are there.
    """
    if not said.life:
        return said.nonce + said.node_id
    numbers = (said.incarnation, said.generation, said.confirmed)
    start = b"".join(number.to_bytes(_NUMBER_BYTES, "big") for number in numbers)
    return b"".join((said.nonce, said.node_id, start, said.life))


def hello(me: Identity, nonce: bytes) -> Hello:
    """Return the connector's first message; ``nonce`` is 16 random bytes, drawn for it."""
    return _hello(me, nonce)


def answer(me: Identity, secret: bytes, nonce: bytes, first: AnyMessage) -> Hello:
    """Return the acceptor's answer to a connector's first message, or raise."""
    theirs = _expect_hello(first)
    _check_cluster((me.name, me.cluster_id), (theirs.name, theirs.cluster_id))
    mine = _hello(me, nonce, salt=me.salt if theirs.node_id else b"")
    proof = mac(secret, b"accept", me.cluster_id, signed(theirs), signed(mine))
    return msgspec.structs.replace(mine, proof=proof)


def confirm(secret: bytes, sent: Hello, reply: AnyMessage) -> Proof:
    """Return the connector's proof after the acceptor's answer to ``sent``, or raise."""
    if isinstance(reply, Refused):
        raise refused(reply)
    theirs = _expect_hello(reply)
    _check_cluster((sent.name, sent.cluster_id), (theirs.name, theirs.cluster_id))
    if not theirs.node_id:
        raise ProtocolError("The other side is no node.", hint="Is the port right?")
    nonces = (signed(sent), signed(theirs))
    if not compare_digest(theirs.proof, mac(secret, b"accept", theirs.cluster_id, *nonces)):
        none = mac(b"", b"accept", theirs.cluster_id, *nonces)
        named = f"Node {_shown(theirs.name)}"
        if not secret:
            raise DeniedError(
                f"{named} has a secret, and you gave none.", hint="Set EVERWRITE_SECRET to it."
            )
        if compare_digest(theirs.proof, none):
            raise DeniedError(
                f"{named} has no secret, and you gave one.",
                hint="Unset EVERWRITE_SECRET, or start all nodes with it.",
            )
        raise DeniedError(f"{named} has another secret.", hint=_SECRET_HINT)
    return Proof(mac(secret, b"connect", theirs.cluster_id, *nonces))


def admit(secret: bytes, first: Hello, sent: Hello, last: AnyMessage) -> None:
    """Return if the connector that said ``first`` and was told ``sent`` may come in, else raise."""
    if not isinstance(last, Proof):
        raise ProtocolError(f"A proof of the secret was due; a {type(last).__name__} came.")
    nonces = (signed(first), signed(sent))
    due = mac(secret, b"connect", sent.cluster_id, *nonces)
    if not compare_digest(last.proof, due):
        none = mac(b"", b"connect", sent.cluster_id, *nonces)
        if secret and compare_digest(last.proof, none):
            raise DeniedError(f"{_shown(first.name)} gave no secret.", hint=_SECRET_HINT)
        raise DeniedError(f"{_shown(first.name)} has another secret.", hint=_SECRET_HINT)


def refusal(error: EverwriteError) -> Refused:
    """Return what to tell the other side before the connection closes because of this error."""
    return Refused(error.code, error.message, error.hint)


def refused(message: Refused) -> EverwriteError:
    """Return the error that the other side made this refusal from."""
    return error_from_code(message.code)(message.message, hint=message.hint)


def _hello(me: Identity, nonce: bytes, salt: bytes = b"") -> Hello:
    return Hello(
        PROTOCOL_MIN,
        PROTOCOL_MAX,
        me.cluster_id,
        me.node_id,
        me.name,
        nonce,
        cluster_name=me.cluster_name,
        partitions=me.partitions,
        replicas=me.replicas,
        salt=salt,
        incarnation=me.incarnation,
        life=me.life,
        generation=me.generation,
        confirmed=me.confirmed,
        speaks=SPEAKS_CHANNELS if me.node_id else 0,
    )


def _expect_hello(message: AnyMessage) -> Hello:
    """Return the other side's Hello if it is one that we can go on with."""
    if not isinstance(message, Hello):
        raise ProtocolError(
            f"A Hello was due; a {type(message).__name__} came.",
            hint="The first message of each side says who it is.",
        )
    if message.protocol_min > PROTOCOL_MAX or message.protocol_max < PROTOCOL_MIN:
        raise ProtocolError(
            f"{_shown(message.name)} speaks protocol {message.protocol_min} to "
            f"{message.protocol_max}, this side {PROTOCOL_MIN} to {PROTOCOL_MAX}.",
            hint="Upgrade the older of the two.",
        )
    if len(message.nonce) != NONCE_BYTES or len(message.node_id) not in (0, NODE_ID_BYTES):
        raise ProtocolError("The Hello's nonce or node id has an impossible length.")
    if message.life and (len(message.life) != LIFE_BYTES or not message.node_id):
        raise ProtocolError("The Hello's life has an impossible length, or is no node's.")
    numbers = (message.generation, message.confirmed)
    if not all(0 <= number < 1 << 8 * _NUMBER_BYTES for number in numbers):
        raise ProtocolError("The Hello speaks of a collection of tombstones that cannot be.")
    if not 0 <= message.incarnation <= STARTS_MAX:
        raise ProtocolError(
            f"The Hello's incarnation {message.incarnation} is not possible: it counts the starts "
            f"of a node, {STARTS_MAX} at most.",
        )
    return message


def _check_cluster(mine: tuple[str, bytes], theirs: tuple[str, bytes]) -> None:
    """Raise OtherCluster if both sides know their cluster, and it is not the same one. Both sides
    read it, so it says neither "this" nor "the other".
    """
    (my_name, my_cluster), (their_name, their_cluster) = mine, theirs
    if my_cluster and their_cluster and my_cluster != their_cluster:
        raise OtherCluster(
            f"{_shown(their_name)} belongs to cluster {their_cluster.hex()}, {_shown(my_name)} to "
            f"{my_cluster.hex()}.",
            hint="Clusters are never merged: check the address, or use an empty data directory.",
        )


def _shown(name: str) -> str:
    """Return a stranger's name as it may go into a log line."""
    return repr(name[:64]) if name else "The other side"


_SECRET_HINT = "Give both sides the same EVERWRITE_SECRET."
