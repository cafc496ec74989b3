"""Publish and subscribe: the commands. What is behind them is in hub.py and core/channels.py."""

from __future__ import annotations

from collections.abc import Callable

from everwrite.core.channels import CHANNEL_BYTES_MAX
from everwrite.core.messages.channels import Listen, Listening, Publish, Published
from everwrite.server.redis.command import Args, Command, Steps, words, wrong_number
from everwrite.server.redis.patterns import fitting, glob
from everwrite.server.redis.replies import Answer, Problem, Push, Several
from everwrite.server.redis.session import Session
from everwrite.server.redis.subscriptions import CHANNEL, PATTERN, SHARD

WHILE_SUBSCRIBED = frozenset(
    {
        *("subscribe", "psubscribe", "ssubscribe"),
        *("unsubscribe", "punsubscribe", "sunsubscribe"),
        *("ping", "quit", "reset"),
    }
)
"""What a RESP2 connection may ask once it has subscribed: its answers could be told from
publications by nothing but the order otherwise."""

Run = Callable[[Session, Args, list[bytes]], Steps]


def _publish(*, sharded: bool) -> Run:
    def run(session: Session, args: Args, keys: list[bytes]) -> Steps:
        if len(args[1]) > CHANNEL_BYTES_MAX:
            raise Problem(f"ERR a channel has at most {CHANNEL_BYTES_MAX} bytes here")
        rid = session.front.hub.next_rid()
        reply: Published = yield Publish(rid, args[1], args[2], sharded)
        return reply.count

    return run


def _subscribe(word: bytes, kind: int) -> Run:
    def run(session: Session, args: Args, keys: list[bytes]) -> Steps:
        hub, names = session.front.hub, args[1:]
        connection = hub.with_room(session, kind, names)
        if connection is not None:
            _: Listening = yield Listen(hub.next_rid())
            connection = hub.with_room(session, kind, names)  # others may have taken it meanwhile
        if connection is None:
            return Several()
        return Several(Push([word, name, hub.subscribe(connection, kind, name)]) for name in names)

    return run


def _unsubscribe(word: bytes, kind: int) -> Callable[[Session, Args, list[bytes]], Answer]:
    def run(session: Session, args: Args, keys: list[bytes]) -> Answer:
        hub = session.front.hub
        connection = hub.connection_of(session)
        if connection is None:
            return Several()
        names = args[1:] or hub.subscriptions.names_of(connection, kind)
        if not names:
            return Several([Push([word, None, hub.subscriptions.told(connection, kind)])])
        return Several(
            Push([word, name, hub.unsubscribe(connection, kind, name)]) for name in names
        )

    return run


def pubsub(session: Session, args: Args, keys: list[bytes]) -> Steps | Answer:
    subscriptions, said = session.front.hub.subscriptions, args[1].lower()
    kind = SHARD if said.startswith(b"shard") else CHANNEL
    match [said, *args[2:]]:
        case [b"channels" | b"shardchannels"]:
            return subscriptions.names(kind)
        case [b"channels" | b"shardchannels", pattern]:
            return fitting(glob(pattern), subscriptions.names(kind))
        case [b"numsub" | b"shardnumsub", *names]:
            return [
                each
                for name in names
                for each in (name, len(subscriptions.subscribers(kind, name)))
            ]
        case [b"numpat"]:
            return len(subscriptions.names(PATTERN))
        case [b"numpat", *_]:
            raise wrong_number("pubsub|numpat")
        case [b"channels" | b"shardchannels", *_]:
            raise Problem(
                "ERR unknown subcommand or wrong number of arguments for "
                f"'{words(args[1])}'. Try PUBSUB HELP."
            )
        case _:
            raise Problem(f"ERR unknown subcommand '{words(args[1])}'. Try PUBSUB HELP.")


def _command(name: str, run: Callable[..., Steps | Answer], arity: int, summary: str) -> Command:
    return Command(name, run, arity, group="pubsub", summary=summary)


def _publisher(name: str, *, sharded: bool, summary: str) -> Command:
    return _command(name, _publish(sharded=sharded), 3, summary)._replace(behind=True)


def _row(name: str, kind: int, *, subscribes: bool, summary: str) -> Command:
    word = name.encode()
    run = _subscribe(word, kind) if subscribes else _unsubscribe(word, kind)
    row = _command(name, run, -2 if subscribes else -1, summary)
    return row._replace(pushes=True, whole=subscribes)


COMMANDS = (
    _publisher("publish", sharded=False, summary="Say a word to all subscribers."),
    _row("subscribe", CHANNEL, subscribes=True, summary="Hear what is published to channels."),
    _row("unsubscribe", CHANNEL, subscribes=False, summary="Hear some channels no more, or all."),
    _row("psubscribe", PATTERN, subscribes=True, summary="SUBSCRIBE to what fits a pattern."),
    _row("punsubscribe", PATTERN, subscribes=False, summary="The end of PSUBSCRIBE."),
    _command("pubsub", pubsub, -2, "What the clients of this node have subscribed to."),
    _publisher("spublish", sharded=True, summary="PUBLISH to a sharded channel."),
    _row("ssubscribe", SHARD, subscribes=True, summary="SUBSCRIBE to sharded channels."),
    _row("sunsubscribe", SHARD, subscribes=False, summary="The end of SSUBSCRIBE."),
)
