"""How much clients may send in a turn of the loop, all together: what came is handled and written
before more is read.

Clients of another protocol (HTTP) have a smaller portion of their own. It costs more to handle what
they send, and a flood of it would make each turn long for those who speak the native protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from everwrite.server.driver import Driver
from everwrite.server.transport import TURN_BYTES

GUESTS_TURN_BYTES = 4 << 20
"""A flood of puts of 200 KB over HTTP made turns of 0.3 s, and whoever spoke the native protocol
waited for one at each word.
"""


class Held(Protocol):
    """A connection of a client."""

    def hold(self) -> None:
        """Do not read from it until ``go_on``."""

    def go_on(self) -> None: ...


class Turns:
    """See the module; ``clients`` and ``guests`` (of another protocol) are connected now."""

    def __init__(self, driver: Driver, clients: Mapping[Any, Held], guests: Iterable[Held]) -> None:
        self._driver = driver
        self._clients = clients
        self._guests = guests
        self._taken = self._taken_from_guests = 0
        self.rests = 0
        """How often clients were not read from for a turn, since they had sent so much."""

    def took(self, size: int) -> None:
        """So much came from a client: after TURN_BYTES none is read from for a turn."""
        self._taken += size
        if self._taken >= TURN_BYTES:
            self._taken = 0
            self._rest([*self._clients.values(), *self._guests])

    def took_from_guest(self, size: int) -> None:
        """So much came from a guest: after GUESTS_TURN_BYTES no guest is read from for a turn."""
        self._taken_from_guests += size
        if self._taken_from_guests >= GUESTS_TURN_BYTES:
            self._taken_from_guests = 0
            self._rest([*self._guests])
        self.took(size)

    def _rest(self, held: list[Held]) -> None:
        self.rests += 1
        for connection in held:
            connection.hold()
        self._driver.loop.call_soon(self._go_on, held)  # behind the tick, asked for before

    def _go_on(self, held: list[Held]) -> None:
        """Read from clients again, once no more waits at the door than one such portion."""
        if self._driver.node.clients.door.bytes > TURN_BYTES:
            self._driver.loop.call_soon(self._go_on, held)
            return
        for connection in held:
            connection.go_on()
