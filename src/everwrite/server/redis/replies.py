"""Answers become bytes, in RESP2 or RESP3.

RESP3 has kinds that RESP2 has not: a map is an array of twice as many there, a set an array, a
double and a big text bulk strings, true and false 1 and 0, and nothing is one of two nulls.
"""

from __future__ import annotations

from typing import Any

Answer = Any
"""bytes and str (bulk strings), int, float, bool, None, list, dict, or one of the classes below."""

RESP2, RESP3 = 2, 3


class Simple(str):
    """A word such as OK."""

    __slots__ = ()


class Problem(Exception):
    """An error, as it is told: a code, a blank, and a sentence. Commands raise it."""


class Unordered(list[Any]):
    """The elements of a set."""

    __slots__ = ()


class Pairs(list[tuple[bytes, bytes]]):
    """Names and values, where a name may come twice: pairs in RESP3, one by one in RESP2."""

    __slots__ = ()


class Verbatim(str):
    """A text for people, of several lines."""

    __slots__ = ()


class NoList:
    """No array, where one might have been: told apart from no string in RESP2 only."""


OK = Simple("OK")
QUEUED = Simple("QUEUED")
NO_LIST = NoList()

ANSWER_BYTES_MAX = 32 << 20
"""Of one answer: one value may stand in it many times."""

_OK = b"+OK\r\n"
_NULL = (b"", b"", b"$-1\r\n", b"_\r\n")
_TRUE = (b"", b"", b":1\r\n", b"#t\r\n")
_FALSE = (b"", b"", b":0\r\n", b"#f\r\n")


def encode(answer: Answer, protocol: int) -> bytes:
    """Return an answer as this protocol writes it.

    >>> encode({b"a": 1.5}, RESP2), encode({b"a": 1.5}, RESP3)
    (b'*2\\r\\n$1\\r\\na\\r\\n$3\\r\\n1.5\\r\\n', b'%1\\r\\n$1\\r\\na\\r\\n,1.5\\r\\n')
    """
    kind = type(answer)
    if kind is bytes:
        return b"$%d\r\n%b\r\n" % (len(answer), answer)
    if answer is OK:
        return _OK
    if answer is None:
        return _NULL[protocol]
    if kind is int:
        return b":%d\r\n" % answer
    if _size(answer) > ANSWER_BYTES_MAX:  # looked at before any of it is made
        answer = Problem(f"ERR the answer has over {ANSWER_BYTES_MAX} bytes: ask for less")
    parts: list[bytes] = []
    _add(parts, answer, protocol)
    return b"".join(parts)


def _size(answer: Answer) -> int:
    """Return about how long an answer is as it is sent."""
    if isinstance(answer, bytes | str):
        return len(answer) + 16
    if isinstance(answer, dict):
        return sum(_size(name) + _size(value) for name, value in answer.items())
    if isinstance(answer, list | tuple):
        return sum(map(_size, answer))
    return 32


def _add(parts: list[bytes], answer: Answer, protocol: int) -> None:
    if isinstance(answer, bytes):
        parts.append(b"$%d\r\n%b\r\n" % (len(answer), answer))
    elif answer is None:
        parts.append(_NULL[protocol])
    elif isinstance(answer, bool):
        parts.append((_TRUE if answer else _FALSE)[protocol])
    elif isinstance(answer, int):
        parts.append(b":%d\r\n" % answer)
    elif isinstance(answer, float):
        text = told(answer)
        parts.append(b",%b\r\n" % text if protocol == RESP3 else _bulk(text))
    elif isinstance(answer, Simple):
        parts.append(b"+%b\r\n" % answer.encode())
    elif isinstance(answer, Problem):
        parts.append(b"-%b\r\n" % _one_line(str(answer)))
    elif isinstance(answer, Verbatim):
        text = answer.encode()
        parts.append(
            b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text) if protocol == RESP3 else _bulk(text)
        )
    elif isinstance(answer, str):
        parts.append(_bulk(answer.encode()))
    elif isinstance(answer, dict):
        if protocol == RESP3:
            parts.append(b"%%%d\r\n" % len(answer))
        else:
            parts.append(b"*%d\r\n" % (2 * len(answer)))
        for name, value in answer.items():
            _add(parts, name, protocol)
            _add(parts, value, protocol)
    elif isinstance(answer, NoList):
        parts.append(b"_\r\n" if protocol == RESP3 else b"*-1\r\n")
    elif isinstance(answer, Pairs):
        flat = protocol == RESP2
        parts.append(b"*%d\r\n" % (2 * len(answer) if flat else len(answer)))
        for name, value in answer:
            parts.append(
                _bulk(name) + _bulk(value) if flat else b"*2\r\n" + _bulk(name) + _bulk(value)
            )
    else:
        sign = b"~" if protocol == RESP3 and isinstance(answer, Unordered) else b"*"
        parts.append(b"%b%d\r\n" % (sign, len(answer)))
        for each in answer:
            _add(parts, each, protocol)


def told(number: float) -> bytes:
    """Return a float as Redis writes it: no point where none is needed.

    >>> told(3.0), told(0.1), told(1e21)
    (b'3', b'0.1', b'1000000000000000000000')
    """
    if abs(number) < 1e22 and number == int(number):
        return b"%d" % int(number)
    return repr(number).encode()


def _bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


def _one_line(text: str) -> bytes:
    return text.replace("\r", " ").replace("\n", " ").encode(errors="replace")
