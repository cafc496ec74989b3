"""Gossip: how all nodes come to know the same members and rulings (Dynamo 4.8.1, 4.8.2).

    A -> B  Summary    16 bytes: all that A knows; B knows the same: no answer
    B -> A  Rows       else: what B has
    A -> B  News       what B lacks, and Rows, if A lacks something too
    B -> A  News

Each ``gossip_every_ms`` one random peer gets a Summary. What is new to a node it passes on at once
to ``gossip_fanout`` random peers, so a change is everywhere within a few messages' time, and the
rounds are for what got lost. A peer that comes up gets a Summary too.

Rulings that ask for another placement are taken once that is made, which for a large one is a
matter of seconds (core/cluster/placer.py): until then the node acts as one that has not heard of
them. It passes them on at once, so that all nodes make it at the same time.

Rulings and new lives are written to the disk before they are passed on with the same tick; what
nodes say that they hold, with the next round.

Costs, at rest: one small message per node and second. A change: ``gossip_fanout`` messages from
each node that hears of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import xxhash

from everwrite.core.cluster.members import RULINGS_MAX, both, encode_known, goes_before
from everwrite.core.local import Local
from everwrite.core.messages.members import (
    IN,
    LEAVING,
    REMOVED,
    Member,
    News,
    Rows,
    Ruling,
    Summary,
)
from everwrite.core.outbox import Place
from everwrite.core.probes import sometimes
from everwrite.core.records import STATE

MEMBERS = STATE + b"members"

NOTHING = News([], [])
UNKNOWN = bytes(16)
"""In place of a digest: "send me your rows"."""
ROWS_EVERY_MS = 100
"""A peer that seems to know more is asked so often at most."""
GREETED_MAX = 8
"""In that time so many peers that come up are asked whether they know the same, and so many are
sent rows. All peers meet a node that starts: if each asked and were answered, it would be sent the
rows of n nodes n times (50 MB for a thousand). Who is not asked or answered hears from those who
are, or in the next round.
"""


class Rounds:
    """What one node says of the members, and hears."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._next_ms = local.now
        self._draws = 0
        self._asked_ms: dict[bytes, int] = {}
        self._greeted = _Pace(local)
        self._answered = _Pace(local)
        self.wants_in = False
        """Whether this node rules itself in as soon as it knows the cluster (``--join``)."""
        self.whole = local.members.standing(local.me) is not None
        """Whether this node has once known all that some member knew. News come in parts: who goes
        by the first part alone takes a few members for all, and their partitions for empty."""
        self.compared = False
        """Whether that was so in this life: an old table may lack who joined meanwhile."""
        self.left = False
        """Whether this node has handed over everything, and is out of its own accord."""
        self.removed: Callable[[bytes], None] = lambda node_id: None
        """Hears of each node that was removed."""
        self.unwritten = False
        """Whether the disk does not have all that is known; it gets it with the next round."""
        self.begun = self.news_taken = 0
        """Rounds of gossip, and news that were new here."""
        self._coming: News | None = None
        """Rulings, and what came with them, that wait for their placement."""
        self._behind = NOTHING
        """What came since, and waits for its own."""
        self.members_version = 0
        """Goes up when the members changed: the shell dials whoever is new."""

    @property
    def out_for_good(self) -> bool:
        """Whether an operator has removed this very node."""
        return self._local.members.removed(self._local.me)

    # -- what others say ---------------------------------------------------------------------------

    def summary(self, source: Place, message: Summary) -> None:
        members = self._local.members
        if message.digest == members.digest():
            self._compared(source)
        elif self._answered.one_more():
            self._local.out.send(source, members.rows(answer=True))

    def rows(self, source: Place, message: Rows) -> None:
        """Send what the other lacks; ask for the rest in turn."""
        local = self._local
        news = local.members.lacking(message)
        if not _empty(news):
            local.out.send(source, news)
        if not _more(message, local.members.rows(answer=False)):
            self._compared(source)
        elif message.answer and self._coming is None:
            sometimes("two nodes each know of the members what the other does not")
            local.out.send(source, local.members.rows(answer=False))

    def news(self, source: Place, message: News) -> None:
        """Take what is newer, keep it, and pass it on."""
        if self._take(message, source):
            self.news_taken += 1
        if not self.whole and self._coming is None:
            self._local.out.send(source, Summary(UNKNOWN))

    def _compared(self, source: Place) -> None:
        """Another node knows of the members nothing that this one does not."""
        members = self._local.members
        belongs = type(source) is bytes and members.standing(source) in (IN, LEAVING)
        self.compared |= belongs
        if not self.whole and belongs:
            self.whole = True
            self.members_version += 1
            if self.wants_in:
                self._rule_me_in()

    # -- what this node says -----------------------------------------------------------------------

    def publish(self, news: News) -> None:
        """Merge what was decided here, keep it, and tell others."""
        self._take(news, self._local.me)

    def changed_me(self, **changes: object) -> None:
        """Change this node's own entry, and tell others."""
        entry = self._local.members.change_me(**changes)
        self._took(News([entry], []), self._local.me)

    def came(self, peer: bytes) -> None:
        """A peer is up: see whether it knows the same."""
        if self._greeted.one_more():
            self._local.out.send(peer, Summary(self._local.members.digest()))

    def doubt(self, peer: Place) -> None:
        """A peer acts on another view: tell it ours, and hear its own; not too often."""
        local = self._local
        if type(peer) is not bytes or peer == local.me:
            return
        if local.now - self._asked_ms.get(peer, -ROWS_EVERY_MS) >= ROWS_EVERY_MS:
            self._asked_ms[peer] = local.now
            local.out.send(peer, Summary(local.members.digest()))

    def wake(self) -> None:
        """Once a round: ask a random peer whether it knows the same."""
        local = self._local
        if local.strangers:
            strangers, local.strangers = local.strangers, set()
            for peer in sorted(strangers, key=repr):
                self.doubt(peer)
        self.place()
        if local.now < self._next_ms:
            return
        self._next_ms = local.now + local.config.gossip_every_ms
        self.begun += 1
        if self.wants_in:
            self._rule_me_in()
        if self.unwritten:
            self._write()
        for peer in self._some(1):
            local.out.send(peer, Summary(local.members.digest()))

    def place(self) -> None:
        """Take what waits for a placement, once that is made."""
        placer, coming = self._local.placer, self._coming
        if coming is None:
            return
        candidates = self._local.members.candidates(coming.rulings)
        if not placer.ready(candidates):
            placer.want(candidates)
            return
        self._coming, behind = None, self._behind
        self._behind = NOTHING
        self._keep(coming, None)
        if behind.rulings:
            self._take(behind, None)
        elif not self.whole and (peers := self._some(1)):
            self._local.out.send(peers[0], Summary(UNKNOWN))

    def next_wake_ms(self) -> int:
        local = self._local
        return local.now if local.strangers or local.placer.busy else self._next_ms

    def leave_for_good(self) -> None:
        """This node has nothing left that others lack: it is out, as it was told to be."""
        members = self._local.members
        ruling = members.rulings.get(members.me.node_id)
        if ruling is None or ruling.standing != LEAVING:
            return
        sometimes("a node that leaves has handed over everything")
        gone = Ruling(
            ruling.node_id,
            ruling.name,
            REMOVED,
            ruling.zone,
            ruling.weight,
            members.next_stamp(),
            ruling.plan,
        )
        self.left = True
        self.publish(News([], [gone]))

    # -- parts -------------------------------------------------------------------------------------

    def _rule_me_in(self) -> None:
        """Join with a plan of one's own: the cluster is known, and has not ruled on this node."""
        members = self._local.members
        me = members.me
        if me.node_id in members.rulings:
            self.wants_in = False
        elif self.whole and members.rulings and self.namesake() is None:
            self.wants_in = False
            stamp = members.next_stamp()
            plan = xxhash.xxh3_64_digest(me.node_id + stamp.to_bytes(8, "big"))
            ruling = Ruling(me.node_id, me.name, IN, me.zone, me.weight, stamp, plan)
            self.publish(News([], [ruling]))

    def namesake(self) -> Member | None:
        """Return another node of this one's name that goes before it: one that is in, or of two
        that are not the one with the lower id. Whom a newcomer meets first refuses a name that is
        taken; two that come at the same time by different doors meet no such node. Where both are
        in before they hear of each other, it stays so: `everwrite status` says it.
        """
        members = self._local.members
        me = members.me
        if members.standing(me.node_id) is not None:
            return None
        for other in members.others():
            standing = members.standing(other.node_id)
            first = standing is not None or other.node_id < me.node_id
            if other.name == me.name and standing != REMOVED and first:
                return other
        return None

    def _take(self, news: News, source: Place | None) -> bool:
        """Take what is newer, but for rulings that must wait for their placement; say whether
        there was something. ``source`` None: it was passed on before.
        """
        members, placer = self._local.members, self._local.placer
        newer = [ruling for ruling in news.rulings if members.is_newer(ruling)]
        if newer and (self._coming is not None or not placer.ready(members.candidates(newer))):
            put_off = self._put_off(News([], newer, news.draft), source)
            return self._keep(News(news.entries, []), source) or put_off
        return self._keep(news, source)

    def _put_off(self, news: News, source: Place | None) -> bool:
        """Let rulings wait for their placement, and what comes with them; say whether it is news.
        They are passed on now: whoever hears of them has as long to wait. Those for which there
        will be no room among the members are refused now.
        """
        sometimes("rulings wait until their placement is made")
        waits = {each.node_id: each for each in both(self._coming or NOTHING, self._behind).rulings}
        fresh = [each for each in news.rulings if goes_before(each, waits.get(each.node_id))]
        if not fresh:
            return False
        news = News([], self._fitting(fresh, waits), news.draft)
        if not news.rulings:
            return self._keep(news, source)
        if self._coming is None:
            self._coming = news
            self._local.placer.want(self._local.members.candidates(news.rulings))
        else:
            sometimes("rulings come while others wait for their placement")
            self._behind = both(self._behind, news)
        if source is not None:
            self._pass_on(news, source)
        return True

    def _fitting(self, rulings: list[Ruling], waits: Collection[bytes]) -> list[Ruling]:
        """Return those of which the table has a ruling already, or will have room for one."""
        members = self._local.members
        room = RULINGS_MAX - len(members.rulings)
        room -= sum(node_id not in members.rulings for node_id in waits)
        fitting = []
        for ruling in rulings:
            if ruling.node_id not in members.rulings and ruling.node_id not in waits:
                if room <= 0:
                    members.refused += 1
                    continue
                room -= 1
            fitting.append(ruling)
        return fitting

    def _keep(self, news: News, source: Place | None) -> bool:
        taken = self._local.members.merge(news)
        if _empty(taken):
            return False
        self._took(taken, source)
        return True

    def _took(self, taken: News, source: Place | None) -> None:
        local = self._local
        self.members_version += 1
        for ruling in taken.rulings:
            if ruling.standing == REMOVED:
                self._asked_ms.pop(ruling.node_id, None)
                self.removed(ruling.node_id)
        if taken.rulings:
            placement = local.placer.place(local.members.candidates())
            if placement.candidates != local.routes.placement.candidates:
                local.placer.current = placement
                local.routes.place(placement)
        if taken.entries or taken.rulings:
            local.refresh()
        if taken.rulings or taken.draft is not None or any(e.version <= 1 for e in taken.entries):
            self._write()
        else:  # what others hold changes often while partitions move, and is heard again
            self.unwritten = True
        if source is not None:
            self._pass_on(taken, source)

    def _pass_on(self, news: News, source: Place) -> None:
        for peer in self._some(self._local.config.gossip_fanout):
            if peer != source:
                self._local.out.send(peer, news)

    def _write(self) -> None:
        self.unwritten = False
        self._local.records.write(MEMBERS, encode_known(self._local.members))

    def _some(self, count: int) -> list[bytes]:
        """Return so many peers that are up, drawn at random; fewer if there are fewer."""
        peers = sorted(self._local.liveness.up)
        chosen: list[bytes] = []
        while peers and len(chosen) < count:
            self._draws += 1
            drawn = xxhash.xxh3_64_intdigest(self._local.me + self._draws.to_bytes(8, "big"))
            chosen.append(peers.pop(drawn % len(peers)))
        return chosen


class _Pace:
    """Counts what is done ``GREETED_MAX`` times in ``ROWS_EVERY_MS`` at most."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._since_ms = local.now
        self._done = 0

    def one_more(self) -> bool:
        """Say whether it may be done once more now."""
        local = self._local
        if local.now - self._since_ms >= ROWS_EVERY_MS:
            self._since_ms, self._done = local.now, 0
        self._done += 1
        return self._done <= GREETED_MAX


def _empty(news: News) -> bool:
    return not (news.entries or news.rulings or news.draft is not None)


def _more(theirs: Rows, mine: Rows) -> bool:
    """Say whether the others' rows hold something that is newer than these."""
    entries = {node_id: (incarnation, version) for node_id, incarnation, version in mine.entries}
    rulings = {
        node_id: (standing == REMOVED, stamp, plan)
        for node_id, stamp, plan, standing in mine.rulings
    }
    return (
        any((inc, ver) > entries.get(node_id, (-1, -1)) for node_id, inc, ver in theirs.entries)
        or any(
            (standing == REMOVED, stamp, plan) > rulings.get(node_id, (False, -1, b""))
            for node_id, stamp, plan, standing in theirs.rulings
        )
        or tuple(theirs.draft) > tuple(mine.draft)
    )
