"""Hashes: maps of registers and counters, one to a field.

A field that is written supersedes what its coordinator knows of that field alone: two clients that
write two fields disturb nothing of each other, and a field that is taken away is gone unless
somebody who did not know that writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from everwrite.core.errors import RequestError, WrongType
from everwrite.core.messages.requests import GetReply, PutReply
from everwrite.core.types.operations import Add, Assign, Operation, Remove, name_of
from everwrite.server.redis.command import (
    CHANGE,
    READ,
    Args,
    Command,
    Steps,
    float_in,
    float_sum,
    number,
    syntax_error,
    wrong_number,
)
from everwrite.server.redis.keys import scan_options, some_of
from everwrite.server.redis.patterns import fitting, glob
from everwrite.server.redis.replies import OK, Answer, Pairs, Problem, told
from everwrite.server.redis.session import Session
from everwrite.server.redis.shown import count_in_hash, fields_in, hash_in, string_of, strings_in
from everwrite.server.redis.strings import ONE, check_sum


def change(session: Session, data: bytes, operations: Sequence[Operation]) -> Steps:
    """Change a key, and return the results."""
    written: PutReply = yield session.change(data, operations)
    session.wrote(data, written)
    return written.results


def known(session: Session, data: bytes, operations: Sequence[Operation]) -> Steps:
    """Take away what a read has seen, and return the results; none where nothing is. A node that
    lags would find nothing to take away: it is told what it must know.
    """
    reply: GetReply = yield session.read(data)
    if not reply.values:
        return []
    written: PutReply = yield session.change(data, operations, context=reply.context)
    session.wrote(data, written)
    return written.results


def hset(session: Session, args: Args, keys: list[bytes]) -> Steps:
    if len(args) % 2:
        raise wrong_number(args[0].decode("latin-1").lower())
    fields = dict(zip(args[2::2], args[3::2], strict=True))
    made: list[Operation] = [Assign([name_of(name)], value) for name, value in fields.items()]
    results = yield from change(session, keys[0], made)
    return sum(results)


def hmset(session: Session, args: Args, keys: list[bytes]) -> Steps:
    yield from hset(session, args, keys)
    return OK


def hsetnx(session: Session, args: Args, keys: list[bytes]) -> Steps:
    session.front.measures.advise("hsetnx")
    reply: GetReply = yield session.read(keys[0])
    if args[2] in hash_in(reply):
        return 0
    yield from change(session, keys[0], [Assign([name_of(args[2])], args[3])])
    return 1


def hdel(session: Session, args: Args, keys: list[bytes]) -> Steps:
    gone: list[Operation] = [Remove([name_of(name)]) for name in dict.fromkeys(args[2:])]
    results = yield from known(session, keys[0], gone)
    return sum(results)


def hincrby(session: Session, args: Args, keys: list[bytes]) -> Steps:
    amount = number(args[3])
    try:
        results = yield from change(session, keys[0], [Add([name_of(args[2])], amount)])
    except (WrongType, RequestError):
        there = string_of(hash_in((yield session.read(keys[0]))).get(args[2]))
        check_sum(there, amount, Problem("ERR hash value is not an integer"))
        raise
    return results[0]


def hincrbyfloat(session: Session, args: Args, keys: list[bytes]) -> Steps:
    session.front.measures.advise("hincrbyfloat")
    amount = float_in(args[3])
    if amount is None:
        raise Problem("ERR value is not a valid float")
    there = string_of(hash_in((yield session.read(keys[0]))).get(args[2]))
    now = float_in(there) if there is not None else 0.0
    if now is None:
        raise Problem("ERR hash value is not a float")
    value = told(float_sum(now, amount))
    yield from change(session, keys[0], [Assign([name_of(args[2])], value)])
    return value


def hrandfield(session: Session, args: Args, keys: list[bytes]) -> Steps:
    count, with_values = None, False
    if len(args) > 2:
        count = number(args[2])
        with_values = len(args) > 3
        if with_values and (len(args) > 4 or args[3].lower() != b"withvalues"):
            raise syntax_error()
    reply: GetReply = yield session.read(keys[0])
    there = strings_in(reply)
    chosen = some_of(list(there), count)
    if not isinstance(chosen, list) or not with_values:
        return chosen
    return Pairs((name, there[name]) for name in chosen)


def _reads(
    tell: Callable[[dict[bytes, bytes], Args], Answer],
) -> Callable[[Session, Args, list[bytes]], Steps]:
    """Return a command that tells something of a hash."""

    def run(session: Session, args: Args, keys: list[bytes]) -> Steps:
        return tell(strings_in((yield session.read(keys[0]))), args)

    return run


def _asks(
    tell: Callable[[dict[bytes, bytes], Args], Answer],
) -> Callable[[Session, Args, list[bytes]], Steps]:
    """Return a command that tells something of the fields of a hash that it names."""

    def run(session: Session, args: Args, keys: list[bytes]) -> Steps:
        there = fields_in((yield session.read(keys[0])), args[2:])
        return tell(there, args)

    return run


def hlen(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return count_in_hash((yield session.read(keys[0])))


def hscan(session: Session, args: Args, keys: list[bytes]) -> Steps:
    there = strings_in((yield session.read(keys[0])))
    match, _, _ = scan_options(args[3:])
    names = yield from fitting(glob(match), there)
    return [b"0", [each for name in names for each in (name, there[name])]]


COMMANDS = (
    Command("hset", hset, -4, ONE, CHANGE, "hash", "Let fields have values."),
    Command("hmset", hmset, -4, ONE, CHANGE, "hash", "As HSET."),
    Command("hsetnx", hsetnx, 4, ONE, group="hash", summary="HSET of a new field.", advisory=True),
    Command("hdel", hdel, -3, ONE, group="hash", summary="Take fields away."),
    Command("hincrby", hincrby, 4, ONE, CHANGE, "hash", "Add to a field."),
    Command(
        "hget", _asks(lambda there, args: there.get(args[2])), 3, ONE, READ, "hash", "One field."
    ),
    Command(
        "hmget",
        _asks(lambda there, args: [there.get(name) for name in args[2:]]),
        -3,
        ONE,
        READ,
        "hash",
        "Several fields.",
    ),
    Command("hgetall", _reads(lambda there, args: there), 2, ONE, READ, "hash", "All fields."),
    Command("hlen", hlen, 2, ONE, READ, "hash", "How many."),
    Command("hkeys", _reads(lambda there, args: list(there)), 2, ONE, READ, "hash", "Their names."),
    Command(
        "hvals", _reads(lambda there, args: list(there.values())), 2, ONE, READ, "hash", "Values."
    ),
    Command(
        "hexists",
        _asks(lambda there, args: int(args[2] in there)),
        3,
        ONE,
        READ,
        "hash",
        "Whether a field is there.",
    ),
    Command(
        "hstrlen",
        _asks(lambda there, args: len(there.get(args[2], b""))),
        3,
        ONE,
        READ,
        "hash",
        "The length of a field's value.",
    ),
    Command(
        "hincrbyfloat",
        hincrbyfloat,
        4,
        ONE,
        group="hash",
        summary="Add a fraction to a field.",
        advisory=True,
    ),
    Command("hrandfield", hrandfield, -2, ONE, READ, "hash", "Some fields."),
    Command("hscan", hscan, -3, ONE, READ, "hash", "The fields, all at once."),
)
