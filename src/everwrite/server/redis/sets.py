"""Sets: an element that somebody adds while another takes it away stays (add wins)."""

from __future__ import annotations

from collections.abc import Callable

from everwrite.core.types.operations import Exclude, Include, name_of
from everwrite.server.redis.command import (
    CHANGE,
    READ,
    Args,
    Command,
    Steps,
    integer_in,
    number,
    syntax_error,
)
from everwrite.server.redis.hashes import change, known
from everwrite.server.redis.keys import ALL, glob, scan_options, some_of
from everwrite.server.redis.replies import Answer, Problem, Unordered
from everwrite.server.redis.session import Session
from everwrite.server.redis.shown import set_in
from everwrite.server.redis.strings import ONE, in_parts


def sadd(session: Session, args: Args, keys: list[bytes]) -> Steps:
    elements = [name_of(each) for each in dict.fromkeys(args[2:])]
    results = yield from change(session, keys[0], [Include([], elements)])
    return results[0]


def srem(session: Session, args: Args, keys: list[bytes]) -> Steps:
    elements = [name_of(each) for each in dict.fromkeys(args[2:])]
    results = yield from known(session, keys[0], [Exclude([], elements)])
    return results[0] if results else 0


def _reads(
    tell: Callable[[list[bytes], Args], Answer],
) -> Callable[[Session, Args, list[bytes]], Steps]:
    """Return a command that tells something of a set."""

    def run(session: Session, args: Args, keys: list[bytes]) -> Steps:
        return tell(set_in((yield session.read(keys[0]))), args)

    return run


def _many(
    tell: Callable[[list[set[bytes]]], set[bytes]],
) -> Callable[[Session, Args, list[bytes]], Steps]:
    """Return a command that makes one set of several."""

    def run(session: Session, args: Args, keys: list[bytes]) -> Steps:
        replies = yield from in_parts(session, map(session.read, keys))
        return Unordered(sorted(tell([set(set_in(reply)) for reply in replies])))

    return run


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
    replies = yield from in_parts(session, map(session.read, keys))
    first, *others = [set(set_in(reply)) for reply in replies]
    size = len(first.intersection(*others))
    return min(size, limit) if limit else size


def _scan(there: list[bytes], args: Args) -> Answer:
    match, _, _ = scan_options(args[3:])
    fits = glob(match)
    return [b"0", [each for each in there if fits.fullmatch(each)]]


COMMANDS = (
    Command("sadd", sadd, -3, ONE, CHANGE, "set", "Put elements into a set."),
    Command("srem", srem, -3, ONE, group="set", summary="Take elements out of a set."),
    Command("smembers", _reads(lambda there, args: Unordered(there)), 2, ONE, READ, "set", "All."),
    Command("scard", _reads(lambda there, args: len(there)), 2, ONE, READ, "set", "How many."),
    Command(
        "sismember",
        _reads(lambda there, args: int(args[2] in there)),
        3,
        ONE,
        READ,
        "set",
        "Whether an element is there.",
    ),
    Command(
        "smismember",
        _reads(lambda there, args: [int(each in there) for each in args[2:]]),
        -3,
        ONE,
        READ,
        "set",
        "Which of these are there.",
    ),
    Command("srandmember", srandmember, -2, ONE, READ, "set", "Some element."),
    Command("sscan", _reads(_scan), -3, ONE, READ, "set", "The elements, all at once."),
    Command(
        "sunion", _many(lambda sets: set().union(*sets)), -2, ALL, READ, "set", "In any of them."
    ),
    Command(
        "sinter",
        _many(lambda sets: sets[0].intersection(*sets[1:])),
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
        _many(lambda sets: sets[0].difference(*sets[1:])),
        -2,
        ALL,
        READ,
        "set",
        "In the first only.",
    ),
)
