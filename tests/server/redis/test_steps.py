"""What commands ask of the core, step by step, where no node would show it: what they do while
others write in between, and how often they try. So the session is made by hand.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from everwrite.core.data.labels import KIND_JSON
from everwrite.core.messages.requests import Get, GetReply, Put, PutReply, Quality
from everwrite.core.types.operations import Exclude
from everwrite.server.redis.command import Steps
from everwrite.server.redis.expiry import AGAIN_MAX, again
from everwrite.server.redis.front import Front
from everwrite.server.redis.hashes import known
from everwrite.server.redis.measures import RedisMeasures
from everwrite.server.redis.session import Session

QUALITY = Quality(3, 0, 2)
WRITTEN = PutReply(1, b"context", 3, 0, 1, 0, 2)
NOW_MS = 1_700_000_000_000


def session() -> Session:
    place = SimpleNamespace(next_rid=lambda: 1, next_op=lambda: b"o" * 16)
    front = SimpleNamespace(secret=b"", now=lambda: 0.0, place=place, measures=RedisMeasures())
    return Session(cast(Front, front), 1, "127.0.0.1:1")


def found(*ends: int, context: bytes = b"read") -> GetReply:
    values = [(KIND_JSON, b"tea") for _ in ends]
    return GetReply(1, values, context, QUALITY, ends=list(ends), time_ms=NOW_MS)


def on(steps: Steps, told: object) -> object:
    """Return what a command asks next; None: it has ended."""
    try:
        return steps.send(told)
    except StopIteration:
        return None


def test_what_is_taken_away_is_what_a_read_saw() -> None:
    client = session()
    data = client.key(b"set")
    client.wrote(data, WRITTEN)
    steps = known(client, data, [Exclude([], [b"a"])])

    assert isinstance(next(steps), Get)
    asked = steps.send(found(0))

    assert isinstance(asked, Put)
    assert (asked.change, asked.context) == (True, b"read")
    with pytest.raises(StopIteration):
        steps.send(WRITTEN)


def test_where_nothing_is_nothing_is_taken_away() -> None:
    client = session()
    steps = known(client, client.key(b"set"), [Exclude([], [b"a"])])
    next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send(found())
    assert end.value.value == []


def test_a_value_keeps_its_kind_and_is_written_again_until_all_of_it_ends() -> None:
    client = session()
    steps = again(client, client.key(b"a"), found(0), 5000)
    asked = next(steps)
    assert isinstance(asked, Put)
    assert (asked.kind, asked.ttl_ms, asked.value) == (KIND_JSON, 5000, b"tea")

    assert isinstance(steps.send(WRITTEN), Get)
    assert isinstance(steps.send(found(0)), Put)
    assert isinstance(steps.send(WRITTEN), Get)
    with pytest.raises(StopIteration):
        steps.send(found(NOW_MS + 5000))


def test_it_is_not_written_again_for_ever() -> None:
    client = session()
    steps = again(client, client.key(b"a"), found(0), 5000)
    writes = 0
    told: object = None
    while (asked := on(steps, told)) is not None:
        writes += isinstance(asked, Put)
        told = WRITTEN if isinstance(asked, Put) else found(0)
    assert writes == AGAIN_MAX
