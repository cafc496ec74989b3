"""A small cluster that speaks the native protocol over real loopback sockets, with dicts behind it.

It mints, merges and signs with the core's own functions, so contexts and records are real; its
replicas write to each other's dicts directly. Each node can be told to misbehave: see ``Mood`` and
``FakeNode.reply``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import wraps
from hashlib import blake2b
from typing import Any, cast

import msgspec
import xxhash

from everwrite.client.client import AsyncClient
from everwrite.client.limits import Timing
from everwrite.client.sync import LoopThread, new_loop
from everwrite.core.cluster.placement import Candidate, Placement, place
from everwrite.core.config import FRAME_BYTES_MAX
from everwrite.core.data import context as contexts
from everwrite.core.data import versions
from everwrite.core.data.keys import data_key
from everwrite.core.data.versions import EMPTY, Record, Seen, Version
from everwrite.core.errors import EverwriteError
from everwrite.core.handshake import Identity, admit, answer, refusal
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.greeting import Hello
from everwrite.core.messages.requests import (
    ABSENT,
    BUSY,
    FOUND,
    STALE_VIEW,
    Ask,
    Failure,
    Fetch,
    FetchReply,
    Get,
    GetReply,
    Put,
    PutReply,
    Quality,
    Told,
    Touch,
)
from everwrite.core.wire import FrameReader, encode_frames

CLUSTER_ID = b"fakeclusterfakec"
SIGNING_KEY = b"signing"


class Mood(Enum):
    """What a node does with what it is asked."""

    WELL = "answers"
    SILENT = "reads and never answers"
    DROPS = "closes the connection when it is asked something"
    STALE = "says that the client's view is old"
    BUSY = "is not ready"
    NOT_READING = "does not even read what it is sent"
    GARBAGE = "answers with bytes that are no frame"
    MUTE_AT_HELLO = "accepts connections and says nothing at all"


class FakeNode:
    """One node; ``asked`` is every request that it got, in order."""

    def __init__(self, cluster: FakeCluster, number: int) -> None:
        self.cluster = cluster
        self.name = f"n{number}"
        self.node_id = blake2b(self.name.encode(), digest_size=8).digest()
        self.port = 0
        self.records: dict[bytes, Record] = {}
        self.asked: list[AnyMessage] = []
        self.mood = Mood.WELL
        self.reply: Callable[[Any], list[AnyMessage] | None] | None = None
        """Replaces the answer to a request where it returns a list (of any length)."""
        self.greeting: AnyMessage | None = None
        """Sent in place of the Hello."""
        self.garbage = b"\0\0\0\5HTTP/"
        self.connections: set[_Served] = set()
        self.greeted: asyncio.Queue[str] = asyncio.Queue()
        """One entry for each handshake that was completed."""
        self.frames = 0
        """Frames that came after the handshake."""
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Served(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def kill(self) -> None:
        """Go away as a process does that is killed: no more connections, the open ones broken."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.hang_up()

    async def hang_up(self) -> None:
        """Break the open connections."""
        open_ones = list(self.connections)
        for connection in open_ones:
            connection.break_off()
        await asyncio.gather(*(connection.gone for connection in open_ones))

    def requests(self, *kinds: type[AnyMessage]) -> list[Any]:
        """Return the requests of these kinds that came."""
        return [message for message in self.asked if isinstance(message, kinds)]

    def store(self, key: bytes, record: Record) -> None:
        self.records[key] = versions.merge(self.records.get(key, EMPTY), record)

    def send(self, *messages: AnyMessage) -> None:
        """Send these to every client that is connected."""
        for connection in self.connections:
            connection.send_bytes(encode_frames(list(messages)))

    def answer(self, message: AnyMessage) -> list[AnyMessage]:
        if self.reply is not None and (replaced := self.reply(message)) is not None:
            return replaced
        return [self.honest_answer(message)]

    def honest_answer(self, message: AnyMessage) -> AnyMessage:
        if isinstance(message, Fetch):
            return self._fetch(message)
        if isinstance(message, Get):
            return self._get(message)
        if isinstance(message, Put):
            return self._put(message)
        if isinstance(message, Touch):
            return self._touch(message)
        if isinstance(message, Ask):
            return self._ask(message)
        raise AssertionError(f"a client does not send {message!r}")

    def _token(self, key: bytes, record: Record) -> bytes:
        """Return the context of a read; what has ended is not to be superseded, so it has none."""
        seen = versions.seen_by_read(record)
        gone = 0 < seen.ends <= self.cluster.time_ms
        return b"" if gone else contexts.sign(SIGNING_KEY, key, seen)

    def _fetch(self, asked: Fetch) -> FetchReply:
        if self.mood is Mood.STALE or asked.view != self.cluster.placement.digest:
            return FetchReply(asked.rid, STALE_VIEW, b"")
        if self.mood is Mood.BUSY:
            return FetchReply(asked.rid, BUSY, b"")
        record = self.records.get(asked.key)
        if record is None:
            return FetchReply(
                asked.rid, ABSENT, xxhash.xxh3_64_digest(b"") if asked.digest else b""
            )
        data, time_ms = versions.encode(record), self.cluster.time_ms
        if asked.digest:
            return FetchReply(asked.rid, FOUND, xxhash.xxh3_64_digest(data), time_ms=time_ms)
        return FetchReply(asked.rid, FOUND, data, self._token(asked.key, record), time_ms=time_ms)

    def _get(self, asked: Get) -> GetReply | Failure:
        owners = self.cluster.owners(asked.key)
        record = EMPTY
        for node in owners:
            record = versions.merge(record, node.records.get(asked.key, EMPTY))
        for node in owners:
            if record is not EMPTY:
                node.store(asked.key, record)
        token = self._token(asked.key, record)
        if asked.seen and contexts.combine((token, asked.seen)) != contexts.combine((token,)):
            return Failure(asked.rid, "stale_session", "Stale.", "Wait.", "none", 0, 0)
        shown = versions.live(record, self.cluster.time_ms)
        values = [(version.kind, version.value or b"") for version in shown]
        absent = "" if shown else ("deleted" if record.siblings else "never")
        if not shown and any(version.expires for version in record.siblings):
            absent = "expired"
        ends = [version.expires for version in shown]
        ends = ends if any(ends) else []
        required = asked.r or len(owners) // 2 + 1
        quality = Quality(len(owners), 0, required, cast("Any", absent))
        stale = bool(asked.view) and asked.view != self.cluster.placement.digest
        return GetReply(asked.rid, values, token, quality, stale, ends, self.cluster.time_ms)

    def _put(self, asked: Put) -> PutReply:
        owners = self.cluster.owners(asked.key)
        record = EMPTY
        for node in owners if asked.retry else [self]:
            record = versions.merge(record, node.records.get(asked.key, EMPTY))
        seen = contexts.verify(SIGNING_KEY, asked.key, asked.context)
        if asked.retry and any(version.op == asked.op for version in record.siblings):
            token = contexts.sign(SIGNING_KEY, asked.key, Seen(record.clock, []))
            return PutReply(asked.rid, token, len(owners), 0, 0, len(record.siblings), 2)
        actor = self.node_id + b"\0" * 8
        counter = max(record.clock.get(actor, 0), seen.clock.get(actor, 0)) + 1
        now = self.cluster.time_ms
        expires = now + asked.ttl_ms if asked.ttl_ms else 0
        pure = versions.is_pure(seen, expires)
        written = Version(actor, counter, asked.value, now, asked.op, asked.kind, expires, pure)
        record = versions.put(record, seen, written)
        for node in owners:
            node.store(asked.key, record)
        after = versions.seen_after(record, seen, written)
        token = contexts.sign(SIGNING_KEY, asked.key, after)
        count = len(versions.live(self.records.get(asked.key, record), now))
        required = len(owners) // 2 + 1
        return PutReply(asked.rid, token, len(owners), 0, 0, count, required, False, expires, now)

    def _touch(self, asked: Touch) -> PutReply:
        owners = self.cluster.owners(asked.key)
        now = self.cluster.time_ms
        record = versions.touch(self.records.get(asked.key, EMPTY), now + asked.ttl_ms, now)
        shown = versions.live(record, now)
        for node in owners if shown else []:
            node.store(asked.key, record)
        token = contexts.sign(SIGNING_KEY, asked.key, Seen(record.clock, []))
        ends = [version.expires for version in shown]
        last, required = 0 if 0 in ends else max(ends, default=0), len(owners) // 2 + 1
        return PutReply(asked.rid, token, len(owners), 0, 0, len(shown), required, False, last, now)

    def _ask(self, asked: Ask) -> Told | Failure:
        if asked.verb == "view":
            return Told(asked.rid, self.cluster.view(msgspec.json.decode(asked.arguments)["known"]))
        if asked.verb == "status":
            return Told(asked.rid, msgspec.json.encode({"node": {"name": self.name}}))
        return Failure(
            asked.rid, "bad_request", f"No verb {asked.verb}.", "See the list.", "none", 0, 0
        )


HANGS_S = 120.0
"""A test that runs so long hangs, and ends with what it waits for in its traceback. It is no limit:
six nodes that come and go take 12 to 18 s on two busy cores. Each step has a patience of its own.
"""


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a test of a coroutine: it runs in a loop of the kind that the client is used with."""

    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(asyncio.wait_for(test(*arguments, **named), HANGS_S))

    return run


async def until(true: Callable[[], object]) -> None:
    """Return once something is true that the loop's other work brings about."""
    while not true():  # noqa: ASYNC110 (the client has no event for it, and needs none)
        await asyncio.sleep(0)


async def refreshed(db: AsyncClient, times: int = 1) -> None:
    """Return once a client has asked for the view so often, and goes by the last answer."""
    members = db._cluster._members
    await until(lambda: db.counters.refreshes >= times)
    await until(lambda: members._task is None and members._timer is None)


HASTY = Timing(
    tick_s=0.005,
    hedge_s=0.03,
    slow_hedge_s=0.06,
    park_s=0.01,
    suspect_s=0.03,
    abandon_s=0.3,
    dial_s=0.2,
    back_off_s=0.01,
    back_off_max_s=0.02,
    refresh_s=0.01,
    moved_s=0.02,
    linger_s=0.05,
)
"""For tests in which somebody must lose patience."""

STOIC = Timing(hedge_s=30.0, slow_hedge_s=30.0, suspect_s=30.0, back_off_s=0.01)
"""For tests in which whatever happens must not happen by a hedge."""


class FakeCluster:
    """``nodes`` fake nodes; ``async with`` starts and stops them."""

    def __init__(self, nodes: int = 3, *, secret: bytes = b"", replicas: int = 3) -> None:
        self.secret = secret
        self.replicas = replicas
        self.nodes = [FakeNode(self, number) for number in range(1, nodes + 1)]
        self.members = list(self.nodes)
        """Those that are ruled in."""
        self.others: list[FakeNode] = []
        """Members that are not: they join, or leave."""
        self.moving: dict[int, list[FakeNode]] = {}
        """Who serves a partition, where that is not its owners; and so all nodes are told."""
        self.time_ms = 1_700_000_000_000
        """The time of day, as all nodes take it to be."""
        self.stamp = 1
        self.cluster_id = CLUSTER_ID
        self.digest: str | None = None
        """Told in place of the placement's digest, as a node of another version might."""

    async def __aenter__(self) -> FakeCluster:
        for node in self.nodes:
            await node.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes:
            await node.kill()

    @property
    def placement(self) -> Placement:
        return _placed(tuple(node.node_id for node in self.members), self.replicas)

    @property
    def url(self) -> str:
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def owners(self, key: bytes) -> list[FakeNode]:
        by_id = {node.node_id: node for node in self.nodes}
        placement = self.placement
        return [by_id[node_id] for node_id in placement.owners(placement.partition_of(key))]

    def key_of(self, first: FakeNode, name: str = "k") -> str:
        """Return a key in the bucket "things" whose first owner is this node."""
        names = (f"{name}{number}" for number in range(10_000))
        return next(key for key in names if self.owners(self.data_key(key))[0] is first)

    def owners_of(self, key: str) -> list[FakeNode]:
        """Return the owners of a key in the bucket "things", in order of preference."""
        return self.owners(self.data_key(key))

    @staticmethod
    def data_key(key: str) -> bytes:
        return data_key(b"things", key.encode())

    def view(self, known: str = "") -> bytes:
        members = [
            {
                "id": node.node_id.hex(),
                "name": node.name,
                "host": "127.0.0.1",
                "port": node.port,
            }
            for node in (*self.members, *self.others)
        ]
        candidates = [
            {"id": node.node_id.hex(), "zone": "", "weight": 1.0} for node in self.members
        ]
        view = {
            "cluster_id": self.cluster_id.hex(),
            "cluster_name": "fake",
            "partitions": 64,
            "replicas": self.replicas,
            "digest": self.digest or self.placement.digest.hex(),
            "stamp": self.stamp,
            "members": members,
            "candidates": candidates,
            "moving": {
                str(partition): [node.node_id.hex() for node in serving]
                for partition, serving in self.moving.items()
            },
        }
        version = xxhash.xxh3_64_hexdigest(msgspec.json.encode(view))
        answer = {"same": version} if known == version else {**view, "version": version}
        return msgspec.json.encode(answer)


class _Served(asyncio.Protocol):
    """One accepted connection."""

    def __init__(self, node: FakeNode) -> None:
        self._node = node
        self._reader = FrameReader(FRAME_BYTES_MAX)
        self._greeting: list[AnyMessage] = []
        self._greeted = False
        self._transport: asyncio.Transport | None = None
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def break_off(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._node.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._node.connections.discard(self)
        self.gone.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._node.mood is Mood.MUTE_AT_HELLO:
            return
        answers: list[AnyMessage] = []
        self._node.frames += self._greeted
        for message in self._reader.feed(data):
            if not self._greeted:
                self._greet(message)
                continue
            self._node.asked.append(message)
            if self._node.mood is Mood.NOT_READING:
                self._transport.pause_reading()
                return
            if self._node.mood is Mood.SILENT:
                continue
            if self._node.mood is Mood.DROPS:
                self.break_off()
                return
            if self._node.mood is Mood.GARBAGE:
                self.send_bytes(self._node.garbage)
                return
            try:
                answers += self._node.answer(message)
            except EverwriteError as error:
                rid = message.rid  # type: ignore[union-attr]
                answers.append(
                    Failure(rid, error.code, error.message, error.hint, error.outcome, 0, 0)
                )
        if answers:
            self.send_bytes(encode_frames(answers))

    def _greet(self, message: AnyMessage) -> None:
        node = self._node
        me = Identity(
            name=node.name,
            cluster_id=node.cluster.cluster_id,
            node_id=node.node_id,
            cluster_name="fake",
            partitions=64,
            replicas=node.cluster.replicas,
        )
        try:
            if not self._greeting:
                mine = node.greeting or answer(me, node.cluster.secret, b"n" * 16, message)
                self._greeting = [message, mine]
                self.send_bytes(encode_frames([mine]))
            else:
                theirs, mine = cast("tuple[Hello, Hello]", tuple(self._greeting))
                admit(node.cluster.secret, theirs, mine, message)
                self._greeted = True
                node.greeted.put_nowait(theirs.name)
        except EverwriteError as error:
            self.send_bytes(encode_frames([refusal(error)]))
            if self._transport is not None:
                self._transport.close()

    def send_bytes(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


_made: dict[tuple[tuple[bytes, ...], int], Placement] = {}


def _placed(node_ids: tuple[bytes, ...], replicas: int) -> Placement:
    """Return the placement of these nodes; made once, since a fake node looks at it for each
    request."""
    if (node_ids, replicas) not in _made:
        candidates = [Candidate(node_id, "", 1.0) for node_id in node_ids]
        _made[node_ids, replicas] = place(candidates, 64, replicas)
    return _made[node_ids, replicas]


@contextmanager
def background_cluster(nodes: int = 3) -> Iterator[FakeCluster]:
    """Run fake nodes in a thread, as other processes would be."""
    thread = LoopThread("fake-nodes")
    cluster = FakeCluster(nodes)
    thread.run(cluster.__aenter__())
    try:
        yield cluster
    finally:
        thread.run(cluster.__aexit__())
        thread.stop()
