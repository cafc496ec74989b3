"""Orders of the playground: what a page may have done to the processes of a development cluster.

This node only passes them on, as words behind the command line that whoever started it gave it
(``serve --playground``); without one every order is refused. So a plain node has no such power,
whatever it is sent.

An order needs the token of this run. A page of this node reads it at /v1/playground; a page of
another origin cannot (guard.py), and a form or a link cannot send the header.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from hmac import compare_digest
from typing import Literal

import msgspec

from everwrite.core.errors import DeniedError, Overloaded, RequestError, UnavailableError
from everwrite.server.http.asked import Asked
from everwrite.server.http.options import NOTHING, parse

TOKEN = b"playground-token"
TOKEN_BYTES = 24
ORDER_BYTES_MAX = 4096
NODES_MAX = 26
ORDER_S = 40.0
"""A start takes some seconds, on a busy machine more."""
SAID_BYTES_MAX = 4096

_NAME = re.compile(r"n[1-9]\d?")

Act = Literal["kill", "pause", "back", "cut", "heal"]


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """What a page asks for: kill, pause or back (let it go on, or start it) a node; cut two sides
    from each other; heal.
    """

    order: Act
    node: str = ""
    sides: list[list[str]] = []


class Playground(msgspec.Struct):
    """Whether this node passes orders on, and the token that they need."""

    enabled: bool
    token: str = ""


class Done(msgspec.Struct):
    """What was done, in a sentence."""

    said: str


class Power:
    """The way of orders from a page to whoever started this node."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command
        self._token = secrets.token_urlsafe(TOKEN_BYTES)
        self._busy = False

    async def show(self, asked: Asked) -> None:
        """Tell whether there is a playground, and the token."""
        parse(asked.query, NOTHING)
        enabled = bool(self._command)
        await asked.reply_json(200, Playground(enabled, self._token if enabled else ""))

    async def order(self, asked: Asked) -> None:
        """Carry out an order, and answer once that is done."""
        parse(asked.query, NOTHING)
        if not self._command:
            raise DeniedError(
                "This node was not started as part of a playground.",
                hint="Only `everwrite demo` and `everwrite cluster start` make nodes with buttons.",
            )
        if not compare_digest(asked.headers.get(TOKEN, b""), self._token.encode()):
            raise DeniedError(
                "The token of the playground is missing or wrong.",
                hint="GET /v1/playground tells it; it is another one after each start of a node.",
            )
        words = words_of(await asked.body(ORDER_BYTES_MAX))
        if self._busy:
            raise Overloaded(
                "This node sees another order through.",
                hint="Nothing was done. Try again in a moment.",
                retry_after_ms=500,
            )
        self._busy = True
        try:
            said = await self._run(words)
        finally:
            self._busy = False
        await asked.reply_json(200, Done(said))

    async def _run(self, words: list[str]) -> str:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # it goes on when it is this node that it ends
        )
        try:
            async with asyncio.timeout(ORDER_S):
                out, err = await process.communicate()
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise UnavailableError(
                f"The order was not carried out within {ORDER_S:g} s.",
                hint="Look at what the cluster does: everwrite cluster status.",
                outcome="unknown",
            ) from error
        if process.returncode:
            raise UnavailableError(_said(err) or "The order failed.", outcome="unknown")
        return _said(out)


def words_of(body: bytes) -> list[str]:
    """Return the words of an order; RequestError if it is none."""
    try:
        order = msgspec.json.decode(body, type=Order)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(
            f"This is no order: {error}.", hint="The forms are in /openapi.json."
        ) from error
    named = [order.node] if order.node else []
    needed = 1 if order.order in ("kill", "pause", "back") else 0
    if order.order == "cut":
        if len(order.sides) != 2 or not all(order.sides):
            raise RequestError(
                "A cut has two sides, and there is somebody on each.",
                hint='Such as "sides": [["n1", "n2"], ["n3"]].',
            )
        named += [name for side in order.sides for name in side]
    elif order.sides:
        raise RequestError("Only a cut has sides.", hint="Leave them out.")
    if len([order.node] if order.node else []) != needed:
        raise RequestError(
            f"{order.order} needs {'a node' if needed else 'no node'}.",
            hint='Such as "node": "n2".',
        )
    if len(named) > NODES_MAX or not all(map(_NAME.fullmatch, named)):
        raise RequestError(
            "Nodes of a playground are called n1, n2, ...", hint="Name some of them."
        )
    if order.order == "cut":
        return ["cut", "|".join(",".join(side) for side in order.sides)]
    return [order.order, *named]


def _said(text: bytes) -> str:
    return text[:SAID_BYTES_MAX].decode(errors="replace").strip()
