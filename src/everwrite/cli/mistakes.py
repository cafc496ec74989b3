"""What a person probably meant by a command line that can't be understood.

Click says what is wrong; the hint here says what to type. Nothing is guessed and then done.
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Sequence

import click

from everwrite.cli.copyable import command, shown
from everwrite.core.errors import EverwriteError

_ELSEWHERE = {
    "siblings": "get shows siblings: everwrite get BUCKET KEY",
    "expire": "touch lets a value live longer; put --ttl says how long one lives at all.",
    "ttl": "put --ttl 30m says how long a value lives; get shows when it ends.",
    "gc": "Tombstones go by themselves: everwrite tombstones says what they wait for.",
    "extend": "touch lets a value live longer: everwrite touch BUCKET KEY 30m",
    "set": "put writes a key: everwrite put BUCKET KEY VALUE",
    "start": "everwrite cluster start --dir DIR starts a development cluster, serve one node.",
    "stop": "everwrite cluster stop --dir DIR stops a development cluster.",
}
"""Words that people try, for what another command does."""


class NoSuchCommand(click.UsageError):
    """The first word is no command; ``known`` are those there are."""

    def __init__(self, word: str, known: Sequence[str], context: click.Context) -> None:
        super().__init__(f"No such command '{word}'.", context)
        self.word = word
        self.known = known


class Commands(click.Group):
    """A group that keeps what its hint needs when it finds no command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of the first word; NoSuchCommand if there is none."""
        word = args[0]
        if not word.startswith("-") and self.get_command(ctx, word) is None:
            raise NoSuchCommand(word, self.list_commands(ctx), ctx)
        return super().resolve_command(ctx, args)


def of_the_system(error: OSError) -> EverwriteError:
    """Return in words what the operating system would not do."""
    why = (error.strerror or str(error) or type(error).__name__).lower()
    if error.filename is None:
        return EverwriteError(f"The system refused: {why}.")
    hint = "Use a directory in which you may write."
    if error.errno == errno.ENOSPC:
        hint = "Make room on that disk, or use another one."
    return EverwriteError(f"{_named(error.filename)} cannot be used: {why}.", hint=hint)


def _named(name: object) -> str:
    return shown(os.fsdecode(name)) if isinstance(name, str | bytes) else str(name)


def hint_for(error: click.UsageError) -> str:
    """Return what to type instead; empty if nothing comes to mind."""
    if error.ctx is None:
        return _hint(error, "")
    with error.ctx.scope(cleanup=False):  # what the hint is made from is what was given to it
        return _hint(error, error.ctx.info_name or "")


def _hint(error: click.UsageError, name: str) -> str:
    match error:
        case NoSuchCommand():
            word = error.word.lower()
            if word in _ELSEWHERE:
                return _ELSEWHERE[word]
            near = difflib.get_close_matches(word, error.known, n=1)
            return f"Did you mean '{near[0]}'?" if near else ""
        case click.NoSuchOption() if name == "put" and not error.option_name.startswith("--"):
            return "A value that begins with - stands after --: everwrite put BUCKET KEY -- VALUE"
        case click.MissingParameter(param=click.Argument(name="key"), ctx=click.Context() as ctx):
            bucket, slash, key = str(ctx.params.get("bucket", "")).partition("/")
            if bucket and slash and key:
                return f"Write it as two words: {command(name, bucket, key)}"
        case click.MissingParameter(param=click.Argument(name="ttl"), ctx=click.Context() as ctx):
            bucket, key = str(ctx.params.get("bucket", "")), str(ctx.params.get("key", ""))
            if "/" in bucket and key:
                bucket, _, key = bucket.partition("/")
            line = command("touch", bucket, key, "30m")
            return f"Say how long it is to live from now on: {line}"
    return ""
