"""DYN.: what this store has and Redis has not: siblings, contexts, owners, quorums."""

from __future__ import annotations

from typing import Any

import msgspec

from everwrite.core.cluster.plans import name_of as node_name
from everwrite.core.data.base64url import decode64, encode64
from everwrite.core.data.labels import KIND_PIECE, label_of
from everwrite.core.errors import DeadlineExceeded
from everwrite.core.messages.requests import GetReply, PutReply, Told
from everwrite.core.types.composed import Composed, Counter, Flag, Map, Register, Set
from everwrite.core.types.composing import TYPE_NAMES, compose_all
from everwrite.core.types.operations import raw_of
from everwrite.core.types.pieces import decode
from everwrite.server.redis.command import (
    READ,
    Args,
    Command,
    Steps,
    number,
    syntax_error,
)
from everwrite.server.redis.replies import OK, Answer, Problem, Unordered
from everwrite.server.redis.session import Session, lifetime
from everwrite.server.redis.strings import ONE, ttl_in


def context_of(text: bytes) -> bytes:
    """Return the context that a text says; a Problem if it is none."""
    try:
        return decode64(text)
    except ValueError as error:
        raise Problem("ERR the context is no base64url: give it back as DYN.GET told it") from error


def get(session: Session, args: Args, keys: list[bytes]) -> Steps:
    reply: GetReply = yield session.read(keys[0])
    return {"siblings": _siblings(reply), "context": encode64(reply.context)}


def _siblings(reply: GetReply) -> list[Answer]:
    """Return what stands under a key: plain values one by one, a data type as a whole."""
    if all(kind != KIND_PIECE for kind, _ in reply.values):
        return [value for _, value in reply.values]
    return [_plain(each) for each in compose_all(reply.values, reply.marks)]


def _plain(found: Composed) -> Answer:
    match found:
        case Register(value=value):
            return value
        case Counter(value=amount):
            return amount
        case Set(elements=elements):
            return Unordered(raw_of(each) for each in elements)
        case Map(fields=fields):
            return {raw_of(name): _plain(each) for name, each in fields.items()}
        case Flag(raised=raised):
            return raised


def siblings(session: Session, args: Args, keys: list[bytes]) -> Steps:
    reply: GetReply = yield session.read(keys[0])
    members = session.front.local.members
    ends = reply.ends or [0] * len(reply.values)
    return [
        {
            "kind": _kind(kind, value),
            "bytes": len(value),
            "node": node_name(members, actor[:8]),
            "write": f"{actor.hex()}-{counter}",
            "written_ms": written_ms,
            "ends_ms": end_ms or None,
        }
        for (kind, value), (actor, counter, written_ms), end_ms in zip(
            reply.values, reply.marks, ends, strict=True
        )
    ]


def _kind(kind: Any, value: bytes) -> str:
    if kind == KIND_PIECE:
        return f"piece of a {TYPE_NAMES[decode(value).type]}"
    return label_of(kind).content_type


def put(session: Session, args: Args, keys: list[bytes]) -> Steps:
    context, ttl_ms = b"", 0
    options = args[3:]
    if len(options) % 2:
        raise syntax_error()
    for word, value in zip(options[::2], options[1::2], strict=True):
        match word.lower():
            case b"ctx":
                context = context_of(value)
            case (b"ex" | b"px") as unit:
                ttl_ms = lifetime(ttl_in(session, unit, value, args[0]))
            case _:
                raise syntax_error()
    reply: PutReply = yield session.supersede(keys[0], args[2], context, ttl_ms)
    session.wrote(keys[0], reply)
    return {"siblings": reply.siblings, "context": encode64(reply.context)}


def locate(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return (yield from _told(session, "locate", args[1]))["preference"]


def explain(session: Session, args: Args, keys: list[bytes]) -> Steps:
    bucket = session.bucket  # as it is now: a SELECT behind this may be carried out meanwhile
    found = yield from _told(session, "explain", args[1])
    return {**found, "bucket": bucket, "key": args[1]}


def _told(session: Session, verb: str, key: bytes) -> Steps:
    """Return what the node's administration says of a key."""
    try:
        reply: Told = yield session.ask(verb, key)
    except DeadlineExceeded as error:  # nothing was written, whatever asked says of writes
        raise Problem(f"DEADLINE_EXCEEDED {error.message} Try again.") from error
    return msgspec.json.decode(reply.answer)


def consistency(session: Session, args: Args, keys: list[bytes]) -> Answer:
    options = args[1:]
    if len(options) % 2:
        raise syntax_error()
    said = {b"r": session.r, b"w": session.w}
    most = session.front.local.cluster.replicas
    for word, value in zip(options[::2], options[1::2], strict=True):
        name, count = word.lower(), number(value)
        if name not in said:
            raise syntax_error()
        if not 0 <= count <= most:
            raise Problem(f"ERR R and W are 1 to {most} in this cluster, or 0 for its own")
        said[name] = count
    if not options:
        return {"r": session.r, "w": session.w}
    session.r, session.w = said[b"r"], said[b"w"]
    return OK


COMMANDS = (
    Command("dyn.get", get, 2, ONE, READ, "own", "All siblings of a key, and their context."),
    Command(
        "dyn.put", put, -3, ONE, group="own", summary="Supersede what a context has seen, no more."
    ),
    Command(
        "dyn.siblings", siblings, 2, ONE, READ, "own", "Which writes stand under a key, and when."
    ),
    Command("dyn.locate", locate, 2, ONE, READ, "own", "The nodes on which a key lives."),
    Command("dyn.explain", explain, 2, ONE, READ, "own", "Why a key is as it is."),
    Command(
        "dyn.consistency",
        consistency,
        -1,
        group="own",
        summary="How many nodes this connection reads from and writes to.",
        whole=True,  # what came before goes on as it began
    ),
)
