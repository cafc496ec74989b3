"""A node that is about to join asks another: which cluster is this, and may I come?"""

from __future__ import annotations

import asyncio
import secrets
from typing import cast

from everwrite.core.config import HANDSHAKE_BYTES_MAX
from everwrite.core.errors import DeniedError, EverwriteError, Unreachable
from everwrite.core.handshake import NONCE_BYTES, Identity, confirm, hello
from everwrite.core.messages.greeting import Hello
from everwrite.core.wire import FrameReader, encode_frame
from everwrite.core.wrong_port import answered_otherwise
from everwrite.server.logs import log_of
from everwrite.server.rarely import Rarely
from everwrite.server.settings import split_address

log = log_of()

DIAL_S = 2.0
BACKOFF_MIN_S = 0.05
BACKOFF_MAX_S = 0.5


class Inquiry(asyncio.Protocol):
    """Says hello, takes the answer, and hangs up."""

    def __init__(self, identity: Identity, secret: bytes) -> None:
        self._hello = hello(identity, secrets.token_bytes(NONCE_BYTES))
        self._secret = secret
        self._reader = FrameReader(HANDSHAKE_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface, not the base class
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.write(encode_frame([self._hello]))

    def data_received(self, data: bytes) -> None:
        if self.answer.done():
            return
        try:
            peer = self._transport.get_extra_info("peername") if self._transport else None
            wrong = answered_otherwise(data, peer[1] if isinstance(peer, tuple) else 0)
            if wrong is not None:
                raise wrong
            for message in self._reader.feed(data):
                confirm(self._secret, self._hello, message)
                assert isinstance(message, Hello)
                self.answer.set_result(message)
                break
        except EverwriteError as error:
            self.answer.set_exception(error)
        if self.answer.done() and self._transport is not None:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_exception(Unreachable("The connection broke during the handshake."))


async def ask_cluster(seeds: tuple[str, ...], secret: bytes, me: Identity) -> Hello:
    """Return the answer of the first seed that gives one: which cluster is this?

    A node without a cluster learns its settings, one with a cluster that its name is free. Tries
    until somebody answers. DeniedError if somebody refuses and nobody else answers in that round:
    one that was away may not have heard that a name is free again. Nothing is joined by asking.
    """
    backoff, rarely = BACKOFF_MIN_S, Rarely()
    now = asyncio.get_running_loop().time
    while True:
        said, denied = rarely.due(now()), None
        for seed in seeds:
            try:
                return await _ask(split_address(seed), me, secret)
            except DeniedError as error:
                denied = denied or error
            except (OSError, TimeoutError, EverwriteError) as error:
                if said:
                    log.info("no answer yet", seed=seed, why=str(error) or "it is silent")
        if denied is not None:
            raise denied
        await asyncio.sleep(backoff)
        backoff = min(backoff * 2, BACKOFF_MAX_S)


async def _ask(address: tuple[str, int], identity: Identity, secret: bytes) -> Hello:
    inquiry = Inquiry(identity, secret)
    async with asyncio.timeout(DIAL_S):
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: inquiry, *address)
        try:
            return await inquiry.answer
        finally:  # one that stays silent would keep a file for each question
            transport.close()
