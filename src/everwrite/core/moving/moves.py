"""What this node holds, and what is to be moved now: docs/design/moving.md.

Each ``move_every_ms`` it looks at three bitmaps, owned, served and kept, and acts on where they
differ:

    owned, not served    gain it: at most ``moves_max`` at a time
    served, not owned    all owners serve it: stop
    kept, not owned,     shed it: at most ``moves_max`` at a time
      not served
    kept at the start,   once it is served: offer it to the other owners
      not served

The bitmaps are on the disk (``HELD``) before anybody is told. A bit is cleared in memory at once
and told when the disk has it; a bit is set when the disk has it. So a crash leaves a node that
serves less than others think, for as long as they have not heard of its new life, and it refuses
what it does not serve.
"""

from __future__ import annotations

from everwrite.core.cluster.holdings import (
    NONE,
    SERVES,
    all_bits,
    bits,
    packed,
    partitions_in,
)
from everwrite.core.cluster.members import MemberTable
from everwrite.core.gossip.rounds import Rounds
from everwrite.core.hints.hints import Hints
from everwrite.core.local import Local
from everwrite.core.messages.members import LEAVING
from everwrite.core.messages.message import Message
from everwrite.core.messages.moving import GaveUp, GiveUp, Match, Pull
from everwrite.core.moving.gain import Gain
from everwrite.core.moving.give import Give
from everwrite.core.moving.progress import Kind, MoveCounters, Progress
from everwrite.core.moving.shed import Shed
from everwrite.core.outbox import Place, node_at
from everwrite.core.probes import sometimes


class Proved(Message, frozen=True, tag=108):
    """To oneself: that this partition is served from now on is on the disk."""

    partition: int


class Kept(Message, frozen=True, tag=109):
    """To oneself: what this node serves and keeps is on the disk."""

    serves: int
    keeps: int


TELL_MS = 25
"""For each member so long at least between two times that this node says what it holds: all others
hear it, and in a large move all have something to say.
"""


class Moves:
    """The partitions of one node on their way."""

    def __init__(self, local: Local, hints: Hints, rounds: Rounds) -> None:
        self._local = local
        self._hints = hints
        self._rounds = rounds
        self._gains: dict[int, Gain] = {}
        self._sheds: dict[int, Shed] = {}
        self._given: dict[int, bytes] = {}
        """Who took over from us what we gave up, in this life."""
        self._not_before: dict[int, int] = {}
        self._why: dict[int, str] = {}
        """What kept each partition from being moved when it was tried last."""
        self._next_ms = local.now
        self._tokens = float(local.config.move_bytes_per_s)
        self._filled_ms = local.now
        self._told = (local.serves, local.keeps)
        self._tell_ms = local.now
        self._offers = bits(local.members.me.keeps) & ~local.serves
        """Bit p: what was here of partition p at the start may be nowhere else, and did not count.
        Once this node serves it, the other owners are given what they lack of it."""
        self.unwritten = False
        """Whether what is held was not written when it changed last."""
        self.giving = 0
        """Ranges that are read for others now."""
        self.counters = MoveCounters()

    @property
    def under_way(self) -> tuple[int, int]:
        """How many partitions come, and how many go or are offered, now."""
        return len(self._gains), len(self._sheds)

    # -- what is to be done ------------------------------------------------------------------------

    def wake(self) -> None:
        local = self._local
        if local.now < self._next_ms:
            return
        self._next_ms = local.now + local.config.move_every_ms
        if self._rounds.out_for_good or not self._rounds.whole:
            return  # by a part of the rulings it may seem to be the only one
        owned = local.routes.owned
        if self.unwritten:
            self._hold(local.serves, local.keeps)
        self._stop_serving(local.serves & ~owned)
        self._begin_gains(owned & ~local.serves)
        self._begin_sheds(local.keeps & ~owned & ~local.serves)
        self._begin_sheds(self._offers & owned & local.serves)
        if self._told != (local.serves, local.keeps) and local.now >= self._tell_ms:
            self._told = (local.serves, local.keeps)
            self._tell_ms = local.now + TELL_MS * len(local.members)
            local.out.on_sync.append((local.me, Kept(*self._told)))
        # What a client or a peer gave to a node that is about to go would go with it: so it first
        # takes no more, and goes when what was under way is done.
        local.closing = self._is_empty() and local.members.standing(local.me) == LEAVING
        if local.closing and not self._under_way():
            self._rounds.leave_for_good()

    def next_wake_ms(self) -> int:
        return self._next_ms

    def _is_empty(self) -> bool:
        """Say whether nothing is here that others may lack."""
        local, hints = self._local, self._hints
        kept = hints.notes or hints.uncertain or not hints.whole
        return not (local.keeps or local.serves or kept)

    def _under_way(self) -> bool:
        """Say whether a put may still be minted here, or is in the table. One that has looked
        around, or is taken over, is on its way to this node itself, or waits for the disk.
        """
        local = self._local
        pending = local.me in local.out.sends or local.records.parked_count > 0
        return pending or len(local.requests) > local.background

    def _begin_gains(self, wanted: int) -> None:
        local = self._local
        for partition in partitions_in(wanted):
            if len(self._gains) >= local.config.moves_max:
                return
            if partition in self._gains or local.proving >> partition & 1:
                continue
            if self._not_before.get(partition, 0) > local.now:
                continue
            sources = self._sources(partition)
            if isinstance(sources, str):
                self._wait(partition, sources)
                continue
            nodes, gives_way = sources
            gain = Gain(local, self, partition, nodes, gives_way)
            self._gains[partition] = gain
            gain.begin()

    def _sources(self, partition: int) -> tuple[list[bytes], bool] | str:
        """Return from whom to copy a partition, and whether that one is to give way; or why it
        cannot be begun now.
        """
        local = self._local
        members, up = local.members, local.liveness.up
        there, _, others = local.routes.serving(partition)
        source = self._in_whose_place(partition)
        if source:
            if source not in up:
                return f"{_name(members, source)} is down"
            return [source], True
        keepers = {
            member.node_id
            for member in members.others()
            if (bits(member.keeps) >> partition & 1) or member.node_id in {*there, *others}
        }
        ruled = {
            node_id
            for node_id, ruling in members.rulings.items()
            if ruling.standing <= LEAVING and node_id != local.me
        }
        for node_id in sorted(ruled):
            if node_id not in members:
                return f"nothing is known yet of {_name(members, node_id)}"
        # Where nobody is known to hold it, all must say so: a node may know of its own bits what
        # has not come here yet. Who is asked without need may be down.
        for node_id in sorted(keepers or ruled):
            if node_id not in up:
                return f"{_name(members, node_id)} is down"
        if not keepers and ruled and not self._rounds.compared:
            return "no member has said yet whether it knows of more"
        if not keepers:
            sometimes("a partition that no node is known to hold is looked for on all")
        return sorted(keepers) + sorted((ruled - keepers) & up), False

    def _in_whose_place(self, partition: int) -> bytes:
        """Return who serves a partition in this node's place; empty: nobody."""
        _, filling, others = self._local.routes.serving(partition)
        place = filling.index(self._local.me) if self._local.me in filling else len(others)
        return others[place] if place < len(others) else b""

    def _begin_sheds(self, kept: int) -> None:
        local = self._local
        for partition in partitions_in(kept):
            if len(self._sheds) >= local.config.moves_max:
                return
            if partition in self._sheds or self._not_before.get(partition, 0) > local.now:
                continue
            owners = self._takers(partition)
            if isinstance(owners, str):
                self._wait(partition, owners)
                continue
            if not owners:
                self._offers &= ~(1 << partition)  # there is nobody else
                continue
            offers = bool(local.serves >> partition & 1)
            shed = Shed(local, self, partition, owners, offers=offers)
            self._sheds[partition] = shed
            shed.begin()

    def _takers(self, partition: int) -> list[bytes] | str:
        """Return the other owners, who are to have all that is here; or why they cannot be asked
        now.
        """
        local = self._local
        if not local.routes.settled(partition):
            return "not all owners have it yet"
        owners = [owner for owner in local.routes.placement.owners(partition) if owner != local.me]
        down = [owner for owner in owners if owner not in local.liveness.up]
        return f"{_name(local.members, down[0])} is down" if down else owners

    def _stop_serving(self, strange: int) -> None:
        """Stop to serve what all owners serve: nobody will ask for it any more."""
        local = self._local
        done = all_bits(p for p in partitions_in(strange) if local.routes.settled(p))
        if done:
            sometimes("a node stops to serve what all owners serve")
            self._hold(local.serves & ~done, local.keeps)

    def _wait(self, partition: int, why: str) -> None:
        local = self._local
        self._why[partition] = why
        self._not_before[partition] = local.now + local.config.move_every_ms

    # -- what others ask ---------------------------------------------------------------------------

    def asked(self, source: Place, message: Pull | Match) -> None:
        Give(self._local, self, source, message).begin()

    def may_answer(self, message: Pull | Match) -> bool:
        """Say whether this node has what a range is asked for."""
        local, partition = self._local, message.partition
        if partition >= local.routes.placement.partitions:
            return False
        if isinstance(message, Match):
            return bool(local.serves >> partition & 1)
        return bool((local.serves | local.keeps) >> partition & 1)

    def give_up(self, source: Place, message: GiveUp) -> None:
        """Stop serving a partition, if who asks owns it, and this node does not any more."""
        local, partition = self._local, message.partition
        source = node_at(source)
        placement = local.routes.placement
        mine = partition < placement.partitions and (
            local.serves >> partition & 1 or self._given.get(partition) == source
        )
        owners = placement.owners(partition) if mine else ()
        taken = self._given.get(partition, source) != source
        if not mine or local.me in owners or source not in owners or taken:
            sometimes("a node is asked to give up what it does not give to the asker")
            self._rounds.doubt(source)
            local.out.send(source, GaveUp(message.rid, False))
            return
        self._given[partition] = source
        self.counters.partitions_given += 1
        self._hold(local.serves & ~(1 << partition), local.keeps)
        local.out.on_sync.append((source, GaveUp(message.rid, True)))

    def given_to(self, partition: int) -> bytes:
        """Return who took a partition over from this node, in this life; empty: nobody."""
        return self._given.get(partition, b"")

    @property
    def gaining(self) -> dict[int, Gain]:
        """The partitions that are taken over now."""
        return self._gains

    def kept(self, message: Kept) -> None:
        """What this node holds is on its disk: tell the others."""
        self._rounds.changed_me(serves=packed(message.serves), keeps=packed(message.keeps))

    def untold(self) -> None:
        """The disk did not take it: tell the others later."""
        self._told = (-1, -1)

    def stands(self, partition: int) -> bool:
        """Say whether nothing of a partition is on the move, as this node sees it: only its owners
        have copies, all of them serve it, and nothing is offered to them here.
        """
        local, routes = self._local, self._local.routes
        if not self._rounds.whole or not routes.settled(partition) or routes.stray(partition):
            return False
        if self._offers >> partition & 1 or partition in self._sheds or partition in self._gains:
            return False
        held = (local.serves | local.keeps | local.proving) >> partition & 1
        return bool(local.serves >> partition & 1 if routes.owned >> partition & 1 else not held)

    # -- how moves end -----------------------------------------------------------------------------

    def prove(self, gain: Gain) -> None:
        """A gain has all that its sources have: say so, once that is on the disk."""
        local, partition = self._local, gain.partition
        gain.end("")
        if not local.routes.owned >> partition & 1:
            sometimes("a partition is moved, and its owners have changed meanwhile")
            return
        if not gain.gives_way and self._in_whose_place(partition):
            sometimes("somebody has to give way to a node that took nobody's place when it began")
            return  # the next look begins anew with that one
        local.proving |= 1 << partition
        self._hold(local.serves, local.keeps | 1 << partition)
        local.out.on_sync.append((local.me, Proved(partition)))

    def proved(self, message: Proved) -> None:
        local, partition = self._local, message.partition
        local.proving &= ~(1 << partition)
        self.counters.partitions_gained += 1
        self._given.pop(partition, None)
        self._why.pop(partition, None)
        local.serves |= 1 << partition
        local.refresh()
        self._next_ms = local.now

    def unproved(self, message: Proved) -> None:
        """The disk did not take it."""
        sometimes("a proof of a partition is not written")
        self._local.proving &= ~(1 << message.partition)

    def may_go_on(self, shed: Shed) -> bool:
        """Say whether all owners serve a partition, and this node is one of them if it offers it,
        and else none.
        """
        local, partition = self._local, shed.partition
        if shed.placed != local.routes.placed:  # it may have been an owner in between
            return False
        role = SERVES if shed.offers and local.routes.owned >> partition & 1 else NONE
        return local.routes.settled(partition) and local.routes.roles[partition] == role

    def let_go(self, shed: Shed) -> None:
        """Nothing of a partition is left here."""
        local, partition = self._local, shed.partition
        self._sheds.pop(partition, None)
        self._why.pop(partition, None)
        self._offers &= ~(1 << partition)
        if shed.offers:
            sometimes("a node has offered what it kept of a partition before it owned it")
            self._next_ms = local.now
        elif local.routes.roles[partition] == NONE:
            self.counters.partitions_shed += 1
            self._hold(local.serves, local.keeps & ~(1 << partition))
            self._next_ms = local.now

    def ended(self, move: Gain | Shed, why: str) -> None:
        """A move is over; if it was in vain it begins anew after a while."""
        local, partition = self._local, move.partition
        if isinstance(move, Gain):
            self._gains.pop(partition, None)
        else:
            self._sheds.pop(partition, None)
        if why:
            self._wait(partition, why)
        else:
            self._next_ms = local.now

    def _hold(self, serves: int, keeps: int) -> None:
        """Serve and keep these from now on, and write that with this tick."""
        local = self._local
        keeps |= serves
        self.unwritten = False
        changed = (serves, keeps) != (local.serves, local.keeps)
        local.serves, local.keeps = serves, keeps
        local.write_held()
        if changed:
            local.refresh()

    # -- the pace ----------------------------------------------------------------------------------

    def pace_ms(self) -> int:
        """Return how long the next slice must wait."""
        local = self._local
        rate = local.config.move_bytes_per_s
        self._tokens = min(rate, self._tokens + rate * (local.now - self._filled_ms) / 1000)
        self._filled_ms = local.now
        return 0 if self._tokens > 0 else int(-self._tokens * 1000 / rate) + 1

    def took(self, keys: int, size: int) -> None:
        self._tokens -= size
        self.counters.keys_in += keys
        self.counters.bytes_in += size

    def gave(self, keys: int, size: int) -> None:
        self.counters.keys_out += keys
        self.counters.bytes_out += size

    # -- for people --------------------------------------------------------------------------------

    def progress(self) -> list[Progress]:
        """Return every partition that is on its way, or waits for something."""
        local, gains, sheds = self._local, self._gains, self._sheds
        rows: list[Progress] = []
        for partition in partitions_in(local.routes.owned & ~local.serves):
            gain = gains.get(partition)
            rows.append(gain.progress() if gain else self._waiting(partition, "gain"))
        for partition in partitions_in(local.keeps & ~local.routes.owned):
            shed = sheds.get(partition)
            rows.append(shed.progress() if shed else self._waiting(partition, "shed"))
        for partition in partitions_in(self._offers & local.routes.owned):
            shed = sheds.get(partition)
            if shed is not None:
                rows.append(shed.progress())
            elif local.serves >> partition & 1:  # until then it is a gain
                rows.append(self._waiting(partition, "offer"))
        return rows

    def _waiting(self, partition: int, kind: Kind) -> Progress:
        """Say for what a partition waits: looked up now, for what kept it the last time may be over
        since, and it may never have been looked at for all that come before it.
        """
        found = self._sources(partition) if kind == "gain" else self._takers(partition)
        if isinstance(found, str):
            why = found
        elif self._not_before.get(partition, 0) > self._local.now:
            why = self._why.get(partition, "its turn")
        else:
            why = "its turn"
        return Progress(partition, kind, b"", "waits", 0, 0, self._local.now, why)

    @property
    def busy(self) -> bool:
        """Whether anything is left to move."""
        local = self._local
        owned = local.routes.owned
        return (
            owned != local.serves
            or bool(local.keeps & ~owned)
            or bool(local.proving)
            or bool(self._offers & owned)
        )


def _name(members: MemberTable, node_id: bytes) -> str:
    member = members.get(node_id)
    ruling = members.rulings.get(node_id)
    return member.name if member else ruling.name if ruling else node_id.hex()
