"""Times to live: EXPIRE and its kin, on the ends that versions have.

An end that is moved further is a touch. What has no end never gets one (docs/design/expiry.md), and
no end comes nearer: so all else writes what was read once more.
"""

from __future__ import annotations

from collections.abc import Callable

from everwrite.core.messages.requests import GetReply
from everwrite.core.types.composed import Composed, Counter, Flag, Map, Register, Set
from everwrite.core.types.operations import (
    Add,
    Assign,
    Enable,
    Include,
    Operation,
    Path,
    Remove,
)
from everwrite.server.redis.command import (
    READ,
    Args,
    Command,
    Steps,
    number,
    syntax_error,
)
from everwrite.server.redis.replies import Problem
from everwrite.server.redis.session import Session, left_of, lifetime
from everwrite.server.redis.shown import shown, string
from everwrite.server.redis.strings import ONE, ttl_in

AGAIN_MAX = 3
"""So often a value is written again, while others write it without an end."""

_CONDITIONS = (b"nx", b"xx", b"gt", b"lt")


def end_in(reply: GetReply) -> int:
    """Return when what was read ends, in milliseconds since 1970; 0: never."""
    left_ms = left_of(reply)
    return reply.time_ms + left_ms if left_ms else 0


def _told(tell: Callable[[GetReply, int], int]) -> Callable[[Session, Args, list[bytes]], Steps]:
    """Return a command that tells something of a key's end."""

    def run(session: Session, args: Args, keys: list[bytes]) -> Steps:
        reply: GetReply = yield session.read(keys[0])
        if not reply.values:
            return -2
        left_ms = left_of(reply)
        return tell(reply, left_ms) if left_ms else -1

    return run


ttl = _told(lambda reply, left_ms: (left_ms + 500) // 1000)
pttl = _told(lambda reply, left_ms: left_ms)
expiretime = _told(lambda reply, left_ms: (reply.time_ms + left_ms + 500) // 1000)
pexpiretime = _told(lambda reply, left_ms: reply.time_ms + left_ms)


def expire(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return _expire(session, args, keys[0], number(args[2]) * 1000)


def pexpire(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return _expire(session, args, keys[0], number(args[2]))


def expireat(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return _expire(session, args, keys[0], number(args[2]) * 1000 - session.front.time_ms())


def pexpireat(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return _expire(session, args, keys[0], number(args[2]) - session.front.time_ms())


def _expire(session: Session, args: Args, data: bytes, ttl_ms: int) -> Steps:
    conditions = {each.lower() for each in args[3:]}
    if unknown := conditions.difference(_CONDITIONS):
        raise Problem(f"ERR Unsupported option {min(unknown).decode('utf-8', 'replace')}")
    if b"nx" in conditions and len(conditions) > 1:
        raise Problem("ERR NX and XX, GT or LT options at the same time are not compatible")
    if {b"gt", b"lt"} <= conditions:
        raise Problem("ERR GT and LT options at the same time are not compatible")
    reply: GetReply = yield session.read(data)
    if not reply.values:
        return 0
    left_ms = left_of(reply)
    if (
        (b"nx" in conditions and left_ms)
        or (b"xx" in conditions and not left_ms)
        or (b"gt" in conditions and (not left_ms or ttl_ms <= left_ms))
        or (b"lt" in conditions and left_ms and ttl_ms >= left_ms)
    ):
        return 0
    return (yield from end_in_time(session, data, reply, ttl_ms))


def end_in_time(session: Session, data: bytes, reply: GetReply, ttl_ms: int) -> Steps:
    """Let what was read end in so many milliseconds; return whether something was there."""
    if ttl_ms <= 0:
        session.wrote(data, (yield session.take_away(data, reply.context)))
        return 1
    ttl_ms = lifetime(ttl_ms)
    if 0 < left_of(reply) <= ttl_ms and all(reply.ends):
        touched = yield session.live_on(data, ttl_ms)
        return int(touched.siblings > 0)
    yield from again(session, data, reply, ttl_ms)
    return 1


def persist(session: Session, args: Args, keys: list[bytes]) -> Steps:
    reply: GetReply = yield session.read(keys[0])
    if not reply.values or not left_of(reply):
        return 0
    yield from again(session, keys[0], reply, 0)
    return 1


def again(session: Session, data: bytes, reply: GetReply, ttl_ms: int) -> Steps:
    """Write once more what was read, with another end."""
    session.front.measures.advise("expire")
    for _ in range(AGAIN_MAX):
        yield from _once_more(session, data, reply, ttl_ms)
        if not ttl_ms:
            return None
        reply = yield session.read(data)  # what was written meanwhile may have no end
        if not reply.values or all(reply.ends):
            return None
    return None


def _once_more(session: Session, data: bytes, reply: GetReply, ttl_ms: int) -> Steps:
    found = shown(reply)
    if isinstance(found, Register | Counter):
        value = string(reply)
        assert value is not None
        kind = found.kind if isinstance(found, Register) else 0
        session.wrote(data, (yield session.write(data, value, ttl_ms, kind)))
    elif found is not None:
        operations: list[Operation] = [Remove([]), *made_of(found, [])]
        session.wrote(data, (yield session.change(data, operations, ttl_ms)))
    return None


def made_of(found: Composed, path: Path) -> list[Operation]:
    """Return the operations that make such a value where nothing is."""
    match found:
        case Register(value=value, kind=kind):
            return [Assign(path, value, kind)]
        case Counter(value=amount):
            return [Add(path, amount)]
        case Set(elements=elements):
            return [Include(path, elements)]
        case Flag():
            return [Enable(path)]
        case Map(fields=fields):
            made: list[Operation] = []
            for name, each in fields.items():
                made += made_of(each, [*path, name])
            return made


def getex(session: Session, args: Args, keys: list[bytes]) -> Steps:
    ttl_ms, persists = 0, False
    match [args[2].lower() if len(args) > 2 else b"", *args[3:]]:
        case [b""] if len(args) == 2:
            pass
        case [b"persist"]:
            persists = True
        case [(b"ex" | b"px" | b"exat" | b"pxat") as unit, word]:
            ttl_ms = ttl_in(session, unit, word, args[0])
        case _:
            raise syntax_error()
    reply: GetReply = yield session.read(keys[0])
    found = string(reply)
    if found is None:
        return None
    if ttl_ms:
        yield from end_in_time(session, keys[0], reply, ttl_ms)
    elif persists and left_of(reply):
        yield from again(session, keys[0], reply, 0)
    return found


COMMANDS = (
    Command("ttl", ttl, 2, ONE, READ, summary="The seconds that a key still has to live."),
    Command("pttl", pttl, 2, ONE, READ, summary="The milliseconds that a key has to live."),
    Command("expiretime", expiretime, 2, ONE, READ, summary="When a key ends, in seconds."),
    Command("pexpiretime", pexpiretime, 2, ONE, READ, summary="When a key ends, in ms."),
    Command("expire", expire, -3, ONE, summary="Let a key end in so many seconds.", advisory=True),
    Command("pexpire", pexpire, -3, ONE, summary="As EXPIRE, in milliseconds.", advisory=True),
    Command("expireat", expireat, -3, ONE, summary="Let a key end at a time.", advisory=True),
    Command("pexpireat", pexpireat, -3, ONE, summary="As EXPIREAT, in ms.", advisory=True),
    Command("persist", persist, 2, ONE, summary="Let a key have no end.", advisory=True),
    Command("getex", getex, -2, ONE, group="string", summary="GET, and EXPIRE.", advisory=True),
)
