"""What a command is, and how its arguments are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from everwrite.core.messages.channels import Listen, Publish
from everwrite.core.messages.listing import List
from everwrite.core.messages.requests import Ask, Get, Put, Touch
from everwrite.server.redis.replies import Answer, Problem

if TYPE_CHECKING:
    from everwrite.server.redis.session import Session

Request = Get | Put | Touch | List | Publish | Listen | Ask

Rest = Literal["rest"]
REST: Final[Rest] = "rest"
"""What a command yields in the middle of much work: it goes on in a later turn of the loop."""

Steps = Generator[Request | list[Any] | Rest, Any, Answer]
"""What a command asks of the core: one message, and it is sent the reply; or a list, and it is sent
a list. An EverwriteError is thrown in. Or REST."""

Args = list[bytes]
"""A command's words, its name first."""

Run = Callable[["Session", Args, list[bytes]], "Steps | Answer"]
"""What a command does, given its words and the data keys of its keys."""

READ, BLIND, CHANGE, ALONE = range(4)
"""With what a command may go together on one key: READ with reads, BLIND (it replaces whatever is
there) with its like, CHANGE (it asks one change, and reads nothing first) with its like, in one put
(joining.py), ALONE with nothing."""

PART = 128
"""Messages of one command that are asked at once."""

Group = Literal[
    "connection",
    "server",
    "string",
    "generic",
    "hash",
    "set",
    "hyperloglog",
    "pubsub",
    "transactions",
    "scripting",
    "cluster",
    "own",
]


class Direct(NamedTuple):
    """How a command that asks one message and looks at one reply is done without a generator: a
    third of its cost. For what comes ten thousand times a second.
    """

    ask: Callable[[Session, Args, bytes], Request]
    tell: Callable[[Session, bytes, Any], Answer]


class Sub(NamedTuple):
    """What a command does if this is its second word."""

    run: Run
    arity: int
    """As that of a command: its name and this word count."""
    summary: str


class Command(NamedTuple):
    """One command, as the table of docs/redis.md has it."""

    name: str
    run: Run
    arity: int
    """So many words, the name among them; negative: at least so many."""
    keys: tuple[int, int, int] = (0, 0, 0)
    """The first and the last word that are keys, and from one to the next; negative: from the
    end."""
    mode: int = ALONE
    group: Group = "generic"
    summary: str = ""
    advisory: bool = False
    """Whether it reads first and writes then, and two clients may both be the first."""
    plain: int = 0
    """With so many words, and no others, it is BLIND, and done directly; 0: always, if it is."""
    direct: Direct | None = None
    whole: bool = False
    """Whether it looks at data that no key of it names: then it runs by itself."""
    behind: bool = False
    """Whether all that came before must be done first, but for its like: whoever hears of it may
    look for what they wrote."""
    open: bool = False
    """Whether who has not said the secret may use it."""
    pushes: bool = False
    """Whether its answers are pushed, as publications are."""
    refused: str = ""
    """Why it is not done here."""
    counted: int = 0
    """The word that says how many keys follow it, with which ``keys`` begin; 0: none does."""
    subcommands: Mapping[bytes, Sub] = MappingProxyType({})
    """What its second word may be."""

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        return self.keys[0] > 0 and self.mode != READ

    @property
    def only_reads(self) -> bool:
        """Whether it changes nothing, neither a key nor what is known of the client."""
        looks = self.group == "server" or (self.whole and self.group not in ("scripting", "own"))
        return self.mode == READ or (looks and not self.name.startswith("flush"))

    def fits(self, args: Args) -> bool:
        """Say whether the number of words is right."""
        return fits(args, self.arity)

    def keys_in(self, args: Args) -> list[bytes]:
        """Return the keys among these words."""
        first, last, step = self.keys
        if not first:
            return []
        if self.counted:
            return args[self.counted + 1 :][: keys_counted(args, self.counted, self.name)]
        end = len(args) + last if last < 0 else last
        return args[first : end + 1 : step]


def fits(args: Args, arity: int) -> bool:
    """Say whether there are so many words; of a negative number at least so many."""
    return len(args) == arity if arity > 0 else len(args) >= -arity


def keys_counted(args: Args, at: int, name: str) -> int:
    """Return how many keys follow the word that says so; a Problem if there are fewer words."""
    found = integer_in(args[at])
    if name == "sintercard":  # as Redis words it
        if found is None or found <= 0:
            raise Problem("ERR numkeys should be greater than 0")
    elif found is None:
        raise no_integer()
    elif found < 0:
        raise Problem("ERR Number of keys can't be negative")
    if found > len(args) - at - 1:
        raise Problem("ERR Number of keys can't be greater than number of args")
    return found


def syntax_error() -> Problem:
    """Return what Redis says of options that it does not know."""
    return Problem("ERR syntax error")


def wrong_type() -> Problem:
    """Return what Redis says where another type stands."""
    return Problem("WRONGTYPE Operation against a key holding the wrong kind of value")


def wrong_number(name: str) -> Problem:
    """Return what Redis says of too many or too few words."""
    return Problem(f"ERR wrong number of arguments for '{name}' command")


def no_integer() -> Problem:
    """Return what Redis says where a number should stand."""
    return Problem("ERR value is not an integer or out of range")


INTEGER_MAX = (1 << 63) - 1
INTEGER_MIN = -(1 << 63)

_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]{0,18})")


def integer_in(word: bytes) -> int | None:
    """Return a whole number of 64 bits; None if these bytes are none.

    >>> integer_in(b"-7"), integer_in(b"07"), integer_in(b"9223372036854775808")
    (-7, None, None)
    """
    if not _INTEGER.fullmatch(word) or word == b"-0":
        return None
    number = int(word)
    return number if INTEGER_MIN <= number <= INTEGER_MAX else None


def number(word: bytes) -> int:
    """Return a whole number of 64 bits, or raise a Problem."""
    found = integer_in(word)
    if found is None:
        raise no_integer()
    return found


def count_in(word: bytes) -> int:
    """Return a number that is not negative, or raise a Problem."""
    found = number(word)
    if found < 0:
        raise Problem("ERR value is out of range, must be positive")
    return found


_FLOAT = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")


FLOAT_OVER = 1e308
"""From here on a number is too large."""


def float_in(word: bytes) -> float | None:
    """Return a number with a fraction; None if these bytes are none, or too large."""
    if not _FLOAT.fullmatch(word):
        return None
    found = float(word)
    return found if abs(found) < FLOAT_OVER else None


def float_sum(there: float, amount: float) -> float:
    """Return the sum of two of these, or raise a Problem: it is to be readable as one again."""
    found = there + amount
    if abs(found) >= FLOAT_OVER:
        raise Problem("ERR increment would produce NaN or Infinity")
    return found


def words(raw: bytes) -> str:
    """Return a client's word for a sentence, shortened."""
    return raw[:128].decode("utf-8", "replace")
