"""PFADD, PFCOUNT, PFMERGE: how many different elements there were, about.

A sketch is a plain string. Who adds reads all siblings, merges them, and writes in the place of
what was read, and of nothing else: two adds at once become siblings, which the next reader merges.
So nothing is lost, and none of these looks first in the sense of ``SET NX``.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def pfcount(session: Session, args: Args, keys: list[bytes]) -> Steps:
    replies: Sequence[GetReply] = yield from in_parts(session, map(session.read, keys))
    there = [each for reply in replies if (each := sketch_in(reply)) is not None]
    return estimate(merged(there)) if there else 0


def pfmerge(session: Session, args: Args, keys: list[bytes]) -> Steps:
    replies: Sequence[GetReply] = yield from in_parts(session, map(session.read, keys))
    there = [each for reply in replies if (each := sketch_in(reply)) is not None]
    yield from _write(session, keys[0], replies[0], merged(there) if there else NONE)
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
