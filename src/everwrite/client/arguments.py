"""What callers may say: each argument is checked once, here, before anything is sent.

A check returns what the rest of the client uses, or raises RequestError with what is wrong and what
to write instead.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Callable
from datetime import timedelta
from inspect import iscoroutine, iscoroutinefunction
from math import inf
from numbers import Real
from typing import Any

from everwrite.client.limits import TIMEOUT_MAX_S, TTL_MAX_S, TTL_MIN_S
from everwrite.client.session import Session
from everwrite.core.data.context import CONTEXT_BYTES_MAX
from everwrite.core.data.keys import checked_bucket
from everwrite.core.errors import BadContext, RequestError, WrongType

UPDATE_HINT = (
    "Nothing was changed. Try again, or read from fewer: update() takes the r of its bucket, as in "
    "db.bucket('carts', r=1)."
)


def checked_secret(secret: bytes | str) -> bytes:
    """Return a secret's bytes; RequestError for what is none, without showing it."""
    if not isinstance(secret, bytes | str):
        raise RequestError(
            f"{a(type(secret).__name__)} is no secret.", hint="Secrets are text or bytes."
        )
    return secret.encode() if isinstance(secret, str) else secret


def checked_timeout(seconds: float) -> float:
    """Return a timeout that can be kept; RequestError for any other."""
    if not isinstance(seconds, Real) or not 0 < seconds <= TIMEOUT_MAX_S:
        raise RequestError(
            f"timeout={seconds!r} is not possible.",
            hint=f"Use seconds, over 0 and up to {TIMEOUT_MAX_S:g}.",
        )
    return float(seconds)


def checked_ttl(ttl: float | timedelta) -> int:
    """Return a time to live in milliseconds, 0 for ever (``math.inf``)."""
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if not isinstance(seconds, Real) or type(seconds) is bool:
        seconds = 0.0
    if seconds == inf:
        return 0
    if not TTL_MIN_S <= seconds <= TTL_MAX_S:
        raise RequestError(
            f"ttl={ttl!r} is not possible.",
            hint="Use seconds or a timedelta, from 1 second to 10 years; math.inf: for ever.",
        )
    return round(float(seconds) * 1000)


def check_numbers(n: int, r: int, w: int, dw: int) -> None:
    for name, number, least in (("n", n, 0), ("r", r, 0), ("w", w, 0), ("dw", dw, -1)):
        if type(number) is not int or not least <= number <= 255:
            raise RequestError(
                f"{name}={number!r} is not possible.",
                hint="Use a small number of nodes; 0 is the default.",
            )


def checked_strict(strict: bool) -> bool:
    """Return whether only owners count; RequestError for what merely looks like a yes or no."""
    if type(strict) is not bool:
        raise RequestError(f"strict={strict!r} is not possible.", hint="Use True or False.")
    return strict


def check_session(session: Session | None) -> None:
    if session is not None and not isinstance(session, Session):
        raise RequestError(
            f"session={session!r} is not possible.", hint="A session must come from db.session()."
        )


def a(noun: str) -> str:
    """Return a noun with its article, as a sentence begins.

    >>> a("int"), a("dict")
    ('An int', 'A dict')
    """
    return f"An {noun}" if noun[:1].lower() in "aeio" else f"A {noun}"


def check_loop(loop: AbstractEventLoop) -> None:
    """Raise RequestError in another event loop than that of a client's connections."""
    if get_running_loop() is not loop:
        over = ", which is closed" if loop.is_closed() else ""
        raise RequestError(
            f"The client belongs to another event loop{over}.",
            hint="Connect again in this one: each asyncio.run() makes a loop of its own.",
        )


def check_change(change: object) -> None:
    """Raise RequestError for what cannot change a value as ``update`` wants it."""
    if not callable(change):
        raise RequestError(
            f"{a(type(change).__name__)} is no change.", hint="Give a function of the old value."
        )
    if iscoroutinefunction(change):
        raise _async_change()


def changed(change: Callable[[Any], Any], value: Any) -> Any:
    """Return what a change makes of a value; RequestError if that is yet to be awaited."""
    new = change(value)
    if iscoroutine(new):
        new.close()
        raise _async_change()
    return new


def check_merge(merge: object, makes: str = "") -> None:
    """Raise RequestError for what cannot be a merge; ``makes`` is an example of the call that it
    lacks where it is a function that makes one.
    """
    if not callable(merge):
        raise RequestError(
            f"merge={merge!r} is not possible.",
            hint="Give a function of the siblings' values, such as everwrite.union_of_items.",
        )
    if makes:
        raise RequestError(
            f"{getattr(merge, '__name__', merge)} is no merge: it makes one.",
            hint=f"Say of what: merge=everwrite.{makes}.",
        )
    if iscoroutinefunction(merge):
        raise _async_merge()


def merged(merge: Callable[[list[Any]], Any], values: list[Any]) -> Any:
    """Return what a merge makes of siblings; RequestError if that is no value, but something that
    would make one.
    """
    value = merge(list(values))
    if iscoroutine(value):
        value.close()
        raise _async_merge()
    if callable(value):
        raise RequestError(
            f"The merge {getattr(merge, '__name__', merge)} made a function, and no value.",
            hint="Was its own argument forgotten, as in merge=everwrite.newest('at')?",
        )
    return value


def _async_merge() -> RequestError:
    return RequestError(
        "The merge is an async function.",
        hint="Give a plain one, or merge .values yourself and put that with .context.",
    )


def check_plain(word: str) -> None:
    """Raise WrongType if what was read is a data type that no plain value may take the place of
    unasked: what others do to it meanwhile would be lost beside that.
    """
    if word not in ("", "register"):
        raise WrongType(
            f"{a(word)} is there, and no plain value.",
            hint=f"Change it with bucket.{word}(key); put() with the context of a read replaces it "
            "as a whole.",
        )


def _async_change() -> RequestError:
    return RequestError(
        "The change is an async function.",
        hint="Give a plain one; await what it needs before update(), or use get() and put().",
    )


def bucket_name(name: str | bytes) -> bytes:
    if not isinstance(name, str | bytes):
        raise RequestError(f"{name!r} is no bucket's name.", hint="Use text such as 'carts'.")
    return checked_bucket(name)


def key_error(key: object, error: Exception) -> Exception:
    """Return why a key is refused: for what it is, before what is wrong with it."""
    if isinstance(key, str | bytes | bytearray | memoryview):
        return error
    return RequestError(f"{a(type(key).__name__)} is no key.", hint="Keys are str or bytes.")


def read_first(look: str) -> str:
    """Return what to do where too few nodes are up for the read that a delete begins with."""
    return (
        "Nothing was changed. A delete without a context reads the key first: give it the context "
        f"of a smaller read, such as {look}, and it need not."
    )


def check_context(context: bytes) -> None:
    if type(context) is not bytes or len(context) > CONTEXT_BYTES_MAX:
        raise BadContext(
            "That is not a context.", hint="Use the .context of a Found or Stored as it is."
        )
