"""Bugs in what clients are told that they have seen, and in what is believed of what they say."""

from __future__ import annotations

from hashlib import blake2b

from everwrite.core.data import context, versions
from everwrite.core.data.versions import Record, Seen, Version
from everwrite.core.request import read
from everwrite.core.request.look import LookAround, LookedAround
from everwrite.sim.bugs.registry import Patch, area

bug = area("contexts")


@bug(
    "context-covers-unseen",
    "the answer to a put claims that its writer saw all siblings",
    rules=("context", "frontier"),
)
def _context_covers_unseen() -> list[Patch]:
    return [(versions, "seen_after", lambda record, seen, written: Seen(record.clock, []))]


@bug(
    "context-spans-gap",
    "a write is named by a clock also where that claims earlier writes of its actor",
    rules=("context", "frontier"),
)
def _context_spans_gap() -> list[Patch]:
    right = versions.seen_after

    def seen_after(record: Record, seen: Seen, written: Version) -> Seen:
        after = right(record, seen, written)
        dot = (written.actor, written.counter)
        if dot not in after.dots:
            return after
        clock = versions.join(after.clock, dict([dot]))
        return Seen(clock, [each for each in after.dots if each != dot])

    return [(versions, "seen_after", seen_after)]


@bug(
    "accept-foreign-context",
    "contexts are not checked against key and signature",
    rules=("foreign context", "frontier", "forgotten"),
    needs=("foreign_context",),
)
def _accept_foreign_context() -> list[Patch]:
    return [(context, "verify", lambda secret, data_key, token: context.peek(token))]


@bug(
    "context-not-bound",
    "the signature of a context does not say of which key it is",
    rules=("foreign context", "metadata"),
    needs=("foreign_context",),
)
def _context_not_bound() -> list[Patch]:
    def mac(secret: bytes, data_key: bytes, body: bytes) -> bytes:
        return blake2b(body, key=secret, digest_size=16).digest()

    return [(context, "_mac", mac)]


@bug(
    "second-token-believed",
    "of a context of several tokens only the first one's signature is checked",
    rules=("foreign context", "metadata"),
    needs=("foreign_context",),
)
def _second_token_believed() -> list[Patch]:
    right = context.verify

    def verify(secret: bytes, data_key: bytes, token: bytes) -> Seen:
        tokens = context._tokens(token)
        if len(tokens) < 2:
            return right(secret, data_key, token)
        right(secret, data_key, tokens[0])
        return context.peek(token)

    return [(context, "verify", verify)]


@bug(
    "dots-ignored",
    "a put drops what its context's clock covers, and not what a single dot names",
    rules=("frontier", "false sibling", "resurrection"),
)
def _dots_ignored() -> list[Patch]:
    right = versions.put

    def put(record: Record, seen: Seen, written: Version) -> Record:
        return right(record, Seen(seen.clock, []), written)

    return [(versions, "put", put)]


@bug(
    "dots-not-looked-for",
    "a put that names a dot which its coordinator does not know goes on without it",
    rules=("dots",),
)
def _dots_not_looked_for() -> list[Patch]:
    right = LookAround.begin

    def begin(self: LookAround) -> None:
        if self._put.retry:
            right(self)
        else:
            self._local.out.send(self._local.me, LookedAround(self._source, self._put))

    return [(LookAround, "begin", begin)]


@bug(
    "session-ignored",
    "a read answers its session whatever the replicas know",
    rules=("session",),
)
def _session_ignored() -> list[Patch]:
    return [(read, "_knows", lambda record, seen: True)]
