"""What has ended loses its value in the background, on every owner in the same way.

    slot over for expiry_margin_ms, and the time is sure
    -> whatever is written from now on is brought to the new horizon (core/copies.py)
    -> the entries below it, in the order of slots and keys: each record is brought there too
    -> nothing is left below it: it is the horizon of all partitions

The disk lists each own copy under the slot in which something of it ends next (``x`` + slot + data
key). A walk asks the disk for the first entries below its target, brings their records to it, and
asks again; it is over when there are none. So nothing need be remembered of a walk that ended
half-way: whatever is still listed was not done. An entry is looked at against its record, so one
that says nothing true does no harm.

A record that the disk will not give is passed by, and the walk ends without it: its entry stays, so
the next slot's walk tries it again. One that is damaged goes if its entry says that all of it has
ended, which needs no record to be seen. Else its entry stays too, for what others bring in its
place (trees/quarantine.py).

``horizon`` is what trees are compared at: a partition at a time, the last one at which nothing is
left to do. It is UNSURE from the first record of a walk until the last one of the partition, after
a start until the first walk has ended, and where a record was passed by.

A walk that takes more than half of the time whose ends it purges has the next target be a multiple
of twice as many slots, up to STEP_MAX of them; one that takes less than a quarter, of half as many.
So under load nodes stand at one horizon, the same one, for minutes at a time, as an exchange needs
it, and not for some seconds of each slot. Who asks for roots says what step it needs, and whoever
hears that takes no smaller one, so the slowest of them sets it.

Costs: a walk with nothing to do is one scan, once each slot. A record costs its read, where it is
not cached, and one batch of writes for each page of them. Never more than PAGE records are read at
a time, and each page is one slice of the pace.
"""

from __future__ import annotations

from everwrite.core.copies import ENDS, SLOT_BYTES, slot_key
from everwrite.core.data import versions
from everwrite.core.local import Local, Request
from everwrite.core.messages.message import Message
from everwrite.core.moving.ranges import Scan, Scanned
from everwrite.core.probes import sometimes
from everwrite.core.records import MISSING, OWN, Damaged

UNSURE = -1
"""The horizon of a partition that is on its way from one to the next: not comparable."""

PAGE = 16
"""Records of one slice: half a millisecond of the loop's time with the batch that they make. All
owners purge the same slot at the same time, so a request that asks two of them meets two slices:
four times as much in one made p99s half as large again, and so was granted half as often.
"""
PAGE_BYTES = 1 << 20

LEFT_MAX = 4_096
"""Entries that one walk passes by. Beyond, it waits for the disk, or unlists what is damaged."""

STEP_MAX = 16
"""Slots from one target to the next, at the most: 17 minutes."""

RETRY_MS = 1_000
"""After a scan or a read in vain, and while the time is not sure."""

_HEAD = len(ENDS) + SLOT_BYTES


class Retire(Message, frozen=True, tag=116):
    """To oneself: bring the record of this entry to the horizon; it may have to be read first."""

    entry: bytes
    lasts: bytes = b""
    """What stands beside it: see core/copies.py."""


class Expiry(Request):
    """The horizon of one node, and the walk that moves it on."""

    __slots__ = (
        "_began_ms",
        "_due_ms",
        "_left",
        "_local",
        "_page",
        "_pending",
        "_rid",
        "_scanning",
        "_spoilt",
        "_start",
        "_stuck",
        "_theirs",
        "_theirs_until",
        "_unsure",
        "_waits_until",
        "_wakes_at",
        "done_ms",
        "step",
    )

    def __init__(self, local: Local) -> None:
        self._local = local
        self.done_ms = UNSURE
        """The horizon of all partitions; UNSURE before the first walk has ended."""
        self._due_ms = self._began_ms = local.now
        self.step = 1
        """Slots from one target to the next, as this node needs them."""
        self._theirs = 1
        """The most that a peer needs, and up to when that counts."""
        self._theirs_until = local.now
        self._rid = 0
        self._scanning = False
        self._page: list[tuple[bytes, bytes | Damaged]] = []
        """Entries that wait for a slice."""
        self._pending: set[bytes] = set()
        """Entries whose records are being read."""
        self._spoilt = False
        """Whether one of them has to wait."""
        self._left: set[bytes] = set()
        """Entries that this walk passes by: their records cannot be read."""
        self._unsure: set[int] = set()
        """Partitions of those that may be well, but for the disk."""
        self._start = b""
        """Below the target nothing is listed before this entry; empty: nobody knows."""
        self._waits_until = self._wakes_at = 0
        self._stuck = b""
        """The first entry of the page before this one: it must be gone."""

    # -- questions ---------------------------------------------------------------------------------

    def horizon(self, partition: int) -> int:
        """Return the time of day up to which all that ended in a partition has lost its value;
        UNSURE while a walk is under way there.
        """
        target = self._local.copies.horizon
        if partition in self._unsure:
            return UNSURE
        if target and (self.done_ms == target or self._is_past(partition, target)):
            return target
        return UNSURE

    def _is_past(self, partition: int, target: int) -> bool:
        """Say whether a walk that is under way has nothing left to do in this partition: it is in
        the last slot, and behind it.
        """
        if not self._start.startswith(slot_key(target - self._local.config.expiry_slot_ms)):
            return False
        key = self._start[_HEAD:]
        return bool(key) and partition < self._local.routes.placement.partition_of(key)

    @property
    def _steps(self) -> int:
        """Slots from one target to the next."""
        return max(self.step, self._theirs if self._local.now < self._theirs_until else 1)

    def heard(self, step: int) -> None:
        """A peer that compares needs so many slots from one target to the next."""
        now = self._local.now
        if step >= self._theirs or now >= self._theirs_until:
            self._theirs = min(step, STEP_MAX)
            self._theirs_until = now + 2 * STEP_MAX * self._local.config.expiry_slot_ms

    def next_wake_ms(self) -> int:
        """Return when ``begin`` has something to do."""
        return self._local.now + RETRY_MS if self._rid else self._due_ms

    # -- the walk ----------------------------------------------------------------------------------

    def begin(self) -> None:
        """See whether a slot is over, and whether anything ended in it."""
        local = self._local
        if local.now < self._due_ms or self._rid:
            return
        slot_ms, margin_ms = local.config.expiry_slot_ms, local.config.expiry_margin_ms
        time_ms = local.time_ms - margin_ms
        step_ms = slot_ms * self._steps
        target = time_ms - time_ms % step_ms
        if target <= max(self.done_ms, 0):
            self._due_ms = local.now + step_ms - time_ms % step_ms
            return
        if not local.clock.sure:
            sometimes("nothing is purged while the time is not sure")
            self._due_ms = local.now + max(RETRY_MS, slot_ms // 16)
            return
        # What is written from now on is not listed below the target, so the walk meets an end.
        local.copies.horizon = max(target, local.copies.horizon)
        self._rid = local.open_request(self, local.now + RETRY_MS)
        local.background += 1
        self._began_ms = local.now
        self._stuck = b""
        self._left.clear()
        self._unsure.clear()
        self._wakes_at = local.now + RETRY_MS
        self._go_on()

    def wake(self) -> None:
        """Some time has passed: go on if that was what the walk waits for."""
        local = self._local
        if local.now >= self._waits_until and not self._scanning and not self._pending:
            self._go_on()
        if self._rid:
            self._wake_in(max(self._waits_until - local.now, RETRY_MS))

    def _wake_in(self, ms: int) -> None:
        """Ask for one wake-up, and no more than one: see the pace."""
        now, at = self._local.now, self._local.now + ms
        if not now < self._wakes_at <= at:
            self._wakes_at = at
            self._local.wake_at(self._rid, at)

    def _go_on(self) -> None:
        """Do the page at hand, once the pace allows it, or ask for one."""
        local = self._local
        if not self._page:
            self._scanning = True
            start, end = self._start or ENDS, slot_key(local.copies.horizon)
            local.out.scans.append(Scan(self._rid, start, end, PAGE, PAGE_BYTES))
            return
        wait_ms = local.pace.wait_ms("purge", local.now)
        if wait_ms:
            self._wait(wait_ms)
            return
        page, self._page = self._page, []
        self._pending.update(entry for entry, _ in page)
        for entry, lasts in page:
            self.retire(Retire(entry, lasts if isinstance(lasts, bytes) else b""))

    def scanned(self, scanned: Scanned) -> None:
        """These are the next entries; none: the walk is over."""
        self._scanning = False
        if not scanned.pairs:
            self._end()
            return
        self._page = [pair for pair in scanned.pairs if pair[0] not in self._left]
        if not self._page:
            self._start = scanned.pairs[-1][0] + b"\0"
            self._go_on()
            return
        self._start = first = self._page[0][0]
        if first == self._stuck:
            sometimes("a purge finds again what it has done: its batch was not written")
            self._again(RETRY_MS)
            return
        self._stuck = first
        self._go_on()

    def unscanned(self) -> None:
        sometimes("the list of ends cannot be read")
        self._scanning = False
        self._again(RETRY_MS)

    def retire(self, message: Retire) -> None:
        """Bring the record of one entry to the horizon."""
        local, entry = self._local, message.entry
        if entry not in self._pending:
            return
        key = entry[_HEAD:]
        payload = local.records.look(OWN + key)
        if payload is MISSING:
            if not local.records.park(OWN + key, local.me, message, local.now):
                self._settled(entry, spoilt=True)
            return
        if isinstance(payload, Damaged):
            if payload.corrupt and local.copies.remove_damaged(key, entry, message.lasts):
                local.counters.purged += 1
                self._settled(entry, spoilt=False)
            else:
                self._pass_by(entry, key, corrupt=payload.corrupt)
            return
        assert payload is None or isinstance(payload, bytes)
        self._carry_out(entry, key, payload)
        self._settled(entry, spoilt=False)

    def _carry_out(self, entry: bytes, key: bytes, payload: bytes | None) -> None:
        local = self._local
        record = versions.decode(payload[8:]) if payload is not None else None
        local.copies.relist(key, record, entry)
        if payload is None or record is None:
            return
        if 0 < versions.next_end(record) < local.copies.horizon:
            copy = (key, payload[:8], payload[8:], payload)
            left = local.copies.write(*copy, record=record, was=record)
            local.counters.retired += 1
            local.counters.purged += left is None

    def _pass_by(self, entry: bytes, key: bytes, *, corrupt: bool) -> None:
        """This record cannot be read: the walk goes on without it, as long as there are few of
        them. Where it may be well trees are not compared. Of one that is damaged they know nothing,
        and whatever takes its place is brought to the horizon as it comes.
        """
        fits = len(self._left) < LEFT_MAX
        if fits:
            self._left.add(entry)
            if not corrupt:
                self._unsure.add(self._local.routes.placement.partition_of(key))
        elif corrupt:
            self._local.copies.unlist(entry)
        self._settled(entry, spoilt=not (fits or corrupt))

    def _settled(self, entry: bytes, *, spoilt: bool) -> None:
        self._pending.discard(entry)
        self._spoilt |= spoilt
        if not self._pending:
            self._again(RETRY_MS if self._spoilt else 0)

    def _again(self, wait_ms: int) -> None:
        """Ask for the next entries: those that could not be done, or written, among them."""
        self._spoilt = False
        if wait_ms:
            self._stuck = b""
            self._page = []
            self._wait(wait_ms)
        else:
            self._go_on()

    def _wait(self, ms: int) -> None:
        self._waits_until = self._local.now + ms
        self._wake_in(ms)

    def _end(self) -> None:
        local = self._local
        del local.requests[self._rid]
        local.background -= 1
        self._rid = 0
        if self.done_ms > 0:
            self._learn_step(local.now - self._began_ms, local.copies.horizon - self.done_ms)
        self.done_ms = local.copies.horizon
        self._start = min(self._left, default=slot_key(self.done_ms))

    def _learn_step(self, took_ms: int, covered_ms: int) -> None:
        """A walk took so long, for what had ended in so much time: see above."""
        if 2 * took_ms > covered_ms:
            sometimes("a purge takes long, and goes in larger steps")
            self.step = min(2 * self.step, STEP_MAX)
        elif 4 * took_ms < covered_ms:
            self.step = max(1, self.step // 2)
