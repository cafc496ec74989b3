"""Contexts: what a client got from a read and gives back with its write.

A context is opaque to clients, bound to one bucket and key, and signed with the cluster's key: without that a
client could erase versions that nobody has seen, by a clock made up or taken from another key.

A token is length (2 bytes), MAC (16 bytes of keyed BLAKE2b over data key and clock), clock (canonical MessagePack).
A context is one or more tokens: a client that reads replicas by itself cannot sign the joined clock, so it gives
back each replica's token, and the coordinator joins them.
"""

from __future__ import annotations

from hashlib import blake2b
from hmac import compare_digest

import msgspec

from everwrite.core.data.versions import ACTOR_BYTES, Clock, descends, join
from everwrite.core.errors import BadContext

CONTEXT_BYTES_MAX = 16 * 1024
"""More than any honest context: 64 siblings' worth of actors from several replicas."""

_MAC_BYTES = 16
_HEAD_BYTES = 2 + _MAC_BYTES

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Clock).decode


def sign(secret: bytes, data_key: bytes, clock: Clock) -> bytes:
    """Return the token for this clock of this key; empty for an empty clock (nothing known, nothing to prove)."""
    if not clock:
        return b""
    body = _encode(clock)
    mac = blake2b(data_key + body, key=secret, digest_size=_MAC_BYTES).digest()
    return len(body).to_bytes(2, "big") + mac + body


def verify(secret: bytes, data_key: bytes, context: bytes) -> Clock:
    """Return the joined clock of a context; BadContext if any of it is not ours for this key."""
    if not context:
        return {}
    if len(context) > CONTEXT_BYTES_MAX:
        raise BadContext(f"The context has {len(context)} bytes; the most is {CONTEXT_BYTES_MAX}.", hint=_HINT)
    joined: Clock = {}
    at = 0
    while at < len(context):
        body_at = at + _HEAD_BYTES
        size = int.from_bytes(context[at : at + 2], "big")
        body = context[body_at : body_at + size]
        mac = blake2b(data_key + body, key=secret, digest_size=_MAC_BYTES).digest()
        if size == 0 or len(body) != size or not compare_digest(mac, context[at + 2 : body_at]):
            raise BadContext("The context is not one that this cluster gave out for this key.", hint=_HINT)
        clock = _decode_clock(body)
        joined = join(joined, clock) if joined else clock
        at = body_at + size
    return joined


def combine(contexts: list[tuple[Clock, bytes]]) -> bytes:
    """Return the shortest context that covers all these (clock, token) pairs."""
    kept: list[tuple[Clock, bytes]] = []
    for clock, token in contexts:
        if not token or any(descends(other, clock) for other, _ in kept):
            continue
        kept = [pair for pair in kept if not descends(clock, pair[0])]
        kept.append((clock, token))
    return b"".join(token for _, token in kept)


def _decode_clock(body: bytes) -> Clock:
    try:
        clock = _decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadContext("The context cannot be read.", hint=_HINT) from error
    if any(len(actor) != ACTOR_BYTES or counter < 1 for actor, counter in clock.items()):
        raise BadContext("The context names writers that cannot exist.", hint=_HINT)
    return clock


_HINT = "Read the key again and use the context of that answer."
