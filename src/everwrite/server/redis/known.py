"""Scripts that clients are known to send, by the SHA-1 of their text; what each does here.

No script runs: each of these is a generator, as a command is, which does what the script's text
says by reads and writes of its own. So none of it is atomic. What looks first and writes then
promises no more than ``SET NX`` does: a lock is advice.

The texts are of the packages that are named (PyPI), and of no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha1
from types import MappingProxyType
from typing import NamedTuple

from everwrite.core.data.keys import VALUE_BYTES_MAX, split_key
from everwrite.core.messages.requests import GetReply
from everwrite.server.redis.command import Args, Steps, number, syntax_error
from everwrite.server.redis.expiry import end_in_time
from everwrite.server.redis.keys import clear
from everwrite.server.redis.limiting import (
    fixed_window,
    sliding_window,
    take_in_sliding_window,
)
from everwrite.server.redis.replies import OK
from everwrite.server.redis.session import Session, left_of, lifetime, too_long
from everwrite.server.redis.shown import string
from everwrite.server.redis.strings import ENDS, add, ttl_in

Run = Callable[[Session, list[bytes], Args], Steps]


class Known(NamedTuple):
    """A script."""

    sha1: str
    whose: str
    """The package, and those of its versions that have this text, as far as they were looked at."""
    name: str
    """As it is counted, and named in the table of docs/redis.md."""
    what: str
    run: Run | None
    """What it does, given the data keys and the words behind them; None: it is refused."""
    keys: int = 1
    """How many keys it takes,"""
    args: int = 0
    """and how many words behind them at least."""
    advisory: bool = False
    """Whether it looks first and writes then."""


# -- locks -----------------------------------------------------------------------------------------


Then = Callable[[Session, bytes, GetReply, Args], Steps]


def where(expected: int, then: Then) -> Run:
    """Return what answers 0 where ARGV[expected] does not stand, and goes on where it does."""

    def run(session: Session, keys: list[bytes], argv: Args) -> Steps:
        reply: GetReply = yield session.read(keys[0])
        if string(reply) != argv[expected - 1]:
            return 0
        return (yield from then(session, keys[0], reply, argv))

    return run


def release(session: Session, key: bytes, reply: GetReply, argv: Args) -> Steps:
    """Take a key away. What was written meanwhile stays."""
    session.wrote(key, (yield session.take_away(key, reply.context)))
    return 1


def extend(session: Session, key: bytes, reply: GetReply, argv: Args) -> Steps:
    """Let a key that has an end live ARGV[2] ms longer, or (ARGV[3] is not 0) from now on."""
    left_ms = left_of(reply)
    if not left_ms:
        return 0
    more_ms = number(argv[1]) + (left_ms if argv[2:3] in ([], [b"0"]) else 0)
    yield from end_in_time(session, key, reply, more_ms)
    return 1


def reacquire(session: Session, key: bytes, reply: GetReply, argv: Args) -> Steps:
    """Let a key end in ARGV[2] ms."""
    yield from end_in_time(session, key, reply, number(argv[1]))
    return 1


def replace(session: Session, key: bytes, reply: GetReply, argv: Args) -> Steps:
    """SET ARGV[1], with the end that ARGV[3] and ARGV[4] say, in the place of what was read alone:
    what was written meanwhile stays.
    """
    value, ttl_ms = argv[0], 0
    if len(argv) == 4:
        unit = argv[2].lower()
        if unit not in ENDS:
            raise syntax_error()
        ttl_ms = ttl_in(session, unit, argv[3], b"set")
    if len(value) > VALUE_BYTES_MAX:
        raise too_long(key, len(value))
    if ttl_ms < 0:
        put = session.take_away(key, reply.context)
    else:
        put = session.supersede(key, value, reply.context, lifetime(ttl_ms) if ttl_ms else 0)
    session.wrote(key, (yield put))
    return OK


# -- numbers, and many keys ------------------------------------------------------------------------


def incr_if_there(session: Session, keys: list[bytes], argv: Args) -> Steps:
    """Add to a number if there is one."""
    reply: GetReply = yield session.read(keys[0])
    if not reply.values:
        return None
    return (yield from add(session, keys[0], number(argv[0])))


def incr(session: Session, keys: list[bytes], argv: Args) -> Steps:
    """Add to a number."""
    return add(session, keys[0], number(argv[0]))


def clear_keys(session: Session, keys: list[bytes], argv: Args) -> Steps:
    """DEL of what fits the pattern that is given as a key."""
    return clear(session, session.bucket, split_key(keys[0])[1])


def clear_in_text(pattern: bytes) -> Run:
    """Return what does DEL of what fits a pattern, and tells nothing."""

    def run(session: Session, keys: list[bytes], argv: Args) -> Steps:
        yield from clear(session, session.bucket, pattern)
        return None

    return run


# -- the table -------------------------------------------------------------------------------------

_LOCKS = "redis 3.5 to 8.1, valkey 6.1"
_LISTS = "there are no lists here; take another strategy of `limits`"

KNOWN = (
    Known(
        "c3f8721cbb97f72bc19e972846bd7aaf91901658",
        "redis 2.10 to 8.1, valkey 6.1",
        "lock release",
        "Take a key away if this token stands there.",
        where(1, release),
        args=1,
        advisory=True,
    ),
    Known(
        "a4e8783852e6b949f9ef3a97212805108459a890",
        _LOCKS,
        "lock extend",
        "Let it live longer, or so long from now on.",
        where(1, extend),
        args=3,
        advisory=True,
    ),
    Known(
        "4a484ac024e9b025224cd9f8e1d59dbf3c15d00d",
        "redis 2.10 and 3.0",
        "lock extend, older",
        "Let it live longer.",
        where(1, extend),
        args=2,
        advisory=True,
    ),
    Known(
        "1cac51482acf5858da00f6d685d68f886cd6b6b2",
        _LOCKS,
        "lock reacquire",
        "Let it live as long as at first.",
        where(1, reacquire),
        args=2,
        advisory=True,
    ),
    Known(
        "f4a7da3e5d8ea3b46642af08427151cae0190400",
        "django-redis 4.9 to 7.0",
        "incr",
        "Add to a number if it is there.",
        incr_if_there,
        args=1,
        advisory=True,
    ),
    Known(
        "4d15273b16b10c15e1d9202cbe93c959ab7d250b",
        "django-redis 4.9 to 7.0",
        "incr, unlooked",
        "Add to a number.",
        incr,
        args=1,
    ),
    Known(
        "ae3671744a5dbb24ea37ef607b8b10ac7856d43e",
        "aiocache 0.11 and 0.12",
        "RedLock release",
        "Take a key away if this value stands there.",
        where(1, release),
        args=1,
        advisory=True,
    ),
    Known(
        "782e993d12091daacc7a3164ddf5c4624fe56042",
        "aiocache 0.11 and 0.12",
        "OptimisticLock cas",
        "SET if this value stands there.",
        where(2, replace),
        args=2,
        advisory=True,
    ),
    Known(
        "628bd136a573a06b346879695681af12ccef300f",
        "limits 2.8 to 5.8",
        "fixed window",
        "Add to a counter that ends.",
        fixed_window,
        args=2,
        advisory=True,
    ),
    Known(
        "0d23cf1ccf81ad1452ccf307e1938d99997a6073",
        "limits 1.6 and 2.0",
        "fixed window, older",
        "Add one to a counter that ends.",
        fixed_window,
        args=1,
        advisory=True,
    ),
    Known(
        "f2994557f1daca13bfef97c2a31ca4b174e031ca",
        "limits 2.8 to 5.8",
        "clear",
        "Take away all keys that fit a pattern.",
        clear_keys,
    ),
    Known(
        "73c9b8f504c33418c74f79a3ac7be749c54004f4",
        "limits 1.6 and 2.0",
        "clear, older",
        "Take away all keys that fit a pattern.",
        clear_keys,
    ),
    Known(
        "e7a0a27d4101baabb124af209bb0245197a359a1",
        "limits 4.1 to 5.8",
        "sliding window",
        "Tell what this window and the one before have counted.",
        sliding_window,
        keys=2,
        args=1,
        advisory=True,
    ),
    Known(
        "e8ac2a60cb040b0dbb56815a1e9c6fd032ce62e7",
        "limits 4.1 to 5.8",
        "sliding window, take",
        "Count one more if there is room.",
        take_in_sliding_window,
        keys=2,
        args=3,
        advisory=True,
    ),
    *(
        Known(digest, "limits 1.6 to 5.8", "moving window", f"Refused: {_LISTS}.", None)
        for digest in (
            "741eab638ba93ed71020bb821c45c022d0fa02c4",
            "ad795214f59fe26d6fdec07973836dd16586f5ec",
            "19c9778cd6391e2ee9f90aa518bf56256d15b4ae",
            "f2ef2962263bbe72f66f5bbd0da234e74d880068",
            "bf95c654b6be0a54713252ef2362a25546faf877",
            "3136f0028c572d2959b5cdc5ec15b287fab6a9ff",
            "d19f37c18768a509dbf1310a257bfc35be65609f",
            "58b7a533b964deb88619477d00ec760fb128cfa0",
            "483380da055523f0629b7e5e5a0c16e220cec863",
        )
    ),
)

BY_SHA1: Mapping[bytes, Known] = MappingProxyType({each.sha1.encode(): each for each in KNOWN})

IN_TEXT = Known(
    "14f3a8d0c512e302cbb528f7824125d3977d0462",
    "fastapi-cache2 0.1.9 to 0.2.2",
    "clear(namespace)",
    "Take away all keys of a namespace.",
    None,
    keys=0,
)
"""It has the pattern in its text, so each namespace has a script. The SHA-1 is that of the text
without the pattern; it is run by EVAL alone."""

_AT = 3
"""Where the pattern stands among what the text's quotes part."""


def known_by_text(text: bytes) -> Known | None:
    """Return the script that this is; None: nobody knows it."""
    found = BY_SHA1.get(sha1(text, usedforsecurity=False).hexdigest().encode())
    if found is not None:
        return found
    parts = text.split(b"'", 8)
    if len(parts) != 7 or b"\\" in text or b"\n" in text or b"\r" in text:
        return None
    pattern, parts[_AT] = parts[_AT], b""
    digest = sha1(b"'".join(parts), usedforsecurity=False).hexdigest()
    if digest != IN_TEXT.sha1 or not pattern.endswith(b":*"):
        return None
    return IN_TEXT._replace(run=clear_in_text(pattern))
