"""Commands for one key: get, put, touch, delete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from everwrite.cli.answers import (
    absence,
    exit_for_found,
    found_json,
    plainly_text,
    show_found,
    show_stored,
    stored_json,
    touched_json,
)
from everwrite.cli.copyable import command, shown
from everwrite.cli.exits import Exit
from everwrite.cli.lifetimes import read_lifetime
from everwrite.cli.onekey import (
    raw_value,
    reads,
    run,
    takes_a_kind,
    takes_a_lifetime,
    takes_numbers,
    value_of,
)
from everwrite.cli.output import emit_json, say, say_hint
from everwrite.core.data.base64url import decode64
from everwrite.core.errors import QuorumNotMet

if TYPE_CHECKING:
    from everwrite.client import AsyncBucket, Found, Stored

Command = TypeVar("Command", bound=Callable[..., Any])


_URL_SAFE = str.maketrans("+/", "-_")
"""Contexts that older builds printed are in plain base64."""


def _read_context(_: click.Context, __: click.Parameter, text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return decode64(text.translate(_URL_SAFE).encode())
    except ValueError as error:
        raise click.BadParameter(
            "this is not a context; take it from `everwrite get`, whole"
        ) from error


def _writes(command: Command) -> Command:
    context = click.option(
        "--context",
        callback=_read_context,
        metavar="CONTEXT",
        help="From the read that came before; '' has seen nothing.",
    )
    return takes_numbers(context(command))


def _lives(command: Command) -> Command:
    how_long = "How long it is to live: 45s, 30m, 12h, 7d; without it, for ever."
    return takes_a_lifetime(command, how_long)


@click.command()
@click.argument("bucket")
@click.argument("key")
@reads
def get(
    bucket: str,
    key: str,
    r: int,
    n: int,
    timeout: float,
    strict: bool,
    url: str,
    secret_file: Path | None,
    form: str,
) -> int:
    """Read KEY of BUCKET.

    The value goes to standard output as it is; if several were written at the same time, each under
    a heading. How good the answer is, when the value ends, and the context for the next put go to
    standard error. Exit code 1: there is no value; 3: none was found, but not every owner could
    say whether there is one.

    Owners of the key are asked, whichever node --url names. `everwrite explain` says what each node
    has; what one node answers to its clients tells curl http://NODE:7600/v1/kv/BUCKET/KEY (its port
    + 200).
    """

    async def ask(chosen: AsyncBucket) -> Found:
        return await chosen.get(key, n=n, r=r, timeout=timeout, strict=strict)

    found = run(url, secret_file, bucket, timeout, ask)
    if form == "json":
        emit_json(found_json(bucket, key, found))
    else:
        show_found(bucket, key, found)
    return exit_for_found(found)


@click.command()
@click.argument("bucket")
@click.argument("key")
@click.argument("value", required=False)
@takes_a_kind
@_lives
@_writes
def put(
    bucket: str,
    key: str,
    value: str | None,
    kind: str,
    ttl: float | None,
    context: bytes | None,
    w: int,
    dw: int,
    n: int,
    timeout: float,
    strict: bool,
    url: str,
    secret_file: Path | None,
    form: str,
) -> None:
    """Write VALUE to KEY of BUCKET; - reads it from standard input.

    Without VALUE standard input is read, too, but an empty one is refused: '' or - stores it.

    Without --context the value is kept beside those already there, as a sibling, since nobody knows
    which is right. With the context of an earlier get it replaces what that get has shown.

    A value that replaces one with a --ttl has no end unless it is given one, too.

    A list or a number for programs is --kind json: everwrite put carts alice '["tea"]' --kind json
    """
    content = value_of(raw_value(value), kind)

    async def ask(chosen: AsyncBucket) -> Stored:
        return await chosen.put(
            key,
            content,
            context=context or b"",
            n=n,
            w=w,
            dw=dw,
            timeout=timeout,
            strict=strict,
            ttl=ttl,
        )

    show_stored(
        "stored", bucket, key, run(url, secret_file, bucket, timeout, ask, writes=True), form
    )
    if kind == "auto" and isinstance(content, str) and _looks_like_json(content):
        say_hint("It is a text now: programs that put lists or objects need --kind json.")


@click.command()
@click.argument("bucket")
@click.argument("key")
@click.argument("ttl", callback=read_lifetime)
@takes_numbers
def touch(
    bucket: str,
    key: str,
    ttl: float,
    w: int,
    dw: int,
    n: int,
    timeout: float,
    strict: bool,
    url: str,
    secret_file: Path | None,
    form: str,
) -> int:
    """Let what is at KEY of BUCKET live for TTL from now on: 45s, 30m, 12h, 7d.

    It never shortens, brings back nothing that has ended, and leaves alone what has no end. Of two
    touches the longer wins. Exit code 1: there was no value.
    """

    async def ask(chosen: AsyncBucket) -> Stored:
        return await chosen.touch(key, ttl, n=n, w=w, dw=dw, timeout=timeout, strict=strict)

    stored = run(url, secret_file, bucket, timeout, ask, writes=True)
    if stored.siblings == 0:
        say(f"not found: there is nothing at {shown(bucket)}/{shown(key)} that could live longer")
        if form == "json":
            emit_json(touched_json("absent", bucket, key, stored))
        return Exit.ERROR
    show_stored("touched", bucket, key, stored, form)
    return Exit.OK


@click.command()
@click.argument("bucket")
@click.argument("key")
@_writes
def delete(
    bucket: str,
    key: str,
    context: bytes | None,
    w: int,
    dw: int,
    n: int,
    timeout: float,
    strict: bool,
    url: str,
    secret_file: Path | None,
    form: str,
) -> int:
    """Delete KEY of BUCKET.

    With --context only what that read has shown is deleted (with '', nothing); without it the key
    is read first, and what is there now is deleted. What others write meanwhile stays. Exit code 1:
    there was no value.
    """

    async def ask(chosen: AsyncBucket) -> Found | Stored:
        known = context
        if known is None:
            try:
                found = await chosen.get(key, n=n, timeout=timeout, strict=strict)
            except QuorumNotMet as error:
                error.hint = _without_reading(bucket, key, n, w, dw, strict=strict)
                raise
            if not found.values:
                return found
            known = found.context
        return await chosen.delete(
            key, context=known, n=n, w=w, dw=dw, timeout=timeout, strict=strict
        )

    from everwrite.client import Found, Stored

    answer = run(url, secret_file, bucket, timeout, ask, writes=True)
    if isinstance(answer, Found):
        say(f"not found: {absence(bucket, key, answer)}")
        if form == "json":
            nothing = Stored(answer.context, 0, 0, 0, 0, answer.quality.required)
            emit_json(stored_json("absent", bucket, key, nothing))
        return exit_for_found(answer)
    show_stored("deleted", bucket, key, answer, form)
    return Exit.OK


def _without_reading(bucket: str, key: str, n: int, w: int, dw: int, *, strict: bool) -> str:
    """Return how to delete where too few nodes are up for the read that comes first."""
    same: dict[str, object] = {"n": n} if n else {}
    if strict:
        same["strict"] = True
    numbers: dict[str, object] = {"w": w} if w else {}
    if dw >= 0:
        numbers["dw"] = dw
    look = command("get", bucket, key, r=1, **same)
    then = command("delete", bucket, key, context="CONTEXT", **numbers, **same)
    return (
        "Nothing was changed. A delete reads the key first; with the context of a smaller read it "
        f"need not: {look} and then {then}"
    )


def _looks_like_json(text: str) -> bool:
    return text.lstrip()[:1] in ("[", "{") and not plainly_text(text)
