"""Strings: GET and SET and their kin. What reads first and writes then says ``advisory``."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec

from everwrite.core.errors import RequestError, WrongType
from everwrite.core.messages.requests import Get, GetReply, Put, PutReply
from everwrite.core.types.operations import Add
from everwrite.server.redis.command import (
    BLIND,
    CHANGE,
    INTEGER_MAX,
    INTEGER_MIN,
    PART,
    READ,
    REST,
    Args,
    Command,
    Direct,
    Steps,
    float_in,
    float_sum,
    integer_in,
    no_integer,
    number,
    syntax_error,
    wrong_number,
)
from everwrite.server.redis.replies import OK, Answer, Problem, told
from everwrite.server.redis.session import Session, left_of, lifetime
from everwrite.server.redis.shown import string

HELD_BYTES_MAX = 32 << 20
"""What is read for one command."""
PIECE_BYTES = 64
"""What each of several siblings or pieces costs beside its bytes."""
HELD_IN_ALL_MAX = 128 << 20
"""What is read for all commands of one connection that are under way."""


REST_PIECES = 2048
"""Pieces that are composed before others have their turn: some milliseconds."""

SKETCH_COSTS = 256
"""What so many bytes of a plain value cost is a piece's: it may be a sketch."""


def made(replies: Iterable[Any], tell: Callable[[Any], Any]) -> Steps:
    """Return what is made of each of several replies, with rests where that takes long."""
    found: list[Any] = []
    work = 0
    for reply in replies:
        values = reply.values
        work += len(values) if len(values) != 1 else 1 + len(values[0][1]) // SKETCH_COSTS
        if work > REST_PIECES:
            work = 0
            yield REST
        found.append(tell(reply))
    return found


def in_parts(
    session: Session,
    messages: Iterable[Any],
    keep: Callable[[Any], Any] | None = None,
    then: Callable[[Any], Any] | None = None,
) -> Steps:
    """Ask any number of messages, some at a time; return all replies, or what is to be kept of
    each as it comes, or what is made of each then.
    """
    replies: list[Any] = []
    held = 0
    rest: Iterator[Any] = iter(messages)
    try:
        while part := list(islice(rest, PART)):
            told = yield part
            more = sum(_bytes_of(reply) for reply in told if type(reply) is GetReply)
            held += more
            session.holds += more
            if keep is not None:
                replies += yield from made(told, keep)
                held -= more
                session.holds -= more
                continue
            replies += told
            if held > HELD_BYTES_MAX:
                raise Problem(f"ERR these keys have over {HELD_BYTES_MAX} bytes: ask for fewer")
            if session.holds > HELD_IN_ALL_MAX:
                raise Problem(f"ERR these commands read over {HELD_IN_ALL_MAX} bytes: ask for less")
        return replies if then is None else (yield from made(replies, then))
    finally:
        session.holds -= held


def _bytes_of(reply: GetReply) -> int:
    values = reply.values
    size = sum(len(value) for _, value in values)
    return size if len(values) == 1 else size + PIECE_BYTES * len(values)


def get(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return string((yield session.read(keys[0])))


def set_(session: Session, args: Args, keys: list[bytes]) -> Steps:
    data = keys[0]
    if len(args) == 3:
        session.wrote(data, (yield session.write(data, args[2])))
        return OK
    return (yield from _set(session, args, data))


def _ask_get(session: Session, args: Args, data: bytes) -> Get:
    return session.read(data)


def _tell_get(session: Session, data: bytes, reply: GetReply) -> Answer:
    return string(reply)


def _ask_set(session: Session, args: Args, data: bytes) -> Put:
    return session.write(data, args[2])


def _tell_set(session: Session, data: bytes, reply: PutReply) -> Answer:
    session.wrote(data, reply)
    return OK


ENDS = (b"ex", b"px", b"exat", b"pxat")
"""Options that say an end."""


class Options(msgspec.Struct):
    """What a SET says beside the value."""

    ttl_ms: int = 0
    """0: no end; negative: it has ended already."""
    ends: bool = False
    keep: bool = False
    only_new: bool = False
    only_old: bool = False
    tell: bool = False


def _options(session: Session, args: Args, start: int) -> Options:
    found = Options()
    rest = iter(args[start:])
    for word in rest:
        match word.lower():
            case b"nx":
                found.only_new = True
            case b"xx":
                found.only_old = True
            case b"get":
                found.tell = True
            case b"keepttl":
                found.keep = True
            case unit if unit in ENDS and not found.ends:
                found.ends = True
                found.ttl_ms = ttl_in(session, unit, next(rest, None), args[0])
            case _:
                raise syntax_error()
    if (found.only_new and found.only_old) or (found.keep and found.ends):
        raise syntax_error()
    return found


def ttl_in(session: Session, unit: bytes, word: bytes | None, name: bytes) -> int:
    """Return the time to live that an option says, in milliseconds; negative: it is over."""
    if word is None:
        raise syntax_error()
    time = number(word)
    if unit in (b"ex", b"exat"):
        time *= 1000
    if time <= 0 or time > INTEGER_MAX:
        said = name.decode("latin-1").lower()
        raise Problem(f"ERR invalid expire time in '{said}' command")
    if unit in (b"exat", b"pxat"):
        time = (time - session.front.time_ms()) or -1
    return time


def _set(session: Session, args: Args, data: bytes) -> Steps:
    options = _options(session, args, 3)
    old = None
    ttl_ms = lifetime(options.ttl_ms) if options.ttl_ms > 0 else options.ttl_ms
    if options.only_new or options.only_old or options.tell or options.keep:
        if options.only_new or options.only_old or options.tell:
            session.front.measures.advise("set")
        reply: GetReply = yield session.read(data)
        there = bool(reply.values)
        if options.tell:
            old = string(reply)
        if (options.only_new and there) or (options.only_old and not there):
            return old
        if options.keep:
            ttl_ms = kept(reply)
    if ttl_ms < 0:
        yield from remove(session, data)
    else:
        session.wrote(data, (yield session.write(data, args[2], ttl_ms)))
    return old if options.tell else OK


def remove(session: Session, data: bytes) -> Steps:
    """Take away what a read finds; return whether there was something."""
    reply: GetReply = yield session.read(data)
    if not reply.values:
        return False
    session.wrote(data, (yield session.take_away(data, reply.context)))
    return True


def setex(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return _set_for(session, args, keys, b"ex")


def psetex(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return _set_for(session, args, keys, b"px")


def _set_for(session: Session, args: Args, keys: list[bytes], unit: bytes) -> Steps:
    ttl_ms = lifetime(ttl_in(session, unit, args[2], args[0]))
    session.wrote(keys[0], (yield session.write(keys[0], args[3], ttl_ms)))
    return OK


def setnx(session: Session, args: Args, keys: list[bytes]) -> Steps:
    session.front.measures.advise("setnx")
    reply: GetReply = yield session.read(keys[0])
    if reply.values:
        return 0
    session.wrote(keys[0], (yield session.write(keys[0], args[2])))
    return 1


def getset(session: Session, args: Args, keys: list[bytes]) -> Steps:
    session.front.measures.advise("getset")
    old = string((yield session.read(keys[0])))
    session.wrote(keys[0], (yield session.write(keys[0], args[2])))
    return old


def getdel(session: Session, args: Args, keys: list[bytes]) -> Steps:
    session.front.measures.advise("getdel")
    reply: GetReply = yield session.read(keys[0])
    old = string(reply)
    if old is not None:
        session.wrote(keys[0], (yield session.take_away(keys[0], reply.context)))
    return old


def mget(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return (yield from in_parts(session, map(session.read, keys), then=_string_or_none))


def _string_or_none(reply: GetReply) -> bytes | None:
    try:
        return string(reply)
    except Problem:  # of another type: as in Redis that is no string
        return None


def mset(session: Session, args: Args, keys: list[bytes]) -> Steps:
    if len(args) % 2 == 0:
        raise wrong_number("mset")
    last = dict(zip(keys, args[2::2], strict=True))  # of one key given twice the last counts
    yield from in_parts(session, (session.write(data, value) for data, value in last.items()))
    return OK


def strlen(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return len(string((yield session.read(keys[0]))) or b"")


def getrange(session: Session, args: Args, keys: list[bytes]) -> Steps:
    start, end = number(args[2]), number(args[3])
    found = string((yield session.read(keys[0]))) or b""
    size = len(found)
    start = max(0, start + size if start < 0 else start)
    end = end + size if end < 0 else end
    return found[start : end + 1] if end >= start else b""


def append(session: Session, args: Args, keys: list[bytes]) -> Steps:
    session.front.measures.advise("append")
    reply: GetReply = yield session.read(keys[0])
    value = (string(reply) or b"") + args[2]
    session.wrote(keys[0], (yield session.write(keys[0], value, kept(reply))))
    return len(value)


# -- numbers ---------------------------------------------------------------------------------------


def incr(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return add(session, keys[0], 1)


def decr(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return add(session, keys[0], -1)


def incrby(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return add(session, keys[0], number(args[2]))


def decrby(session: Session, args: Args, keys: list[bytes]) -> Steps:
    amount = -number(args[2])
    if amount > INTEGER_MAX:
        raise Problem("ERR decrement would overflow")
    return add(session, keys[0], amount)


def add(session: Session, data: bytes, amount: int) -> Steps:
    """Add to the number there, and return the sum."""
    return (yield from added(session, data, amount)).results[0]


def added(
    session: Session, data: bytes, amount: int, ttl_ms: int = 0, context: bytes = b""
) -> Generator[Any, Any, PutReply]:
    """Add to the number there, by a node that knows what was read (its context), and return what
    it says.
    """
    try:
        reply: PutReply = yield session.change(data, [Add([], amount)], ttl_ms, context)
    except (WrongType, RequestError):
        check_sum(string((yield session.read(data))), amount, no_integer())
        raise
    session.wrote(data, reply)
    return reply


def check_sum(there: bytes | None, amount: int, no_number: Problem) -> None:
    """Raise, in Redis' words, why an amount cannot be added to what is there."""
    now = integer_in(there) if there is not None else 0
    if now is None:
        raise no_number
    if not INTEGER_MIN <= now + amount <= INTEGER_MAX:
        raise Problem("ERR increment or decrement would overflow")


def incrbyfloat(session: Session, args: Args, keys: list[bytes]) -> Steps:
    session.front.measures.advise("incrbyfloat")
    amount = float_in(args[2])
    if amount is None:
        raise Problem("ERR value is not a valid float")
    reply: GetReply = yield session.read(keys[0])
    there = string(reply)
    now = float_in(there) if there is not None else 0.0
    if now is None:
        raise Problem("ERR value is not a valid float")
    value = told(float_sum(now, amount))
    session.wrote(keys[0], (yield session.write(keys[0], value, kept(reply))))
    return value


def kept(reply: GetReply) -> int:
    """Return the time to live of what goes beside, or takes the place of, what was read."""
    left_ms = left_of(reply)
    return lifetime(left_ms) if left_ms else 0


ONE = (1, 1, 1)

COMMANDS = (
    Command(
        "get",
        get,
        2,
        ONE,
        READ,
        "string",
        "The value of a key.",
        direct=Direct(_ask_get, _tell_get),
    ),
    Command(
        "set",
        set_,
        -3,
        ONE,
        BLIND,
        "string",
        "Let a value stand under a key.",
        plain=3,
        direct=Direct(_ask_set, _tell_set),
    ),
    Command("setex", setex, 4, ONE, BLIND, "string", "SET for so many seconds."),
    Command("psetex", psetex, 4, ONE, BLIND, "string", "SET for so many milliseconds."),
    Command(
        "setnx", setnx, 3, ONE, group="string", summary="SET if nothing is there.", advisory=True
    ),
    Command(
        "getset",
        getset,
        3,
        ONE,
        group="string",
        summary="SET, and tell what was there.",
        advisory=True,
    ),
    Command("getdel", getdel, 2, ONE, group="string", summary="GET, and DEL.", advisory=True),
    Command("mget", mget, -2, (1, -1, 1), READ, "string", "The values of several keys."),
    Command("mset", mset, -3, (1, -1, 2), BLIND, "string", "SET several keys, each by itself."),
    Command("strlen", strlen, 2, ONE, READ, "string", "The length of a value."),
    Command("getrange", getrange, 4, ONE, READ, "string", "A part of a value."),
    Command("substr", getrange, 4, ONE, READ, "string", "As GETRANGE."),
    Command(
        "append", append, 3, ONE, group="string", summary="Put more behind a value.", advisory=True
    ),
    Command("incr", incr, 2, ONE, CHANGE, "string", "Add one to a number."),
    Command("decr", decr, 2, ONE, CHANGE, "string", "Take one from a number."),
    Command("incrby", incrby, 3, ONE, CHANGE, "string", "Add to a number."),
    Command("decrby", decrby, 3, ONE, CHANGE, "string", "Take from a number."),
    Command(
        "incrbyfloat",
        incrbyfloat,
        3,
        ONE,
        group="string",
        summary="Add to a number with a fraction.",
        advisory=True,
    ),
)
