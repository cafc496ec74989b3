"""What a plan would move: each copy, each node's part, how near the optimum, how long.

Two placements are compared, that of the rulings and that of the rulings with the draft. Each new
owner of a partition takes the place of a node that gives way to it, paired in the order of
preference, just as the moves themselves are (docs/design/moving.md). Where nobody gives way, since
there are more copies than before or a node was removed, it copies from the owners that stay.

    optimum   the sum of what each node's fair share grows by: what must move for even loads
    bytes     copies that move x the bytes of a partition, as the caller measured them
    time      nodes take in their copies side by side: the one that takes in most, at its pace

Costs: two placements, 4 ms for 5 nodes and 256 partitions (placement.py).
Source: Dynamo 6.2 (what a join moves); Riak's `riak-admin cluster plan`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from itertools import zip_longest

import msgspec

from everwrite.core.cluster.holdings import bits, displaced
from everwrite.core.cluster.members import MemberTable
from everwrite.core.cluster.placement import Candidate, Placement, fair_shares, place
from everwrite.core.cluster.plans import candidates_after, last_copies, name_of, rulings_after
from everwrite.core.config import ClusterConfig
from everwrite.core.messages.members import LEAVING, REMOVED, Ruling


class Move(msgspec.Struct, frozen=True):
    """A copy of a partition that a node is to take in."""

    partition: int
    to: bytes
    giver: bytes = b""
    """The node that gives way; empty: nobody does."""
    copied_from: tuple[bytes, ...] = ()
    """Where nobody gives way: the owners that stay; none: nobody is left to have it."""


class Part(msgspec.Struct, frozen=True):
    """One node's part in a plan."""

    node_id: bytes
    standing_before: int | None
    """None: nobody has ruled on it yet."""
    standing: int | None
    zone: str
    weight: float
    before: int
    """Partitions that it owns."""
    after: int
    comes_in: int
    goes_out: int
    load: float
    """After, relative to its fair share: 1.0 is exactly fair."""


class Forecast(msgspec.Struct, frozen=True):
    """All that a plan would do; node ids are left to the shell to name."""

    moves: list[Move]
    """By partition."""
    parts: list[Part]
    optimum: float
    """Copies that must move if all loads are to be just fair."""
    load_max: float
    """The highest load after it, relative to the fair share."""
    bytes: int
    ms: int
    notes: list[str]
    """What an operator should know before a commit, as sentences."""

    @property
    def times_optimum(self) -> float | None:
        """Return how many times the optimum moves; None where nothing would have to."""
        return len(self.moves) / self.optimum if self.optimum >= 0.5 else None


def forecast(
    table: MemberTable,
    cluster: ClusterConfig,
    changed: Sequence[Ruling],
    *,
    up: Collection[bytes] = (),
    placed: Callable[[Iterable[Candidate]], Placement] | None = None,
    bytes_per_partition: float = 0,
    move_bytes_per_s: int = 1,
) -> Forecast:
    """Return what these rulings would do; the draft's, as ``plans.stage`` made them.

    ``placed`` returns the placement of candidates, where somebody has them at hand.
    """
    if placed is None:
        placed = partial(place, partitions=cluster.partitions, replicas=cluster.replicas)
    before = placed(table.candidates())
    after = placed(candidates_after(table, changed) or table.candidates())
    gone = {r.node_id for r in rulings_after(table, changed).values() if r.standing == REMOVED}
    moves = moves_between(before, after, gone)
    parts = _parts(table, changed, before, after)
    most = max((part.comes_in for part in parts), default=0)
    was, will = _shares(before), _shares(after)
    return Forecast(
        moves=moves,
        parts=parts,
        optimum=sum(max(0.0, share - was.get(node, 0.0)) for node, share in will.items()),
        load_max=max(part.load for part in parts),
        bytes=round(len(moves) * bytes_per_partition),
        ms=round(1000 * most * bytes_per_partition / move_bytes_per_s),
        notes=_notes(table, cluster, changed, before, after, up),
    )


def moves_between(before: Placement, after: Placement, gone: Collection[bytes]) -> list[Move]:
    """Return the copies to move, and who gives way to each; ``gone`` can give nothing."""
    moves = []
    for partition, preference in enumerate(after.preference):
        owned, owners = before.owners(partition), after.owners(partition)
        gains = [node for node in owners if node not in owned]
        if not gains:
            continue
        alive = {node: 1 << partition for node in owned if node not in gone}
        givers = displaced(preference, owners, alive, partition)[: len(gains)]
        stay = tuple(node for node in owners if node in alive)
        moves += [
            Move(partition, node, giver) if giver else Move(partition, node, b"", stay)
            for node, giver in zip_longest(gains, givers, fillvalue=b"")
        ]
    return moves


def _parts(
    table: MemberTable, changed: Sequence[Ruling], before: Placement, after: Placement
) -> list[Part]:
    owned, will_own = before.owned(), after.owned()
    rulings = rulings_after(table, changed)
    shares = _shares(after)
    parts = []
    touched = {ruling.node_id for ruling in changed}
    for node in sorted(owned.keys() | will_own.keys() | touched):
        ruling = rulings.get(node)
        was, will = set(owned.get(node, ())), set(will_own.get(node, ()))
        parts.append(
            Part(
                node_id=node,
                standing_before=table.standing(node),
                standing=None if ruling is None else ruling.standing,
                zone=table.me.zone if ruling is None else ruling.zone,
                weight=table.me.weight if ruling is None else ruling.weight,
                before=len(was),
                after=len(will),
                comes_in=len(will - was),
                goes_out=len(was - will),
                load=round(len(will) / shares[node], 4) if shares.get(node) else 0.0,
            )
        )
    return parts


def _shares(placement: Placement) -> dict[bytes, float]:
    shares = fair_shares(placement.candidates, placement.partitions, placement.replicas)
    return {node.node_id: share for node, share in zip(placement.candidates, shares, strict=True)}


def _notes(
    table: MemberTable,
    cluster: ClusterConfig,
    changed: Sequence[Ruling],
    before: Placement,
    after: Placement,
    up: Collection[bytes],
) -> list[str]:
    notes = []
    for ruling in changed:
        name = name_of(table, ruling.node_id)
        alive = ruling.node_id in up or ruling.node_id == table.me.node_id
        if ruling.standing == LEAVING and not alive:
            notes.append(
                f"{name} is down: its partitions wait until it is back to hand them over. "
                f"If it is lost, use `everwrite plan remove {name}`, or `plan replace`."
            )
        elif ruling.standing == REMOVED and alive and table.standing(ruling.node_id) is not None:
            notes.append(
                f"{name} is up: `everwrite plan leave {name}` lets it hand over its copies "
                "before it goes; removed, it is shut out at once, for ever."
            )
    lost = len(last_copies(table, changed))
    if lost:
        notes.append(f"{lost} of {cluster.partitions} partitions may lose their last copies.")
    if after.replicas < cluster.replicas:
        notes.append(f"Copies of each key: {after.replicas}, and {cluster.replicas} are wanted.")
    zones = len({node.zone for node in after.candidates})
    if zones < after.replicas:
        notes.append(f"{zones} zones for {after.replicas} replicas: copies share zones.")
    unfinished = _unfinished(table, before)
    if unfinished:
        notes.append(f"Copies that are still on their way by earlier changes: {unfinished}.")
    return notes


def _unfinished(table: MemberTable, placement: Placement) -> int:
    """Return how many owned copies do not count yet."""
    missing = 0
    for node, partitions in placement.owned().items():
        entry = table.get(node)
        serves = 0 if entry is None else bits(entry.serves)
        missing += sum(not serves >> partition & 1 for partition in partitions)
    return missing
