"""The walk over the disk: makes wrong leaves of the tree anew, and slowly looks through all others.

    wrong leaves   after an unclean stop all of them, else those in doubt: at once ("trees")
    the scrub      all leaves in turn, once in ``scrub_cycle_ms``: each is read and compared with
                   the tree, and each copy with its checksum ("scrub")

Both are the same reading, so a scrub is exact while writes go on, as a rebuild is (trees.py). What
the scrub finds:

    a damaged copy          written anew from memory, if that has it; else quarantined, and mended
                            from the other owners (quarantine.py)
    a leaf that is another  something was lost, or came, without a write: counted, and the tree says
    than the disk           from now on what the disk has, so an exchange brings what is missing

Behind the last leaf it looks through the hints too: whoever keeps one that is damaged says so
from then on, and does not take it for one that is not there.

How far the scrub is stands on the disk, so that a node that is often restarted looks through all of
it too. One range is read at a time. While requests are served it is a short one, after which the
disk's thread lets others have their turn; where nobody is served ranges are long.

A range that the disk will not give never counts as empty. Its leaves are wrong, and the walk goes
on behind it. It goes over all wrong leaves in passes: each leaves out what it could not read, and
the next one takes half as many leaves at a time, until those are left, one by one, that the disk
will not give. They are tried again after waits that grow to RETRY_MAX_MS, and soon after another
leaf came into doubt. The scrub looks at right leaves only, and goes on meanwhile.

Costs: 2.5 us of the processor for each copy that is read; a rebuild has 300,000 a second of them.
"""

from __future__ import annotations

from collections.abc import Callable

from everwrite.core.local import Local
from everwrite.core.moving.ranges import Scan, Scanned
from everwrite.core.pace.pace import Kind
from everwrite.core.probes import sometimes
from everwrite.core.records import HINT, STATE, Damaged
from everwrite.core.trees.quarantine import Quarantine

SCRUB = STATE + b"scrub"
"""How far the scrub is: the next leaf in parts of 2^32 (4 bytes), the time at which this cycle
began (8), and at which the last one ended (8)."""

WALK_RID = 0
"""The number of its reads: no request has it."""

RUN_PARTS = 4096
"""The scrub takes so many steps for all leaves, or one for each if these are fewer."""
STEP_MS = 50
"""And fewer where they would follow each other faster."""

RETRY_MAX_MS = 600_000
"""The longest wait between two passes over leaves that the disk will not give."""


class Walk:
    """The one walk of a node."""

    def __init__(
        self, local: Local, quarantine: Quarantine, hint_spoilt: Callable[[bytes], None]
    ) -> None:
        self._local = local
        self._hint_spoilt = hint_spoilt
        """Told of a data key whose hint is damaged."""
        self._hints_from = b""
        """The disk key from which on the hints are to be looked through; empty: not now."""
        self._quarantine = quarantine
        trees = local.trees
        cycle_ms = local.config.scrub_cycle_ms
        self._run = min(
            trees.size, max(1, trees.size // RUN_PARTS, trees.size * STEP_MS // cycle_ms)
        )
        """Leaves of one step of the scrub."""
        self._every_ms = max(1, cycle_ms * self._run // trees.size)
        self._kind: Kind | None = None
        """What is walked now; None: nothing."""
        self._first = self._until = 0
        self._asked = False
        """Whether a range is being read."""
        self._after = 0
        """Up to where this pass over the wrong leaves has come."""
        self._most = trees.size
        """Leaves to be read in one walk: fewer where the disk fails."""
        self._failed = False
        """Whether the disk would not give a range in this pass."""
        self._refused = 0
        """Leaves, one by one, that it would not give in this pass."""
        self._trees_ms = local.now
        """Not before this are wrong leaves read."""
        self._again_ms = local.now
        """When the next pass begins."""
        self._wait_ms = 0
        """How long the last one had to wait."""
        self._doubts = 0
        """Doubts that there had been in all when it was put off."""
        self._unreadable = 0
        """What ``_refused`` was at the end of the last pass."""
        self._next_ms = local.now
        self._scrub_ms = local.now + self._every_ms
        self.scrub_leaf = 0
        """The next leaf that the scrub will look at."""
        self.cycle_began_ms = self.cycle_ended_ms = 0
        """Times of day: of this cycle's beginning, of the last one's end; 0: there was none."""
        self.keys = self.bytes = self.leaves_made = 0
        """What was read, and how many leaves were made anew, in this run."""

    @property
    def unreadable(self) -> int:
        """How many leaves the disk will not give, as far as that is known."""
        return max(self._refused, min(self._unreadable, self._local.trees.wrong))

    # -- the scrub's place -------------------------------------------------------------------------

    def restore(self, saved: bytes) -> None:
        """At the start: go on where the last run was."""
        if len(saved) != 20:
            return
        self.scrub_leaf = int.from_bytes(saved[:4], "big") * self._local.trees.size >> 32
        self.cycle_began_ms = int.from_bytes(saved[4:12], "big")
        self.cycle_ended_ms = int.from_bytes(saved[12:], "big")

    def _scrubbed(self, until: int) -> None:
        """A step of the scrub is done: the next one begins where it ended."""
        local = self._local
        self.scrub_leaf = until
        self._scrub_ms = local.now + self._every_ms
        if self.scrub_leaf >= local.trees.size:
            self._hints_from = HINT
        self._note_place()

    def _note_place(self) -> None:
        local = self._local
        place = min((1 << 32) - 1, (self.scrub_leaf << 32) // local.trees.size)
        saved = place.to_bytes(4, "big") + self.cycle_began_ms.to_bytes(8, "big")
        local.records.enter(SCRUB, saved + self.cycle_ended_ms.to_bytes(8, "big"))

    # -- the way -----------------------------------------------------------------------------------

    def wake(self) -> None:
        if not self._asked and self._local.now >= self._next_ms:
            self._go()

    def next_wake_ms(self) -> int | None:
        if self._asked:
            return None
        due = self._next_ms
        if self._kind is None:
            trees_ms = self._wrong_ms()
            due = max(due, self._scrub_ms if trees_ms is None else min(trees_ms, self._scrub_ms))
        return due

    def _go(self) -> None:
        """Ask for the next range, if there is one to be read and its time has come."""
        local = self._local
        if self._kind is None and not self._choose():
            return
        assert self._kind is not None
        wait_ms = local.pace.wait_ms(self._kind, local.now)
        if wait_ms:
            self._next_ms = local.now + wait_ms
            return
        config, trees = local.config, local.trees
        self._asked = True
        if self._hints_from and self._kind == "scrub":
            start, end = self._hints_from, bytes((HINT[0] + 1,))
            scan = Scan(WALK_RID, start, end, config.walk_keys, config.slice_bytes)
            local.out.scans.append(scan)
            return
        idle = self._kind == "trees" and local.pace.control.idle(local.now)
        keys = config.walk_keys_idle if idle else config.walk_keys
        trees.scanning()
        local.out.scans.append(
            Scan(WALK_RID, trees.position, trees.end, keys, config.slice_bytes, quick=idle)
        )

    def _choose(self) -> bool:
        """Begin with the leaves that are next; say whether there are any."""
        local, trees = self._local, self._local.trees
        trees_ms = self._wrong_ms()
        if trees_ms is not None and trees_ms <= local.now:
            self._kind = "trees"
            first, until = trees.next_wrong(self._after)
            until = min(until, first + self._most)
        elif local.now >= self._scrub_ms:
            if self._hints_from:
                self._kind = "scrub"
                return True
            if not self.scrub_leaf:
                self.cycle_began_ms = local.time_ms
            first, until = trees.next_right(self.scrub_leaf, self._run)
            if first == until:  # all others are wrong, so they are looked at in any case
                self._scrubbed(trees.size)
                return False
            self._kind = "scrub"
        else:
            return False
        self._first, self._until = first, until
        trees.begin(first, until)
        return True

    def _wrong_ms(self) -> int | None:
        """Return when wrong leaves are to be read; None: there are none."""
        local, trees = self._local, self._local.trees
        if not trees.any_wrong:
            return None
        if trees.doubts != self._doubts:
            self._doubts = trees.doubts
            self._again_ms = min(self._again_ms, local.now + 10 * local.config.walk_retry_ms)
        return max(self._trees_ms, self._again_ms)

    def _passed(self, leaf: int) -> None:
        """The pass over the wrong leaves has come up to this one. Behind the last it is over."""
        local, trees = self._local, self._local.trees
        self._after = leaf
        first, until = trees.next_wrong(leaf) if leaf < trees.size else (0, 0)
        if leaf <= first < until:
            return
        self._after = 0
        self._unreadable, self._refused = self._refused, 0
        failed, self._failed = self._failed, False
        retry_ms = local.config.walk_retry_ms
        if not failed:
            self._most = trees.size
            self._wait_ms = 0
            return
        if self._most > 1:
            self._most //= 2
            self._wait_ms = retry_ms
        else:
            longest = max(RETRY_MAX_MS, 10 * retry_ms)
            self._wait_ms = min(max(10 * retry_ms, 2 * self._wait_ms), longest)
        self._doubts = trees.doubts
        self._again_ms = local.now + self._wait_ms

    def scanned(self, scanned: Scanned) -> None:
        """A range came."""
        local, trees = self._local, self._local.trees
        self._asked = False
        if self._hints_from and self._kind == "scrub":
            self._hints_scanned(scanned)
            return
        pairs = scanned.pairs
        payloads = [payload for _, payload in pairs]
        if Damaged in map(type, payloads):
            pairs = [(key, self._whole(key, payload)) for key, payload in pairs]
        else:
            self.bytes += sum(map(len, payloads))  # type: ignore[arg-type]
        self.keys += len(pairs)
        over = trees.take(pairs, more=scanned.more)
        if over:
            if self._kind == "scrub":
                self._scrubbed(self._until)
            else:
                self.leaves_made += self._until - self._first
                self._passed(self._until)
            self._kind = None
        self._next_ms = local.now
        self._go()

    def _whole(self, disk_key: bytes, found: bytes | Damaged) -> bytes | Damaged:
        """Return what is to be counted for a copy, which may be damaged."""
        if not isinstance(found, Damaged):
            return found
        local, trees = self._local, self._local.trees
        counts = trees.in_place_of(disk_key, found)
        if counts is not None:
            return counts
        payload = local.records.rewrite(disk_key)
        if payload is not None:
            return payload
        if self._quarantine.found(disk_key[1:]):
            local.counters.unreadable += 1
            sometimes("a walk over the disk finds a damaged copy")
            local.recent_puts.clear()  # what comes in its place may know less
        trees.spoilt(trees.leaf_of(disk_key[1:]))
        return found

    def _hints_scanned(self, scanned: Scanned) -> None:
        """A range of hints came; behind the last one a cycle of the scrub is over."""
        local = self._local
        for disk_key, payload in scanned.pairs:
            if not isinstance(payload, Damaged):
                continue
            local.counters.unreadable += 1
            if local.records.rewrite(disk_key) is None:
                self._hint_spoilt(disk_key[1:])
        self.keys += len(scanned.pairs)
        self._kind = None
        if scanned.more:
            self._hints_from = scanned.pairs[-1][0] + b"\0"
            self._scrub_ms = local.now + min(STEP_MS, self._every_ms)
            return
        sometimes("the scrub has looked through the whole disk")
        self._hints_from = b""
        self.scrub_leaf = 0
        self.cycle_ended_ms = local.time_ms
        self._note_place()

    def unscanned(self) -> None:
        """The disk would not give a range: its leaves are wrong, and the walk goes on behind it."""
        local, trees = self._local, self._local.trees
        self._asked = False
        self._next_ms = local.now
        retry_ms = local.config.walk_retry_ms
        if self._hints_from and self._kind == "scrub":
            self._kind = None
            self._scrub_ms = local.now + retry_ms
            return
        first = trees.give_up()
        count = self._until - first
        self._trees_ms = local.now + retry_ms
        if count == 1:
            sometimes("a leaf of the tree cannot be read")
        if self._kind == "scrub":
            if not trees.any_wrong:  # else a rebuild would go on in so small parts
                self._most = count
            for leaf in range(first, self._until):
                trees.doubt(leaf)
            self._scrubbed(self._until)
            self._scrub_ms = local.now + max(self._every_ms, retry_ms)
        else:
            self.leaves_made += first - self._first
            self._failed = True
            self._refused += count == 1
            self._passed(self._until)
        self._kind = None
