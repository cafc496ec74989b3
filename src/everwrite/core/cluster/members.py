"""Who belongs to the cluster: member entries, merged by (incarnation, version).

Each entry is written by its own node alone, so merging is "the newer one wins" and needs no
agreement. In this version a cluster is formed before it holds data: a node that holds some takes no
new member (``may_grow``), and no other zone or weight of a known one, since moving partitions to a
new owner is not there yet, and an empty owner would make reads lie.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from everwrite.core.cluster.placement import Candidate
from everwrite.core.errors import ProtocolError
from everwrite.core.messages import Member

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Member]).decode

MEMBERS_MAX = 1024
"""More nodes than the paper's couple of hundred; bounds what a peer can make us keep."""


class MemberTable:
    """The members that this node knows, itself included."""

    def __init__(self, me: Member, others: list[Member]) -> None:
        self.me = me
        self._entries = {member.node_id: member for member in others}
        self._entries[me.node_id] = me
        self._in_order: list[Member] = []
        self.refused: dict[bytes, str] = {}
        """Names of nodes that asked to join, or to change zone or weight, and were refused; by id
        (at most twice MEMBERS_MAX).
        """

    def __iter__(self) -> Iterator[Member]:
        """Go through them in the order of their ids; sorted once for each change."""
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

    def merge(self, entries: list[Member], *, may_grow: bool) -> list[Member]:
        """Take the newer entries; return those that were taken, as they are kept now. Only if
        ``may_grow``, new members, and other zones and weights of known ones: both would move data.
        """
        taken: list[Member] = []
        for entry in entries:
            kept, known = entry, self._entries.get(entry.node_id)
            if entry.node_id == self.me.node_id:
                continue
            if known is None:
                if not may_grow or len(self._entries) >= MEMBERS_MAX:
                    if len(self.refused) < MEMBERS_MAX:
                        self.refused[entry.node_id] = entry.name
                    continue
            elif (entry.incarnation, entry.version) <= (known.incarnation, known.version):
                continue
            elif not may_grow and (entry.zone, entry.weight) != (known.zone, known.weight):
                self.refused[entry.node_id] = entry.name
                kept = msgspec.structs.replace(entry, zone=known.zone, weight=known.weight)
            self._entries[entry.node_id] = kept
            self._in_order = []
            taken.append(kept)
        return taken

    def candidates(self) -> list[Candidate]:
        return [Candidate(member.node_id, member.zone, member.weight) for member in self]


def encode_members(members: list[Member]) -> bytes:
    """Return the bytes under which a node keeps its members on disk."""
    return _encode(members)


def decode_members(data: bytes) -> list[Member]:
    """Return the members in these bytes; ProtocolError if they are none."""
    try:
        return _decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ProtocolError(f"The list of members cannot be read: {error}.") from error
