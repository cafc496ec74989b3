"""What commands write: data on standard output, chatter on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from everwrite.cli.copyable import shown
from everwrite.core.errors import EverwriteError

_BAD_NEWS = {
    "none": "The write has not happened.",
    "partial": "The write is on {acked} of the {required} nodes asked for; it may still be found.",
    "unknown": "The write may have happened: read the key, or put again with the same context.",
}


def say(line: str) -> None:
    """Write one line for a person to standard error."""
    click.echo(line, err=True)


def emit(line: str) -> None:
    """Write one line of data to standard output."""
    click.echo(line)


def emit_json(value: object) -> None:
    """Write a value as indented JSON to standard output."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value, order=None), indent=2))


def emit_bytes(value: bytes) -> None:
    """Write bytes as they are to standard output; end the line if a terminal reads it."""
    stream = sys.stdout.buffer
    stream.write(value)
    if sys.stdout.isatty() and not value.endswith(b"\n"):
        stream.write(b"\n")
    stream.flush()


def report_error(error: EverwriteError) -> None:
    """Say on standard error what happened and what to do about it."""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {error.message}", err=True)
    say_hint(error.hint)


def say_hint(hint: str) -> None:
    """Say on standard error what to do, if there is something to say."""
    if hint:
        click.echo(f"{click.style(' hint:', fg='cyan')} {hint}", err=True)


def outcome_sentence(error: EverwriteError) -> str:
    """Return what an error means for the write (promise P3)."""
    return _BAD_NEWS[error.outcome].format(acked=error.acked, required=error.required)


def writable_file(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    """Return a file that can be written when the work is done, as the callback of an option."""
    if path is not None and not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise click.BadParameter(f"{path.parent} is no directory in which you may write.")
    return path


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Return rows as aligned text; the columns in ``right`` (numbers) lean to the right.
    What is not printable in a cell is shown escaped.

    >>> print(table(["name", "keys"], [["n1", "12"], ["n2", "7"]], right=[1]))
    NAME  KEYS
    n1      12
    n2       7
    """
    lines = [[cell.upper() for cell in head], *([shown(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def count(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> count(1, "hint"), count(12345, "hint")
    ('1 hint', '12,345 hints')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(milliseconds: float) -> str:
    """Return a time in the unit that suits it.

    >>> duration(0.4), duration(12), duration(2500), duration(240_000), duration(9_000_000)
    ('0.4 ms', '12 ms', '2.5 s', '4 min', '2.5 h')
    >>> duration(604_800_000)
    '7.0 days'
    """
    if milliseconds < 1000:
        return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def size(value: int) -> str:
    """Return a number of bytes for a person.

    >>> size(512), size(70_000_000)
    ('512 B', '66.8 MiB')
    """
    if value < 1024:
        return f"{value} B"
    amount = float(value)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"
