"""Keys whatever is under them, and what looks through a database: SCAN and its kin."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from everwrite.core.data.keys import data_key
from everwrite.core.messages.listing import Listed
from everwrite.core.types.composed import Composed
from everwrite.server.redis.command import (
    READ,
    Args,
    Command,
    Run,
    Steps,
    Sub,
    count_in,
    syntax_error,
)
from everwrite.server.redis.patterns import fitting, glob, prefix_of
from everwrite.server.redis.replies import OK, Answer, Problem, Simple
from everwrite.server.redis.session import Session
from everwrite.server.redis.shown import encoding_name, shown, type_name
from everwrite.server.redis.strings import ONE, in_parts
from everwrite.server.redis.subcommands import container

COUNT = 10
"""Keys that SCAN tells at a time, if it is not told how many."""
STEPS_MAX = 64
"""Steps of a listing for one SCAN: each reads a part of a partition, on R nodes."""
KEYS_MAX = 100_000
"""What KEYS tells at once."""

SOME_MAX = 65_536
"""Elements that are told at random, where one may come several times."""

ALL = (1, -1, 1)


def delete(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return _delete(session, keys)


def _delete(session: Session, keys: Sequence[bytes]) -> Steps:
    """Take away what reads of these keys find; return how many there were."""
    distinct = list(dict.fromkeys(keys))
    found = yield from in_parts(
        session, map(session.read, distinct), lambda reply: (bool(reply.values), reply.context)
    )
    there = [
        (data, context) for data, (stands, context) in zip(distinct, found, strict=True) if stands
    ]
    yield from in_parts(session, (session.take_away(data, context) for data, context in there))
    return len(there)


def exists(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return sum((yield from in_parts(session, map(session.read, keys), lambda it: bool(it.values))))


def type_(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return Simple(type_name(shown((yield session.read(keys[0])))))


def _object(tell: Callable[[Composed], Answer]) -> Run:
    """Return what tells something of how a value is kept."""

    def run(session: Session, args: Args, keys: list[bytes]) -> Steps:
        found = shown((yield session.read(keys[0])))
        return None if found is None else tell(found)

    return run


def _no_frequency(found: Composed) -> Answer:
    raise Problem(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note "
        "that when switching between policies at runtime LRU and LFU data will take some time to "
        "adjust."
    )


def some_of(there: list[bytes], count: int | None) -> Answer:
    """Return one of these at random, or so many; of a negative number some may come again."""
    if count is None:
        return secrets.choice(there) if there else None
    if count >= 0:
        return secrets.SystemRandom().sample(there, min(count, len(there)))
    if -count > SOME_MAX:
        raise Problem(f"ERR at most {SOME_MAX} are told at once")
    return [secrets.choice(there) for _ in range(-count)] if there else []


# -- a whole database ------------------------------------------------------------------------------


def scan(session: Session, args: Args, keys: list[bytes]) -> Steps:
    if not args[1].isdigit() or len(args[1]) > 20 or int(args[1]) >= 1 << 64:
        raise Problem("ERR invalid cursor")
    match, count, kind = scan_options(args[2:], with_type=True)
    cursor = int(args[1])
    found, place = yield from _walk(session, cursor, match, count, STEPS_MAX)
    if kind:
        kinds = yield from in_parts(
            session,
            (session.read(session.key(key)) for key in found),
            lambda reply: type_name(shown(reply)),
        )
        found = [key for key, its in zip(found, kinds, strict=True) if its == kind]
    return [b"%d" % place, found]


def scan_options(rest: Args, *, with_type: bool = False) -> tuple[bytes, int, str]:
    """Return MATCH, COUNT and TYPE of a SCAN."""
    match, count, kind = b"*", COUNT, ""
    if len(rest) % 2:
        raise syntax_error()
    for name, value in zip(rest[::2], rest[1::2], strict=True):
        word = name.lower()
        if word == b"match":
            match = value
        elif word == b"count":
            count = count_in(value)
            if not count:
                raise syntax_error()
        elif word == b"type" and with_type:
            kind = value.decode("utf-8", "replace").lower()
        else:
            raise syntax_error()
    return match, count, kind


def _walk(session: Session, cursor: int, match: bytes, count: int, steps: int) -> Steps:
    """List from a place of the ring on, until there are so many keys, or after so many steps;
    return the keys, and the place to go on from (0: that was the end).
    """
    bucket = session.bucket
    fits = glob(match)
    prefix = prefix_of(match)
    after = cursor.to_bytes(8, "big") if cursor else b""
    found: list[bytes] = []
    for _ in range(steps):
        listed: Listed = yield session.list(bucket, prefix, after)
        found += yield from fitting(fits, listed.keys)
        after = listed.next
        if not after:
            return found, 0
        if len(found) >= count:
            break
    return found, int.from_bytes(after[:8], "big")


def all_keys(session: Session, match: bytes, most: int) -> Steps:
    """Return all keys that match; a Problem if there are too many."""
    found: dict[bytes, None] = {}
    cursor = 0
    while True:
        some, cursor = yield from _walk(session, cursor, match, most + 1, STEPS_MAX)
        found.update(dict.fromkeys(some))
        if len(found) > most:
            raise Problem(f"ERR there are over {most} keys: use SCAN")
        if not cursor:
            return list(found)


def keys_(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return all_keys(session, args[1], KEYS_MAX)


def dbsize(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return len((yield from all_keys(session, b"*", KEYS_MAX * 10)))


def randomkey(session: Session, args: Args, keys: list[bytes]) -> Steps:
    for begin in (secrets.randbits(64), 0):
        cursor = begin
        while True:
            found, cursor = yield from _walk(session, cursor, b"*", 1, STEPS_MAX)
            if found:
                return secrets.choice(found)
            if not cursor:
                break
    return None


def flushdb(session: Session, args: Args, keys: list[bytes]) -> Steps:
    _check_flush(args)
    return _flush(session)


def flushall(session: Session, args: Args, keys: list[bytes]) -> Steps:
    _check_flush(args)
    return _flush_all(session)


def _check_flush(args: Args) -> None:
    if len(args) > 2 or (len(args) == 2 and args[1].lower() not in (b"sync", b"async")):
        raise syntax_error()


def _flush(session: Session) -> Steps:
    """Take away what one way through the ring finds of a database,"""
    yield from clear(session, session.bucket, b"*")
    return OK


def _flush_all(session: Session) -> Steps:
    """or of all of them: a way for each takes longer than clients wait."""
    after = b""
    while True:
        listed: Listed = yield session.list_all(after)
        yield from _delete(session, listed.keys)
        after = listed.next
        if not after:
            return OK


def clear(session: Session, bucket: bytes, match: bytes) -> Steps:
    """Take away what fits a pattern, as it is found on one way through the ring; return how much
    that was.
    """
    fits, prefix = glob(match), prefix_of(match)
    after, count = b"", 0
    while True:
        listed: Listed = yield session.list(bucket, prefix, after)
        found = yield from fitting(fits, listed.keys)
        count += yield from _delete(session, [data_key(bucket, key) for key in found])
        after = listed.next
        if not after:
            return count


COMMANDS = (
    Command("del", delete, -2, ALL, summary="Take keys away."),
    Command("unlink", delete, -2, ALL, summary="As DEL."),
    Command("exists", exists, -2, ALL, READ, summary="How many of these keys are there."),
    Command("touch", exists, -2, ALL, READ, summary="As EXISTS: nothing is evicted here."),
    Command("type", type_, 2, ONE, READ, summary="What stands under a key."),
    container(
        "object",
        {
            "encoding": Sub(_object(encoding_name), 3, "As what Redis would keep it, about."),
            "refcount": Sub(_object(lambda _: 1), 3, "1."),
            "idletime": Sub(_object(lambda _: 0), 3, "0: nobody counts reads here."),
            "freq": Sub(_object(_no_frequency), 3, "An error: nobody counts reads here."),
        },
        keys=(2, 2, 1),
        mode=READ,
        summary="How a value is kept.",
    ),
    Command("scan", scan, -2, whole=True, summary="Some keys, and where to go on."),
    Command("keys", keys_, 2, whole=True, summary="All keys that fit a pattern."),
    Command("dbsize", dbsize, 1, group="server", whole=True, summary="How many keys there are."),
    Command("randomkey", randomkey, 1, whole=True, summary="Some key."),
    Command("flushdb", flushdb, -1, group="server", whole=True, summary="Take all keys away."),
    Command(
        "flushall", flushall, -1, group="server", whole=True, summary="FLUSHDB of all databases."
    ),
)
