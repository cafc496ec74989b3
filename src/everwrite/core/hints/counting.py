"""The hints on the disk are counted while the node serves already: a start must not wait for a
million of them.

The walk goes through their part of the disk in slices, on the thread of scans, each when the pace
grants it. Until it has passed a key, nothing is taken for absent there: who needs the key's hint
reads the disk. What happens to a hint between the reading of a slice and its coming is kept in
``touched``: of these keys the index knows more than the slice does.

Costs: 2 us of the loop for each hint, and 16 to 60 us of time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from everwrite.core.local import Local, Request
from everwrite.core.moving.ranges import Scan, Scanned
from everwrite.core.probes import sometimes
from everwrite.core.records import HINT, Damaged

if TYPE_CHECKING:
    from everwrite.core.hints.hints import Hints

END = bytes((HINT[0] + 1,))

AGAIN_MS = 1_000
"""When to try again where the disk would not give a slice."""


class Counting(Request):
    """The walk of one start."""

    __slots__ = ("_alarm", "_hints", "_local", "_reached", "_reads", "_rid", "touched")

    def __init__(self, local: Local, hints: Hints) -> None:
        self._local = local
        self._hints = hints
        self._rid = 0
        self._reached = b""
        """The last data key that was counted."""
        self._reads = False
        self._alarm = 0
        self.touched: set[bytes] = set()
        """Keys whose hint changed since the slice that is on its way was asked for."""

    def begin(self) -> None:
        self._alarm = self._local.now + AGAIN_MS
        self._rid = self._local.open_request(self, self._alarm)
        self._local.background += 1
        self._read()

    def may_come(self, key: bytes) -> bool:
        """Say whether a hint of this key may be on the disk that was not counted yet."""
        return key > self._reached

    def _read(self) -> None:
        local, config = self._local, self._local.config
        start = HINT + self._reached + b"\0" if self._reached else HINT
        self._reads = True
        self.touched.clear()
        local.out.scans.append(Scan(self._rid, start, END, config.slice_keys, config.slice_bytes))

    def scanned(self, scanned: Scanned) -> None:
        self._reads = False
        hints = self._hints
        for disk_key, payload in scanned.pairs:
            key = disk_key[1:]
            if key in self.touched or key in hints.owners_of:
                sometimes("a hint changes while those on the disk are counted")
            elif isinstance(payload, Damaged):
                hints.restore_unreadable(key)
            else:
                hints.restore(key, payload)
        if scanned.pairs:
            self._reached = scanned.pairs[-1][0][1:]
        if not scanned.more:
            self._close()
            return
        self._go_on()

    def unscanned(self) -> None:
        self._reads = False
        sometimes("the hints on the disk cannot be counted now")

    def wake(self) -> None:
        if self._local.now >= self._alarm:  # what is in the table is woken at some time, always
            self._set_alarm()
        if not self._reads:
            self._go_on()

    def _set_alarm(self) -> None:
        self._alarm = self._local.now + AGAIN_MS
        self._local.wake_at(self._rid, self._alarm)

    def _go_on(self) -> None:
        local = self._local
        wait_ms = local.pace.wait_ms("hints", local.now)
        if wait_ms:
            local.wake_at(self._rid, local.now + wait_ms)
        else:
            self._read()

    def _close(self) -> None:
        del self._local.requests[self._rid]
        self._local.background -= 1
        self._hints.counting = None
        self._hints.deliveries.go_on()
