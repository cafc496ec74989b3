"""Peers: one line to each other node, dialled anew whenever it breaks; and who may come in.

Both nodes of a pair dial, since either may start last. If both succeed, the connection that the
node with the smaller id dialled carries what is sent, and the other stays as a spare: nothing is
closed, so nothing is lost.
"""

from __future__ import annotations

import asyncio
import functools
import logging

from everwrite.core.cluster.members import MEMBERS_MAX
from everwrite.core.errors import DeniedError, EverwriteError, Overloaded
from everwrite.core.handshake import Identity
from everwrite.core.messages import Hello
from everwrite.core.outbox import Place
from everwrite.server.descriptors import room_for_connections
from everwrite.server.driver import Driver
from everwrite.server.settings import split_address
from everwrite.server.transport import CLIENTS_MAX, HANDSHAKES_MAX, TURN_BYTES, Connection

log = logging.getLogger("everwrite")

DIAL_S = 2.0
BACKOFF_MIN_S = 0.05
BACKOFF_MAX_S = 0.5
LOOK_EVERY_S = 2.0
"""How often incomplete frames are looked at: no timer per frame."""
WARNINGS_PER_S = 5


class Peers:
    """All connections of one node."""

    def __init__(self, driver: Driver, identity: Identity, secret: bytes, seeds: tuple[str, ...]):
        self.driver = driver
        self.identity = identity
        self.secret = secret
        self._seeds = [split_address(seed) for seed in seeds]
        self._strangers: dict[Connection, None] = {}  # oldest first
        self._clients: dict[int, Connection] = {}
        self._links: dict[bytes, list[Connection]] = {}
        self._dialling: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._stopping = False
        self._clients_room, self._strangers_room = room_for_connections()
        self._taken = 0
        self.rests = 0
        """How often clients were not read from for a turn, since they had sent so much."""
        self.unfinished_bytes = 0
        """What all connections hold of frames that are not complete."""
        self._warned = self._unwarned = 0
        self._warned_since = 0.0
        self._looking = driver.loop.call_later(LOOK_EVERY_S, self._look)

    # -- connections report here -------------------------------------------------------------------

    def strangers_may_come(self, connection: Connection) -> bool:
        """Say whether one more connection may begin its handshake. At the cap it takes the place of
        the oldest that has sent nothing: whoever only opens connections keeps nobody out.
        """
        if self._stopping:
            return False
        if len(self._strangers) >= min(HANDSHAKES_MAX, self._strangers_room):
            idle = next((other for other in self._strangers if other.silent), None)
            if idle is None:
                return False
            del self._strangers[idle]
            idle.evict()
        self._strangers[connection] = None
        return True

    def took(self, size: int) -> None:
        """So much came from a client: after TURN_BYTES let what came be handled and written before
        more is read.
        """
        self._taken += size
        if self._taken < TURN_BYTES:
            return
        self._taken = 0
        self.rests += 1
        held = list(self._clients.values())
        for connection in held:
            connection.hold()
        self.driver.loop.call_soon(_go_on, held)  # behind the tick, which was asked for before

    def warn(self, name: str, error: EverwriteError) -> None:
        """Log that a connection was refused; a flood of them must not fill the disk."""
        now = self.driver.loop.time()
        if now - self._warned_since >= 1:
            if self._unwarned:
                log.warning("connections refused, left out here: %d", self._unwarned)
            self._warned_since, self._warned, self._unwarned = now, 0, 0
        if self._warned >= WARNINGS_PER_S:
            self._unwarned += 1
            return
        self._warned += 1
        log.warning("connection refused from=%r code=%s: %s", name, error.code, error)

    def admit(self, connection: Connection, theirs: Hello) -> Place:
        """Give an end that knows the secret its place; DeniedError if it may not come in."""
        if not theirs.node_id:
            most = min(CLIENTS_MAX, self._clients_room)
            if len(self._clients) >= most:
                raise Overloaded(
                    f"This node has {most} clients, and takes no more.",
                    hint="Close some, or connect to another node.",
                )
            place = self.driver.attach(connection)
            self._clients[place] = connection
            return place
        self.check_node(theirs)
        return theirs.node_id

    def check_node(self, theirs: Hello) -> None:
        """Raise DeniedError if the other side is a node that may not come in. A newcomer hears it
        as the answer to its first question, before it has made itself a part of this cluster.
        """
        local = self.driver.node.local
        if theirs.node_id == local.me:
            raise DeniedError(
                "The other side is this very node, or a copy of its data directory.",
                hint="Give each node a data directory of its own; never copy one.",
            )
        if theirs.node_id and theirs.node_id not in local.members:
            self._check_newcomer(theirs)

    def opened(self, connection: Connection) -> None:
        """The handshake is over."""
        self._strangers.pop(connection, None)
        place = connection.place
        if type(place) is not bytes:
            return
        links = self._links.setdefault(place, [])
        links.append(connection)
        self._choose(place, links)
        if place not in self.driver.deaf_to:
            self.driver.arrived(place, [])
        log.info("peer connected id=%s dialled=%s", place.hex(), connection.dialled)

    def closed(self, connection: Connection) -> None:
        """A connection is over."""
        self._strangers.pop(connection, None)
        place = connection.place
        if type(place) is int:
            self._clients.pop(place, None)
            self.driver.detach(place)
        elif type(place) is bytes:
            links = self._links.get(place, [])
            if connection in links:
                links.remove(connection)
            if links:
                self._choose(place, links)
            else:
                self._links.pop(place, None)
                log.info("peer lost id=%s", place.hex())
                self.driver.peer_lost(place)
                self.dial_all()

    # -- dialling ----------------------------------------------------------------------------------

    def dial_all(self) -> None:
        """Keep dialling every seed and member to whom there is no connection."""
        if self._stopping:
            return
        local = self.driver.node.local
        wanted: dict[tuple[str, int], bytes | None] = dict.fromkeys(self._seeds)
        wanted |= {(member.host, member.port): member.node_id for member in local.members.others()}
        wanted.pop((local.members.me.host, local.members.me.port), None)
        for address, node_id in wanted.items():
            if node_id not in self._links and address not in self._dialling:
                task = self.driver.loop.create_task(self._dial(address))
                self._dialling[address] = task
                task.add_done_callback(functools.partial(self._dialled, address))

    async def stop(self) -> None:
        """Close every connection and dial no more."""
        self._stopping = True
        for task in list(self._dialling.values()):
            task.cancel()
        await asyncio.gather(*self._dialling.values(), return_exceptions=True)
        self._looking.cancel()
        for connection in self._all():
            connection.close()

    def _all(self) -> list[Connection]:
        return [
            *self._strangers,
            *self._clients.values(),
            *(link for links in self._links.values() for link in links),
        ]

    def _look(self) -> None:
        now = self.driver.loop.time()
        for connection in self._all():
            connection.look(now)
        self._looking = self.driver.loop.call_later(LOOK_EVERY_S, self._look)

    async def _dial(self, address: tuple[str, int]) -> None:
        """Try until there is a connection to whoever is at this address; a seed only until
        it knows us.
        """
        backoff = BACKOFF_MIN_S
        while not self._connected(address):
            try:
                connection = await self._connect(address)
            except (OSError, TimeoutError, UnicodeError):  # the last: no name of a machine
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, BACKOFF_MAX_S)
                continue
            why = await connection.over
            if connection.place is not None:
                backoff = BACKOFF_MIN_S
            elif why is not None:
                log.warning("refused by %s:%d: %s", *address, why)
                backoff = BACKOFF_MAX_S
                if isinstance(why, DeniedError) and not self.driver.node.ready:
                    self.driver.fatal(why)
            await asyncio.sleep(backoff)

    def _dialled(self, address: tuple[str, int], task: asyncio.Task[None]) -> None:
        self._dialling.pop(address, None)
        if not task.cancelled():
            task.result()

    async def _connect(self, address: tuple[str, int]) -> Connection:
        """Open a connection to this address; OSError or TimeoutError if that can't be done now."""
        connection = Connection(self, dialled=True)
        async with asyncio.timeout(DIAL_S):
            await self.driver.loop.create_connection(lambda: connection, *address)
        return connection

    def _connected(self, address: tuple[str, int]) -> bool:
        members = self.driver.node.local.members
        at = [member for member in members if (member.host, member.port) == address]
        return any(member.node_id in self._links or member is members.me for member in at)

    # -- who may come in ---------------------------------------------------------------------------

    def _check_newcomer(self, theirs: Hello) -> None:
        local = self.driver.node.local
        if local.has_data:
            raise DeniedError(
                f"Node {theirs.name[:64]!r} is no member, and this cluster holds data already.",
                hint="In this version all nodes join before the first write.",
            )
        if len(local.members) >= MEMBERS_MAX:
            raise DeniedError(f"The cluster has {MEMBERS_MAX} nodes, the most there can be.")
        known = local.members.named(theirs.name)
        if known is not None:
            raise DeniedError(
                f"There is a node named {theirs.name[:64]!r} already.",
                hint="Give each node a name of its own (--name).",
            )

    def _choose(self, peer: bytes, links: list[Connection]) -> None:
        """Send by the connection that the node with the smaller id dialled, if there is one."""
        smaller = self.driver.me < peer
        preferred = [link for link in links if link.dialled == smaller]
        self.driver.lines[peer] = (preferred or links)[-1]


def _go_on(held: list[Connection]) -> None:
    for connection in held:
        connection.go_on()
