"""What a client may ask: numbers that fit the cluster, sizes within their limits."""

from __future__ import annotations

from everwrite.core.config import RECORD_BYTES_MAX
from everwrite.core.data.labels import check_kind
from everwrite.core.errors import (
    DeadlineExceeded,
    HintsFull,
    Outcome,
    Overloaded,
    QuorumNotMet,
    RequestError,
    TooLarge,
    UnavailableError,
)
from everwrite.core.local import Local
from everwrite.core.messages.requests import Get, Put, Touch
from everwrite.core.pace.door import RETRY_AFTER_MS
from everwrite.core.probes import sometimes
from everwrite.core.types import operations

TTL_MIN_MS = 1_000
"""Clocks that agree to some ten milliseconds cannot promise much less."""
TTL_MAX_MS = 10 * 365 * 86_400_000
"""Ten years: who asks for more has mistaken the unit."""


def check_put(put: Put, replicas: int) -> None:
    """Raise RequestError for numbers that cannot be."""
    if not 1 <= len(put.op) <= 32:
        raise RequestError(
            "A put needs a request id of 1 to 32 bytes.", hint="Use a current client."
        )
    if put.kind:
        check_kind(put.kind)
        if put.value is None and type(put.kind) is bytes:
            raise RequestError("A delete has no label.", hint="Delete without one.")
    if put.ttl_ms:
        check_ttl(put.ttl_ms)
        if put.value is None:
            raise RequestError("A delete has no end.", hint="Delete without a time to live.")
    if put.change:
        if put.value is None or put.kind or put.over:
            raise RequestError(
                "A change has operations, and nothing else.", hint="Put a value without them."
            )
        if len(put.value) > RECORD_BYTES_MAX:
            raise change_too_large(len(put.value))
        operations.decode(put.value)
    check_copies(put.n, put.w, put.dw, replicas)


def check_touch(touch: Touch, replicas: int) -> None:
    """Raise RequestError for numbers that cannot be."""
    if not touch.ttl_ms:
        raise RequestError(
            "A touch must say how long the key is to live.", hint="Give a time to live."
        )
    check_ttl(touch.ttl_ms)
    check_copies(touch.n, touch.w, touch.dw, replicas)


def check_ttl(ttl_ms: int) -> None:
    """Raise RequestError for a time to live that cannot be."""
    if not TTL_MIN_MS <= ttl_ms <= TTL_MAX_MS:
        raise RequestError(
            f"A time to live of {ttl_ms} ms is not possible.",
            hint="Use one second to ten years, or none.",
        )


def check_copies(n: int, w: int, dw: int, replicas: int) -> None:
    """Raise RequestError for numbers of nodes that a write cannot be brought to."""
    if not n and not w and dw == -1:
        return
    most = n or replicas
    if not 0 <= n <= replicas:
        raise RequestError(
            f"n = {n} is not possible: the cluster keeps {replicas} copies.",
            hint=f"Use 1 to {replicas}.",
        )
    if not 0 <= w <= most:
        raise RequestError(f"w = {w} is not possible with n = {most}.", hint=f"Use 1 to {most}.")
    if not -1 <= dw <= most:
        raise RequestError(f"dw = {dw} is not possible with n = {most}.", hint=f"Use 0 to {most}.")


def check_get(get: Get, replicas: int) -> None:
    """Raise RequestError for numbers that cannot be."""
    n = get.n or replicas
    if not 0 <= get.n <= replicas:
        raise RequestError(
            f"n = {get.n} is not possible: the cluster keeps {replicas} copies.",
            hint=f"Use 1 to {replicas}.",
        )
    if not 0 <= get.r <= n:
        raise RequestError(f"r = {get.r} is not possible with n = {n}.", hint=f"Use 1 to {n}.")


def cannot_tell(heard: int, required: int) -> QuorumNotMet:
    """Return the error for a change of what is there, where few nodes say that nothing is."""
    return QuorumNotMet(
        f"{heard} of the {required} nodes that must say that nothing is there did.",
        hint="Nothing was changed. Try again when more nodes are up.",
        acked=heard,
        required=required,
    )


def smaller(local: Local, required: int, which: str) -> str:
    """Return what helps where so many nodes are needed and fewer are there; ``which`` parameter
    says how many.
    """
    there = len(local.routes.placement.candidates)
    if there >= required:
        return f"Try again, or {which}."
    nodes = "1 node" if there == 1 else f"{there} nodes"
    return f"The cluster has {nodes}, so trying again does not help: {which}, or add nodes."


def time_unknown() -> UnavailableError:
    """Return the error for what needs the time of day, where a node does not know it yet."""
    sometimes("a node does not know the time of day yet")
    return UnavailableError(
        "This node does not know the time of day: since its start it has not heard a majority of "
        "the members that agrees with it.",
        hint="Nothing was changed. Try again in a moment, or ask another node.",
    )


def lay_too_long() -> DeadlineExceeded:
    """Return the error for a put that lay unread until its time was over."""
    sometimes("a put lies unread until its time is over")
    return DeadlineExceeded(
        "This node did not run for a while, and the put's time was over when it was read.",
        hint="It was not carried out here; another node may have done it. Repeat it.",
        outcome="unknown",
    )


def op_used_twice(*, retry: bool) -> RequestError:
    """Return the error for a request id that another put of the key has.

    A retry is not told that surely nothing has happened, as in ``Writes._refuse``: its first try
    may have come to nodes that knew nothing of the other put. But to repeat it is of no use.
    """
    what = "Another write of this key was carried out under the same id (Idempotency-Key)."
    if not retry:
        return RequestError(
            what, hint="Nothing was done. Draw a random id for each; repeat it only to try again."
        )
    return RequestError(
        what,
        hint="This one was not carried out now, and is not if you repeat it: give it a random key "
        "of its own. If this was not its first try, read first: an earlier one may have been.",
        outcome="unknown",
    )


def no_disk(dw: int) -> RequestError:
    """Return the error for a durable put on a node whose engine keeps nothing on a disk."""
    return RequestError(
        f"dw = {dw} is not possible: the engine of this node keeps data in memory only.",
        hint="Nothing was written. Use dw = 0, or nodes on the engine rocksdb or sqlite.",
    )


def too_busy(local: Local) -> Overloaded:
    """Return the error for a request that a full table turns away."""
    sometimes("a client is told that the node is busy")
    return Overloaded(
        "This node has as many requests waiting as it will take.",
        hint="Nothing was done. Try again in a moment, or spread the load.",
        retry_after_ms=local.config.spare_after_ms,
    )


def turned_away(*, again: bool) -> Overloaded:
    """Return the error for a request that waited too long in an overloaded node."""
    return Overloaded(
        "This node is asked for more than it can do.",
        hint=f"{_NOT_BEGUN[again]} Wait a moment, and ask for less at a time.",
        outcome=_OUTCOME[again],
        retry_after_ms=RETRY_AFTER_MS,
    )


def waited_in_vain(*, again: bool) -> DeadlineExceeded:
    """Return the error for a request whose time was over before it was begun."""
    return DeadlineExceeded(
        "The request's time was over before this node came to it.",
        hint=f"{_NOT_BEGUN[again]} Give it more time, or ask for less at a time.",
        outcome=_OUTCOME[again],
        retry_after_ms=RETRY_AFTER_MS,
    )


_NOT_BEGUN = {
    False: "Nothing was done.",
    True: "This node has not carried it out; another may have, if this was not the first try.",
}
_OUTCOME: dict[bool, Outcome] = {False: "none", True: "unknown"}
"""What is known of a request that was not begun; True: it may be another try of one that was."""


def looked_too_long(*, again: bool) -> DeadlineExceeded:
    """Return the error for a put whose time was over while the others were asked what they know."""
    return DeadlineExceeded(
        "The put's time was over before the other nodes said what they know of it.",
        hint="This node has not carried it out. Repeat it, and give it more time.",
        outcome="unknown" if again else "none",
        retry_after_ms=RETRY_AFTER_MS,
    )


def about_to_stop() -> UnavailableError:
    """Return the error for a request to a process that begins nothing more."""
    return UnavailableError(
        "This node is stopping, and takes no more requests.",
        hint="Nothing was done. Ask another node.",
    )


def gone_for_good() -> UnavailableError:
    """Return the error for a request to a node that leaves the cluster, and takes no more."""
    return UnavailableError(
        "This node is leaving the cluster, and takes no more requests.",
        hint="Nothing was done. Ask another node.",
    )


def waited_too_long() -> DeadlineExceeded:
    """Return the error for a put whose time was over before anything was done."""
    sometimes("a put's time is over while it waits for the disk")
    return DeadlineExceeded(
        "The time was over while the put waited for the disk.",
        hint="Nothing was written. Try again, or give it more time.",
    )


def too_many_hints(local: Local, notes: int, size: int) -> HintsFull:
    """Return the error for a put that this node could only take as a stand-in, and may not."""
    sometimes("a put is refused by a stand-in whose hints are at the cap")
    return HintsFull(
        f"This node keeps {notes} hints for others, {size} bytes, and has no room for this one.",
        hint="Nothing was done. Try another node, or bring back those that are down.",
        retry_after_ms=local.config.spare_after_ms,
    )


def lost_sight() -> UnavailableError:
    sometimes("a retry knows of an earlier try whose copy is not at hand any more")
    return UnavailableError(
        "An earlier try of this put was carried out, and this node has lost sight of its copy.",
        hint="Repeat the put, here or through another node.",
        outcome="unknown",
    )


def too_many_siblings(count: int, most: int) -> TooLarge:
    sometimes("a put is refused at the cap of siblings")
    return TooLarge(
        f"The key has {count} siblings; the most is {most}.",
        hint=_MERGE,
    )


def record_too_large(size: int) -> TooLarge:
    return TooLarge(
        f"The key with all its siblings would have {size} bytes; the most is {RECORD_BYTES_MAX}.",
        hint=_MERGE,
    )


def change_too_large(size: int) -> TooLarge:
    return TooLarge(
        f"The change has {size} bytes; the most is {RECORD_BYTES_MAX}.",
        hint="Nothing was changed. Make several of it.",
    )


_MERGE = (
    "Nothing was written. Read the key, merge what you find, and write that with the context "
    "of the read."
)
