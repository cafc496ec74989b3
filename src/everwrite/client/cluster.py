"""The cluster as one client sees it: requests in flight, the nodes that take them, and one ticker
for all.

    AsyncBucket.get/put -> Cluster.read/put -> Connection.send ...  -> Connection ->
    Read/Call.answered ->
    the caller's future

``pending`` is the table of requests by request id. Instead of a timer per request there is one
ticker, which runs while there is anything in the table and looks at those that are ``due``.

A node that was asked something and stays silent is a *suspect* after a quarter second: new requests
pass it over, and it's sent a question that any healthy node answers at once. Its next word clears
it; if none comes, its connection is given up and opened anew. So a slow answer never costs a
healthy node its connection.

Costs: a put is a struct, a message and a future; a coordinated read one message more.
Source: Dynamo 4.5 (first reachable nodes of the preference list), 6.4 (client-driven coordination).
"""

from __future__ import annotations

import asyncio
import os
from asyncio import get_running_loop as here
from collections.abc import Sequence
from time import monotonic
from typing import Any

from everwrite.client.arguments import check_loop
from everwrite.client.call import Call
from everwrite.client.connection import Connection, Request
from everwrite.client.limits import Timing
from everwrite.client.manners import Budget, choose, most_strained
from everwrite.client.members import Members, closed, untold
from everwrite.client.pool import Address, Connect, Pool
from everwrite.client.read import Read
from everwrite.client.table import Counters, Late, left_ms
from everwrite.client.view import Order, Routes, View
from everwrite.core.errors import EverwriteError, Overloaded, RequestError, Unreachable
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.requests import (
    Ask,
    Fetch,
    FetchReply,
    Get,
    GetReply,
    Put,
    PutReply,
    Told,
    Touch,
)

OP_BYTES = 12
"""96 random bits name a put: no two are ever the same."""

_OPS_AT_ONCE = 256


class Cluster:
    """One client's door to a cluster; belongs to the loop that it was made in."""

    def __init__(
        self,
        seeds: Sequence[Address],
        secret: bytes,
        *,
        retries: int,
        in_flight_max: int,
        timing: Timing,
        connect: Connect | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._retries = retries
        self._in_flight_max = in_flight_max
        self._hedge_s = timing.hedge_s
        self.timing = timing
        self.pending: dict[int, Request] = {}
        self.counters = Counters()
        self.late = Late(self.counters)
        self.now = monotonic  # the loop's clock is coarser (uvloop: milliseconds) and costs more
        self.view = b""
        self.replicas = 0
        """How many copies the cluster keeps, as far as is known."""
        """Digest of the placement that we go by; empty if the nodes go by another."""
        self.routes: Routes
        self._routed = False
        self._pool = Pool(self, self.pending, secret, timing, connect)
        self._members = Members(
            self._pool, seeds, timing, self.counters, self._ask_view, self._go_by
        )
        self.budget = Budget(self.now())
        self._strained = False
        """Whether something is held back from any node."""
        self._rid = 0
        self._ops = b""
        self._ops_at = 0
        self._ticking = False
        self._ticked_at = 0.0
        self._closed = False
        self._refusal: EverwriteError | None = None

    async def open(self, timeout_s: float) -> None:
        """Reach a node, learn the members, connect to them; raises if no seed answers."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._members.meet()
        except TimeoutError as error:
            await self.close()
            raise untold(timeout_s) from error
        except EverwriteError:
            await self.close()
            raise
        await self._pool.settle(self.timing.settle_s)

    async def close(self) -> None:
        """End all requests with an error, close all connections."""
        if self._closed:
            return
        check_loop(self._loop)
        self._closed = True
        self.give_up(closed())
        await self._members.close()
        await self._pool.close()

    def give_up(self, why: EverwriteError) -> None:
        """End all requests with this error, and refuse new ones with it."""
        self._refusal = why
        self._ticking = False  # so that every new request asks _admit
        for request in list(self.pending.values()):
            request.give_up(type(why)(why.message, hint=why.hint))

    # -- requests ---------------------------------------------------------------------------------

    def read(self, key: bytes, timeout_s: float) -> asyncio.Future[Any]:
        """Read with the defaults; the future gets a FetchReply that R owners agree with, or a
        GetReply.
        """
        routes = self.routes
        partition = int.from_bytes(key[:2], "big") >> routes.shift
        choices = routes.reads[partition]
        if choices is None:
            choices = routes.make_reads(partition)
        if not choices:
            if partition in routes.view.moving:  # it may be at its end, and nothing else says so
                self.refresh_soon(urgent=False)
            return self.get(key, timeout_s)
        pending = self.pending
        if len(pending) >= self._in_flight_max or not self._ticking or here() is not self._loop:
            self._admit()
        self._rid = rid = self._rid + 1
        turn = rid % len(choices)
        owners = choices[self._spare(choices, turn) if self._strained else turn]
        now = self.now()
        deadline = now + timeout_s
        future = self._loop.create_future()
        copier = owners[0]
        due = now + self._hedge_s
        due = due if due < deadline else deadline
        pending[rid] = Read(
            self, future, rid, key, list(owners), copier, self._retries, due, deadline
        )
        time_ms = left_ms(timeout_s)
        copier.send(Fetch(rid, key, time_ms, self.view))
        if len(owners) > 1:
            digest = Fetch(rid, key, time_ms, self.view, True)
            for owner in owners[1:]:
                owner.send(digest)
        return future

    def get(
        self,
        key: bytes,
        timeout_s: float,
        n: int = 0,
        r: int = 0,
        strict: bool = False,
        seen: bytes = b"",
    ) -> asyncio.Future[Any]:
        """Read through a node that coordinates; the future gets a GetReply, with marks."""
        return self.begin(Get(0, key, 0, n, r, strict, seen, marks=True), GetReply, timeout_s)

    def put(
        self,
        key: bytes,
        value: bytes | None,
        kind: int,
        context: bytes,
        timeout_s: float,
        n: int = 0,
        w: int = 0,
        dw: int = -1,
        strict: bool = False,
        ttl_ms: int = 0,
    ) -> asyncio.Future[Any]:
        """Write, or delete (value None); the future gets a PutReply."""
        routes = self.routes
        partition = int.from_bytes(key[:2], "big") >> routes.shift
        order = routes.orders[partition]
        if order is None:
            order = routes.make_order(partition)
        op = self.next_op()
        if not order:
            message = Put(
                0, key, value, context, op, 0, kind, n, w, dw, strict, False, b"", False, ttl_ms
            )
            return self.begin(message, PutReply, timeout_s)
        pending = self.pending
        if len(pending) >= self._in_flight_max or not self._ticking or here() is not self._loop:
            self._admit()
        self._rid = rid = self._rid + 1
        spared = self._spared(order) if self._strained else ()
        tried = order[: len(spared) + 1]
        node = tried[-1]
        now = self.now()
        deadline = now + timeout_s
        left, view = left_ms(timeout_s), self.view
        message = Put(
            rid, key, value, context, op, left, kind, n, w, dw, strict, False, view, False, ttl_ms
        )
        future = self._loop.create_future()
        due = now + self._hedge_s
        due, tries = (due if due < deadline else deadline), {rid: node}
        pending[rid] = Call(
            self, future, message, PutReply, tries, tried, self._retries, due, deadline, now, now
        )
        node.send(message)
        return future

    def touch(
        self, key: bytes, ttl_ms: int, timeout_s: float, n: int, w: int, dw: int, strict: bool
    ) -> asyncio.Future[Any]:
        """Raise the end of what is there; the future gets a PutReply."""
        message = Touch(0, key, ttl_ms, self.next_op(), 0, n, w, dw, strict)
        return self.begin(message, PutReply, timeout_s)

    def ask(
        self, verb: str, arguments: bytes, timeout_s: float, node: str | None
    ) -> asyncio.Future[Any]:
        """Ask one node (by name, id or address; None: any), once; the future gets a Told."""
        self._admit()
        only = None if node is None else self.connection_to(node)
        return self._call(Ask(0, verb, arguments), Told, timeout_s, 0, only)

    def fetch(self, key: bytes, node: Connection, timeout_s: float) -> asyncio.Future[Any]:
        """Ask one node for its own copy; the future gets a FetchReply."""
        self._admit()
        return self._call(Fetch(0, key, 0), FetchReply, timeout_s, 0, node)

    def holders(self, key: bytes) -> list[tuple[str, Connection | None]]:
        """Return the owners of a key, in order of preference, and who serves it for some of them:
        their names, and connections if they are up.
        """
        view = self.routes.view
        up = {connection.node_id: connection for connection in self._pool.connections()}
        partition = view.placement.partition_of(key)
        holders = dict.fromkeys((*view.placement.owners(partition), *view.serving(partition)))
        return [(view.name(node_id), up.get(node_id)) for node_id in holders]

    def connection_to(self, node: str) -> Connection:
        """Return the connection to the node with this name, hex id, or HOST:PORT; Unreachable if it
        is down.
        """
        for link in self._pool.links():
            host, port = link.address
            if node in (link.name, link.node_id.hex(), f"{host}:{port}", f"[{host}]:{port}"):
                if link.connection is None:
                    why = link.error or "there is no connection yet"
                    raise Unreachable(f"The node {link.name} can't be reached: {why}.")
                return link.connection
        known = ", ".join(sorted(link.name for link in self._pool.links()))
        raise RequestError(f"No member is called {node!r}.", hint=f"The members are {known}.")

    def begin(
        self, message: Get | Put | Touch, expects: type[AnyMessage], timeout_s: float
    ) -> asyncio.Future[Any]:
        """Start a call the long way round; the hot paths do the same in line."""
        self._admit()
        if not self.routes.spare and any(node.full for node in self._pool.connections()):
            raise Overloaded("The nodes read more slowly than this client writes.", hint=_SLOWER)
        spared = self._spared(self.order(message.key)) if self._strained else ()
        return self._call(message, expects, timeout_s, self._retries, spared=spared)

    def _spared(self, order: Order) -> Order:
        """Return the first owners in this order that a request passes over."""
        owners = order[: self.routes.view.placement.replicas]  # others would hand it on to these
        return order[: self._spare([(node,) for node in owners], 0)] if owners else ()

    def _spare(self, choices: Sequence[Order], at: int) -> int:
        """Return which of these, from ``at`` on, is asked: not nodes that would refuse it most
        likely. Are there no others it is refused here, at no cost to them.
        """
        now = self.now()
        chosen = choose(choices, at, now)
        if chosen >= 0:
            return chosen
        self.counters.held_back += 1
        strained = most_strained(choices[at], now)
        assert strained is not None
        raise Overloaded(
            f"Node {choices[at][0].name} and the other owners are asked for more than they can do.",
            hint="Nothing was sent. Wait a moment, and ask for less at a time.",
            retry_after_ms=strained.retry_after_ms,
        )

    def _call(
        self,
        message: Get | Put | Touch | Ask | Fetch,
        expects: type[AnyMessage],
        timeout_s: float,
        retries: int = 0,
        only: Connection | None = None,
        spared: Order = (),
    ) -> asyncio.Future[Any]:
        """Start a call that was admitted, or that must be."""
        now = self.now()
        call = Call(
            table=self,
            future=self._loop.create_future(),
            message=message,
            expects=expects,
            tries={},
            tried=spared,
            retries=retries,
            due=now,
            deadline=now + timeout_s,
            started=now,
            only=only,
        )
        call.begin()
        if not self._ticking and self._refusal is None:
            self._start_ticking()
        return call.future

    def _admit(self) -> None:
        """Refuse a request that is one too many; keep the ticker running for the others."""
        check_loop(self._loop)
        if self._refusal is not None:
            raise type(self._refusal)(self._refusal.message, hint=self._refusal.hint)
        if len(self.pending) >= self._in_flight_max:
            raise Overloaded(
                f"{len(self.pending)} requests of this client are in flight; there can be no more.",
                hint=_SLOWER,
            )
        if not self._ticking:
            self._start_ticking()

    def _start_ticking(self) -> None:
        self._ticking = True
        self._ticked_at = self.now()
        self._loop.call_later(self.timing.tick_s, self._tick)

    def next_op(self) -> bytes:
        """Return 12 random bytes; drawn many at a time, since each draw is a system call."""
        at = self._ops_at
        if at == len(self._ops):
            self._ops, at = os.urandom(OP_BYTES * _OPS_AT_ONCE), 0
        self._ops_at = at + OP_BYTES
        return self._ops[at : at + OP_BYTES]

    # -- what requests need (table.Table) ----------------------------------------------------------

    def next_rid(self) -> int:
        self._rid += 1
        return self._rid

    def order(self, key: bytes) -> Order:
        """Return the usable connections in the order in which this key prefers them; no key: the
        one that was reached first, then the others.
        """
        routes = self.routes
        if not key:
            home = self._members.home
            return tuple(sorted(routes.spare, key=lambda node: node.node_id != home))
        partition = routes.view.placement.partition_of(key)
        order = routes.orders[partition]
        return routes.make_order(partition) if order is None else order

    def __repr__(self) -> str:
        if not self._routed:
            return "cluster not met yet"
        name = self.routes.view.cluster_name
        if self._closed:
            return f"cluster {name!r}, closed"
        links = list(self._pool.links())
        up = sum(link.connection is not None for link in links)
        return f"cluster {name!r}, {up} of {len(links)} nodes connected"

    def why_unreachable(self, since: float) -> str:
        return self._pool.why_unreachable(since)

    def refresh_soon(self, *, urgent: bool = True) -> None:
        self._members.refresh_soon(urgent=urgent)

    def moved(self, key: bytes) -> None:
        """A node that should serve this key does not: who serves its partition has changed."""
        routes = self.routes
        routes.doubt(routes.view.placement.partition_of(key))
        self._members.refresh_soon(urgent=False)

    # -- what connections tell (connection.Owner) --------------------------------------------------

    def changed(self) -> None:
        """A connection came, went, or is to be passed over from now on."""
        if self._routed:
            self.routes.usable(self._pool.usable())

    def lost(self, connection: Connection) -> None:
        """A connection is gone: its requests go on elsewhere at once."""
        self.counters.losses += 1
        self._pool.lost(connection)
        self.changed()
        for request in list(self.pending.values()):
            request.lost(connection)

    def unasked(self, rid: int) -> None:
        self.late.take(rid)

    async def met(self, connection: Connection) -> None:
        await self._members.met(connection)

    # -- the ticker --------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Look after all requests and nodes whose time has come."""
        if self._refusal is not None:
            return
        now = self.now()
        held_up = now - self._ticked_at > 4 * self.timing.tick_s
        self._ticked_at = now
        if held_up:
            # The application kept the loop from running: requests went out late, and answers may
            # wait to be read. Nobody is to be called silent for that.
            self._loop.call_later(self.timing.tick_s, self._tick)
            return
        try:
            for request in list(self.pending.values()):
                if request.due <= now:
                    request.tick(now)
            self._watch(now)
            self.budget.fill(self._rid, now)
            self._strained = self._look_for_strain(now)
        finally:
            if self.pending:
                self._loop.call_later(self.timing.tick_s, self._tick)
            else:
                self._ticking = False
                for connection in self._pool.connections():
                    connection.asked = 0.0

    def _look_for_strain(self, now: float) -> bool:
        """Say whether any node has refused work lately."""
        strained = False
        for connection in self._pool.connections():
            if connection.throttle is not None:
                if connection.throttle.over(now):
                    connection.throttle = None
                else:
                    strained = True
        return strained

    def _watch(self, now: float) -> None:
        """Pass over the nodes that stay silent though asked; give up those that stay so."""
        for connection in self._pool.connections():
            silent = now - connection.asked if connection.asked else 0.0
            if connection.suspect and silent > self.timing.abandon_s:
                reason = f"Node {connection.name} was silent for {silent:.1f} s."
                connection.fail(Unreachable(reason))
            elif silent > self.timing.suspect_s and not connection.suspect:
                connection.suspect = True
                self.changed()
                question = self._members.question
                probe = self._call(question, Told, self.timing.abandon_s, 0, connection)
                probe.add_done_callback(_ignore)

    # -- the view ----------------------------------------------------------------------------------

    def _ask_view(self, connection: Connection) -> asyncio.Future[Any]:
        return self._call(self._members.question, Told, self.timing.view_s, 0, connection)

    def _go_by(self, view: View | None) -> None:
        """Route by these members from now on; None: the same as before."""
        if view is None:
            self.routes.trust()
            return
        self.routes = Routes(view, ())
        self.view = view.digest
        self.replicas = view.placement.replicas
        self._routed = True
        self._pool.cluster_id = view.cluster_id
        self._pool.keep(view.nodes.values())
        self.routes.usable(self._pool.usable())


def _ignore(future: asyncio.Future[Any]) -> None:
    """Take the result of a probe: what counts is that the node spoke."""
    if not future.cancelled():
        future.exception()


_SLOWER = "Wait for answers before sending more; 64 to 256 in flight already give full speed."
