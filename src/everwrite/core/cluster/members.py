"""Who is there, and who belongs: entries that nodes write of themselves, rulings of operators.

    entry    one for each node: the higher (incarnation, version) wins
    ruling   one for each node: REMOVED wins for ever, else the higher (stamp, plan)
    draft    one for the cluster: the higher (stamp, plan) wins

Each law picks the greatest of an order, so merging needs no agreement, and comes to the same in any
order, any number of times. Two different entries of one node under one (incarnation, version) are
two processes of one identity: ``clones`` names it, and the first that was heard stays.

Source: Dynamo 4.8.1. Differs: what an operator decides about a node is not part of that node's own
entry, so that a dead node can be ruled out, and crossing decisions need no referee.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import xxhash

from everwrite.core.cluster.placement import Candidate
from everwrite.core.errors import ProtocolError
from everwrite.core.messages.members import (
    IN,
    LEAVING,
    NO_DRAFT,
    REMOVED,
    Draft,
    Member,
    News,
    Rows,
    Ruling,
)

MEMBERS_MAX = 1024
"""More nodes than the paper's couple of hundred; bounds what a peer can make us keep."""
RULINGS_MAX = 8 * MEMBERS_MAX
"""Removals stay for ever, so there may be more rulings than members."""


class Known(msgspec.Struct, array_like=True):
    """What a node keeps on its disk of the cluster."""

    entries: list[Member]
    rulings: list[Ruling] = []
    draft: Draft = NO_DRAFT


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Known).decode


class MemberTable:
    """All that this node knows of the members, itself included."""

    def __init__(
        self,
        me: Member,
        others: Iterable[Member] = (),
        rulings: Iterable[Ruling] = (),
        draft: Draft = NO_DRAFT,
    ) -> None:
        self.me = me
        self.rulings = {ruling.node_id: ruling for ruling in rulings}
        self.draft = draft
        self.clones: set[bytes] = set()
        """Identities under which two processes were heard."""
        self.overtaken_by = 0
        """The number of a later start of this very node that was heard of; 0: of none."""
        self.refused = 0
        """Entries and rulings that found the table full."""
        self._entries = {
            member.node_id: member for member in others if not self.removed(member.node_id)
        }
        self._entries[me.node_id] = me
        self._in_order: list[Member] = []
        self._digest = b""

    def __iter__(self) -> Iterator[Member]:
        """Go through the entries in the order of their ids; sorted once for each change."""
        if not self._in_order:
            self._in_order = sorted(self._entries.values(), key=lambda member: member.node_id)
        return iter(self._in_order)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, node_id: bytes) -> bool:
        return node_id in self._entries

    def get(self, node_id: bytes) -> Member | None:
        return self._entries.get(node_id)

    def named(self, name: str) -> Member | None:
        """Return the member with this name or hex id."""
        for member in self:
            if name in (member.name, member.node_id.hex()):
                return member
        return None

    def others(self) -> list[Member]:
        return [member for member in self if member.node_id != self.me.node_id]

    def removed(self, node_id: bytes) -> bool:
        """Say whether an operator has removed this identity, which is for ever."""
        ruling = self.rulings.get(node_id)
        return ruling is not None and ruling.standing == REMOVED

    def standing(self, node_id: bytes) -> int | None:
        """Return IN, LEAVING or REMOVED; None for a node on which nobody has ruled."""
        ruling = self.rulings.get(node_id)
        return None if ruling is None else ruling.standing

    def candidates(self, rulings: Iterable[Ruling] = ()) -> list[Candidate]:
        """Return who may own partitions: who is ruled in; only this node while none is known.

        Plans that cross may tell all to leave. Then those stay who were told so, as long as nobody
        is in: all nodes must come to the same, and the data must be somewhere. With ``rulings``:
        who will be, once these are taken.
        """
        known = self.rulings
        if newer := [ruling for ruling in rulings if self.is_newer(ruling)]:
            newer.sort(key=_weight)
            known = {**known, **{ruling.node_id: ruling for ruling in newer}}
        for standing in (IN, LEAVING):
            ruled = [
                Candidate(ruling.node_id, ruling.zone, ruling.weight)
                for ruling in known.values()
                if ruling.standing == standing
            ]
            if ruled:
                return ruled
        return [Candidate(self.me.node_id, self.me.zone, self.me.weight)]

    def next_stamp(self) -> int:
        """Return a stamp above all that this node knows."""
        stamps = [ruling.stamp for ruling in self.rulings.values()]
        return 1 + max([self.draft.stamp, *stamps])

    # -- change ------------------------------------------------------------------------------------

    def change_me(self, **changes: object) -> Member:
        """Return this node's entry as it is from now on, a version higher."""
        me = msgspec.structs.replace(self.me, version=self.me.version + 1, **changes)
        self.me = self._entries[me.node_id] = me
        self._changed()
        return me

    def merge(self, news: News) -> News:
        """Take what is newer; return what was taken."""
        rulings = [ruling for ruling in news.rulings if self._rule(ruling)]
        entries = [entry for entry in news.entries if self._enter(entry)]
        draft = None
        if news.draft is not None and _key(news.draft) > _key(self.draft):
            draft = self.draft = news.draft
        taken = News(entries, rulings, draft)
        if entries or rulings or draft is not None:
            self._changed()
        return taken

    def _enter(self, entry: Member) -> bool:
        if self.removed(entry.node_id):
            return False
        if entry.node_id == self.me.node_id:  # only this node writes it
            if entry.life != self.me.life and entry.incarnation >= self.me.incarnation:
                self.clones.add(entry.node_id)
                if entry.incarnation > self.me.incarnation:
                    self.overtaken_by = max(self.overtaken_by, entry.incarnation)
            return False
        known = self._entries.get(entry.node_id)
        if known is None:
            if len(self._entries) >= MEMBERS_MAX:
                self.refused += 1
                return False
        elif entry.incarnation == known.incarnation and entry.life != known.life:
            self.clones.add(entry.node_id)
            return False
        elif (entry.incarnation, entry.version) <= (known.incarnation, known.version):
            return False
        self._entries[entry.node_id] = entry
        return True

    def is_newer(self, ruling: Ruling) -> bool:
        """Say whether a ruling goes before the one that is known."""
        return goes_before(ruling, self.rulings.get(ruling.node_id))

    def _rule(self, ruling: Ruling) -> bool:
        known = self.rulings.get(ruling.node_id)
        if known is None:
            if len(self.rulings) >= RULINGS_MAX:
                self.refused += 1
                return False
        elif not self.is_newer(ruling):
            return False
        self.rulings[ruling.node_id] = ruling
        if ruling.standing == REMOVED and ruling.node_id != self.me.node_id:
            self._entries.pop(ruling.node_id, None)
        return True

    def _changed(self) -> None:
        self._in_order = []
        self._digest = b""

    # -- gossip ------------------------------------------------------------------------------------

    def digest(self) -> bytes:
        """Return 16 bytes that are equal for tables that know the same; made once a change."""
        if not self._digest:
            self._digest = xxhash.xxh3_128_digest(_encode(self.rows(answer=False)))
        return self._digest

    def rows(self, *, answer: bool) -> Rows:
        """Return what this table has, without what it says."""
        return Rows(
            [(entry.node_id, entry.incarnation, entry.version) for entry in self],
            [
                (ruling.node_id, ruling.stamp, ruling.plan, ruling.standing)
                for _, ruling in sorted(self.rulings.items())
            ],
            _key(self.draft),
            answer,
        )

    def lacking(self, rows: Rows) -> News:
        """Return what a table with these rows does not have, and this one has."""
        entries = {
            node_id: (incarnation, version) for node_id, incarnation, version in rows.entries
        }
        rulings = {
            node_id: (standing == REMOVED, stamp, plan)
            for node_id, stamp, plan, standing in rows.rulings
        }
        return News(
            [
                entry
                for entry in self
                if (entry.incarnation, entry.version) > entries.get(entry.node_id, (-1, -1))
            ],
            [
                ruling
                for _, ruling in sorted(self.rulings.items())
                if _weight(ruling) > rulings.get(ruling.node_id, (False, -1, b""))
            ],
            self.draft if _key(self.draft) > tuple(rows.draft) else None,
        )

    def everything(self) -> News:
        """Return all of it."""
        return News(list(self), [ruling for _, ruling in sorted(self.rulings.items())], self.draft)


def _weight(ruling: Ruling) -> tuple[bool, int, bytes]:
    return ruling.standing == REMOVED, ruling.stamp, ruling.plan


def _key(draft: Draft) -> tuple[int, bytes]:
    return draft.stamp, draft.plan


def goes_before(ruling: Ruling, known: Ruling | None) -> bool:
    """Say whether of two rulings on a node this one is the one that stays."""
    return known is None or _weight(ruling) > _weight(known)


def both(one: News, other: News) -> News:
    """Return news that tell a table what these two do: of two rulings on a node the one that would
    stay, of two drafts the later.
    """
    rulings: dict[bytes, Ruling] = {}
    for ruling in sorted([*one.rulings, *other.rulings], key=_weight):
        rulings[ruling.node_id] = ruling
    drafts = [draft for draft in (one.draft, other.draft) if draft is not None]
    entries = [*one.entries, *other.entries]
    return News(entries, list(rulings.values()), max(drafts, key=_key, default=None))


def founding(members: Iterable[Member]) -> list[Ruling]:
    """Return the rulings of a cluster that begins with these members."""
    return [
        Ruling(member.node_id, member.name, IN, member.zone, member.weight, 1, b"")
        for member in members
    ]


def encode_known(table: MemberTable) -> bytes:
    """Return the bytes under which a node keeps its members on disk."""
    news = table.everything()
    return _encode(Known(news.entries, news.rulings, table.draft))


def decode_known(data: bytes) -> Known:
    """Return what these bytes hold; ProtocolError if they are none such."""
    try:
        return _decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ProtocolError(f"The list of members cannot be read: {error}.") from error
