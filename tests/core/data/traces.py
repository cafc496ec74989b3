"""The kv679 family, riak_kv's most expensive bugs, as traces that a minting rule must survive.

Each trace is a function of the kind of node that plays in it, so that the same trace can show that
a node with a weaker rule loses the write (``test_seeded_bugs.py``).
"""

from __future__ import annotations

from everwrite.core.data import versions
from everwrite.core.data.epochs import Epochs
from everwrite.core.data.versions import EMPTY, NOTHING, Record, Seen, Version, live, merge


class Node:
    """One node's copy of one key, and the rule under which it mints (``epochs.py``)."""

    def __init__(self, name: bytes, *, leased_from: int = 0, salt: int = 1) -> None:
        self.epochs = Epochs(name.ljust(8, b"."), leased_from, salt)
        self.record = EMPTY
        self.own_epoch = 0

    def put(self, value: bytes | None, seen: Seen = NOTHING) -> Seen:
        """Coordinate a put; return what its writer has seen after it."""
        if not self.epochs.continues(self.own_epoch):
            self.own_epoch = self.epochs.fresh()
        minter = self.epochs.actor(self.own_epoch)
        written = Version(minter, versions.next_counter(self.record, minter), value, 0, b"")
        self.record = versions.put(self.record, seen, written)
        return versions.seen_after(self.record, seen, written)

    def receive(self, record: Record) -> None:
        """Store what a peer sent: a replica's write, read repair or a hint."""
        self.record = merge(self.record, record)

    def forget(self) -> None:
        """Lose the key, with what was kept beside it: a bad block, a lost disk, or a reaped
        tombstone.
        """
        self.record, self.own_epoch = EMPTY, 0

    @property
    def values(self) -> list[bytes | None]:
        return [version.value for version in live(self.record)]


def everybody_repairs(*nodes: Node) -> None:
    for source in nodes:
        for target in nodes:
            target.receive(source.record)


def amnesia_on_the_coordinator(kind: type[Node]) -> None:
    """Issue 679. A mints, forgets, and mints again: the old dot must not hide the new write."""
    a, b, c = kind(b"A"), kind(b"B"), kind(b"C")
    for value in (b"1", b"2", b"3"):
        a.put(value, Seen(a.record.clock, []))
    everybody_repairs(a, b, c)

    a.forget()
    a.put(b"acked")
    everybody_repairs(a, b, c)

    for node in (a, b, c):
        assert b"acked" in node.values, "the write after the amnesia is there"
        assert b"3" in node.values, "what its writer had not seen is there too"


def amnesia_on_a_replica_and_fallback_handoff(kind: type[Node]) -> None:
    """Pull request 1643: the record that A mints in came from a peer, and a hint comes late."""
    a, b, fallback = kind(b"A"), kind(b"B"), kind(b"F")
    # 1, 2: A coordinates two puts while B is away; F stands in for it.
    a.put(b"1")
    a.put(b"2", Seen(a.record.clock, []))
    fallback.receive(a.record)
    # 3: A loses the key.
    a.forget()
    # 4: B, back, coordinates a put; A stores it as a replica: a record without a word of A's own.
    b.put(b"B's")
    a.receive(b.record)
    # 5, 6: A coordinates a put of a client that has read it, and B stores it.
    a.put(b"acked", Seen(a.record.clock, []))
    b.receive(a.record)
    # 7: F hands off its hint.
    b.receive(fallback.record)
    everybody_repairs(a, b)

    for node in (a, b):
        assert sorted(filter(None, node.values)) == [b"2", b"acked"]


def doomstone(kind: type[Node]) -> None:
    """A tombstone waits on a fallback, is reaped elsewhere, and meets the key's next life."""
    a, b, fallback = kind(b"A"), kind(b"B"), kind(b"F")
    # The key lives, is deleted while C is away, and F keeps the tombstone for C.
    a.put(b"first life")
    a.put(None, Seen(a.record.clock, []))
    b.receive(a.record)
    fallback.receive(a.record)
    # A and B reap the tombstone, too early; the key is created anew.
    a.forget()
    b.forget()
    a.put(b"second life")
    b.receive(a.record)
    # F hands off.
    a.receive(fallback.record)
    b.receive(fallback.record)

    for node in (a, b):
        assert node.values == [b"second life"]


def same_actor_twins(kind: type[Node]) -> None:
    """A node and its clone (a copied disk, a restored backup) both coordinate puts."""
    original, clone, peer = kind(b"A", salt=1), kind(b"A", salt=2), kind(b"P")
    original.put(b"of the original")
    clone.put(b"of the clone")
    peer.receive(original.record)
    peer.receive(clone.record)
    everybody_repairs(original, clone, peer)

    for node in (original, clone, peer):
        assert sorted(filter(None, node.values)) == [b"of the clone", b"of the original"]
    assert len({versions.encode(node.record) for node in (original, clone, peer)}) == 1


def restart_after_a_lost_write(kind: type[Node]) -> None:
    """A's last put reached B, but not A's own disk; A restarts and goes on from what it finds."""
    a, b = kind(b"A"), kind(b"B")
    a.put(b"1")
    on_disk = (a.record, a.own_epoch)
    a.put(b"2", Seen(a.record.clock, []))
    b.receive(a.record)

    restarted = kind(b"A", leased_from=a.epochs.leased_to, salt=2)
    restarted.record, restarted.own_epoch = on_disk
    restarted.put(b"acked", Seen(restarted.record.clock, []))
    everybody_repairs(restarted, b)

    for node in (restarted, b):
        assert sorted(filter(None, node.values)) == [b"2", b"acked"]


TRACES = [
    amnesia_on_the_coordinator,
    amnesia_on_a_replica_and_fallback_handoff,
    doomstone,
    same_actor_twins,
    restart_after_a_lost_write,
]
