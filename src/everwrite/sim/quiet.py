"""The quiet: all faults are over, nobody reads, and owners have only hints and each other's trees.

    agreement   within a bounded time all owners of each key hold the same bytes
    mended      and no owner has a damaged copy any more: whoever looks through its disk finds it
    proportion  on the way there a key is handed on a few times for each pair of its owners, no more
    rest        then a round of comparisons goes by in which roots are all that is said, and no copy
                is sent to anybody

The audit that follows reads every key, and each read mends what it finds; so what these two rules
ask is asked before it. In a quarter of the seeds nodes compare nothing, so that hints have to do
what only they can do (``rest.py``), and reads what only these can do.

Costs: some seconds of virtual time, mostly of pings. Source: riak_test's verify_aae (repairs go to
zero when nothing happens).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Store
from everwrite.core.messages.trees import Differing, Entries, Summed, Sums
from everwrite.core.records import OWN
from everwrite.sim.disk import Rotten
from everwrite.sim.truth import KeyLedger, Violation, held_record

if TYPE_CHECKING:
    from everwrite.sim.world import World

AGREE_WITHIN_US = 120_000_000
"""Virtual time in which owners must agree: each pair compares a quarter of all partitions at a
time, one exchange after the other, and is patient with a silent peer.
"""
TIMES = 4
"""How often a key may be handed on, both ways, between two of its owners: an exchange that is
broken off is begun anew, and each of the two may begin one.
"""
GOING_US = 1_000_000
"""After tombstones went, for so long two owners may still say of what is gone on one of them, that
their trees differ.
"""
SEARCHES = (Sums, Summed, Entries, Differing)


class Quiet:
    """One such phase of a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._at = 0
        self._collecting_at = -GOING_US
        self._handed: Counter[bytes] = Counter()

    def agree(self) -> None:
        """Wait until all owners hold the same; Violation if they do not come to."""
        world = self._world
        if not world.options.repairs:
            return
        world.overheard = self._count
        agreed = world.run(world.now + AGREE_WITHIN_US, self._agreed)
        world.overheard = None
        if not agreed:
            raise Violation(
                "agreement",
                f"{AGREE_WITHIN_US / 1e6:.0f} s after all was well, with no reader to help, "
                f"{differing(world, world.all_keys[self._at])}",
            )
        for key in world.all_keys:
            self._judge_proportion(key)
        if "scrub_cycle_ms" not in world.options.knobs:
            return  # the disk is looked through, but that takes longer than a run
        if not world.run(world.now + AGREE_WITHIN_US, lambda: not self._damaged()):
            raise Violation("mended", f"{AGREE_WITHIN_US / 1e6:.0f} s later {self._damaged()}")

    def _damaged(self) -> str:
        """Return who still has a damaged copy of what it owns, in words; empty if nobody has."""
        world = self._world
        if not world.faults["bit_rot"]:
            return ""
        for key in world.all_keys:
            for owner in world.owners(key.data_key, 0):
                if isinstance(world.machines[owner].disk.visible.get(OWN + key.data_key), Rotten):
                    return f"n{owner + 1} still has a damaged copy of {key.name}"
        return ""

    def rest(self) -> None:
        """Let a round go by; Violation if anything moves."""
        world, config = self._world, self._world.machines[0].config
        if not world.options.repairs or self._damaged():  # whoever finds it mends it
            return
        # What had begun while they still differed comes to its end first.
        if not world.come_to_rest(AGREE_WITHIN_US, self._idle):
            raise Violation("rest", f"all owners agree, and exchanges go on; {world.unrest()}")
        world.overheard = self._judge_rest
        world.run(world.now + 1000 * (config.repair_round_ms + config.repair_settle_ms))
        world.overheard = None

    def _idle(self) -> bool:
        nodes = [machine.node for machine in self._world.members]
        return self._world.calm() and not any(
            node is None or node.repairs.running or node.repairs._waiting for node in nodes
        )

    # -- agreement ---------------------------------------------------------------------------------

    def _agreed(self) -> bool:
        """Look from key to key, and stay with one until its owners agree on it; then look at all
        once more.
        """
        keys = self._world.all_keys
        for at in range(self._at, len(keys)):
            if differing(self._world, keys[at]):
                self._at = at
                return False
        self._at = next((i for i, key in enumerate(keys) if differing(self._world, key)), 0)
        return not differing(self._world, keys[self._at])

    def _count(self, source: int, to: int, messages: Sequence[Message]) -> None:
        for message in messages:
            if isinstance(message, Differing):
                self._handed.update(key for key, _ in message.items)
            elif isinstance(message, Store):
                self._handed[message.key] += 1

    def _judge_proportion(self, key: KeyLedger) -> None:
        owners = len(self._world.owners(key.data_key, 0))
        if self._handed[key.data_key] > TIMES * owners * owners:
            raise Violation(
                "proportion",
                f"{key.name} was handed on {self._handed[key.data_key]} times until its {owners} "
                "owners agreed",
            )

    # -- rest --------------------------------------------------------------------------------------

    def _judge_rest(self, source: int, to: int, messages: Sequence[Message]) -> None:
        world = self._world
        if self._collecting():
            self._collecting_at = world.now
        going = world.now < self._collecting_at + GOING_US
        for message in messages:
            if isinstance(message, SEARCHES) and going:
                continue
            if isinstance(message, Store | Differing | Entries | Sums | Summed):
                raise Violation(
                    "rest",
                    f"all owners agree, and n{source + 1} says to n{to + 1}: {message!r:.300}",
                )

    def _collecting(self) -> bool:
        """Say whether anybody is at removing tombstones: owners do not do that in one instant."""
        nodes = [machine.node for machine in self._world.members]
        return any(node is not None and node.collect.running for node in nodes)


def differing(world: World, key: KeyLedger) -> str:
    """Return in what the owners of a key differ, in words; empty if in nothing."""
    held: dict[bytes, list[int]] = {}
    for owner in world.owners(key.data_key, 0):
        payload = world.machines[owner].disk.visible.get(OWN + key.data_key)
        if isinstance(payload, Rotten):
            continue
        held.setdefault(held_record(OWN, payload), []).append(owner)
    if len(held) < 2:
        return ""
    parts = [
        f"{', '.join(f'n{owner + 1}' for owner in owners)} know "
        f"{key.causality.names(key.known_of.get(record, 0))}"
        for record, owners in held.items()
    ]
    return f"the owners of {key.name} hold different bytes: {'; '.join(parts)}"
