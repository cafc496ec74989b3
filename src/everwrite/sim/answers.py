"""The judge of what clients are told: no answer claims that its reader knows more than it does.

A context stands for the writes that its clock covers. Whoever gets one must have seen them: in the
values that came with it, or in the past of what it saw. The exceptions are deletes, which leave no
value to be seen, and what has ended.
"""

from __future__ import annotations

from everwrite.core.data import context
from everwrite.sim.bounds import judge_context
from everwrite.sim.truth import CLOCK_ERROR_MS, NO_KNOWLEDGE, KeyLedger, Knowledge, Violation


def learn_read(key: KeyLedger, token: bytes, found: list[str], who: str) -> Knowledge:
    """Return what a read's context lets its reader know; Violation if the answer lies."""
    judge_context(key, token, who)
    causality = key.causality
    for each in found:
        if each not in causality.place:
            raise Violation("phantom", f"{who} found {each}, which nobody wrote to {key.name}")
    shown = causality.mask(found)
    clock = context.peek(token).clock if token else {}
    known = key.known(clock)
    mask = causality.cover(shown) | causality.cover(known & unseen_by_readers(key))
    unseen = known & ~mask & ~key.doubtful
    if unseen:
        raise Violation(
            "context",
            f"the context that {who} got for {key.name} covers {causality.names(unseen)}, "
            f"but the read found {causality.names(shown)} and knows of nothing newer",
        )
    false = shown & causality.pasts(shown) & ~key.lingering & ~key.doubtful
    if false:
        raise Violation(
            "false sibling",
            f"{who} found {causality.names(shown)} on {key.name}, though another of them was "
            f"written in knowledge of {causality.names(false)}",
        )
    if shown & key.failed:
        raise Violation(
            "phantom",
            f"{who} found {causality.names(shown & key.failed)} on {key.name}, "
            f"{key.name}, which was said not to have happened",
        )
    return Knowledge(token, mask)


def hidden(key: KeyLedger, knowledge: Knowledge) -> int:
    """Return the writes that a reader knows of without having seen them."""
    return knowledge.mask & unseen_by_readers(key)


def unseen_by_readers(key: KeyLedger) -> int:
    """Return the writes of which a read may know without finding them: deletes, and what may have
    ended by now.
    """
    unseen = key.causality.deletes
    time_ms = key.time_ms() if key.ends else 0
    for place, end in key.ends.items():
        if end.first - CLOCK_ERROR_MS <= time_ms:
            unseen |= 1 << place
    return unseen


def learn_write(key: KeyLedger, place: int, token: bytes) -> Knowledge:
    """Return what a write's answer lets its writer know; Violation if it claims more."""
    causality = key.causality
    judge_context(key, token, causality.ids[place])
    seen = context.peek(token)
    known = key.known(seen.clock)
    own = 1 << place
    mask = causality.cover(own) | causality.cover(known & unseen_by_readers(key))
    named = causality.cover(key.named_by(seen.dots))
    # What the write named in vain it did not supersede, but its writer still knows of it.
    used = key.named.get(place, NO_KNOWLEDGE)
    allowed = mask | causality.cover(used.mask | used.named)
    unseen = (known | named) & ~allowed & ~key.doubtful & ~key.lingering
    if unseen:
        raise Violation(
            "context",
            f"the context given out for {causality.ids[place]} on {key.name} covers "
            f"{causality.names(unseen)}, which its writer has never seen",
        )
    if not (known | named) & own:
        # Superseded before it was answered, under a dot that its coordinator never saw.
        mask = causality.cover(known)
    if not seen.dots:
        return Knowledge(token, mask)
    # Not the past of what the clock covers: it may be the single dots that stand for it.
    return Knowledge(token, known, (mask | named) & ~known)
