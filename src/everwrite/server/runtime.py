"""One running node: store, core, driver and connections, put together and taken apart.

The composition root of the server: ``main.py`` runs one until a signal, the embedded client one in
a thread, tests as many as they like.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time

from everwrite.core.config import ClusterConfig
from everwrite.core.errors import ConfigError, EverwriteError
from everwrite.core.handshake import Identity
from everwrite.core.node import Node
from everwrite.server import boot
from everwrite.server.admin import Admin
from everwrite.server.driver import Driver
from everwrite.server.inquiry import ask_cluster
from everwrite.server.peers import Peers
from everwrite.server.settings import ServeOptions, split_address
from everwrite.server.transport import Connection
from everwrite.storage.store import Store, open_store

log = logging.getLogger("everwrite")


class Runtime:
    """A node that was started; ``stop`` ends it."""

    def __init__(self, node: Node, store: Store, options: ServeOptions, seeds: tuple[str, ...]):
        loop = asyncio.get_running_loop()
        local = node.local
        self.node = node
        self.options = options
        self.started_ms = time.monotonic_ns() // 1_000_000
        self.driver = Driver(loop, node, store)
        cluster = local.cluster
        identity = Identity(
            name=local.members.me.name,
            cluster_id=cluster.cluster_id,
            node_id=local.me,
            cluster_name=cluster.name,
            partitions=cluster.partitions,
            replicas=cluster.replicas,
            salt=cluster.salt,
        )
        here = (options.host, options.port)
        seeds = tuple(seed for seed in seeds if split_address(seed) != here)
        self.peers = Peers(self.driver, identity, options.secret, seeds)
        self.failed: asyncio.Future[EverwriteError] = loop.create_future()
        """Done when the node cannot go on: its disk failed, or the cluster will not have it."""
        self.driver.fatal = self._fatal
        self.driver.members_changed = self._members_changed
        self._look_ready()
        self.driver.ask = Admin(self).ask
        self._server: asyncio.Server | None = None

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

    async def stop(self) -> None:
        """Take no more, finish what the disk is doing, and close; safe to call twice."""
        if self._server is not None:
            self._server.close()
        await self.peers.stop()
        self.driver.stop()

    def _fatal(self, error: EverwriteError) -> None:
        if not self.failed.done():
            self.failed.set_result(error)

    def _members_changed(self) -> None:
        self._look_ready()
        self.peers.dial_all()

    def _look_ready(self) -> None:
        """A node that was told whom to join serves clients once it has met somebody: what it took
        before would be data of a cluster of its own, and no other cluster would have it any more.
        """
        local = self.node.local
        alone = len(local.members) == 1 and not local.has_data
        self.node.ready = not (self.options.join and alone)


async def start(options: ServeOptions, *, listen: bool = True) -> Runtime:
    """Start a node and return it once it takes requests. One that does not ``listen`` is alone.

    Raises ConfigError, DeniedError or a StorageError, with nothing left open. A node that is new
    and was told whom to join waits here until one of them answers.
    """
    store = open_store(options.data, options.engine)
    try:
        return await _start(options, store, listen=listen)
    except BaseException:
        store.close()
        raise


async def _start(options: ServeOptions, store: Store, *, listen: bool) -> Runtime:
    loop = asyncio.get_running_loop()
    gate = Gate()
    server = None
    if listen:
        try:
            server = await loop.create_server(gate.connection, options.host, options.port)
        except OSError as error:
            raise ConfigError(
                f"Cannot listen on {options.host}:{options.port} ({error.strerror}).",
                hint="Is another node running there? Choose another port with --base-port.",
            ) from error
    try:
        state = boot.read_state(store)
        if state is None:
            state = await _first_state(options)
        if not listen:
            _check_alone(store, state, options)
        port = server.sockets[0].getsockname()[1] if server is not None else 0
        node = boot.start_node(store, state, options, port)
        runtime = Runtime(node, store, options, options.join)
    except BaseException:
        if server is not None:
            server.close()
        raise
    gate.peers = runtime.peers
    runtime.begin(server)
    return runtime


def _check_alone(store: Store, state: boot.NodeState, options: ServeOptions) -> None:
    """Raise ConfigError, before anything is written, for the directory of a cluster's node."""
    others = sum(member.node_id != state.node_id for member in boot.read_others(store))
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


async def _first_state(options: ServeOptions) -> boot.NodeState:
    """Found a cluster, or find out which one there is to join."""
    node_id = secrets.token_bytes(8)
    if not options.join:
        return boot.first_state(options, node_id, boot.new_cluster(options))
    theirs = await ask_cluster(
        options.join, options.secret, node_id, options.name or options.default_name
    )
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
    return boot.first_state(options, node_id, cluster)
