"""Words that a person copies: commands as a shell takes them, names as one line shows them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import click
from click.core import ParameterSource

_CARRIED = {"url": "--url", "secret_file": "--secret-file"}
"""What a printed command needs as well if this one was given it: it is for the same cluster."""


def command(name: str, *words: object, **options: object) -> str:
    """Return a command line that can be pasted into a shell.

    Options come first if a word could be taken for one. True: an option without a value.

    >>> command("put", "fruit", "my key", "VALUE", context="AAAA")
    "everwrite put fruit 'my key' VALUE --context AAAA"
    >>> command("get", "fruit", "-k")
    'everwrite get -- fruit -k'
    >>> command("get", "fruit", "key", r=1, strict=True)
    'everwrite get fruit key --r 1 --strict'
    """
    plain = [str(word) for word in words]
    given: list[str] = []
    for option, value in options.items():
        given += [f"--{option}"] if value is True else [f"--{option}", str(value)]
    given += _carried()
    parts = [*plain, *given]
    if any(word.startswith("-") for word in plain):
        parts = [*given, "--", *plain]
    return " ".join(["everwrite", *name.split(), *map(quoted, parts)])


def quoted(word: str) -> str:
    """Return a word as a shell takes it, whatever is in it.

    >>> quoted("it's"), quoted("a\\tb")
    ('\\'it\\'"\\'"\\'s\\'', "$'a\\\\tb'")
    """
    return shlex.quote(word) if word.isprintable() else f"$'{_escaped(word, also=chr(39))}'"


def shown(text: str) -> str:
    """Return a name in one line, with escapes in place of what is no printable character.

    >>> shown("a\\nb"), shown("naïve"), shown("C:\\\\new")
    ('a\\\\nb', 'naïve', 'C:\\\\new')
    """
    return text if text.isprintable() else _escaped(text)


def _escaped(text: str, also: str = "") -> str:
    """Return a text with backslashes before what is not printable, as bash and Python read it."""
    return "".join(_escape(char, also) for char in text)


def _escape(char: str, also: str) -> str:
    if char == "\\" or char in also:
        return f"\\{char}"
    if char.isprintable():
        return char
    if "\udc80" <= char <= "\udcff":  # a byte that is no UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()


def _carried() -> Sequence[str]:
    """Return the options of this command by which the printed one reaches the same nodes."""
    context = click.get_current_context(silent=True)
    if context is None:
        return ()
    found: list[str] = []
    for name, option in _CARRIED.items():
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            found += [option, str(context.params[name])]
    return found
