"""The batch of one tick, of which each write is seen as it is made.

A change comes upon those before it in the same tick, and may take away what they have just added:
then that stands in no record that a disk ever takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from everwrite.sim.disk import Payload
from everwrite.sim.ledger import Ledger

if TYPE_CHECKING:
    from everwrite.sim.machine import Machine


class Watched(dict[bytes, Payload]):
    """The writes of a tick of one machine."""

    def __init__(self, ledger: Ledger, machine: Machine) -> None:
        super().__init__()
        self._ledger = ledger
        self._machine = machine

    def __setitem__(self, key: bytes, payload: Payload) -> None:
        machine = self._machine
        self._ledger.made(machine.index, key, payload, machine.disk.visible.get(key))
        super().__setitem__(key, payload)
