"""Tombstones that go: by proof, not by the clock (DESIGN 4; docs/design/tombstones.md).

    on the disk -> all confirm -> twice STORE_LIFE passes -> all confirm that nothing has changed
    -> all note the floors -> all confirm it once more -> the owners remove it

The first owner of a partition sees to its tombstones. They stand on its disk (``g`` + data key,
core/copies.py) until they are gone, and come up again in each pass, so nothing here needs to
outlast a restart. It asks *every* member (confirm.py); one that is down stops all of it, for
as long as it is down: nobody else can say what it keeps.

Why again. The first answers are not given in one moment: a copy may be on its way from a member
that has answered since to one that had. It was read off a disk before the last of them. The second
answers say that no disk has had anything else than that tombstone from the first ones on, and up to
where what a member had read is too old: its *floor*, the time of its second answer less one
``store_life_ms``, by its own count, which is after the last of the first answers. From when it has
the floors on its disk a member takes nothing that is older, and no clock is asked about it again.

Why a third time. Until the floors come a member takes what they would refuse, as a hint for
somebody say, and would hand it on later as freshly read. So it watches the key until it has them,
and says once more that nothing came.

What is in hand between the first two is in memory, with a cap; at it, tombstones wait.

Source: DESIGN 4, causal stability. Differs from Cassandra (gc_grace) and Riak (delete_mode): no
time to choose, and nothing to lose by choosing it wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from everwrite.core.copies import TOMBSTONES
from everwrite.core.local import Local, Request
from everwrite.core.messages.tombstones import Confirm, Confirmed, Reap, Reaped
from everwrite.core.moving.ranges import Scan, Scanned
from everwrite.core.outbox import Place
from everwrite.core.probes import sometimes
from everwrite.core.tombstones.confirm import (
    CLEAR,
    DIFFERS,
    DOWN,
    OTHER_VIEW,
    SILENT,
    Confirmations,
    checked,
    everyone,
)

ROUNDS_MAX = 2
"""Questions under way at a time: the next one is made while the disks sync for the one before."""

REASONS_MAX = 10_000
"""Tombstones of which a node remembers why they are still there; at the cap it forgets the oldest
word."""

ASKS, DECLARES, ASKS_AGAIN, REAPS = range(4)
"""The phases of a round."""

END = bytes((TOMBSTONES[0] + 1,))

SCAN_BYTES = 1 << 20

Reason = tuple[int, bytes, int]
"""(what speaks against it, the node that says so, the time of day when)."""


class Batch(msgspec.Struct):
    """Tombstones that all have confirmed once."""

    prints: dict[bytes, bytes]
    """For each data key the fingerprint of its copies."""
    marks: dict[bytes, int]
    """For each member the mark under which it has confirmed."""
    view: bytes
    due_ms: int
    """When all may be asked again, by this node's monotonic clock."""


class Round(Request):
    """One question to all members, and what follows from their answers.

        first time     asks -> (hold)
        second time    asks -> declares -> asks again -> reaps

    Each phase has a number and an alarm of its own: an alarm or an answer of the one before, late
    or twice, finds nobody.
    """

    __slots__ = (
        "_answers",
        "_asked",
        "_batch",
        "_collect",
        "_floors",
        "_generation",
        "_items",
        "_keys",
        "_local",
        "_pending",
        "_phase",
        "_view",
        "rid",
    )

    def __init__(self, collect: Collect, keys: list[bytes], batch: Batch | None) -> None:
        self._collect = collect
        self._local = collect.local
        self._keys = keys
        self._asked = keys
        """Those of them against which nothing has spoken so far."""
        self._batch = batch
        """What they have confirmed before; None: this is the first time."""
        self._view = collect.members.view()
        self._pending: set[bytes] = set()
        self._answers: dict[bytes, Confirmed] = {}
        self._floors: list[tuple[bytes, int]] = []
        self._generation = 0
        self._items: list[tuple[bytes, bytes]] = []
        self._phase = ASKS
        self.rid = 0

    def begin(self) -> None:
        """Ask all, oneself among them."""
        local, batch = self._local, self._batch
        members = everyone(local)
        local.background += 1
        self._enter(ASKS, members)
        if batch is not None and (batch.view != self._view or batch.marks.keys() != set(members)):
            sometimes("the members change between two confirmations of a tombstone")
            self._end(OTHER_VIEW, local.me)
            return
        self._ask()

    def _enter(self, phase: int, pending: Iterable[bytes]) -> None:
        """Begin a phase, in which these are to answer."""
        local = self._local
        local.requests.pop(self.rid, None)
        self.rid = local.open_request(self, local.now + local.config.collect_retry_ms)
        self._phase = phase
        self._pending = set(pending)

    def _ask(self) -> None:
        batch = self._batch
        self._answers = {}
        for node in sorted(self._pending):
            mark = batch.marks[node] if batch is not None else 0
            message = Confirm(self.rid, self._view, mark, self._asked, self._generation)
            self._local.out.send(node, message)

    def confirmed(self, source: Place, reply: Confirmed) -> None:
        """A member says what speaks against it."""
        if source not in self._pending or self._phase not in (ASKS, ASKS_AGAIN):
            return
        assert isinstance(source, bytes)
        self._answers[source] = checked(reply, len(self._asked))
        self._pending.discard(source)
        if not self._pending:
            self._judge()

    def _judge(self) -> None:
        """All have answered: go on with those keys against which nothing speaks."""
        batch, collect, local = self._batch, self._collect, self._local
        prints: dict[bytes, bytes] = {}
        for at, key in enumerate(self._asked):
            code, node = self._objection(at, key)
            if code == CLEAR:
                prints[key] = self._answers[local.me].fingerprints[at]
            else:
                collect.note(key, code, node)
        if not prints:
            self._close()
        elif batch is None:
            marks = {node: answer.mark for node, answer in self._answers.items()}
            due_ms = local.now + 2 * local.config.store_life_ms
            self._close()
            collect.hold(Batch(prints, marks, self._view, due_ms))
        elif self._phase == ASKS:
            self._asked = list(prints)
            self._declare()
        else:
            self._items = list(prints.items())
            self._reap()

    def _objection(self, at: int, key: bytes) -> tuple[int, bytes]:
        """Return what speaks against the collection of a key, and who says so."""
        for node, answer in self._answers.items():
            if answer.objections[at] != CLEAR:
                return answer.objections[at], node
        local, batch = self._local, self._batch
        placement = local.routes.placement
        mine = self._answers[local.me].fingerprints[at]
        if not mine or (batch is not None and batch.prints[key] != mine):
            return DIFFERS, local.me
        for owner in placement.owners(placement.partition_of(key)):
            if owner not in self._answers or self._answers[owner].fingerprints[at] != mine:
                sometimes("a tombstone waits for an owner that has another copy")
                return DIFFERS, owner
        return CLEAR, b""

    def _declare(self) -> None:
        """Let every member take nothing older any more, before the first copy goes."""
        local = self._local
        self._floors = [(node, answer.floor) for node, answer in sorted(self._answers.items())]
        # One that came not to all may be known to some: no number is given twice.
        self._generation = max(answer.generation for answer in self._answers.values()) + 1
        self._enter(DECLARES, self._answers)
        for node in sorted(self._pending):
            local.out.send(node, Reap(self.rid, self._floors, [], self._generation))

    def reaped(self, source: Place) -> None:
        """A member has done what the last Reap said."""
        if source not in self._pending or self._phase not in (DECLARES, REAPS):
            return
        self._pending.discard(source)
        if self._pending:
            return
        if self._phase == DECLARES:
            self._ask_again()
        elif self._phase == REAPS:
            self._close()

    def _ask_again(self) -> None:
        """All have the floors. Who was removed is not to hear that it had a part in this."""
        if self._collect.members.view() != self._view:
            self._end(OTHER_VIEW, self._local.me)
            return
        self._enter(ASKS_AGAIN, self._answers)
        self._ask()

    def _reap(self) -> None:
        """Let the owners remove their copies. One that does not hear of it keeps the tombstone;
        then the others get it back, and it is collected once more.
        """
        local = self._local
        if self._collect.members.view() != self._view:
            self._end(OTHER_VIEW, local.me)
            return
        placement = local.routes.placement
        items: dict[bytes, list[tuple[bytes, bytes]]] = {}
        for key, fingerprint in self._items:
            self._collect.forget(key)
            for owner in placement.owners(placement.partition_of(key)):
                items.setdefault(owner, []).append((key, fingerprint))
        self._enter(REAPS, items)
        local.counters.tombstones_collected += len(self._items)
        for owner in sorted(items):
            local.out.send(owner, Reap(self.rid, self._floors, items[owner], self._generation))

    def lost(self, peer: bytes) -> None:
        if peer in self._pending:
            sometimes("a member goes down that is asked about tombstones")
            self._end(DOWN, peer)

    def wake(self) -> None:
        """Somebody has not answered in time."""
        if self._pending:
            self._end(SILENT, min(self._pending))

    def _end(self, code: int, node: bytes) -> None:
        """Give it up: these tombstones come up again."""
        if self._phase != REAPS:
            for key in self._asked:
                self._collect.note(key, code, node)
        self._close()

    def _close(self) -> None:
        local = self._local
        if local.requests.pop(self.rid, None) is not None:
            local.background -= 1
            self._collect.ended(self._keys)


class Page(Request):
    """A part of the list of tombstones on the own disk that is being read."""

    __slots__ = ("_collect", "_rid")

    def __init__(self, collect: Collect, after: bytes) -> None:
        self._collect = collect
        local = collect.local
        self._rid = local.open_request(self, local.now + local.config.collect_retry_ms)
        local.background += 1
        start = TOMBSTONES + after + b"\0" if after else TOMBSTONES
        keys = local.config.collect_batch
        local.out.scans.append(Scan(self._rid, start, END, keys, SCAN_BYTES))

    def scanned(self, scanned: Scanned) -> None:
        self._close()
        keys = [key[1:] for key, _ in scanned.pairs]
        self._collect.paged(keys, more=scanned.more)

    def unscanned(self) -> None:
        self._close()
        self._collect.paged([], more=False)

    def wake(self) -> None:
        """The disk took too long."""
        self.unscanned()

    def _close(self) -> None:
        local = self._collect.local
        if local.requests.pop(self._rid, None) is not None:
            local.background -= 1


class Collect:
    """The tombstones that one node sees to."""

    def __init__(self, local: Local, members: Confirmations) -> None:
        self.local = local
        self.members = members
        self.handlers: dict[type, Callable[[Place, Any], None]] = {
            Confirm: members.asked,
            Reap: members.reap,
            Confirmed: self._confirmed,
            Reaped: self._reaped,
        }
        self._next_ms = local.now + local.config.collect_every_ms
        self._after = b""
        """How far this pass through the list has come."""
        self._met = 0
        self.queued = 0
        """How many this node saw to in the last whole pass."""
        self._asking: set[bytes] = set()
        """Those of the questions under way."""
        self._rounds = 0
        self._paging = False
        self._batches: list[Batch] = []
        """In the order in which they are due."""
        self._waiting: dict[bytes, Batch] = {}
        self.reasons: dict[bytes, Reason] = {}

    def wake(self) -> None:
        """Ask again about what has waited for long enough, and go on in the list."""
        local = self.local
        if local.now < self._next_ms:
            return
        self._next_ms = local.now + local.config.collect_every_ms
        down = self._who_is_down()
        if down:
            self._after, self._met = b"", 0
            return
        while self._batches and self._batches[0].due_ms <= local.now and self._may_ask():
            batch = self._batches.pop(0)
            for key in batch.prints:
                self._waiting.pop(key, None)
            self._ask(list(batch.prints), batch)
        if not self._paging and self._may_ask():
            self._paging = True
            Page(self, self._after)

    def next_wake_ms(self) -> int:
        return self._next_ms

    def soon(self) -> None:
        """Begin a pass now."""
        self._after, self._met = b"", 0
        self._next_ms = self.local.now

    def _may_ask(self) -> bool:
        """Say whether one question more may be made now; if the pace does not allow it, it is come
        back to.
        """
        local = self.local
        if self._rounds >= ROUNDS_MAX:
            return False
        wait_ms = local.pace.wait_ms("collect", local.now)
        if wait_ms:
            self._next_ms = min(self._next_ms, local.now + wait_ms)
        return not wait_ms

    def _who_is_down(self) -> bytes:
        """Return a member without which there is no use in asking; empty: all are up."""
        local = self.local
        for node in everyone(local):
            if node != local.me and node not in local.liveness.up:
                return node
        return b""

    def paged(self, keys: list[bytes], *, more: bool) -> None:
        """A part of the list was read: ask about those that are this node's to see to."""
        self._paging = False
        mine = [key for key in keys if self.leads(key)]
        self._met += len(mine)
        if more and keys:
            self._after = keys[-1]
            self._next_ms = self.local.now
        else:
            self._after, self.queued, self._met = b"", self._met, 0
        room = self.local.config.collect_waiting_max - len(self._waiting)
        fresh = [key for key in mine if key not in self._waiting and key not in self._asking]
        if fresh and room > 0:
            self._ask(fresh[:room], None)

    def _ask(self, keys: list[bytes], batch: Batch | None) -> None:
        self._rounds += 1
        self._asking.update(keys)
        Round(self, keys, batch).begin()

    def leads(self, key: bytes) -> bool:
        """Say whether this node is who sees to the tombstone of a key."""
        local = self.local
        placement, partition = local.routes.placement, local.routes.partition_of(key)
        return bool(placement.owners(partition)[0] == local.me and local.serves >> partition & 1)

    def _confirmed(self, source: Place, reply: Confirmed) -> None:
        asked = self.local.requests.get(reply.rid)
        if isinstance(asked, Round):
            asked.confirmed(source, reply)

    def _reaped(self, source: Place, reply: Reaped) -> None:
        asked = self.local.requests.get(reply.rid)
        if isinstance(asked, Round):
            asked.reaped(source)

    def hold(self, batch: Batch) -> None:
        """All have confirmed these once."""
        self._batches.append(batch)
        for key in batch.prints:
            self._waiting[key] = batch
            self.reasons.pop(key, None)

    def note(self, key: bytes, code: int, node: bytes) -> None:
        """A tombstone stays for now: remember why."""
        self.reasons.pop(key, None)
        self.reasons[key] = code, node, self.local.time_ms
        if len(self.reasons) > REASONS_MAX:
            del self.reasons[next(iter(self.reasons))]

    def forget(self, key: bytes) -> None:
        """A tombstone goes."""
        self.reasons.pop(key, None)

    def ended(self, keys: list[bytes]) -> None:
        """A question is over."""
        self._rounds -= 1
        self._asking.difference_update(keys)
        if self._after or (self._batches and self._batches[0].due_ms <= self.local.now):
            self._next_ms = self.local.now

    # -- for people --------------------------------------------------------------------------------

    @property
    def running(self) -> int:
        """How many questions are under way."""
        return self._rounds

    def waits_ms(self, key: bytes) -> int:
        """Return in how long all are asked about a key again; -1: they have not confirmed it."""
        batch = self._waiting.get(key)
        return -1 if batch is None else max(0, batch.due_ms - self.local.now)

    @property
    def waiting(self) -> int:
        """How many all have confirmed once."""
        return len(self._waiting)

    def down(self) -> bytes:
        """Return the member that is down and stops all of it; empty: none is."""
        return self._who_is_down()

    def counts(self) -> Counter[tuple[int, bytes]]:
        """Return how many tombstones wait for what and for whom, as far as that is remembered."""
        return Counter((code, node) for code, node, _ in self.reasons.values())
