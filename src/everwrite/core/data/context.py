"""Contexts: what a client got from a read and gives back with its write.

A context is opaque to clients, bound to one bucket and key, and signed with the cluster's key:
without that a client could erase versions that nobody has seen, by a clock made up or taken from
another key.

A token is length (4 bytes), MAC (16 bytes of keyed BLAKE2b), body (what was seen, MessagePack).
A context is one or more tokens: a client that reads replicas by itself cannot sign the joined
clock, so it gives back each replica's token, and the coordinator joins them.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from hmac import compare_digest

import msgspec

from everwrite.core.data.versions import ACTOR_BYTES, NOTHING, Clock, Seen, covers, descends
from everwrite.core.errors import BadContext
from everwrite.core.probes import sometimes

CONTEXT_BYTES_MAX = 256 * 1024
"""More than any honest context: a clock of 12,000 actors, one for each restart of a coordinator."""

_MAC_BYTES = 16
_LENGTH_BYTES = 4
_HEAD_BYTES = _LENGTH_BYTES + _MAC_BYTES

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Seen).decode


def sign(secret: bytes, data_key: bytes, seen: Seen) -> bytes:
    """Return the token for what was seen of this key; empty if there is nothing to prove."""
    if not seen.clock and not seen.dots:
        return b""
    body = _encode(seen)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + _mac(secret, data_key, body) + body


def _mac(secret: bytes, data_key: bytes, body: bytes) -> bytes:
    # With the key's length: else the head of a body could pass for the tail of another key.
    bound = len(data_key).to_bytes(2, "big") + data_key + body
    return blake2b(bound, key=secret, digest_size=_MAC_BYTES).digest()


def verify(secret: bytes, data_key: bytes, context: bytes) -> Seen:
    """Return all that a context has seen; BadContext if any of it is not ours for this key."""
    if not context:
        return NOTHING
    found: list[Seen] = []
    alone = len(context) == _HEAD_BYTES + int.from_bytes(context[:_LENGTH_BYTES], "big")
    for token in (context,) if alone else _tokens(context):
        body = token[_HEAD_BYTES:]
        if not compare_digest(_mac(secret, data_key, body), token[_LENGTH_BYTES:_HEAD_BYTES]):
            sometimes("a context is refused that is of another key or made up")
            raise BadContext(
                "The context is not one that this cluster gave out for this key.", hint=_HINT
            )
        found.append(_decode_body(body))
    if len(found) == 1:
        return found[0]
    sometimes("a context comes with several tokens")
    return _join(found)


def peek(context: bytes) -> Seen:
    """Return what a context claims to have seen: for its holder, who cannot prove it.

    BadContext if it is garbled.
    """
    return _join([_decode_body(token[_HEAD_BYTES:]) for token in _tokens(context)])


def combine(contexts: Sequence[bytes]) -> bytes:
    """Return the shortest context that has seen all that these have."""
    tokens = {
        token: _decode_body(token[_HEAD_BYTES:])
        for context in contexts
        for token in _tokens(context)
    }
    if len(tokens) <= 1:
        return next(iter(tokens), b"")
    kept: list[tuple[bytes, Seen]] = []
    for token, seen in tokens.items():
        if any(_knows(other, seen) for _, other in kept):
            continue
        kept = [(old, other) for old, other in kept if not _knows(seen, other)]
        kept.append((token, seen))
    return b"".join(token for token, _ in kept)


def _tokens(context: bytes) -> list[bytes]:
    """Return the tokens of a context, each with its head."""
    if len(context) > CONTEXT_BYTES_MAX:
        raise BadContext(
            f"The context has {len(context)} bytes; the most is {CONTEXT_BYTES_MAX}.", hint=_HINT
        )
    tokens, at = [], 0
    while at < len(context):
        end = at + _HEAD_BYTES + int.from_bytes(context[at : at + _LENGTH_BYTES], "big")
        if end > len(context) or end == at + _HEAD_BYTES:
            sometimes("a context is refused that is cut short")
            raise BadContext("The context is cut short or garbled.", hint=_HINT)
        tokens.append(context[at:end])
        at = end
    return tokens


def _join(found: Sequence[Seen]) -> Seen:
    """Return what all of these have seen, in one pass: a context may have thousands of tokens."""
    if not found:
        return NOTHING
    clock: Clock = {}
    for seen in found:
        for actor, counter in seen.clock.items():
            if clock.get(actor, 0) < counter:
                clock[actor] = counter
    dots = {dot for seen in found for dot in seen.dots if not covers(clock, *dot)}
    ends = max(seen.ends for seen in found) if all(seen.ends for seen in found) else 0
    return Seen(dict(sorted(clock.items())), sorted(dots), ends)


def _knows(mine: Seen, theirs: Seen) -> bool:
    if mine.ends and not 0 < theirs.ends <= mine.ends:
        return False
    return descends(mine.clock, theirs.clock) and all(
        dot in mine.dots or covers(mine.clock, *dot) for dot in theirs.dots
    )


def _decode_body(body: bytes) -> Seen:
    try:
        seen = _decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadContext("The context cannot be read.", hint=_HINT) from error
    for dots in (seen.clock.items(), seen.dots):
        for actor, counter in dots:
            if len(actor) != ACTOR_BYTES or counter < 1:
                raise BadContext("The context names writers that cannot exist.", hint=_HINT)
    return seen


_HINT = "Read the key again and use the context of that answer."
