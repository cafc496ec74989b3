"""Sets: an element that somebody adds while another takes it away stays (add wins)."""

from __future__ import annotations

from collections.abc import Callable
from operator import iand, ior, isub

from everwrite.core.types.operations import Exclude, Include, name_of
from everwrite.server.redis.command import (
    CHANGE,
    READ,
    REST,
    Args,
    Command,
    Steps,
    integer_in,
    number,
    syntax_error,
)
from everwrite.server.redis.hashes import change, known
from everwrite.server.redis.keys import ALL, scan_options, some_of
from everwrite.server.redis.patterns import fitting, glob
from everwrite.server.redis.replies import Problem, Unordered
from everwrite.server.redis.session import Session
from everwrite.server.redis.shown import count_in_set, in_set, set_in
from everwrite.server.redis.strings import ONE, in_parts

REST_ELEMENTS = 1 << 16
"""Elements of sets that are joined before others have their turn: some milliseconds."""
SORTED_MAX = 1 << 16
"""An answer with more elements is in no order: that would take the longer part of the time."""


def sadd(session: Session, args: Args, keys: list[bytes]) -> Steps:
    elements = [name_of(each) for each in dict.fromkeys(args[2:])]
    results = yield from change(session, keys[0], [Include([], elements)])
    return results[0]


def srem(session: Session, args: Args, keys: list[bytes]) -> Steps:
    elements = [name_of(each) for each in dict.fromkeys(args[2:])]
    results = yield from known(session, keys[0], [Exclude([], elements)])
    return results[0] if results else 0


def smembers(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return Unordered(set_in((yield session.read(keys[0]))))


def scard(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return count_in_set((yield session.read(keys[0])))


def sismember(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return int(in_set((yield session.read(keys[0])), args[2:])[0])


def smismember(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return [int(there) for there in in_set((yield session.read(keys[0])), args[2:])]


Join = Callable[[set[bytes], set[bytes]], set[bytes]]
"""What changes the first set by the second."""


def _many(join: Join) -> Callable[[Session, Args, list[bytes]], Steps]:
    """Return a command that makes one set of several."""

    def run(session: Session, args: Args, keys: list[bytes]) -> Steps:
        found = yield from _joined(session, keys, join)
        return Unordered(sorted(found) if len(found) <= SORTED_MAX else found)

    return run


def _joined(session: Session, keys: list[bytes], join: Join) -> Steps:
    """Return the first set, changed by each of the others; each is read and made once."""
    distinct = list(dict.fromkeys(keys))
    sets = yield from in_parts(
        session, map(session.read, distinct), then=lambda reply: set(set_in(reply))
    )
    by_key = dict(zip(distinct, sets, strict=True))
    found, work = set(sets[0]), 0
    for key in dict.fromkeys(keys[1:]):
        work += len(by_key[key])
        if work > REST_ELEMENTS:
            work = 0
            yield REST
        found = join(found, by_key[key])
    return found


def srandmember(session: Session, args: Args, keys: list[bytes]) -> Steps:
    if len(args) > 3:
        raise syntax_error()
    count = number(args[2]) if len(args) > 2 else None
    return some_of(set_in((yield session.read(keys[0]))), count)


def sintercard(session: Session, args: Args, keys: list[bytes]) -> Steps:
    limit = 0
    rest = args[2 + len(keys) :]
    while rest:
        if rest[0].lower() != b"limit" or len(rest) < 2:
            raise syntax_error()
        found = integer_in(rest[1])
        if found is None or found < 0:
            raise Problem("ERR LIMIT can't be negative")
        limit, rest = found, rest[2:]
    size = len((yield from _joined(session, keys, iand)))
    return min(size, limit) if limit else size


def sscan(session: Session, args: Args, keys: list[bytes]) -> Steps:
    there = set_in((yield session.read(keys[0])))
    match, _, _ = scan_options(args[3:])
    return [b"0", (yield from fitting(glob(match), there))]


COMMANDS = (
    Command("sadd", sadd, -3, ONE, CHANGE, "set", "Put elements into a set."),
    Command("srem", srem, -3, ONE, group="set", summary="Take elements out of a set."),
    Command("smembers", smembers, 2, ONE, READ, "set", "All."),
    Command("scard", scard, 2, ONE, READ, "set", "How many."),
    Command(
        "sismember",
        sismember,
        3,
        ONE,
        READ,
        "set",
        "Whether an element is there.",
    ),
    Command(
        "smismember",
        smismember,
        -3,
        ONE,
        READ,
        "set",
        "Which of these are there.",
    ),
    Command("srandmember", srandmember, -2, ONE, READ, "set", "Some element."),
    Command("sscan", sscan, -3, ONE, READ, "set", "The elements, all at once."),
    Command("sunion", _many(ior), -2, ALL, READ, "set", "In any of them."),
    Command(
        "sinter",
        _many(iand),
        -2,
        ALL,
        READ,
        "set",
        "In all of them.",
    ),
    Command(
        "sintercard",
        sintercard,
        -3,
        (2, -1, 1),
        READ,
        "set",
        "How many are in all of them.",
        counted=1,
    ),
    Command(
        "sdiff",
        _many(isub),
        -2,
        ALL,
        READ,
        "set",
        "In the first only.",
    ),
)
