"""What a connection wrote is known to whoever carries out what it asks next."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from everwrite.core.messages.requests import PutReply
from everwrite.core.types.operations import Add
from everwrite.server.redis.front import Front
from everwrite.server.redis.session import SEEN_S, Session

WRITTEN = PutReply(1, b"context", 3, 0, 1, 0, 2)


class At:
    """A clock that stands."""

    def __init__(self) -> None:
        self.now_s = 0.0


def session_at(at: At) -> Session:
    place = SimpleNamespace(next_rid=lambda: 1, next_op=lambda: b"o" * 16)
    front = SimpleNamespace(secret=b"", now=lambda: at.now_s, place=place)
    return Session(cast(Front, front), 1, "127.0.0.1:1")


def test_reads_and_writes_of_a_key_carry_what_the_connection_wrote_there() -> None:
    session = session_at(At())
    cart, other = session.key(b"cart"), session.key(b"other")
    session.wrote(cart, WRITTEN)
    assert session.read(cart).seen == b"context"
    assert session.write(cart, b"tea").context == b"context"
    assert session.change(cart, [Add([], 1)]).context == b"context"
    assert session.read(other).seen == b""
    assert session.write(other, b"tea").context == b""


def test_it_is_forgotten_once_all_owners_have_it() -> None:
    at = At()
    session = session_at(at)
    cart = session.key(b"cart")
    session.wrote(cart, WRITTEN)
    at.now_s = SEEN_S + 1
    assert session.write(cart, b"tea").context == b""
