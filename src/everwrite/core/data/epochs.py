"""Epochs: why a dot is never minted twice, whatever was lost.

A dot is (actor, counter) and an actor is (node_id, epoch). A replica that forgets what it minted
(a lost disk, one lost key, a restored backup) and counts on from what it still sees would give an
old dot to a new write, and its peers would throw the new write away as known: riak_kv issue 679.
So a node continues an actor only while it can prove that it holds everything that the actor
minted, and otherwise starts a new one:

* An epoch is a leased number (40 bits) and the run's salt (24 bits, drawn at each start).
* Numbers come from a counter leased durably in blocks, fsynced *before* first use, so that no run
  repeats another's.
* The salt makes the numbers of a restored backup or a copied disk new all the same.
* Beside each record the node keeps, for itself only, the epoch under which it minted in it
  (``own_epoch``). It goes on under that epoch only if it was leased in this run. A record that
  came from a peer has none, so a key that this node lost and got back goes on under a new actor.

Price: one clock entry (20 bytes) more for each key that a node coordinates again after a restart.
Differs from Riak: a fresh epoch needs no comparison with what peers know: the rule is one ``if``.
"""

from __future__ import annotations

from everwrite.core.data.versions import Actor
from everwrite.core.errors import UnavailableError, check
from everwrite.core.probes import sometimes

EPOCH_BLOCK = 1 << 20
"""Numbers leased at a time: a million new keys between two lease writes."""

SALT_BITS = 24
NUMBER_MAX = (1 << 40) - 1


class Epochs:
    """Hands out this node's actors in one run.

    ``leased_from`` is the first number of the block that the shell leased durably before it made
    this object. ``lease_due`` says when the next block must be written; until ``extend`` confirms
    it, numbers run on in the old block, of which half is still left.
    """

    def __init__(
        self, node_id: bytes, leased_from: int, salt: int, block: int = EPOCH_BLOCK
    ) -> None:
        check(len(node_id) == 8, "a node id has 8 bytes", node_id=node_id)
        check(0 <= salt < 1 << SALT_BITS, "the salt fits", salt=salt)
        self._node_id = node_id
        self._salt = salt
        self._first = leased_from
        self._next = leased_from
        self._block = block
        self.leased_to = leased_from + block

    @property
    def salt(self) -> int:
        """Tells this run from all others of this node, but for one chance in 16 million."""
        return self._salt

    @property
    def lease_due(self) -> bool:
        return self._next + self._block // 2 >= self.leased_to

    def extend(self, leased_to: int) -> None:
        """Take note that all numbers below ``leased_to`` are durably this run's."""
        check(leased_to >= self.leased_to, "a lease only grows", leased_to=leased_to)
        sometimes("a lease of epochs is renewed")
        self.leased_to = leased_to

    def next_lease(self) -> int:
        """Return the number up to which the next lease goes."""
        return self.leased_to + self._block

    def abandon(self) -> None:
        """Continue none of the epochs handed out so far: a batch was not written, so what stands on
        disk may lack dots that were minted and sent."""
        self._first = self._next

    def fresh(self) -> int:
        """Return an epoch that nobody used or ever will; UnavailableError if none is left because
        the next lease could not be written.
        """
        number = self._next
        if number >= self.leased_to:
            sometimes("a node has no epochs left")
            raise UnavailableError(
                "This node has no epochs left: its disk has not taken the lease of the next ones.",
                hint="Nothing was written. Try again in a moment, or look at the node's disk.",
            )
        check(number <= NUMBER_MAX, "epoch numbers are not exhausted", number=number)
        self._next = number + 1
        return number << SALT_BITS | self._salt

    def continues(self, own_epoch: int) -> bool:
        """Say whether an epoch kept beside a record is of this run, and so may be counted on."""
        number, salt = own_epoch >> SALT_BITS, own_epoch & ((1 << SALT_BITS) - 1)
        return salt == self._salt and self._first <= number < self._next

    def actor(self, epoch: int) -> Actor:
        return self._node_id + epoch.to_bytes(8, "big")
