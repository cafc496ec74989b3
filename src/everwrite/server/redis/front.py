"""What all connections of a node share: commands, the place at the driver, the secret."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from structlog.stdlib import BoundLogger

from everwrite.server.redis.command import Args, Command, words
from everwrite.server.redis.hub import Hub
from everwrite.server.redis.measures import RedisMeasures
from everwrite.server.redis.place import RedisPlace
from everwrite.server.redis.replies import Problem
from everwrite.server.redis.table import NAMES, TABLE

if TYPE_CHECKING:
    from everwrite.core.local import Local
    from everwrite.server.redis.connection import RedisConnection
    from everwrite.server.redis.session import Session
    from everwrite.server.turns import Held, Turns

PAGE = "docs/redis.md"


class Front:
    """The Redis front of one node."""

    def __init__(
        self,
        place: RedisPlace,
        hub: Hub,
        secret: bytes,
        local: Local,
        loop: asyncio.AbstractEventLoop,
        *,
        port: int,
        welcome: Callable[[Held], bool],
        parted: Callable[[Held], None],
        turns: Turns,
        broken: Callable[[BaseException], None],
        log: BoundLogger,
    ) -> None:
        self.place = place
        self.hub = hub
        self.secret = secret
        self.local = local
        self.loop = loop
        self.port = port
        self.now = loop.time
        self.took = turns.took_from_guest
        self.broken = broken
        self.measures = RedisMeasures()
        self.connections: dict[int, RedisConnection] = {}
        """Those that are there, by their number."""
        self.began = loop.time()
        self._welcome = welcome
        self._parted = parted
        self.log = log
        self._number = 0

    def next_number(self) -> int:
        """Return the number of the next connection."""
        self._number += 1
        return self._number

    @property
    def connections_made(self) -> int:
        """How many connections there were since the start."""
        return self._number

    def welcome(self, connection: RedisConnection) -> bool:
        """Take in a connection; say whether there is room for it."""
        if not self._welcome(connection):
            return False
        self.connections[connection.session.number] = connection
        self.measures.connected = len(self.connections)
        return True

    def parted(self, connection: RedisConnection) -> None:
        """A connection is gone."""
        self._parted(connection)
        self.hub.drop(connection)
        self.connections.pop(connection.session.number, None)
        self.measures.connected = len(self.connections)

    @property
    def run_id(self) -> str:
        """This node's id, as long as those of Redis are."""
        return self.local.me.hex() * 2 + self.local.cluster.cluster_id.hex()[:8]

    def time_ms(self) -> int:
        """Return the time of day, by the clock on which the cluster agrees."""
        return self.local.time_ms

    # -- commands ----------------------------------------------------------------------------------

    @property
    def table(self) -> Mapping[bytes, Command]:
        """All commands, by their names in small letters."""
        return TABLE

    def find(self, name: bytes) -> Command | None:
        """Return the command of this name, in whatever letters; None: there is none."""
        return NAMES.get(name) or TABLE.get(name.lower())

    def unknown(self, args: Args) -> Problem:
        """Return what is said of a command that there is not, as Redis words it."""
        self.measures.unknown += 1
        said = "".join(f"'{words(each)}' " for each in args[1:8])
        return Problem(f"ERR unknown command '{words(args[0])}', with args beginning with: {said}")

    def refuse(self, command: Command) -> Problem:
        """Return what is said of a command that is not done here."""
        self.measures.refused += 1
        return Problem(
            f"ERR '{command.name.upper()}' is not supported: {command.refused}; see {PAGE}"
        )

    def session_of(self, number: int) -> Session | None:
        """Return the client of a connection."""
        found = self.connections.get(number)
        return found.session if found is not None else None
