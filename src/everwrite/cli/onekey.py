"""What commands for one key have in common: options, the value that is given, one request."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from everwrite.cli.connection import connect, reaches_a_node, takes_a_format
from everwrite.cli.lifetimes import Patience, read_lifetime
from everwrite.cli.output import outcome_sentence, say
from everwrite.core.data.keys import VALUE_BYTES_MAX
from everwrite.core.errors import EverwriteError, RequestError, TooLarge

if TYPE_CHECKING:
    from everwrite.client import AsyncBucket

Answer = TypeVar("Answer")
Command = TypeVar("Command", bound=Callable[..., Any])


def concerns_a_key(command: Command) -> Command:
    for option in (
        click.option(
            "--strict",
            is_flag=True,
            help="Count only owners, not the nodes that stand in for them.",
        ),
        click.option(
            "--timeout",
            callback=Patience(0.001, 60),
            default="5s",
            show_default=True,
            metavar="TIME",
            help="Give up after this time: 2s, 250ms; a number is seconds.",
        ),
        click.option(
            "--n",
            type=click.IntRange(0),
            default=0,
            metavar="N",
            help="Replicas; 0: as the cluster.",
        ),
    ):
        command = option(command)
    return reaches_a_node(takes_a_format(command))


def reads(command: Command) -> Command:
    """Add --r, and what all have that concern a key."""
    return click.option(
        "--r",
        type=click.IntRange(0),
        default=0,
        metavar="R",
        help="Nodes that must answer; 0: most of N.",
    )(concerns_a_key(command))


def takes_numbers(command: Command) -> Command:
    for option in (
        click.option(
            "--dw",
            type=click.IntRange(-1),
            default=-1,
            metavar="DW",
            help="Nodes that must have it on disk, even more than W; -1: W if nodes have fsync on.",
        ),
        click.option(
            "--w",
            type=click.IntRange(0),
            default=0,
            metavar="W",
            help="Nodes that must ack; 0: most of N.",
        ),
    ):
        command = option(command)
    return concerns_a_key(command)


def takes_a_kind(command: Command) -> Command:
    """Add --kind, as ``value_of`` takes it."""
    return click.option(
        "--kind",
        type=click.Choice(["auto", "text", "json", "bytes"]),
        default="auto",
        show_default=True,
        help="What the value is to programs; auto: text if it is UTF-8 (never JSON), else bytes.",
    )(command)


def takes_a_lifetime(command: Command, how_long: str) -> Command:
    """Add --ttl, with what it is for."""
    return click.option("--ttl", callback=read_lifetime, metavar="TTL", help=how_long)(command)


def run(
    url: str,
    secret_file: Path | None,
    bucket: str,
    timeout: float,
    ask: Callable[[AsyncBucket], Awaitable[Answer]],
    *,
    writes: bool = False,
) -> Answer:
    """Connect, carry out one request on a bucket, and close."""

    async def go() -> Answer:
        try:
            async with await connect(url, secret_file, seconds=timeout) as db:
                return await ask(db.bucket(bucket))
        except EverwriteError as error:
            if writes:
                say(outcome_sentence(error))
            error.hint = error.hint.replace("with timeout=", "with --timeout")
            raise

    return asyncio.run(go())


def raw_value(value: str | None) -> bytes:
    """Return the bytes of VALUE, or of standard input."""
    if value is not None and value != "-":
        return value.encode(errors="surrogateescape")
    # One byte more than is allowed is enough for the refusal that says so.
    raw = b"" if sys.stdin.isatty() else sys.stdin.buffer.read(VALUE_BYTES_MAX + 1)
    if len(raw) > VALUE_BYTES_MAX:
        raise TooLarge(
            f"The value has {_size_of_input()} bytes; the most is {VALUE_BYTES_MAX:,}.",
            hint="Split it, or keep it in a blob store and put its address here. Nothing was "
            "written.",
        )
    if not raw and (value is None or sys.stdin.isatty()):
        # A forgotten VALUE under cron or in a script must not empty the key.
        raise click.UsageError("Give a VALUE, or - and the value on standard input.")
    return raw


def _size_of_input() -> str:
    """Return how large standard input is, or in words that this is not known."""
    try:
        found = os.fstat(sys.stdin.fileno())
    except (OSError, ValueError):
        found = None
    if found is not None and stat.S_ISREG(found.st_mode) and found.st_size > VALUE_BYTES_MAX:
        return f"{found.st_size:,}"
    return f"more than {VALUE_BYTES_MAX:,}"


def value_of(raw: bytes, kind: str) -> object:
    """Return the bytes of a value as what they are to the application."""
    if kind == "bytes":
        return raw
    if kind == "json":
        try:
            return msgspec.json.decode(raw)
        except (msgspec.DecodeError, RecursionError) as error:
            raise RequestError(
                f"The value is not JSON: {error}.", hint="Nothing was written."
            ) from error
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        if kind == "auto":
            return raw
        raise RequestError(
            f"The value is not UTF-8 text: {error.reason} at byte {error.start}.",
            hint="Use --kind bytes. Nothing was written.",
        ) from error
