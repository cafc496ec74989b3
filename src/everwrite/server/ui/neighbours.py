"""Questions to the other nodes: how the page of one node has the words of all.

A node asks as any client does, over a connection of its own, and only while somebody listens. So
the answer of a node that this one has no link to (a cut between nodes) is heard too, and its core
knows nothing of it.

    none --round--> dialling --greeted--> idle <--answer-- asked
                        |                   |                |
                        +----- an error, silence beyond PATIENCE_S ----> none

A node that is slow is not asked again before it has answered: one question waits there at most. One
that has not answered for DROP_S is dialled anew.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from everwrite.core.config import HANDSHAKE_BYTES_MAX
from everwrite.core.errors import EverwriteError, ProtocolError, Unreachable
from everwrite.core.handshake import NONCE_BYTES, Identity, confirm, hello
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Ask, Failure, Told
from everwrite.core.wire import FrameReader, encode_frame

PATIENCE_S = 0.8
"""Less than a round: who is late is told of as silent, and the others are on time."""
DROP_S = 5.0
ANSWER_BYTES_MAX = 1 << 20
"""A glance of a node that knows a thousand others has a third of it."""
NODES_ASKED_MAX = 32

Address = tuple[str, int]


class Neighbours:
    """The other nodes of a cluster, by their names."""

    def __init__(self, me: Identity, secret: bytes) -> None:
        self._me = me
        self._secret = secret
        self._lines: dict[str, Line] = {}

    async def ask(
        self, verb: str, addresses: Mapping[str, Address]
    ) -> dict[str, dict[str, Any] | None]:
        """Return what each of these nodes answers; None: nothing in time, or an error."""
        for name in list(self._lines):
            if addresses.get(name) != self._lines[name].address:
                self._lines.pop(name).close()
        for name, address in addresses.items():
            if name not in self._lines:
                self._lines[name] = Line(address, self._me, self._secret)
        names = list(addresses)
        answers = await asyncio.gather(*(self._lines[name].ask(verb) for name in names))
        return dict(zip(names, answers, strict=True))

    def close(self) -> None:
        """Hang up on all."""
        for line in self._lines.values():
            line.close()
        self._lines.clear()


class Line:
    """The way to one node."""

    def __init__(self, address: Address, me: Identity, secret: bytes) -> None:
        self.address = address
        self._me = me
        self._secret = secret
        self._caller: Caller | None = None
        self._asked_at = 0.0

    async def ask(self, verb: str) -> dict[str, Any] | None:
        """Return what it says to a verb; None if it does not, in time."""
        now = asyncio.get_running_loop().time()
        caller = self._caller
        if caller is not None and (caller.over or (caller.busy and now - self._asked_at > DROP_S)):
            self.close()
            caller = None
        if caller is not None and caller.busy:
            return None
        try:
            async with asyncio.timeout(PATIENCE_S):
                if caller is None:
                    caller = self._caller = await self._dial()
                self._asked_at = now
                return await caller.ask(verb)
        except (OSError, TimeoutError, EverwriteError):
            return None

    def close(self) -> None:
        """Hang up."""
        if self._caller is not None:
            self._caller.close()
            self._caller = None

    async def _dial(self) -> Caller:
        loop = asyncio.get_running_loop()
        _, caller = await loop.create_connection(
            lambda: Caller(self._me, self._secret), *self.address
        )
        try:
            await caller.greeted
        except BaseException:
            caller.close()
            raise
        return caller


class Caller(asyncio.Protocol):
    """One connection: a greeting, then one question at a time."""

    def __init__(self, me: Identity, secret: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._hello = hello(me, secrets.token_bytes(NONCE_BYTES))
        self._secret = secret
        self._reader = FrameReader(HANDSHAKE_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self.greeted: asyncio.Future[None] = loop.create_future()
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._rid = 0
        self._waits = False
        self.over = False

    @property
    def busy(self) -> bool:
        """Whether a question has no answer yet, heard or not."""
        return self._waits

    async def ask(self, verb: str) -> dict[str, Any]:
        """Return the answer to a verb; an EverwriteError if it is an error."""
        if self._transport is None or self.over:
            raise Unreachable("The connection is over.")
        self._rid += 1
        self._answer = asyncio.get_running_loop().create_future()
        self._waits = True
        self._transport.write(encode_frame([Ask(self._rid, verb, b"")]))
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        self.over = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface, not the base class
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.write(encode_frame([self._hello]))

    def data_received(self, data: bytes) -> None:
        try:
            messages: Sequence[Message] = self._reader.feed(data)
            if not self.greeted.done() and messages:
                self._greet(messages[0])
                messages = [*messages[1:], *self._reader.feed(b"")]
            for message in messages:
                self._hear(message)
        except EverwriteError as error:
            self._fail(error)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(Unreachable("The connection broke."))

    def _greet(self, message: Any) -> None:
        proof = confirm(self._secret, self._hello, message)
        assert self._transport is not None
        self._transport.write(encode_frame([proof]))
        self._reader.limit = ANSWER_BYTES_MAX
        self.greeted.set_result(None)

    def _hear(self, message: Message) -> None:
        if not isinstance(message, Told | Failure) or message.rid != self._rid:
            return
        self._waits = False
        if self._answer is None or self._answer.done():  # too late for who has asked
            return
        if isinstance(message, Failure):
            self._answer.set_exception(Unreachable(message.message))
            return
        try:
            self._answer.set_result(msgspec.json.decode(message.answer, type=dict[str, Any]))
        except msgspec.MsgspecError as error:
            raise ProtocolError("The answer is no JSON object.") from error

    def _fail(self, error: EverwriteError) -> None:
        self.close()
        for future in (self.greeted, self._answer):
            if future is not None and not future.done():
                future.set_exception(error)
                future.exception()  # whoever waited may have gone
