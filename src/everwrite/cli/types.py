"""Commands for keys that are data types: show one, and change it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click
import msgspec

from everwrite.cli.answers import absence, exit_for_found, found_json, quality_said
from everwrite.cli.copyable import command, shown
from everwrite.cli.exits import Exit
from everwrite.cli.lifetimes import end_sentence
from everwrite.cli.mistakes import Commands
from everwrite.cli.onekey import (
    raw_value,
    reads,
    run,
    takes_a_kind,
    takes_a_lifetime,
    takes_numbers,
    value_of,
)
from everwrite.cli.output import count, emit, emit_bytes, emit_json, say, table
from everwrite.core.errors import WrongType

if TYPE_CHECKING:
    from everwrite.client import AsyncBucket, Found
    from everwrite.core.types.composed import Composed

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group("type", cls=Commands)
def types() -> None:
    """Data types: keys whose concurrent changes merge by themselves.

    A counter sums up, a set keeps what somebody adds while another takes it out, of a register the
    last value counts, a flag is raised or not. A map has fields, each a data type: --field names
    one, and is given once for each map on the way.

    \b
    everwrite type add carts alice 2 --field apples
    everwrite type show carts alice
    """


def _fields(command: Command) -> Command:
    return click.option(
        "-f",
        "--field",
        "fields",
        multiple=True,
        metavar="FIELD",
        help="The field of the map that is there; again for a field of the map within.",
    )(command)


def _changes(command: Command) -> Command:
    how_long = "How long what is written is to live: 45s, 30m, 12h, 7d; else as long as its key."
    return _fields(takes_a_lifetime(takes_numbers(command), how_long))


class Change(Protocol):
    """What a command does to the place that it names: ``options`` are those of the call."""

    def __call__(self, place: Any, **options: Any) -> Awaitable[int]: ...


def _change(
    kind: str,
    bucket: str,
    key: str,
    fields: Sequence[str],
    change: Change,
    given: dict[str, Any],
) -> int:
    """Make one change of what ``kind`` calls the place, and return what it came to."""
    url, secret_file, timeout = given["url"], given["secret_file"], given["timeout"]
    options = {name: given[name] for name in ("n", "w", "dw", "timeout", "strict", "ttl")}

    async def ask(chosen: AsyncBucket) -> int:
        return int(await change(_place(chosen, kind, key, fields), **options))

    try:
        result: int = run(url, secret_file, bucket, timeout, ask, writes=True)
    except WrongType as error:
        from everwrite.core.types.beside import context_in

        if context := context_in(error.hint):
            error.hint += f" So does: {command('delete', bucket, key, context=context)}"
        raise
    if given["form"] == "json":
        emit_json({"bucket": bucket, "key": key, "fields": [*fields], "result": result})
    return result


def _place(bucket: AsyncBucket, kind: str, key: str, fields: Sequence[str]) -> Any:
    """Return the place of this kind below a key."""
    if not fields:
        return getattr(bucket, kind)(key)
    *maps, last = map(_raw_name, fields)
    inner = reduce(lambda found, name: found.map(name), maps, bucket.map(key))
    return getattr(inner, kind)(last)


def _raw_name(text: str) -> bytes:
    """Return a name as it was given: what is no UTF-8 came in as surrogates."""
    return text.encode(errors="surrogateescape")


def _where(bucket: str, key: str, fields: Sequence[str]) -> str:
    """Return a place in one line.

    >>> _where("carts", "alice", ["apples"])
    'carts/alice apples'
    """
    return " ".join((f"{shown(bucket)}/{shown(key)}", *map(shown, fields)))


# -- show ------------------------------------------------------------------------------------------


@types.command()
@click.argument("bucket")
@click.argument("key")
@_fields
@reads
def show(
    bucket: str,
    key: str,
    fields: tuple[str, ...],
    r: int,
    n: int,
    timeout: float,
    strict: bool,
    url: str,
    secret_file: Path | None,
    form: str,
) -> int:
    """Show what KEY of BUCKET is.

    A counter's number, a set's elements, a register's value go to standard output as they are, a
    map as a table. Where writers that did not know of each other made it several types, all of them
    are shown. Exit code 1: nothing is there.
    """

    async def ask(chosen: AsyncBucket) -> Found:
        return await chosen.get(key, n=n, r=r, timeout=timeout, strict=strict)

    found: Found = run(url, secret_file, bucket, timeout, ask)
    inner, beside = _found_at(found, bucket, key, fields)
    if form == "json":
        said = found_json(bucket, key, found)
        del said["values"], said["kinds"]
        said["found"], said["fields"] = inner is not None, [*fields]
        emit_json(said | _in_json(inner, beside))
    elif inner is not None:
        _show_all([inner, *beside])
        kinds = ", ".join(map(_word, [inner, *beside]))
        say(f"kind {kinds}; answered by {quality_said(found)}")
        if beside:
            say(
                "Their writers did not know of each other. Whoever changes it next keeps the first."
            )
        if found.expires is not None:
            say(f"the last of it {end_sentence(found)}")
    elif found:
        say(f"not found: there is nothing at {_where(bucket, key, fields)}")
    else:
        say(f"not found: {absence(bucket, key, found)}")
    if inner is None:
        return Exit.ERROR if found else exit_for_found(found)
    return Exit.OK


def _found_at(
    found: Found, bucket: str, key: str, fields: Sequence[str]
) -> tuple[Composed | None, Sequence[Composed]]:
    """Return what is at a place, and what stands beside it; WrongType if no data type is there."""
    from everwrite.client.spot import inside
    from everwrite.core.types.composed import Map
    from everwrite.core.types.operations import name_of

    made = [found.composed] if found.composed is not None else [*found.clash]
    if found and not made:
        raise WrongType(
            f"{_where(bucket, key, ())} is a plain value.",
            hint=f"This shows it: {command('get', bucket, key)}",
        )
    if fields:  # of several types a map has them
        made = [each for each in made if isinstance(each, Map)] or made[:1]
    whole, beside = made[0] if made else None, made[1:]
    try:
        return inside(whole, [name_of(_raw_name(field)) for field in fields]), beside
    except WrongType as error:
        error.hint = f"This shows all of it: {command('type show', bucket, key)}"
        raise


def _in_json(inner: Composed | None, beside: Sequence[Composed]) -> dict[str, Any]:
    """Return what JSON says of a place, and of what stands beside it."""
    from everwrite.core.types.in_json import document

    said: dict[str, Any] = {}
    if beside:
        others = msgspec.json.encode([*map(document, beside)])
        said["beside"] = msgspec.json.decode(others)
    # By way of its text: JSON that somebody assigned is in it as it was written.
    text = b"{}" if inner is None else msgspec.json.encode(document(inner))
    shown: dict[str, Any] = msgspec.json.decode(text)
    return said | shown


def _word(composed: Composed) -> str:
    from everwrite.client.results import type_of

    return type_of(composed)


def _show_all(made: Sequence[Composed]) -> None:
    """Write a value as data, or all of several."""
    for number, each in enumerate(made, start=1):
        if len(made) > 1:
            emit_bytes(f"--- sibling {number} of {len(made)}, {_word(each)}\n".encode())
        _show(each)
        if len(made) > number and _word(each) == "register":
            emit_bytes(b"\n")


def _show(composed: Composed) -> None:
    """Write a value as data."""
    from everwrite.core.types.composed import Counter, Flag, Map, Register, Set

    match composed:
        case Counter():
            emit(str(composed.value))
        case Set():
            for element in composed.elements:
                emit_bytes(_bytes_of(element) + b"\n")
        case Register():
            emit_bytes(composed.value)
        case Flag():
            emit("raised")
        case Map():
            emit(table(["field", "type", "value"], list(_rows(composed, ()))))


def _bytes_of(name: str | bytes) -> bytes:
    return name.encode() if isinstance(name, str) else name


def _rows(composed: Any, path: tuple[str, ...]) -> Any:
    """Yield the rows of a map's table: those of maps within below their own."""
    from everwrite.core.types.composed import Counter, Map, Register, Set

    for name, inner in composed.fields.items():
        here = (*path, _text_of(name))
        match inner:
            case Map():
                said = count(len(inner.fields), "field")
            case Counter():
                said = str(inner.value)
            case Set():
                said = ", ".join(map(_text_of, inner.elements))
            case Register():
                said = _text_of(inner.value)
            case _:
                said = "raised"
        yield [" / ".join(here), _word(inner), said]
        if isinstance(inner, Map):
            yield from _rows(inner, here)


def _text_of(name: str | bytes) -> str:
    """Return a name for a table: what is no text comes out escaped."""
    return name if isinstance(name, str) else name.decode(errors="surrogateescape")


# -- changes ---------------------------------------------------------------------------------------


@types.command(context_settings={"ignore_unknown_options": True})
@click.argument("bucket")
@click.argument("key")
@click.argument("amount", type=int, default=1)
@_changes
def add(bucket: str, key: str, amount: int, fields: tuple[str, ...], **given: Any) -> None:
    """Add AMOUNT (1 if left out; -3 takes 3 away) to a counter, and write its value then."""

    async def change(place: Any, **options: Any) -> int:
        return int(await place.add(amount, **options))

    result = _change("counter", bucket, key, fields, change, given)
    if given["form"] != "json":
        emit(str(result))


@types.command()
@click.argument("bucket")
@click.argument("key")
@click.argument("elements", metavar="ELEMENT...", nargs=-1, required=True)
@_changes
def include(
    bucket: str, key: str, elements: tuple[str, ...], fields: tuple[str, ...], **given: Any
) -> None:
    """Put each ELEMENT into a set."""

    async def change(place: Any, **options: Any) -> int:
        return int(await place.add(*map(_raw_name, elements), **options))

    result = _change("set", bucket, key, fields, change, given)
    _say(given, f"{result} of {count(len(set(elements)), 'element')} were new")


@types.command()
@click.argument("bucket")
@click.argument("key")
@click.argument("elements", metavar="ELEMENT...", nargs=-1, required=True)
@_changes
def exclude(
    bucket: str, key: str, elements: tuple[str, ...], fields: tuple[str, ...], **given: Any
) -> None:
    """Take each ELEMENT out of a set.

    An element that somebody else includes at the same time stays.
    """

    async def change(place: Any, **options: Any) -> int:
        return int(await place.remove(*map(_raw_name, elements), **options))

    result = _change("set", bucket, key, fields, change, given)
    _say(given, f"{result} of {count(len(set(elements)), 'element')} had been there")


@types.command()
@click.argument("bucket")
@click.argument("key")
@click.argument("value", required=False)
@takes_a_kind
@_changes
def assign(
    bucket: str, key: str, value: str | None, kind: str, fields: tuple[str, ...], **given: Any
) -> None:
    """Give a register VALUE; - reads it from standard input."""
    content = value_of(raw_value(value), kind)

    async def change(place: Any, **options: Any) -> int:
        return int(await place.assign(content, **options))

    _change("register", bucket, key, fields, change, given)
    _say(given, "assigned")


@types.command()
@click.argument("bucket")
@click.argument("key")
@_changes
def enable(bucket: str, key: str, fields: tuple[str, ...], **given: Any) -> None:
    """Raise a flag."""

    async def change(place: Any, **options: Any) -> int:
        return int(await place.enable(**options))

    result = _change("flag", bucket, key, fields, change, given)
    _say(given, "raised" if result else "it was raised already")


@types.command()
@click.argument("bucket")
@click.argument("key")
@_changes
def disable(bucket: str, key: str, fields: tuple[str, ...], **given: Any) -> None:
    """Lower a flag."""

    async def change(place: Any, **options: Any) -> int:
        return int(await place.disable(**options))

    result = _change("flag", bucket, key, fields, change, given)
    _say(given, "lowered" if result else "it was not raised")


@types.command()
@click.argument("bucket")
@click.argument("key")
@_changes
def remove(bucket: str, key: str, fields: tuple[str, ...], **given: Any) -> int:
    """Remove a field of a map (--field), with all that is in it.

    What others put there meanwhile stays. `everwrite delete` removes a key. Exit code 1: nothing
    was there.
    """
    if not fields:
        raise click.UsageError(f"Name a --field, or take all: {command('delete', bucket, key)}")
    *maps, last = fields

    async def change(place: Any, **options: Any) -> int:
        return int(await place.remove(_raw_name(last), **options))

    result = _change("map", bucket, key, maps, change, given)
    _say(given, "removed" if result else f"nothing was at {_where(bucket, key, fields)}")
    return Exit.OK if result else Exit.ERROR


def _say(given: dict[str, Any], line: str) -> None:
    """Say what a change came to, where a person reads it."""
    if given["form"] != "json":
        say(line)
