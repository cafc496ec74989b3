"""PFADD, PFCOUNT, PFMERGE: how many different elements there were, about.

A sketch is a plain string. Who adds reads all siblings, merges them, and writes in the place of
what was read, and of nothing else: two adds at once become siblings, which the next reader merges.
So nothing is lost, and none of these looks first in the sense of ``SET NX``.
"""

from __future__ import annotations

from everwrite.core.messages.requests import GetReply
from everwrite.server.redis.command import READ, Args, Command, Steps
from everwrite.server.redis.hyperlog import (
    NONE,
    Registers,
    added,
    encode,
    estimate,
    merged,
)
from everwrite.server.redis.keys import ALL
from everwrite.server.redis.replies import OK
from everwrite.server.redis.session import Session
from everwrite.server.redis.shown import sketch_in
from everwrite.server.redis.strings import ONE, in_parts, kept


def pfadd(session: Session, args: Args, keys: list[bytes]) -> Steps:
    reply: GetReply = yield session.read(keys[0])
    there = sketch_in(reply)
    after = added(there or NONE, args[2:])
    changed = there is None or after is not there
    if changed or len(reply.values) > 1:  # the merge of siblings is written in their place
        yield from _write(session, keys[0], reply, after)
    return int(changed)


def _write(session: Session, data: bytes, reply: GetReply, registers: Registers) -> Steps:
    value = encode(registers)
    put = session.supersede(data, value, reply.context, kept(reply))
    session.wrote(data, (yield put))
    return None


def _merged(session: Session, keys: list[bytes]) -> Steps:
    """Return what was read of the first of these keys, and all sketches as one; None: there is
    none.
    """
    first: GetReply | None = None
    found: Registers | None = None

    def add(reply: GetReply) -> None:
        nonlocal first, found
        first = first or reply
        sketch = sketch_in(reply)
        if sketch is not None:
            found = sketch if found is None else merged([found, sketch])

    yield from in_parts(session, map(session.read, dict.fromkeys(keys)), then=add)
    return first, found


def pfcount(session: Session, args: Args, keys: list[bytes]) -> Steps:
    _, found = yield from _merged(session, keys)
    return estimate(found) if found is not None else 0


def pfmerge(session: Session, args: Args, keys: list[bytes]) -> Steps:
    first, found = yield from _merged(session, keys)
    yield from _write(session, keys[0], first, found if found is not None else NONE)
    return OK


COMMANDS = (
    Command("pfadd", pfadd, -2, ONE, group="hyperloglog", summary="Add to an estimate of a count."),
    Command(
        "pfcount",
        pfcount,
        -2,
        ALL,
        READ,
        "hyperloglog",
        "About how many different ones there were.",
    ),
    Command("pfmerge", pfmerge, -2, ALL, group="hyperloglog", summary="Several estimates as one."),
)
