"""Orders to a development cluster: what the buttons of its dashboard, and a demo's story, do to it.

    page -> node -> `everwrite cluster order` -> the cluster, if nobody has it locked
                                              -> the demo that has it locked: ``take_orders``

A demo keeps its cluster locked, and what it knows of the processes is in its memory. So it listens
on a port of loopback meanwhile; DIR/orders.json, which only its user can read, says which, and the
token that each order must bring. One order is carried out at a time (``DevCluster.turn``).
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hmac import compare_digest
from pathlib import Path
from typing import Literal

import msgspec

from everwrite.cli.devcluster import DevCluster
from everwrite.cli.devplan import HOST
from everwrite.cli.splits import node_number
from everwrite.core.errors import (
    DeniedError,
    DirectoryInUse,
    EverwriteError,
    RequestError,
    UnavailableError,
)

FILE = "orders.json"
LINE_BYTES_MAX = 4096
LISTEN_S = 5.0
"""Who connects says within this time what is to be done."""
GIVE_S = 45.0

Act = Literal["kill", "pause", "back", "cut", "heal"]


class Order(msgspec.Struct, frozen=True):
    """One thing to be done to ``what``: a node, or the sides of a cut."""

    act: Act
    what: str = ""


class Errand(msgspec.Struct, frozen=True):
    """An order on its way to a demo."""

    token: str
    order: Order


class Door(msgspec.Struct, frozen=True):
    """Where a demo takes orders: what orders.json holds."""

    port: int
    token: str


class Answer(msgspec.Struct, frozen=True):
    """What became of it."""

    done: bool
    said: str


async def carry_out(cluster: DevCluster, order: Order) -> str:
    """Do it, and return a sentence about it; an EverwriteError if it cannot be done."""
    async with cluster.turn:
        match order.act:
            case "kill":
                number = node_number(order.what, len(cluster.nodes))
                await asyncio.to_thread(cluster.kill, number)
                return f"n{number} is killed: other nodes stand in for it, and keep hints."
            case "pause":
                number = node_number(order.what, len(cluster.nodes))
                await asyncio.to_thread(cluster.pause, number)
                return f"n{number} is frozen: it is connected, and says nothing."
            case "back":
                return await _bring_back(cluster, node_number(order.what, len(cluster.nodes)))
            case "cut":
                untold = await cluster.partition(order.what)
                said = f"The network is cut: {order.what.replace('|', ' | ')}. Both sides go on."
            case "heal":
                untold = await cluster.heal()
                said = "The network is whole again: the sides exchange what they have missed."
    later = f" {', '.join(untold)} will hear of it when it is back." if untold else ""
    return said + later


async def _bring_back(cluster: DevCluster, number: int) -> str:
    match cluster.node(number).state():
        case "stopped":
            await cluster.resume(number)
            return f"n{number} goes on where it was."
        case "gone":
            await cluster.restart(number)
            return f"n{number} is started again: hints are brought home to it."
    raise RequestError(f"n{number} runs already.", hint="Nothing was done.")


@asynccontextmanager
async def take_orders(
    cluster: DevCluster, hear: Callable[[Order, str], None]
) -> AsyncIterator[None]:
    """Carry out what comes, while the block runs; ``hear`` is told of each that was done."""
    token = secrets.token_hex(16)
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = await _serve(cluster, token, reader, hear)
        writer.write(msgspec.json.encode(answer) + b"\n")
        writer.close()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(begin, HOST, 0, limit=LINE_BYTES_MAX)
    file = cluster.directory / FILE
    _write_secretly(file, msgspec.json.encode(Door(server.sockets[0].getsockname()[1], token)))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        server.close()
        await asyncio.gather(*serving, return_exceptions=True)


async def _serve(
    cluster: DevCluster,
    token: str,
    reader: asyncio.StreamReader,
    hear: Callable[[Order, str], None],
) -> Answer:
    try:
        async with asyncio.timeout(LISTEN_S):
            errand = msgspec.json.decode(await reader.readline(), type=Errand)
    except (TimeoutError, ValueError, OSError) as error:
        return Answer(False, f"This is no order ({str(error) or 'nothing came in time'}).")
    if not compare_digest(errand.token.encode(), token.encode()):
        return Answer(False, "The token is wrong.")
    try:
        said = await carry_out(cluster, errand.order)
    except EverwriteError as error:
        return Answer(False, f"{error.message} {error.hint}".strip())
    hear(errand.order, said)
    return Answer(True, said)


async def give(directory: Path, order: Order) -> str:
    """Have the demo that has this directory locked carry it out; return its sentence."""
    try:
        door = msgspec.json.decode((directory / FILE).read_bytes(), type=Door)
    except FileNotFoundError as error:
        raise DirectoryInUse(
            f"Another command is working on the cluster in {directory}.",
            hint="Wait for it to end. Nothing was changed.",
        ) from error
    try:
        async with asyncio.timeout(GIVE_S):
            reader, writer = await asyncio.open_connection(HOST, door.port, limit=LINE_BYTES_MAX)
            writer.write(msgspec.json.encode(Errand(door.token, order)) + b"\n")
            answer = msgspec.json.decode(await reader.readline(), type=Answer)
            writer.close()
    except (OSError, TimeoutError, msgspec.MsgspecError) as error:
        raise UnavailableError(
            "The demo does not answer.", hint="It may be over.", outcome="unknown"
        ) from error
    if not answer.done:
        raise DeniedError(answer.said)
    return answer.said


def _write_secretly(file: Path, text: bytes) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as opened:
        opened.write(text)
