"""Peers: one line to each other node, dialled anew whenever it breaks; and who may come in.

Both nodes of a pair dial, since either may start last. If both succeed, the connection that the
node with the smaller id dialled carries what is sent, and the other stays as a spare: nothing is
closed, so nothing is lost.

A newcomer hears at its Hello why it may not come; what fences.py decides is said only after both
sides have proved that they know the secret, since a node stops when it hears it.
"""

from __future__ import annotations

import asyncio
import functools
import logging

from msgspec.structs import replace

from everwrite.core.cluster.members import MEMBERS_MAX
from everwrite.core.errors import (
    DeniedError,
    EverwriteError,
    Fenced,
    OtherCluster,
    Overloaded,
    StillThere,
    StorageError,
    Unreachable,
)
from everwrite.core.handshake import Identity
from everwrite.core.messages.greeting import SPEAKS_CHANNELS, Hello
from everwrite.core.messages.members import REMOVED
from everwrite.core.outbox import Place
from everwrite.server.alone import other_cluster, why_alone
from everwrite.server.descriptors import room_for_connections
from everwrite.server.driver import Driver
from everwrite.server.fences import Start, fits, refused, removed, still_there, went_back
from everwrite.server.rarely import EachRarely, Rarely
from everwrite.server.settings import split_address
from everwrite.server.state import fence_mark
from everwrite.server.transport import CLIENTS_MAX, HANDSHAKES_MAX, Connection
from everwrite.server.turns import Held, Turns

DIAL_S = 2.0
BACKOFF_MIN_S = 0.05
BACKOFF_MAX_S = 0.5
SEED_BACKOFF_MAX_S = 10.0
"""Where no member is known to be, a node that has met its cluster looks less often."""
LOOK_EVERY_S = 2.0
"""How often incomplete frames are looked at: no timer per frame."""
LOOKS_PER_DIAL = 5
"""After so many it is seen to that whoever is not connected is dialled: a seed may have moved."""
LOOKS_FOR_MEMBERS = 2
"""After so many it is taken that no member is there, if all seeds are of another cluster."""
NATIVE_PART = 8
"""One place in so many is for native clients alone: a flood of HTTP requests keeps no operator out.
"""
WARNINGS_PER_S = 5


class Peers:
    """All connections of one node."""

    def __init__(self, driver: Driver, identity: Identity, secret: bytes, seeds: tuple[str, ...]):
        self.driver = driver
        self._log = driver.log
        self.identity = identity
        self.secret = secret
        self.http_port = 0
        self.redis_port = 0
        """Where this node answers HTTP and Redis, to tell who asks here; 0: nowhere."""
        self._seeds = [split_address(seed) for seed in seeds]
        self._strangers: dict[Connection, None] = {}  # oldest first
        self._clients: dict[int, Connection] = {}
        self._links: dict[bytes, list[Connection]] = {}
        self._own_addresses: set[tuple[str, int]] = set()
        """Where this node has met itself."""
        self._going: set[bytes] = set()
        """Peers that were removed, and that still have a connection, at the last look."""
        self._looks = 0
        self._foreign: set[tuple[str, int]] = set()
        """Seeds that were found to be of another cluster."""
        self._silent: set[tuple[str, int]] = set()
        """Whom nobody has answered for in this run, at least once."""
        self._alone, self._said_alone = Rarely(), False
        self._met = False
        """Whether any node of this cluster was met in this run."""
        self._dialling: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._stopping = False
        self._clients_room, self._strangers_room = room_for_connections()
        self._guests: dict[Held, None] = {}
        self.turns = Turns(driver, self._clients, self._guests)
        self.leaving: set[Connection] = set()
        """Those that were told to go, and may still send."""
        self.unfinished_bytes = 0
        """What all connections hold of frames that are not complete."""
        self._warned = self._unwarned = 0
        self._warned_since = 0.0
        self._doubles = EachRarely()
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

    def warn(self, name: str, error: EverwriteError) -> None:
        """Log that a connection was refused; a flood of them must not fill the disk."""
        now = self.driver.loop.time()
        if self._is_stale(("refused", name), error):
            return
        if now - self._warned_since >= 1:
            if self._unwarned:
                self._log.warning("connections refused", left_out=self._unwarned)
            self._warned_since, self._warned, self._unwarned = now, 0, 0
        if self._warned >= WARNINGS_PER_S:
            self._unwarned += 1
            return
        self._warned += 1
        level = logging.ERROR if isinstance(error, Fenced) else logging.WARNING
        self._log.log(level, "connection refused", peer=name, code=error.code, why=error)

    def _is_stale(self, what: tuple[str, str], error: EverwriteError) -> bool:
        """Say whether this was said not long ago. A copy of a directory that is in use comes back
        to every member, twice a second, as long as it runs.
        """
        again = isinstance(error, StillThere)
        return again and not self._doubles.due(what, self.driver.loop.time())

    def admit(self, connection: Connection, theirs: Hello) -> Place:
        """Give an end that knows the secret its place; DeniedError if it may not come in."""
        if not theirs.node_id:
            if not self._has_room():
                most = len(self._clients) + self.guests
                raise Overloaded(
                    f"This node has {most} clients, and takes no more.",
                    hint="Close some, or connect to another node.",
                )
            place = self.driver.attach(connection)
            self._clients[place] = connection
            return place
        self.check_newcomer(theirs)
        self._fence(theirs, dialled=connection.dialled)
        return theirs.node_id

    @property
    def counts(self) -> tuple[int, int]:
        """How many clients there are, by whatever protocol, and how many peers are connected."""
        return len(self._clients) + self.guests, len(self._links)

    @property
    def guests(self) -> int:
        """How many clients came by another protocol; they share the caps."""
        return len(self._guests)

    def welcome(self, guest: Held) -> bool:
        """Take in a client that speaks another protocol; say whether there is room for it. A part
        of the places is for the others, by whom operators come too.
        """
        most = self._places
        if not self._has_room() or self.guests >= most - most // NATIVE_PART:
            return False
        self._guests[guest] = None
        return True

    def parted(self, guest: Held) -> None:
        """Such a client is gone."""
        self._guests.pop(guest, None)

    def _has_room(self) -> bool:
        """Say whether there is room for one more client, whatever it speaks."""
        return not self._stopping and len(self._clients) + self.guests < self._places

    @property
    def _places(self) -> int:
        """How many clients there may be."""
        return min(CLIENTS_MAX, self._clients_room)

    def check_newcomer(self, theirs: Hello) -> None:
        """Raise DeniedError if the other side is a new node that may not come in. It hears it as
        the answer to its first question, before it has made itself a part of this cluster.
        """
        members = self.driver.node.local.members
        if not theirs.node_id or theirs.node_id in members or members.removed(theirs.node_id):
            return
        if len(members) >= MEMBERS_MAX:
            raise DeniedError(f"The cluster has {MEMBERS_MAX} nodes, the most there can be.")
        taken = {
            ruling.name
            for ruling in members.rulings.values()
            if ruling.standing != REMOVED and ruling.node_id != theirs.node_id
        }
        if members.named(theirs.name) or theirs.name in taken:
            raise DeniedError(
                f"There is a node named {theirs.name[:64]!r} already.",
                hint="Give each node a name of its own (--name).",
            )

    def opened(self, connection: Connection) -> None:
        """The handshake is over."""
        self._strangers.pop(connection, None)
        place = connection.place
        if type(place) is not bytes:
            return
        self._met = True
        start = start_of(connection)
        self.driver.node.doubted = False
        self._part([link for link in self._links.get(place, []) if start_of(link) != start], start)
        links = self._links.setdefault(place, [])
        links.append(connection)
        self._choose(place, links)
        self._meet(place, connection)
        if place not in self.driver.deaf_to:
            self.driver.arrived(place, [])
        self._log.info("peer connected", peer=place.hex(), dialled=connection.dialled)

    def _meet(self, place: bytes, connection: Connection) -> None:
        """Tell the core what the other end understands."""
        speaks = connection.theirs.speaks if connection.theirs is not None else 0
        self.driver.node.channels.met(place, speaks=bool(speaks & SPEAKS_CHANNELS))

    def closed(self, connection: Connection) -> None:
        """A connection is over."""
        self._strangers.pop(connection, None)
        place = connection.place
        if type(place) is int:
            self._clients.pop(place, None)
            self.driver.detach(place)
        elif type(place) is bytes:
            links = self._links.get(place, [])
            if connection not in links:  # it was ended, and is over only now
                return
            links.remove(connection)
            if links:
                self._choose(place, links)
            else:
                self._links.pop(place, None)
                self._log.info("peer lost", peer=place.hex())
                self.driver.peer_lost(place)
                self.dial_all()

    def told(self, connection: Connection, error: EverwriteError) -> None:
        """A peer has ended a connection with this."""
        name = connection.theirs.name[:64] if connection.theirs is not None else ""
        if not self._is_stale(("ended", name), error):
            self._log.warning("connection ended", by=name, code=error.code, why=error)
        if isinstance(error, Fenced):
            self.stop_for(error)

    def members_changed(self) -> None:
        """End connections of starts that were overtaken, and look for whoever is new."""
        members = self.driver.node.local.members
        for place, links in list(self._links.items()):
            entry = members.get(place)
            if entry is not None:
                start = (entry.incarnation, entry.life)
                self._part([link for link in links if not fits(start_of(link), start)], start)
        self.dial_all()

    # -- dialling ----------------------------------------------------------------------------------

    def dial_all(self) -> None:
        """Keep dialling every seed and member to whom there is no connection."""
        if self._stopping:
            return
        members = self.driver.node.local.members
        wanted: dict[tuple[str, int], bytes | None] = dict.fromkeys(self._seeds)
        wanted |= {(member.host, member.port): member.node_id for member in members.others()}
        for address, node_id in wanted.items():
            linked = node_id in self._links
            if not linked and address not in self._dialling and self._is_wanted(address):
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
        for connection in {*self._all(), *self.leaving}:
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
        self._see_off()
        self._look_whom_to_join()
        self._say_if_alone()
        self._looks += 1
        if self._looks % LOOKS_PER_DIAL == 0:
            self.dial_all()
        self._looking = self.driver.loop.call_later(LOOK_EVERY_S, self._look)

    async def _dial(self, address: tuple[str, int]) -> None:
        """Try until there is a connection to whoever is at this address, or nobody is looked for
        there any more.
        """
        backoff, rarely = BACKOFF_MIN_S, Rarely()
        while self._is_wanted(address):
            try:
                connection = await self._connect(address)
            except (OSError, TimeoutError, UnicodeError):  # the last: no name of a machine
                self._silent.add(address)
                self._say_if_alone()
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, self._backoff_max(address))
                continue
            why = await connection.over
            if why is None and connection.place is not None:
                backoff, rarely = BACKOFF_MIN_S, Rarely()
            elif self._is_me(connection):
                self._own_addresses.add(address)
            elif why is not None:
                self.driver.node.doubted |= isinstance(why, StillThere)
                if rarely.due(self.driver.loop.time()):
                    self._log.warning("no connection", to=f"{address[0]}:{address[1]}", why=why)
                backoff = self._backoff_max(address)
                if isinstance(why, OtherCluster):
                    self._foreign.add(address)
                    self._look_whom_to_join()
                elif (
                    isinstance(why, DeniedError)
                    and not isinstance(why, Fenced)
                    and not (self._met or self.driver.node.ready)
                ):  # else another has taken it in, and this one has not heard of all yet
                    self.driver.fatal(why)
            await asyncio.sleep(backoff)

    def _look_whom_to_join(self) -> None:
        """End this node if all whom it was told to join belong to another cluster, and it has met
        nobody of its own: it would go on alone, and take writes for a cluster that nobody meant.
        """
        seeds = [seed for seed in self._seeds if seed not in self._own_addresses]
        if self._met or not seeds or not self._foreign.issuperset(seeds):
            return
        if self.driver.node.local.members.others() and self._looks < LOOKS_FOR_MEMBERS:
            return
        self.driver.fatal(other_cluster(self.identity, seeds, served=self._said_alone))

    def _say_if_alone(self) -> None:
        """Warn while this node, the only one of its cluster, was told to join and hears nobody: it
        serves, and whoever started it may think that it is in another cluster.
        """
        seeds = [seed for seed in self._seeds if seed not in self._own_addresses]
        heard = self._met or not self._silent.union(self._foreign).issuperset(seeds)
        if not seeds or heard or self.driver.node.local.members.others() or self._stopping:
            return
        if self._alone.due(self.driver.loop.time()):
            self._said_alone = True
            self._log.warning("alone", why=why_alone(self.identity, seeds))

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

    def _is_wanted(self, address: tuple[str, int]) -> bool:
        """Say whether a member is known to be at this address, or one may be, and is missed."""
        if address in self._own_addresses:
            return False
        at = self._members_at(address)
        me = self.driver.me
        if any(node_id == me or node_id in self._links for node_id in at):
            return False
        return bool(at) or address in self._seeds

    def _members_at(self, address: tuple[str, int]) -> list[bytes]:
        members = self.driver.node.local.members
        return [each.node_id for each in members if (each.host, each.port) == address]

    def _backoff_max(self, address: tuple[str, int]) -> float:
        if not self.driver.node.ready or self._members_at(address):
            return BACKOFF_MAX_S
        return SEED_BACKOFF_MAX_S

    def who_am_i(self) -> Identity:
        """Return what this node says of itself in a handshake now."""
        node = self.driver.node
        generation, confirmed = node.local.generation, node.confirmations.given
        return replace(self.identity, generation=generation, confirmed=confirmed)

    def _is_me(self, connection: Connection) -> bool:
        theirs = connection.theirs
        mine = (self.driver.me, self.identity.incarnation, self.identity.life)
        return theirs is not None and (theirs.node_id, *start_of(connection)) == mine

    # -- fences ------------------------------------------------------------------------------------

    def _fence(self, theirs: Hello, *, dialled: bool) -> None:
        """Raise Fenced if the other side must stop; stop if this side must, see fences.py."""
        members = self.driver.node.local.members
        name, node_id = theirs.name, theirs.node_id
        start = (theirs.incarnation, theirs.life)
        mine = (self.identity.incarnation, self.identity.life)
        if node_id == self.driver.me:
            if start == mine:
                raise DeniedError(
                    "The other side is this very node.", hint="Leave it out of --join."
                )
            if start[0] > mine[0]:  # this process runs: that one may be a copy
                raise still_there(name, node_id)
            if start[0] == mine[0] and dialled:
                self.stop_for(refused(self.identity.name, node_id, mine, start))
                raise Unreachable("This process has your identity, and stops.")
            raise refused(name, node_id, start, mine)
        if members.removed(node_id):
            raise removed(name, node_id)
        known = self._newest(node_id)
        if known is not None and not fits(start, known):
            raise refused(name, node_id, start, known)
        local = self.driver.node.local
        if theirs.confirmed < local.floors.get(node_id, 0):
            raise went_back(name, node_id)
        local.generation = max(local.generation, theirs.generation)
        earlier = [link for link in self._links.get(node_id, []) if start_of(link) != start]
        if earlier and node_id in self.driver.node.local.liveness.up:
            raise still_there(name, node_id)

    def _newest(self, node_id: bytes) -> Start | None:
        """Return the latest start of a node that is known, by gossip or by a connection."""
        starts = [start_of(link) for link in self._links.get(node_id, [])]
        entry = self.driver.node.local.members.get(node_id)
        if entry is not None:
            starts.append((entry.incarnation, entry.life))
        return max(starts, key=lambda start: start[0], default=None)

    def _part(self, links: list[Connection], newer: Start) -> None:
        """End connections of an identity whose place a newer start has taken."""
        for link in links:
            if link.theirs is not None:
                name, node_id = link.theirs.name, link.theirs.node_id
                self._end(link, refused(name, node_id, start_of(link), newer))

    def _see_off(self) -> None:
        """End the connections of who was removed, once there was time to hear it by gossip: who
        hears it that way ends as it was asked to.
        """
        members = self.driver.node.local.members
        gone = {place for place in self._links if members.removed(place)}
        for place in gone & self._going:
            for link in list(self._links.get(place, [])):
                name = link.theirs.name if link.theirs is not None else ""
                self._end(link, removed(name, place))
        self._going = gone

    def _end(self, link: Connection, error: Fenced) -> None:
        """Send no more over a connection, say why, and close it."""
        link.refuse(error)
        self.closed(link)

    def stop_for(self, error: Fenced) -> None:
        """Stop this node for good; it is told so again at its next start."""
        self._log.critical("this node must stop", why=error)
        try:
            self.driver.disk.write_at_last(*fence_mark(error))
        except StorageError as why:
            self._log.error("refusal not written", why=why)
        self.driver.fatal(error)

    def _choose(self, peer: bytes, links: list[Connection]) -> None:
        """Send by the connection that the node with the smaller id dialled, if there is one."""
        smaller = self.driver.me < peer
        preferred = [link for link in links if link.dialled == smaller]
        self.driver.lines[peer] = (preferred or links)[-1]


def start_of(connection: Connection) -> Start:
    """Return which start of its node is at the other end."""
    theirs = connection.theirs
    return (0, b"") if theirs is None else (theirs.incarnation, theirs.life)
