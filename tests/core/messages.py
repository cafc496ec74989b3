"""One example of each message, for tests of all that carries messages."""

from __future__ import annotations

from typing import get_args

from everwrite.core.messages import (
    ABSENT,
    FOUND,
    STORED,
    SYNC_YES,
    AnyMessage,
    Ask,
    Failure,
    Fetch,
    FetchReply,
    Get,
    GetReply,
    Hello,
    Member,
    Members,
    Ping,
    Pong,
    Proof,
    Put,
    PutReply,
    Quality,
    Refused,
    Store,
    StoreReply,
    Told,
)

EXAMPLES: list[AnyMessage] = [
    Hello(1, 1, b"c" * 16, b"n" * 8, "node-1", b"r" * 16, b"p" * 32, "everwrite", 256, 3),
    Proof(b"p" * 32),
    Refused("denied", "Another secret.", "Use the same one."),
    Get(1, b"key", 5000, 3, 2, True, b"seen", b"view", True),
    Put(2, b"key", b"value", b"context", b"op", 5000, 1, 3, 2, 0, True, True, b"view", True),
    Put(3, b"key", None, b"", b"op", 5000),
    Ask(4, "status", b"{}"),
    Fetch(5, b"key", 4000, b"view", True),
    Store(6, b"key", b"record", 4000, SYNC_YES, b"n" * 8, True),
    FetchReply(7, FOUND, b"record", b"context", True),
    FetchReply(8, ABSENT, b""),
    StoreReply(9, STORED, True),
    GetReply(10, [(0, b"a"), (2, b"{}")], b"context", Quality(2, 1, 2, "", 1), True),
    GetReply(11, [], b"", Quality(2, 0, 2, "deleted")),
    PutReply(12, b"context", 2, 1, 3, 1, 2, True),
    Failure(13, "overloaded", "Too much.", "Wait.", "none", 0, 2, 100),
    Told(14, b"{}"),
    Ping(15),
    Pong(16),
    Members([Member(b"n" * 8, "node-1", "127.0.0.1", 7400, "z", 1.0, 1, 2)]),
]

assert {type(example) for example in EXAMPLES} == set(get_args(AnyMessage))
