"""The verb by which an operator sees which tombstones wait for what.

tombstones  {"limit": n, "collect": bool}: those that this node sees to, the first of them with
            what speaks against each; ``collect``: go through them now
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from everwrite.core.cluster.holdings import partitions_in
from everwrite.core.cluster.plans import name_of
from everwrite.core.copies import TOMBSTONES
from everwrite.core.data.keys import split_key
from everwrite.core.errors import EverwriteError, RequestError
from everwrite.core.moving.ranges import first_key
from everwrite.core.tombstones.confirm import DOWN, REASONS
from everwrite.server.state import after
from everwrite.storage.store import Unreadable

if TYPE_CHECKING:
    from everwrite.server.runtime import Runtime

Answer = dict[str, Any]

ROWS_MAX = 1_000
"""Entries read for one answer, on the loop."""


class Collecting:
    """The tombstones of one node, for people."""

    def __init__(self, runtime: Runtime) -> None:
        self._store = runtime.driver.disk.store
        self._local = runtime.node.local
        self._collect = runtime.node.collect
        self.verbs: dict[str, Callable[[Answer], Answer]] = {"tombstones": self.tombstones}

    def tombstones(self, arguments: Answer) -> Answer:
        """What is still there, since when, and why."""
        limit = arguments.get("limit", 20)
        if not isinstance(limit, int) or not 0 <= limit <= ROWS_MAX:
            raise RequestError(f'"limit" is a number from 0 to {ROWS_MAX}.')
        collect, local = self._collect, self._local
        if arguments.get("collect"):
            collect.soon()
        down = collect.down()
        return {
            "id": local.me.hex(),
            "name": local.members.me.name,
            "queued": collect.queued,
            "confirmed_once": collect.waiting,
            "collected": local.counters.tombstones_collected,
            "down": name_of(local.members, down) if down else "",
            "life_ms": 2 * local.config.store_life_ms,
            "waiting": [
                {"why": self._said(code, node), "tombstones": number}
                for (code, node), number in sorted(collect.counts().items())
            ],
            "rows": self._rows(limit, down),
        }

    def _rows(self, limit: int, down: bytes) -> list[Answer]:
        rows: list[Answer] = []
        for disk_key, payload in self._first(limit):
            key = disk_key[1:]
            bucket, name = _named(key)
            unread = isinstance(payload, Unreadable)
            since_ms = 0 if unread else int.from_bytes(payload, "big")  # type: ignore[arg-type]
            rows.append(
                {
                    "bucket": bucket.decode(errors="backslashreplace"),
                    "key": name.decode(errors="backslashreplace"),
                    "age_ms": max(0, self._local.time_ms - since_ms) if since_ms else None,
                    **self._why(key, down),
                }
            )
        return rows

    def _first(self, limit: int) -> list[tuple[bytes, bytes | Unreadable]]:
        """Return the first entries that this node sees to, and read no others."""
        found: list[tuple[bytes, bytes | Unreadable]] = []
        routes = self._local.routes
        partitions = routes.placement.partitions
        for partition in partitions_in(routes.owned):
            if len(found) >= limit:
                break
            start = first_key(partition, partitions)
            if self._collect.leads(start):
                last = partition == partitions - 1
                end = (
                    after(TOMBSTONES) if last else TOMBSTONES + first_key(partition + 1, partitions)
                )
                found += self._store.scan(TOMBSTONES + start, end, limit - len(found))
        return found

    def _why(self, key: bytes, down: bytes) -> Answer:
        """Return what a tombstone waits for, in words, and how long ago that was said."""
        waits_ms = self._collect.waits_ms(key)
        if down:
            return {"why": self._said(DOWN, down), "said_ms": 0}
        if waits_ms >= 0:
            return {"why": "all have confirmed it once", "again_ms": waits_ms}
        reason = self._collect.reasons.get(key)
        if reason is None:
            return {"why": "its turn"}
        code, node, at_ms = reason
        return {"why": self._said(code, node), "said_ms": max(0, self._local.time_ms - at_ms)}

    def _said(self, code: int, node: bytes) -> str:
        return REASONS[code].format(name_of(self._local.members, node))


def _named(data_key: bytes) -> tuple[bytes, bytes]:
    """Return a bucket and a key; where the disk has damaged the key, what is left of it."""
    try:
        return split_key(data_key)
    except EverwriteError:
        return b"?", data_key
