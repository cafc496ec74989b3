"""One example of each message, for tests of all that carries messages."""

from __future__ import annotations

from typing import get_args

from everwrite.core.messages.channels import (
    Listen,
    Listening,
    Noted,
    Publish,
    Published,
    Reached,
    Spread,
    Wanted,
)
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.explain import Copy, Show, Shown
from everwrite.core.messages.greeting import Hello, Proof, Refused
from everwrite.core.messages.hints import AskRoom, Room
from everwrite.core.messages.listing import List, Listed, Named, Names
from everwrite.core.messages.load import Load
from everwrite.core.messages.members import (
    IN,
    Draft,
    Member,
    News,
    Ping,
    Pong,
    Probe,
    Probed,
    Rows,
    Ruling,
    Summary,
)
from everwrite.core.messages.moving import GaveUp, GiveUp, Match, Matched, Pull, Slice
from everwrite.core.messages.requests import (
    ABSENT,
    FOUND,
    SAME,
    STORED,
    SYNC_YES,
    UNREADABLE,
    Ask,
    Failure,
    Fetch,
    FetchReply,
    Get,
    GetReply,
    Put,
    PutReply,
    Quality,
    Store,
    StoreReply,
    Told,
    Touch,
)
from everwrite.core.messages.tombstones import Confirm, Confirmed, Reap, Reaped
from everwrite.core.messages.trees import DIFFERENT, Differing, Entries, Rooted, Roots, Summed, Sums

ENTRY = Member(b"n" * 8, "node-1", "127.0.0.1", 7400, "z", 1.0, 1, 2, b"l" * 8, b"\x05", b"\x07")
RULING = Ruling(b"n" * 8, "node-1", IN, "z", 1.0, 3, b"p" * 8)

EXAMPLES: list[AnyMessage] = [
    Hello(1, 1, b"c" * 16, b"n" * 8, "node-1", b"r" * 16, b"p" * 32, "everwrite", 256, 3),
    Proof(b"p" * 32),
    Refused("denied", "Another secret.", "Use the same one."),
    Get(1, b"key", 5000, 3, 2, True, b"seen", b"view", True),
    Put(2, b"key", b"value", b"context", b"op", 5000, 1, 3, 2, 0, True, True, b"view", True),
    Put(3, b"key", None, b"", b"op", 5000),
    Put(3, b"key", b"value", b"", b"op", 5000, ttl_ms=60_000),
    Put(3, b"key", b"value", b"", b"op", 5000, kind=b"a label"),
    Put(3, b"key", b"operations", b"", b"op", 5000, change=True),
    Put(3, b"key", b"value", b"", b"op", 5000, over=True),
    Get(3, b"key", 5000, marks=True),
    Touch(4, b"key", 60_000, b"op", 5000, 3, 2, 1, True, True, b"view", True),
    Ask(4, "status", b"{}"),
    Fetch(5, b"key", 4000, b"view", True),
    Store(6, b"key", b"record", 4000, SYNC_YES, b"n" * 8, True),
    Store(6, b"key", b"record", 4000, SYNC_YES, b"", False, b"f" * 16, b"op", 5, True),
    FetchReply(7, FOUND, b"record", b"context", True),
    FetchReply(8, ABSENT, b""),
    FetchReply(8, FOUND, b"record", b"context", time_ms=1_700_000_000_000),
    StoreReply(9, STORED, True),
    GetReply(10, [(0, b"a"), (2, b"{}")], b"context", Quality(2, 1, 2, "", 1), True),
    GetReply(11, [], b"", Quality(2, 0, 2, "deleted")),
    GetReply(11, [(0, b"a"), (0, b"b")], b"context", Quality(2, 0, 2), False, [0, 5], 4),
    GetReply(11, [(b"a label", b"a")], b"c", Quality(2, 0, 2), marks=[(b"a" * 16, 1, 5)]),
    PutReply(12, b"context", 2, 1, 3, 1, 2, True),
    PutReply(12, b"context", 2, 1, 3, 1, 2, True, 5, 4),
    PutReply(12, b"context", 2, 1, 3, 1, 2, results=[-1, 2**63 - 1]),
    Failure(13, "overloaded", "Too much.", "Wait.", "none", 0, 2, 100),
    Told(14, b"{}"),
    Ping(15),
    Pong(16, 7, 1_700_000_000_000),
    Probe(b"n" * 8),
    Probed(b"n" * 8, 250),
    Summary(b"d" * 16),
    Rows([(b"n" * 8, 1, 2)], [(b"n" * 8, 3, b"p" * 8, IN)], (4, b"q" * 8), True),
    News([ENTRY], [RULING], Draft(4, b"q" * 8, [RULING])),
    News([], []),
    Pull(17, 3, b"after", b"until", b"d" * 16),
    Slice(18, FOUND, [(b"key", b"record")], b"key", True),
    Slice(19, SAME, []),
    GiveUp(20, 3),
    GaveUp(21, True),
    Match(22, 3, b"", b"until", b"d" * 16),
    Matched(23, SAME),
    Confirm(24, b"v" * 16, 7, [b"key"]),
    Confirmed(25, 7, [0], [b"f" * 16], 9),
    Reap(26, [(b"n" * 8, 9)], [(b"key", b"f" * 16)], 3),
    Reaped(27),
    Load(130, 250, True, 12),
    Roots(24, b"s" * 8, [(3, 7, 2**64 - 1), (4, 7, 0)], [9], 4),
    Rooted(24, [SAME, DIFFERENT]),
    Sums(25, 3, b"s" * 8, 7, 16, [(0, 64)]),
    Summed(25, FOUND, [0, 2**64 - 1]),
    Entries(26, 3, b"s" * 8, 7, [(b"from", b"to")], [2**64 - 1]),
    Differing(26, FOUND, [(b"key", b"record")], [5], b"last"),
    AskRoom(24, 1000, 300_000),
    Room(24, 32, 0),
    List(27, b"carts", b"a", b"after-key", 5000, 2),
    Listed(27, [b"a1", b"a2"], b"next-key", 2, 1, 2),
    Names(28, b"carts", b"a", b"after-key", 5000),
    Show(29, b"key"),
    Shown(
        29, FOUND, Copy(FOUND, b"record"), Copy(UNREADABLE, b"", "rot", True), 1, 5, {b"n" * 8: 7}
    ),
    Named(28, FOUND, [b"data-key"], b"data-key"),
    Publish(30, b"news", b"hello", True),
    Published(30, 7),
    Listen(31),
    Listening(31),
    Wanted(1 << 41, True),
    Noted(1 << 41),
    Spread((1 << 41) + 1, b"news", b"hello", True),
    Reached((1 << 41) + 1, 3),
]

assert {type(example) for example in EXAMPLES} == set(get_args(AnyMessage))
