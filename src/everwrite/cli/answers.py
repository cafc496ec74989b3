"""What commands for one key write: values as data, how good the answer is as chatter."""

from __future__ import annotations

import base64
import sys
from typing import TYPE_CHECKING

import msgspec

from everwrite.cli.copyable import command, shown
from everwrite.cli.exits import Exit
from everwrite.cli.lifetimes import end_for_json, end_sentence
from everwrite.cli.output import count, emit_bytes, emit_json, say
from everwrite.core.data.base64url import encode64

if TYPE_CHECKING:
    from everwrite.client import Found, Stored


def _plain(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    return (
        value.encode(errors="surrogateescape")
        if isinstance(value, str)
        else msgspec.json.encode(value, order="deterministic")
    )


def show_found(bucket: str, key: str, found: Found) -> None:
    """Write what a read has found: its values as data, all else for a person."""
    if not found.values:
        say(f"not found: {absence(bucket, key, found)}")
        return
    kinds = _kinds_of(found)
    plain = all(map(plainly_text, found.values))
    if len(found.values) == 1:
        content = _plain(found.values[0])
        emit_bytes(content)
        if not content.endswith(b"\n") and not sys.stdout.isatty():
            # Both streams may go to one place, and the value must stay as it is.
            say("")
    else:
        for number, value in enumerate(found.values, start=1):
            kind = "" if plain else f", {kinds[number - 1]}"
            emit_bytes(f"--- sibling {number} of {len(kinds)}{kind}\n".encode())
            emit_bytes(_plain(value).removesuffix(b"\n") + b"\n")
    sys.stdout.flush()
    say(f"answered by {quality_said(found)}")
    if found.type:
        look = command("type show", bucket, key)
        say(f"kind {found.type}: `{look}` shows it in full")
    elif len(kinds) == 1 and not plain:
        say(_KINDS[kinds[0]])
    elif len(set(kinds)) > 1:
        say("They are of several kinds: a program that merges one kind may not understand another.")
    if found.expires is not None:
        say(f"{'the last of them ' if len(found.values) > 1 else ''}{end_sentence(found)}")
    if len(found.values) > 1:
        say(f"{len(found.values)} siblings: their writers did not know of each other.")
        say("Put what they make together, with the context of this read:")
        say(f"  {command('put', bucket, key, 'VALUE', context=_token(found.context))}")
    else:
        say(f"context {_token(found.context)}")


_KINDS = {
    "text": "kind text: programs get these characters, not a list or a number (put --kind json)",
    "json": "kind json",
    "bytes": "kind bytes",
}


def plainly_text(value: object) -> bool:
    """Say whether a value is a text, and nobody would take it for JSON.

    >>> plainly_text("apple"), plainly_text('["milk"]'), plainly_text("7"), plainly_text("[x]")
    (True, False, False, True)
    """
    if not isinstance(value, str):
        return False
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return True
    return False


_UNKNOWN = "was not found, but not every owner could say"

_ABSENCE = {"deleted": "was deleted", "never": "was never written", "expired": "has ended"}


def absence(bucket: str, key: str, found: Found) -> str:
    """Return in words why there is no value, and who says so."""
    what = _ABSENCE.get(found.quality.absent, _UNKNOWN)
    return f"{shown(bucket)}/{shown(key)} {what} (said by {quality_said(found)})"


def exit_for_found(found: Found) -> Exit:
    """Return what a script learns from a read without reading what it found."""
    if found.values:
        return Exit.OK
    return Exit.ERROR if found.quality.absent in _ABSENCE else Exit.DEGRADED


def quality_said(found: Found) -> str:
    quality = found.quality
    said = count(quality.owners, "owner")
    if quality.fallbacks:
        said += f" and {count(quality.fallbacks, 'stand-in')}"
    said += f", {quality.required} required"
    if quality.unreadable:
        said += f"; {count(quality.unreadable, 'copy')} unreadable"
    return said


def show_stored(verb: str, bucket: str, key: str, stored: Stored, form: str) -> None:
    """Write what became of a put, touch or delete."""
    if form == "json":
        emit_json((touched_json if verb == "touched" else stored_json)(verb, bucket, key, stored))
        return
    if verb == "touched" and stored.expires is None:
        say(_endless(stored))
        return
    said = f"{verb} on {count(stored.owners, 'owner')}"
    if stored.fallbacks:
        said += f" and {count(stored.fallbacks, 'stand-in')}"
    say(f"{said}, {stored.durable} of them on disk")
    if stored.expires is not None:
        say(end_sentence(stored))
    look = command("get", bucket, key)
    if verb == "deleted" and stored.siblings:
        one = stored.siblings == 1
        left, seen = ("1 value is", "it") if one else (f"{stored.siblings} values are", "them")
        say(f"{left} still there: this delete had not seen {seen}.")
        say(f"`{look}` shows what is there.")
    elif stored.siblings > 1 and verb != "touched":
        say(f"{stored.siblings} siblings are there now: this write had not seen the others.")
        say(f"`{look}` shows them and how to settle it.")
    if verb == "stored":
        say(f"context {_token(stored.context)}")


def _endless(stored: Stored) -> str:
    """Return what a touch came to where something has no end."""
    if stored.siblings == 1:
        return "left as it was: it has no end, and lives for ever"
    return (
        f"at least one of the {stored.siblings} siblings has no end, and was left as it was; any "
        "that end were touched"
    )


def stored_json(verb: str, bucket: str, key: str, stored: Stored) -> dict[str, object]:
    """Return what became of a put or delete as a script reads it: always the same fields."""
    return {
        "bucket": bucket,
        "key": key,
        "outcome": verb,
        "context": _token(stored.context),
        "expires": end_for_json(stored.expires),
        "owners": stored.owners,
        "fallbacks": stored.fallbacks,
        "durable": stored.durable,
        "required": stored.required,
        "siblings": stored.siblings,
    }


def touched_json(verb: str, bucket: str, key: str, stored: Stored) -> dict[str, object]:
    """Return what became of a touch: it writes nothing that a later put would have to have seen."""
    said = stored_json(verb, bucket, key, stored)
    del said["context"]
    return said


def found_json(bucket: str, key: str, found: Found) -> dict[str, object]:
    """Return what a read has found as a script reads it."""
    quality, left = found.quality, found.expires_in
    return {
        "bucket": bucket,
        "key": key,
        "found": bool(found.values),
        "values": [_json_value(value) for value in found.values],
        "kinds": _kinds_of(found),
        "context": _token(found.context),
        "expires": end_for_json(found.expires),
        "expires_in_ms": None if left is None else round(left.total_seconds() * 1000),
        "quality": {
            "owners": quality.owners,
            "fallbacks": quality.fallbacks,
            "required": quality.required,
            "absent": quality.absent,
            "unreadable": quality.unreadable,
        },
    }


def kind_of(value: object) -> str:
    """Return what a value is to an application: as `put --kind` calls it."""
    return "bytes" if isinstance(value, bytes) else "text" if isinstance(value, str) else "json"


def _kinds_of(found: Found) -> list[str]:
    """Return what the values are: a data type is one value, and its own kind."""
    return [found.type or kind_of(value) for value in found.values]


def _json_value(value: object) -> object:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    return msgspec.to_builtins(value, order="deterministic")  # sets, bytes within a map


def _token(context: bytes) -> str:
    return encode64(context).decode()
