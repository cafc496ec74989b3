"""Real nodes on loopback, in the test's own loop, and a raw connection to talk to them by hand."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from everwrite.core.cluster.holdings import bits
from everwrite.core.config import FRAME_BYTES_MAX
from everwrite.core.data.keys import data_key
from everwrite.core.handshake import NONCE_BYTES, mac, signed
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.greeting import PROTOCOL_MAX, PROTOCOL_MIN, Hello, Proof, Refused
from everwrite.core.messages.members import Member, News, Ruling
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Ask, Put, Told
from everwrite.core.records import OWN
from everwrite.core.wire import FrameReader, encode_frames
from everwrite.server.runtime import Runtime, start
from everwrite.server.settings import ServeOptions
from everwrite.server.state import after
from everwrite.storage.store import open_store

KEY = data_key(b"carts", b"alice")
PATIENCE_S = 8.0
LOOK_EVERY_S = 0.01


async def eventually(condition: Callable[[], Awaitable[object]], what: str) -> None:
    """Return once a condition holds; fails, saying what was waited for, if that takes too long."""
    end = time.monotonic() + PATIENCE_S
    while not await condition():
        assert time.monotonic() < end, f"in vain: {what}"
        await asyncio.sleep(LOOK_EVERY_S)


async def until(true: Callable[[], object], what: str) -> None:
    """Return once something is true that can be seen at once; else as ``eventually``."""

    async def look() -> object:
        return true()

    await eventually(look, what)


def errors(caplog: pytest.LogCaptureFixture) -> str:
    """Return what was logged as an error."""
    return "\n".join(
        record.getMessage() for record in caplog.records if record.levelno == logging.ERROR
    )


class Nodes:
    """A cluster that is grown node by node; all nodes end with the block."""

    def __init__(self, directory: Path | None = None, **options: Any) -> None:
        self._directory = directory
        self._options: dict[str, Any] = {"partitions": 16, "development": True, **options}
        self._stack = AsyncExitStack()
        self.running: dict[str, Runtime] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in list(self.running):
            await self.stop(name)

    def options(self, label: str, **options: Any) -> ServeOptions:
        """Return the options of a node: on disk (SQLite opens fastest) or in memory."""
        place: dict[str, Any] = {"engine": "memory"}
        if self._directory is not None:
            place = {"engine": "sqlite", "data": self._directory / label}
        chosen = {"name": label, "port": 0, **place, **self._options, **options}
        return ServeOptions(**chosen)

    async def start(self, label: str, **options: Any) -> Runtime:
        """Start one node, alone or to ``join`` others; its name is its label if none is given."""
        runtime = await start(self.options(label, **options))
        self.running[label] = runtime
        return runtime

    async def grow(self, *names: str, **options: Any) -> list[Runtime]:
        """Start nodes that join each other, and return when each knows and sees all."""
        for name in names:
            others = tuple(runtime.address for runtime in self.running.values())
            await self.start(name, join=others, **options)
        await self.met()
        await self.settled()
        return [self.running[name] for name in names]

    async def stop(self, name: str) -> None:
        await self.running.pop(name).stop()

    async def met(self) -> None:
        """Return when every running node sees every other one as up, and all know the same ring."""

        async def seen() -> bool:
            answers = [await self.status(name) for name in self.running]
            ups = [
                {peer["name"] for peer in answer["nodes"] if peer["state"] != "down"}
                for answer in answers
            ]
            views = {answer["cluster"]["view"] for answer in answers}
            return all(up >= set(self.running) for up in ups) and len(views) == 1

        await eventually(seen, f"{', '.join(self.running)} see each other")

    async def settled(self) -> None:
        """Return when every running node serves all that it owns, keeps nothing else, and all know
        the same.
        """

        async def home() -> bool:
            locals_ = [runtime.node.local for runtime in self.running.values()]
            known = {each.members.digest() for each in locals_}
            return len(known) == 1 and all(
                bits(each.members.me.serves) == bits(each.members.me.keeps) == each.routes.owned
                for each in locals_
            )

        await eventually(home, "each partition is where it belongs")

    async def missed(self, name: str) -> None:
        """Return when every running node takes this one for down."""

        async def down() -> bool:
            answers = [await self.status(other) for other in self.running]
            return all(
                peer["state"] == "down"
                for answer in answers
                for peer in answer["nodes"]
                if peer["name"] == name
            )

        await eventually(down, f"all see that {name} is down")

    async def status(self, name: str) -> dict[str, Any]:
        """Return what a node says of itself, over its port."""
        async with await Raw.enter(self.running[name]) as raw:
            return await raw.ask("status")

    def url(self) -> str:
        return ",".join(runtime.address for runtime in self.running.values())


class Raw:
    """One connection, spoken by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._frames = FrameReader(FRAME_BYTES_MAX)
        self._queue: list[AnyMessage] = []

    @classmethod
    async def dial(cls, node: Runtime | str) -> Self:
        """Open a connection to a node, or to HOST:PORT, and say nothing."""
        host, port = (node if isinstance(node, str) else node.address).rsplit(":", 1)
        return cls(*await asyncio.open_connection(host, int(port)))

    @classmethod
    async def enter(cls, node: Runtime | str, *, secret: bytes = b"") -> Self:
        """Open a connection and come in as a client."""
        raw = await cls.dial(node)
        await raw.greet(secret=secret if isinstance(node, str) else node.options.secret)
        return raw

    async def greet(self, *, secret: bytes = b"", **fields: Any) -> None:
        """Shake hands as a client; ``fields`` replace those of an honest Hello."""
        self.send(await self.proof(secret=secret, **fields))

    async def proof(self, *, secret: bytes = b"", **fields: Any) -> Proof:
        """Say Hello, and return the Proof that is due next."""
        mine = an_honest_hello(**fields)
        self.send(mine)
        theirs = await self.next()
        assert isinstance(theirs, Hello), theirs
        return Proof(
            mac(
                secret,
                b"connect",
                theirs.cluster_id,
                signed(mine),
                signed(theirs),
            )
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    def send(self, *messages: Message) -> None:
        self.write(encode_frames(list(messages)))  # type: ignore[arg-type]

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def next(self) -> AnyMessage | None:
        """Return the next message; None once the node has closed the connection."""
        async with asyncio.timeout(PATIENCE_S):
            while not self._queue:
                try:
                    data = await self._reader.read(1 << 16)
                except ConnectionResetError:
                    return None
                if not data:
                    return None
                self._queue += self._frames.feed(data)
        return self._queue.pop(0)

    async def refusal(self) -> Refused:
        """Return why the node refused; it must have closed the connection after that."""
        last: AnyMessage | None = None
        while (message := await self.next()) is not None:
            last = message
        assert isinstance(last, Refused), last
        return last

    async def call(self, message: Message) -> AnyMessage:
        """Send one message and return the answer."""
        self.send(message)
        answer = await self.next()
        assert answer is not None, "the node closed the connection"
        return answer

    async def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """Ask an administrative question and return its answer."""
        told = await self.call(Ask(1, verb, msgspec.json.encode(arguments)))
        assert isinstance(told, Told), told
        answer: dict[str, Any] = msgspec.json.decode(told.answer)
        return answer


def an_honest_hello(**fields: Any) -> Hello:
    """Return a client's Hello, with these fields replaced."""
    honest = Hello(PROTOCOL_MIN, PROTOCOL_MAX, b"", b"", "test", b"n" * NONCE_BYTES)
    return msgspec.structs.replace(honest, **fields)


def a_put(value: bytes | None = b"v", key: bytes = KEY, **fields: Any) -> Put:
    """Return a put as a client sends it."""
    plain = Put(1, key, value, b"", b"op" + key[:8], 3000)
    return msgspec.structs.replace(plain, **fields)


def contents(runtime: Runtime) -> list[tuple[bytes, object]]:
    """Return all that stands on a node's disk."""
    return list(runtime.driver.disk.store.scan(b"", b"\xff" * 8, 10_000))


async def still_serves(runtime: Runtime) -> bool:
    """Say whether the node answers a client that behaves."""
    async with await Raw.enter(runtime) as raw:
        return bool(await raw.ask("status"))


async def end(runtime: Runtime) -> BaseException:
    """Return why a node cannot go on."""
    async with asyncio.timeout(PATIENCE_S):
        return await runtime.failed


def rule(by: Runtime, on: Member, standing: int) -> Ruling:
    """Give an operator's word on a node to a running one, as a committed plan does."""
    rounds, members = by.node.rounds, by.node.local.members
    stamp = members.next_stamp()
    ruling = Ruling(on.node_id, on.name, standing, on.zone, on.weight, stamp, b"p%d" % stamp)
    rounds.publish(News([], [ruling]))
    by.driver.soon()
    return ruling


def copies(directory: Path) -> list[tuple[bytes, object]]:
    """Return the copies of keys that stand on the disk of a node that is stopped."""
    with open_store(directory, "sqlite") as store:
        return list(store.scan(OWN, after(OWN), 10_000))
