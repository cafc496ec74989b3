"""One running node: store, core, driver and connections, put together and taken apart.

The composition root of the server: ``main.py`` runs one until a signal, the embedded client one in
a thread, tests as many as they like.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple

from structlog.contextvars import bound_contextvars

from everwrite.core.config import ClusterConfig
from everwrite.core.errors import ConfigError, DeniedError, EverwriteError, Fenced, StorageError
from everwrite.core.handshake import NODE_ID_BYTES, Identity
from everwrite.core.node import Node
from everwrite.core.records import FLOORS
from everwrite.core.tombstones.confirm import Floors, encode_floors
from everwrite.server import boot, rejoin
from everwrite.server.admin import Admin
from everwrite.server.driver import Driver
from everwrite.server.fences import refused, removed, two_of_me
from everwrite.server.handing import hand_on, keep
from everwrite.server.inquiry import ask_cluster
from everwrite.server.peers import Peers
from everwrite.server.settings import ServeOptions, cannot_listen, split_address
from everwrite.server.sockets import bind, close_all
from everwrite.server.state import LEFT, NodeState, read_known, read_state
from everwrite.server.transport import Connection
from everwrite.storage.manifest import record_gone
from everwrite.storage.store import Store, open_store

if TYPE_CHECKING:
    from everwrite.server.http.service import HttpService
    from everwrite.server.metrics.exposition import Exposition
    from everwrite.server.redis.service import RedisService


LOOK_EVERY_S = 0.5
"""How often it is looked whether this node still belongs to its cluster."""
LAST_WORDS_S = 1.0
"""What a node that goes for good has still to say and to hear is said by then."""


class Runtime:
    """A node that was started; ``stop`` ends it."""

    def __init__(self, node: Node, store: Store, options: ServeOptions, seeds: tuple[str, ...]):
        loop = asyncio.get_running_loop()
        local = node.local
        self.node = node
        self.options = options
        self.started_ms = time.monotonic_ns() // 1_000_000
        self.driver = Driver(loop, node, store)
        self.log = self.driver.log
        cluster = local.cluster
        identity = Identity(
            name=local.members.me.name,
            cluster_id=cluster.cluster_id,
            node_id=local.me,
            cluster_name=cluster.name,
            partitions=cluster.partitions,
            replicas=cluster.replicas,
            salt=cluster.salt,
            incarnation=local.members.me.incarnation,
            life=local.members.me.life,
        )
        here = (options.host, options.port)
        seeds = tuple(seed for seed in seeds if split_address(seed) != here)
        self.peers = Peers(self.driver, identity, options.secret, seeds)
        self.failed: asyncio.Future[EverwriteError] = loop.create_future()
        """Done when the node cannot go on: its disk failed, or the cluster will not have it."""
        self.left: asyncio.Future[None] = loop.create_future()
        """Done when the node has left its cluster in good order: nothing is on its disk only."""
        self._stopping = False
        self._clones: set[bytes] = set()
        self._namesake = b""
        self._ending: asyncio.TimerHandle | None = None
        self._looking = loop.call_later(LOOK_EVERY_S, self._look)
        self.driver.fatal = self._fatal
        self.driver.members_changed = self._members_changed
        self._look_ready()
        self.driver.ask = Admin(self).ask
        self._server: asyncio.Server | None = None
        self.http: HttpService | None = None
        self.redis: RedisService | None = None
        self._exposition: Exposition | None = None

    @property
    def exposition(self) -> Exposition:
        """The metrics of this node; made when somebody asks, since their library takes time."""
        if self._exposition is None:
            from everwrite.server.metrics.exposition import Exposition

            self._exposition = Exposition(self)
        return self._exposition

    @property
    def address(self) -> str:
        """HOST:PORT as the others reach it; empty for an embedded node."""
        me = self.node.local.members.me
        return f"{me.host}:{me.port}" if me.port else ""

    def begin(self, server: asyncio.Server | None) -> None:
        """Take requests."""
        self._server = server
        self.driver.start()
        self.peers.dial_all()

    def serves(self) -> bool:
        """Say whether this node takes requests of clients now."""
        ends = self._stopping or self.failed.done() or self.left.done()
        return self.node.clients.open and not ends

    async def stop(self) -> None:
        """Take no more, finish what the disk is doing, and close; safe to call twice."""
        first, self._stopping = not self._stopping, True
        owes = False

        async def keep_rest() -> None:
            if owes:
                await keep(self.driver)

        async with AsyncExitStack() as ending:  # the last comes first, and all do, whatever fails
            ending.callback(self.driver.stop)
            ending.push_async_callback(keep_rest)
            ending.push_async_callback(self.peers.stop)
            if self.redis is not None:
                await self.redis.stop()
            if self.http is not None:
                await self.http.stop()
            self._looking.cancel()
            if self._ending is not None:
                self._ending.cancel()
            if self._server is not None:
                self._server.close()
            owes = first and not (self.failed.done() or self.left.done())
            if owes:
                await hand_on(self.driver)

    def _fatal(self, error: EverwriteError) -> None:
        if isinstance(error, Fenced) and self.node.rounds.left:
            self._leave()  # what it was told is what it wanted
        elif not self.failed.done():
            self.failed.set_result(error)

    def _members_changed(self) -> None:
        self._look_ready()
        self.peers.members_changed()
        self._look_whether_in()

    def _look_ready(self) -> None:
        """A node serves clients once it knows who is in its cluster: what it took before would be
        data of a cluster of its own, and no other cluster would have it any more.
        """
        whole = self.node.rounds.whole
        if whole and not self.node.ready and self.options.join:
            members = self.node.local.members
            self.log.info("in touch with its cluster", nodes=len(members))
        self.node.ready = whole

    def _look(self) -> None:
        self._look_whether_in()
        self._looking = self.driver.loop.call_later(LOOK_EVERY_S, self._look)

    def _look_whether_in(self) -> None:
        """End this node if it has left, was removed, or is not the only one of its identity."""
        members, rounds = self.node.local.members, self.node.rounds
        me = members.me
        for node_id in sorted(members.clones - self._clones):
            self._clones.add(node_id)
            known = members.get(node_id)
            name = known.name if known is not None else ""
            self.log.error(
                "identity doubled",
                whose=node_id.hex(),
                why=f"two processes run as node {name!r}: one has a copied data directory. Stop it",
            )
            if node_id == me.node_id:
                self._end_beside_another(members.overtaken_by)
        namesake = rounds.namesake()
        if namesake is not None and namesake.node_id != self._namesake:
            self._namesake = namesake.node_id
            self.log.error(
                "name taken",
                by=namesake.node_id.hex(),
                why=f"there is a node named {me.name!r} already: this one owns no data while that "
                "is so. Stop one of them, and give it a name of its own (--name) and directory",
            )
        if self._ending is not None:
            return
        if rounds.left:
            self.log.info("left its cluster")
            self._ending = self.driver.loop.call_later(LAST_WORDS_S, self._leave)
        elif rounds.out_for_good:
            error = removed(me.name, me.node_id)
            self.log.critical("this node must stop", why=error)
            self._note_gone("removed")
            self._ending = self.driver.loop.call_later(LAST_WORDS_S, self._fatal, error)

    def _end_beside_another(self, later: int) -> None:
        """Another process has this identity. Beside a later start (0: there is none) this one is
        the older for good; of two with one number an operator chooses which is to stay.
        """
        me = self.node.local.members.me
        if later:
            mine = (me.incarnation, me.life)
            self.peers.stop_for(refused(me.name, me.node_id, mine, (later, b"")))
        else:
            self._fatal(two_of_me(me.name, me.node_id))

    def _leave(self) -> None:
        if self.left.done():
            return
        try:
            self.driver.disk.write_at_last(LEFT, b"1")
        except StorageError as why:
            self.log.error("that this node has left could not be written", why=why)
        self._note_gone("left")
        self.left.set_result(None)

    def _note_gone(self, how: str) -> None:
        """Say in the directory that its node is no member any more, for who starts several."""
        if self.options.data is None:
            return
        try:
            record_gone(self.options.data, how)
        except StorageError as why:
            self.log.error("that this node is gone could not be noted", why=why)


async def start(options: ServeOptions, *, listen: bool = True) -> Runtime:
    """Start a node and return it once it takes requests. One that does not ``listen`` is alone.

    Raises ConfigError, DeniedError or a StorageError, with nothing left open. A node that is new
    and was told whom to join waits here until one of them answers.
    """
    if options.otel:
        from everwrite.server.spans import check_installed

        check_installed()
    store = open_store(options.data, options.engine)
    try:
        with bound_contextvars(node=options.name or options.default_name):
            return await _start(options, store, listen=listen)
    except BaseException:
        store.close()
        raise


async def _start(options: ServeOptions, store: Store, *, listen: bool) -> Runtime:
    loop = asyncio.get_running_loop()
    gate = Gate()
    server = None
    doors = await bind_fronts(options) if listen else Doors([], [])
    if listen:
        try:
            server = await loop.create_server(gate.connection, options.host, options.port)
        except OSError as error:
            close_all([*doors.http, *doors.redis])
            raise cannot_listen(options.host, options.port, error) from error
    try:
        state = read_state(store)
        if state is not None and rejoin.is_due(store, state, options):
            state = await _rejoin(store, state, options)
        elif state is None:
            state = await _first_state(options, store)
        if not listen:
            _check_alone(store, state, options)
        port = server.sockets[0].getsockname()[1] if server is not None else 0
        node = boot.start_node(store, state, options, port)
        runtime = Runtime(node, store, options, options.join)
    except BaseException:
        close_all([*doors.http, *doors.redis])
        if server is not None:
            server.close()
        raise
    if doors.http:
        runtime.peers.http_port = doors.http[0].getsockname()[1]
    if doors.redis:
        runtime.peers.redis_port = doors.redis[0].getsockname()[1]
    gate.peers = runtime.peers
    runtime.begin(server)
    if doors.http:
        runtime.http = http_service(runtime, doors.http)
        await runtime.http.start()
    if doors.redis:
        runtime.redis = redis_service(runtime, doors.redis)
        await runtime.redis.start()
    return runtime


# -- the fronts: imported only where they are spoken to, since HTTP takes a fifth of a second ------


class Doors(NamedTuple):
    """What the node will answer other protocols on, bound; it listens once the node serves."""

    http: list[socket.socket]
    redis: list[socket.socket]


async def bind_fronts(options: ServeOptions) -> Doors:
    """Return the sockets of both fronts; ConfigError, and none is left open, if that can't be."""
    host, found = options.host, Doors([], [])
    if options.http_port is not None:
        found.http.extend(await bind(host, options.http_port, "HTTP"))
    if options.redis_port is not None:
        try:
            found.redis.extend(await bind(host, options.redis_port, "Redis"))
        except ConfigError:
            close_all(found.http)
            raise
    return found


def http_service(runtime: Runtime, sockets: list[socket.socket]) -> HttpService:
    """Return the front of a node."""
    from everwrite.server.http.service import HttpService

    return HttpService(runtime, sockets)


def redis_service(runtime: Runtime, sockets: list[socket.socket]) -> RedisService:
    """Return the Redis front of a node."""
    from everwrite.server.redis.service import RedisService

    return RedisService(runtime, sockets)


def _check_alone(store: Store, state: NodeState, options: ServeOptions) -> None:
    """Raise ConfigError, before anything is written, for the directory of a cluster's node."""
    known = read_known(store).entries
    others = sum(member.node_id != state.node_id for member in known)
    if others:
        raise ConfigError(
            f"{options.data} is the directory of a node in a cluster with {others} more.",
            hint="Nothing was changed. Start it with `everwrite serve` and connect to it.",
        )


class Gate:
    """Where sockets come in; before the node is ready they are turned away."""

    def __init__(self) -> None:
        self.peers: Peers | None = None

    def connection(self) -> asyncio.Protocol:
        return Turned() if self.peers is None else Connection(self.peers, dialled=False)


class Turned(asyncio.Protocol):
    """A connection that came too early: closed at once, so that the other end tries again."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def _rejoin(store: Store, state: NodeState, options: ServeOptions) -> NodeState:
    """Give a directory a new identity, once its cluster has said that it may come."""
    node_id = secrets.token_bytes(NODE_ID_BYTES)
    name = rejoin.new_name(state, options, node_id)
    me = Identity(name=name, node_id=node_id, cluster_id=state.cluster.cluster_id)
    try:
        theirs = await ask_cluster(options.join, options.secret, me)
    except DeniedError as error:
        raise rejoin.refusal(error) from error
    rejoin.warn_of_former(store, state)
    return rejoin.begin_anew(store, state, options, node_id, name, theirs.generation)


async def _first_state(options: ServeOptions, store: Store) -> NodeState:
    """Found a cluster, or find out which one there is to join."""
    node_id = secrets.token_bytes(NODE_ID_BYTES)
    if options.rejoin_as_new:
        raise rejoin.nobody_here()
    if not options.join:
        return boot.first_state(options, node_id, boot.new_cluster(options))
    me = Identity(name=options.name or options.default_name, node_id=node_id)
    theirs = await ask_cluster(options.join, options.secret, me)
    try:
        cluster = ClusterConfig(
            cluster_id=theirs.cluster_id,
            salt=theirs.salt,
            name=theirs.cluster_name,
            partitions=theirs.partitions,
            replicas=theirs.replicas,
        )
    except EverwriteError as error:
        raise ConfigError(f"The cluster to join has settings that cannot be: {error}") from error
    if theirs.generation:  # who rejoins by way of this node is to hear of it, whatever comes
        known = Floors(theirs.generation, {}, theirs.generation)
        store.write([(FLOORS, encode_floors(known))])
    return boot.first_state(options, node_id, cluster)
