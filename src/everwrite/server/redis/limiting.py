"""What the scripts of rate limiters do: counters that end, one or two to a limit.

Each add counts, whichever node takes it. But to look whether there is room and to take it are two
steps: several clients at once may all find room, and together pass the limit.
"""

from __future__ import annotations

from typing import NamedTuple

from everwrite.core.messages.requests import GetReply
from everwrite.server.redis.command import Args, Steps, integer_in, number
from everwrite.server.redis.expiry import end_in_time
from everwrite.server.redis.replies import Problem
from everwrite.server.redis.session import Session, left_of, lifetime
from everwrite.server.redis.shown import string
from everwrite.server.redis.strings import add, added


def _seconds(word: bytes) -> int:
    """Return the length of a window, in milliseconds."""
    found = number(word)
    if found <= 0:
        raise Problem("ERR a window of a limit has at least one second here")
    return lifetime(found * 1000)


def _count(session: Session, data: bytes, reply: GetReply, amount: int, window_ms: int) -> Steps:
    """Add to what was read; what is new ends with the window. Return the sum.

    An end that is there is not moved: each add would move it on, and a limit that is asked all the
    time would never end. What has lost its end (it was over between the read and the add) gets one,
    or its clients were shut out for ever.
    """
    there = bool(reply.values)
    said = yield from added(
        session, data, amount, 0 if there else lifetime(window_ms), reply.context
    )
    if not said.ends:
        now: GetReply = yield session.read(data)
        if now.values and not left_of(now):
            yield from end_in_time(session, data, now, window_ms)
    return said.results[0]


def fixed_window(session: Session, keys: list[bytes], argv: Args) -> Steps:
    """Add ARGV[2] (else one) to a counter; a new one ends in ARGV[1] seconds."""
    window_ms, amount = _seconds(argv[0]), number(argv[1]) if len(argv) > 1 else 1
    reply: GetReply = yield session.read(keys[0])
    return (yield from _count(session, keys[0], reply, amount, window_ms))


class _Windows(NamedTuple):
    """The window before, and the one that is counted in."""

    before: bytes | None
    before_ms: int
    """What PTTL says of it."""
    now: bytes | None
    now_ms: int
    reply: GetReply | None
    """The read of the current window; None: it was begun just now."""


def _windows(session: Session, keys: list[bytes], window_ms: int) -> Steps:
    """Read both windows. A current one that is over becomes the one before (its key lives for two
    windows, so under one is left of it then), and a new one begins.

    The values are written in the place of what was read alone: what others add meanwhile stays.
    """
    reads = [session.read(data) for data in keys]
    before, now = yield reads
    count, left_ms = string(now), left_of(now)
    if count is not None and 0 < left_ms < window_ms:
        both_ms = left_ms + window_ms
        yield [
            session.supersede(keys[0], count, before.context, lifetime(left_ms)),
            session.supersede(keys[1], b"0", now.context, lifetime(both_ms)),
        ]
        return _Windows(count, left_ms, b"0", both_ms, None)
    before_ms = _pttl(before)
    if left_ms:  # a window of a second lives longer than it should, as nothing lives for less
        before_ms = min(before_ms, max(0, left_ms - window_ms))
    return _Windows(string(before), before_ms, count, _pttl(now), now)


def _pttl(reply: GetReply) -> int:
    return (left_of(reply) or -1) if reply.values else -2


def sliding_window(session: Session, keys: list[bytes], argv: Args) -> Steps:
    """Tell the counts of two windows of ARGV[1] seconds, and how long they live."""
    found: _Windows = yield from _windows(session, keys, _seconds(argv[0]))
    return [found.before, found.before_ms, found.now, found.now_ms]


def take_in_sliding_window(session: Session, keys: list[bytes], argv: Args) -> Steps:
    """Add ARGV[3] if not over ARGV[1] are counted then, in this window and, by what is left of it,
    in the one before.
    """
    limit, window_ms, amount = number(argv[0]), _seconds(argv[1]), number(argv[2])
    if amount > limit:
        return None
    found: _Windows = yield from _windows(session, keys, window_ms)
    weighted = _number(found.before) * max(0, found.before_ms) // window_ms
    if weighted + _number(found.now) + amount > limit:
        return None
    if found.reply is None:
        yield from add(session, keys[1], amount)
    else:
        yield from _count(session, keys[1], found.reply, amount, 2 * window_ms)
    return 1


def _number(count: bytes | None) -> int:
    return integer_in(count or b"0") or 0
