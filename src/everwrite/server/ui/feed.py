"""The stream of a dashboard: once a second what all nodes say, as server-sent events.

    cluster   each second: {"by", "playground", "left_out", "nodes": [{"name", "said": a glance or
              null}]}
    ring      when it has changed: who owns what, and what is on its way

A round asks this node and the others (neighbours.py), makes each event once, and wakes all who
listen. Rounds go on while somebody listens, and not longer. Who reads slowly gets the newest event
of each kind, whatever was missed: nothing is queued.

Costs: see docs/design/dashboard.md.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import msgspec

from everwrite.core.cluster.plans import name_of
from everwrite.core.errors import EverwriteError, Overloaded
from everwrite.core.handshake import Identity
from everwrite.core.messages.requests import Ask, Told
from everwrite.server.http.asked import Asked
from everwrite.server.http.options import NOTHING, parse
from everwrite.server.http.place import HttpPlace
from everwrite.server.ui.neighbours import NODES_ASKED_MAX, Address, Neighbours

if TYPE_CHECKING:
    from everwrite.server.runtime import Runtime

LISTENERS_MAX = 16
"""Tabs that are left open: each costs 20 KiB a second, and its share of the loop."""
ROUND_S = 1.0
PARTITIONS_DRAWN_MAX = 1024
"""More arcs are thinner than a pixel, and their list is longer than all else."""

_HEAD = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class Feed:
    """The stream of one node."""

    def __init__(self, runtime: Runtime, place: HttpPlace) -> None:
        self._runtime = runtime
        self._local = runtime.node.local
        self._place = place
        me = Identity(
            name=f"dashboard of {self._local.members.me.name}",
            cluster_id=self._local.cluster.cluster_id,
        )
        self._neighbours = Neighbours(me, runtime.options.secret)
        self._loop = runtime.driver.loop
        self._listeners = 0
        self._events: dict[str, tuple[int, bytes]] = {}
        """The newest of each kind, with its number."""
        self._number = 0
        self._ring_made_of: object = None
        self._news: asyncio.Future[None] = self._loop.create_future()
        """Done at the next event."""
        self._rounds: asyncio.Task[None] | None = None
        self._closed = False

    async def serve(self, asked: Asked) -> None:
        """Tell one listener all events from now on, until it hangs up."""
        parse(asked.query, NOTHING)
        if self._listeners >= LISTENERS_MAX:
            raise Overloaded(
                f"{LISTENERS_MAX} dashboards listen to this node, and it takes no more.",
                hint="Close one, or open that of another node.",
                retry_after_ms=5000,
            )
        if asked.method == "HEAD":
            await asked.reply(200, [*_HEAD])
            return
        self._listeners += 1
        gone = self._loop.create_task(asked.hung_up())
        try:
            await asked.begin(200, [*_HEAD])
            self._keep_going()
            await self._tell(asked, gone)
            await asked.write(b"", more=False)
        finally:
            gone.cancel()
            self._listeners -= 1

    async def close(self) -> None:
        """End all streams, and ask nobody any more."""
        self._closed = True
        if not self._news.done():
            self._news.set_result(None)
        if self._rounds is not None:
            self._rounds.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._rounds
        self._neighbours.close()

    # -- one listener ------------------------------------------------------------------------------

    async def _tell(self, asked: Asked, gone: asyncio.Task[None]) -> None:
        told: dict[str, int] = {}
        await asked.write(b"retry: 1000\n\n")
        while not self._closed and not gone.done():
            news = self._news  # before looking: what comes while a slow reader is written to
            for kind, (number, data) in list(self._events.items()):
                if told.get(kind) != number:
                    told[kind] = number
                    await asked.write(data)
            await asyncio.wait([gone, news], return_when=asyncio.FIRST_COMPLETED)

    # -- rounds ------------------------------------------------------------------------------------

    def _keep_going(self) -> None:
        if not self._closed and (self._rounds is None or self._rounds.done()):
            self._rounds = self._loop.create_task(self._go_round())

    async def _go_round(self) -> None:
        try:
            while self._listeners:
                began = self._loop.time()
                await self._look_at_ring()
                await self._look_at_nodes()
                await asyncio.sleep(max(0.0, began + ROUND_S - self._loop.time()))
        finally:
            self._events.clear()
            self._ring_made_of = None
            self._neighbours.close()

    async def _look_at_nodes(self) -> None:
        me = self._local.members.me.name
        others, left_out = self._others()
        mine, answers = await asyncio.gather(
            self._ask("glance"), self._neighbours.ask("glance", others)
        )
        said = sorted({**answers, me: mine}.items())
        nodes = [{"name": name, "said": answer} for name, answer in said]
        playground = bool(self._runtime.options.playground)
        self._publish(
            "cluster", {"by": me, "playground": playground, "left_out": left_out, "nodes": nodes}
        )

    def _others(self) -> tuple[dict[str, Address], int]:
        """Return where the others are, and how many of them are not asked."""
        members = self._local.members
        found = {
            member.name: (member.host, member.port)
            for member in members
            if member.node_id != self._local.me
            and member.port
            and not members.removed(member.node_id)
        }
        asked = sorted(found)[:NODES_ASKED_MAX]
        return {name: found[name] for name in asked}, len(found) - len(asked)

    async def _look_at_ring(self) -> None:
        local = self._local
        placement = local.routes.placement
        made_of = (local.members.digest(), placement.digest, local.serves)
        if made_of == self._ring_made_of:
            return
        ring = await self._ask("ring")
        if ring is None:
            return
        drawn = placement.partitions <= PARTITIONS_DRAWN_MAX
        replicas, preference = ring["replicas"], ring.pop("preference")
        self._publish(
            "ring",
            {
                **ring,
                "owners": [row[:replicas] for row in preference] if drawn else None,
                "moving": {
                    partition: [name_of(local.members, node) for node in serving]
                    for partition, serving in local.routes.moving().items()
                }
                if drawn
                else {},
            },
        )
        self._ring_made_of = made_of

    async def _ask(self, verb: str) -> dict[str, Any] | None:
        """Return what this node says to a verb; None if it does not."""
        place = self._place
        try:
            told: Told = await place.ask(Ask(place.next_rid(), verb, b""))
        except EverwriteError:
            return None
        answer: dict[str, Any] = msgspec.json.decode(told.answer)
        return answer

    def _publish(self, kind: str, said: dict[str, Any]) -> None:
        self._number += 1
        data = msgspec.json.encode(said)
        event = b"event: %s\nid: %d\ndata: %s\n\n" % (kind.encode(), self._number, data)
        self._events[kind] = self._number, event
        news, self._news = self._news, self._loop.create_future()
        if not news.done():
            news.set_result(None)
