r"""Bytes become commands: arrays of bulk strings, as all clients send them, and inline ones.

    *2\r\n$3\r\nGET\r\n$5\r\nalice\r\n          GET alice\r\n

Small commands that came whole, which nearly all do, are taken apart at the ends of their lines all
at once; where a length does not fit (a value has a line's end within, or is long, or is not all
here) they are read byte by byte. Each length is looked at before anything is kept. An argument over
``bulk_max`` is dropped as it comes, so that its sender hears what is wrong and the connection goes
on; what is no command at all, or too much of one, ends it.
"""

from __future__ import annotations

from everwrite.core.data.keys import VALUE_BYTES_MAX
from everwrite.core.wrong_port import NATIVE_ON_REDIS

COMMAND_ARGS_MAX = 65_536
"""In one command."""
COMMAND_BYTES_MAX = 16 << 20
"""In one command: an MSET of sixteen of the largest values."""
INLINE_BYTES_MAX = 64 << 10
DROPPED_MAX = 512 << 20
"""An argument that Redis would take (its proto-max-bulk-len) is told that it is too long here."""
STRANGER_ARGS_MAX = 10
STRANGER_BULK_MAX = 16 << 10
"""What whoever has not said the secret yet may send: as in Redis."""
HEAD_BYTES_MAX = 32
"""`*` or `$`, a number, and the end of the line."""

_WORD_BYTES = 64
"""What a word costs beside its bytes."""
_HTTP = (b" HTTP/1.1", b" HTTP/1.0")

LINES_BYTES_MAX = 64 << 10
"""What is taken apart at once."""

_COUNTS = {b"*%d" % count: count for count in range(1, STRANGER_ARGS_MAX + 1)}
_SIZES = [b"$%d" % size for size in range(1024)]
"""Heads of what is small."""

_NAMED_BYTES = 40
"""Of a command and its key, in an error."""


class Garbled(Exception):
    """These bytes are no command; its text is the answer, and the connection ends."""


class TooLong(Exception):
    """A command has an argument that is too long: it was dropped, and the next one can be read."""


class Requests:
    """What has come of one connection and is not done yet."""

    __slots__ = (
        "_args",
        "_at",
        "_data",
        "_drop",
        "_due",
        "_held",
        "_lines",
        "_next_line",
        "args_max",
        "bulk_max",
        "long",
    )

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._lines: list[bytes] = []
        """The same, taken apart at the ends of its lines; empty: it is read byte by byte."""
        self._next_line = 0
        self._args: list[bytes] = []
        """Those of the command that is being read,"""
        self._due = 0
        """how many are still to come,"""
        self._held = 0
        """and what they hold."""
        self._drop = 0
        """So many bytes are to be dropped."""
        self.long = 0
        """The size of the longest argument of this command that was dropped."""
        self.args_max = COMMAND_ARGS_MAX
        self.bulk_max = VALUE_BYTES_MAX

    @property
    def kept(self) -> int:
        """How many bytes wait here."""
        return self._held + len(self._data) + _WORD_BYTES * (len(self._args) + len(self._lines))

    @property
    def inside(self) -> bool:
        """Whether a command has begun to come and is not whole."""
        if self._lines:
            return self._next_line < len(self._lines) - 1
        return bool(self._due or self._at < len(self._data))

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        if self._lines:
            self._by_bytes()
        if self._at < len(self._data):
            data = self._data[self._at :] + data
        elif not self._due and len(data) <= LINES_BYTES_MAX:
            self._lines, self._next_line = data.split(b"\r\n"), 0
        self._data = data
        self._at = 0

    def next(self) -> list[bytes] | None:
        """Return the next command, which is never empty; None: more must come first."""
        lines = self._lines
        if lines:
            at = self._next_line
            count = _COUNTS.get(lines[at])
            if count is not None:
                end = at + 1 + 2 * count
                args = lines[at + 2 : end : 2]
                try:
                    fits = [_SIZES[len(arg)] for arg in args] == lines[at + 1 : end : 2]
                except IndexError:  # a long one
                    fits = False
                if fits and end < len(lines):  # else the last line has no end yet
                    self._next_line = end
                    return args
            self._by_bytes()
        return self._next()

    def _by_bytes(self) -> None:
        """Go on byte by byte, from where the lines have led."""
        rest = self._lines[self._next_line :]
        self._lines = []
        self._at = len(self._data) - sum(map(len, rest)) - 2 * (len(rest) - 1)

    def _next(self) -> list[bytes] | None:
        while True:
            if not self._due:
                if self._at >= len(self._data):
                    self._data, self._at = b"", 0  # a whole chunk is not kept for nothing
                    return None
                if self._data[self._at] != 42:  # "*"
                    words = self._inline()
                    if words:
                        return words
                    if words is None:
                        return None
                    continue
                count = self._head(self.args_max, "invalid multibulk length")
                if count is None:
                    return None
                if count <= 0:
                    continue
                self._due = count
            if not self._bulks():
                return None
            args, self._args, self._held = self._args, [], 0
            if self.long:
                size, self.long = self.long, 0
                of = " ".join(ascii(each[:_NAMED_BYTES])[1:] for each in args[:2] if each)
                raise TooLong(
                    f"ERR an argument{' of ' * bool(of)}{of} has {size} bytes, the most is "
                    f"{self.bulk_max}; nothing was done"
                )
            return args

    def _bulks(self) -> bool:
        """Read arguments; say whether that was the last."""
        data, at, args = self._data, self._at, self._args
        find, most, size_of = data.find, self.bulk_max, len(data)
        while self._due:
            if self._drop:
                if not self._dropped():
                    return False
                at = self._at
                continue
            end = find(b"\r\n", at)
            digits = data[at + 1 : end]
            if end < 0 or end - at > HEAD_BYTES_MAX or data[at] != 36 or not digits.isdigit():
                self._at = at
                if end < 0 and size_of - at <= HEAD_BYTES_MAX and data[at : at + 1] in b"$":
                    return False
                raise self._no_bulk(at)
            size = int(digits)
            at = end + 2
            if size > most:
                self._at = at
                self._begin_to_drop(size)
                continue
            after = at + size
            if after + 2 > size_of:
                self._at = end - len(digits) - 1
                return False
            if data[after] != 13 or data[after + 1] != 10:
                raise Garbled("ERR Protocol error: an argument is not as long as it says")
            args.append(data[at:after])
            self._held += size
            if self._held > COMMAND_BYTES_MAX:
                raise Garbled(f"ERR Protocol error: a command has over {COMMAND_BYTES_MAX} bytes")
            at = after + 2
            self._due -= 1
        self._at = at
        return True

    def _begin_to_drop(self, size: int) -> None:
        if size > DROPPED_MAX or self.bulk_max < VALUE_BYTES_MAX:
            raise Garbled("ERR Protocol error: invalid bulk length")
        self.long = max(self.long, size)
        self._drop = size + 2

    def _dropped(self) -> bool:
        """Drop what is here of an argument that is too long; say whether all of it was."""
        here = min(self._drop, len(self._data) - self._at)
        self._drop -= here
        self._at += here
        if self._drop:
            self._data, self._at = b"", 0
            return False
        self._args.append(b"")
        self._due -= 1
        return True

    def _head(self, most: int, wrong: str) -> int | None:
        """Return the number in a line such as ``*3``; None if the line is not whole."""
        end = self._data.find(b"\r\n", self._at)
        if end < 0:
            if len(self._data) - self._at > HEAD_BYTES_MAX:
                raise Garbled(f"ERR Protocol error: {wrong}")
            return None
        digits = self._data[self._at + 1 : end]
        if digits.startswith(b"-"):
            count = -1 if digits[1:].isdigit() else most + 1
        else:
            count = int(digits) if len(digits) <= HEAD_BYTES_MAX and digits.isdigit() else most + 1
        if count > most:
            raise Garbled(f"ERR Protocol error: {wrong}")
        self._at = end + 2
        return count

    def _no_bulk(self, at: int) -> Garbled:
        found = self._data[at : at + 1]
        if found != b"$":
            return Garbled(f"ERR Protocol error: expected '$', got '{found.decode('latin-1')}'")
        return Garbled("ERR Protocol error: invalid bulk length")

    def _inline(self) -> list[bytes] | None:
        """Return the words of a line; None if it is not whole."""
        end = self._data.find(b"\n", self._at)
        if (len(self._data) if end < 0 else end) - self._at > INLINE_BYTES_MAX:
            raise Garbled("ERR Protocol error: too big inline request")
        if self._data.startswith(b"\0", self._at):  # the length of a frame
            raise Garbled(f"{NATIVE_ON_REDIS[1:].decode()}, and nothing native is spoken")
        if end < 0:
            return None
        line = self._data[self._at : end].rstrip(b"\r")
        self._at = end + 1
        if line.endswith(_HTTP):
            raise Garbled("ERR this is the Redis port of an Everwrite node, and no HTTP is spoken")
        words = split_words(line)
        if words and len(max(words, key=len)) > self.bulk_max:
            raise Garbled("ERR Protocol error: too big inline request")
        return words


def split_words(line: bytes) -> list[bytes]:
    r"""Return the words of an inline command; Garbled if its quotes do not end.

    >>> split_words(b'SET "a b" \'c\\\'d\' "\\x41\\n"')
    [b'SET', b'a b', b"c'd", b'A\n']
    """
    words: list[bytes] = []
    at, size = 0, len(line)
    while True:
        while at < size and line[at : at + 1].isspace():
            at += 1
        if at >= size:
            return words
        word = bytearray()
        while at < size and not line[at : at + 1].isspace():
            quote = line[at : at + 1]
            if quote in (b'"', b"'"):
                at = _quoted(line, at + 1, quote, word)
                if at < size and not line[at : at + 1].isspace():
                    raise _unbalanced()
                break
            word += quote
            at += 1
        words.append(bytes(word))


def _quoted(line: bytes, at: int, quote: bytes, word: bytearray) -> int:
    """Add what stands in quotes to a word; return where it goes on."""
    while True:
        here = line[at : at + 1]
        if not here:
            raise _unbalanced()
        if here == quote:
            return at + 1
        if here == b"\\" and quote == b"'" and line[at + 1 : at + 2] == b"'":
            word += b"'"
            at += 2
        elif here == b"\\" and quote == b'"' and at + 1 < len(line):
            code = line[at + 2 : at + 4]
            if line[at + 1 : at + 2] == b"x" and len(code) == 2 and _is_hex(code):
                word.append(int(code, 16))
                at += 4
            else:
                word += _ESCAPES.get(line[at + 1 : at + 2], line[at + 1 : at + 2])
                at += 2
        else:
            word += here
            at += 1


def _is_hex(code: bytes) -> bool:
    return all(each in b"0123456789abcdefABCDEF" for each in code)


_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


def _unbalanced() -> Garbled:
    return Garbled("ERR Protocol error: unbalanced quotes in request")
