"""Plans: an operator's changes, put together as a draft, and turned into rulings all at once.

    changes -> stage -> draft -> commit -> rulings
                          |--> cancel -> none

``stage`` lays changes over the draft that is there, so several make one plan; the last one on a
node wins. Nobody goes by a draft. Its id is a hash of what it says and of all rulings that it was
made on: where the hash does not come out, the cluster has changed since, and what was shown is no
longer what would happen. Such a draft cannot be committed, and the next change begins a new one.

Two nodes that commit one draft make the same rulings, so that a commit can be repeated. Crossing
commits of different drafts are merged node by node (members.py), the same way everywhere.

Refused is what can't be, what changes nothing, and, unless it is forced, what leaves the cluster
with less than it has now: fewer nodes or zones than replicas, or a partition that nobody holds.
What a plan moves is the matter of forecast.py.

Source: Riak's staged plan and commit; riak_core 913 and 908: what breaks distinct nodes or zones is
refused, not warned of.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
import xxhash

from everwrite.core.cluster.holdings import bits, partitions_in
from everwrite.core.cluster.members import RULINGS_MAX, MemberTable
from everwrite.core.cluster.placement import Candidate
from everwrite.core.config import ClusterConfig
from everwrite.core.errors import RequestError
from everwrite.core.messages.members import IN, LEAVING, REMOVED, Draft, News, Ruling

CHANGES_MAX = 1024
"""Changes in one order: as many as there may be members."""
WEIGHT_MAX = 1000
ZONE_BYTES_MAX = 64
_NAMED_MAX = 8
"""Partitions that a refusal names before it says how many more."""
_NOTHING_CHANGED = "Nothing was changed."

_encode = msgspec.msgpack.Encoder().encode


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One change; nodes by name or hex id."""

    verb: Literal["join", "leave", "remove", "replace", "weight", "zone"]
    node: str
    by: str = ""
    """replace: the node that takes its place."""
    weight: float = 0.0
    zone: str = ""
    dead: bool = False
    """replace: the old node is lost for good, which only the operator can know."""


# -- the draft's life ------------------------------------------------------------------------------


def stage(
    table: MemberTable,
    cluster: ClusterConfig,
    changes: Sequence[Change],
    *,
    up: frozenset[bytes] = frozenset(),
    force: bool = False,
) -> Draft:
    """Return the draft that these changes make of the one that is there.

    ``up`` are the nodes that seem up: one that is replaced hands over, unless it is said to be
    dead. Raises RequestError for a change that can't be, with the reason; the table is left as it
    was.
    """
    if not 0 < len(changes) <= CHANGES_MAX:
        raise RequestError(
            f"A plan needs 1 to {CHANGES_MAX} changes, not {len(changes)}.",
            hint="Say what to change: join, leave, remove, replace, weight or zone.",
        )
    sheet = _Sheet(table, up | {table.me.node_id})
    for change in changes:
        sheet.take(change)
    check_safe(table, cluster, sheet.changed.values(), force=force)
    stamp = table.next_stamp()
    return _draft(table, stamp, [ruling for _, ruling in sorted(sheet.changed.items())])


def stands(table: MemberTable) -> bool:
    """Say whether there is a draft, and the rulings are still those that it was made on."""
    draft = table.draft
    return bool(draft.rulings) and draft.plan == _plan_id(table, draft.stamp, draft.rulings)


def commit(table: MemberTable) -> News:
    """Return the draft as rulings, and the emptied draft; RequestError if it stands no more."""
    draft = table.draft
    if not draft.rulings:
        raise RequestError(
            "There is no plan to commit.",
            hint="Make one: everwrite plan join|leave|remove|replace|weight|zone.",
        )
    if not stands(table):
        raise RequestError(
            "The cluster has changed since this plan was made: it would do something else now.",
            hint=f"{_NOTHING_CHANGED} Plan again; `everwrite plan cancel` forgets this plan.",
        )
    return News([], list(draft.rulings), _emptied(table))


def cancel(table: MemberTable) -> News:
    """Return the emptied draft; RequestError if there is none to forget."""
    if not table.draft.rulings:
        raise RequestError("There is no plan to cancel.", hint=_NOTHING_CHANGED)
    return News([], [], _emptied(table))


def rulings_after(table: MemberTable, changed: Iterable[Ruling]) -> dict[bytes, Ruling]:
    """Return the rulings as these would make them."""
    return {**table.rulings, **{ruling.node_id: ruling for ruling in changed}}


def candidates_after(table: MemberTable, changed: Iterable[Ruling]) -> list[Candidate]:
    """Return who would own partitions after these rulings."""
    return [
        Candidate(ruling.node_id, ruling.zone, ruling.weight)
        for ruling in rulings_after(table, changed).values()
        if ruling.standing == IN
    ]


def _draft(table: MemberTable, stamp: int, rulings: Sequence[Ruling]) -> Draft:
    plan = _plan_id(table, stamp, rulings)
    made = [msgspec.structs.replace(ruling, stamp=stamp, plan=plan) for ruling in rulings]
    return Draft(stamp, plan, made)


def _emptied(table: MemberTable) -> Draft:
    return Draft(table.next_stamp(), b"", [])


def _plan_id(table: MemberTable, stamp: int, rulings: Iterable[Ruling]) -> bytes:
    said = [_content(ruling) for ruling in rulings]
    base = [
        (*_content(ruling), ruling.stamp, ruling.plan)
        for _, ruling in sorted(table.rulings.items())
    ]
    return xxhash.xxh3_64_digest(_encode((stamp, said, base)))


def _content(ruling: Ruling) -> tuple[bytes, int, str, float]:
    return ruling.node_id, ruling.standing, ruling.zone, float(ruling.weight)


# -- changes ---------------------------------------------------------------------------------------


class _Sheet:
    """Rulings as the changes so far would make them."""

    def __init__(self, table: MemberTable, up: frozenset[bytes]) -> None:
        self._table = table
        self._up = up
        self.changed: dict[bytes, Ruling] = {}
        """Only those that differ from what is ruled already."""
        if stands(table):
            self.changed = {ruling.node_id: ruling for ruling in table.draft.rulings}

    def take(self, change: Change) -> None:
        """Lay one change over the others."""
        node = self._find(change.node)
        match change.verb:
            case "join":
                self._join(node)
            case "leave":
                self._leave(node)
            case "remove":
                self._remove(node)
            case "replace":
                self._replace(node, self._find(change.by), dead=change.dead)
            case "weight":
                self._weight(node, change.weight)
            case "zone":
                self._zone(node, change.zone)
        if len(self.changed.keys() | self._table.rulings.keys()) > RULINGS_MAX:
            raise RequestError(
                f"The cluster would have more than {RULINGS_MAX} nodes, those that were removed "
                "included.",
                hint=f"{_NOTHING_CHANGED} Use a new cluster.",
            )

    def _join(self, node: bytes) -> None:
        if self._standing(node) == IN:
            raise _refused(f"{self._name(node)} is in the cluster already, or will be by this plan")
        ruling = self._now(node)
        entry = self._table.get(node)
        if ruling is not None:  # it was to leave: as before
            self._rule(node, IN, ruling.zone, ruling.weight)
        elif entry is not None:
            self._rule(node, IN, entry.zone, entry.weight)

    def _leave(self, node: bytes) -> None:
        ruling = self._must_be_in(node, "leave")
        if node not in self._table.rulings:  # it was to join, by this plan only
            del self.changed[node]
        else:
            self._rule(node, LEAVING, ruling.zone, ruling.weight)

    def _remove(self, node: bytes) -> None:
        if self._standing(node) == REMOVED:
            raise _refused(f"{self._name(node)} is to be removed by this plan already")
        ruling, entry = self._now(node), self._table.get(node)
        if ruling is not None:
            self._rule(node, REMOVED, ruling.zone, ruling.weight)
        elif entry is not None:
            self._rule(node, REMOVED, entry.zone, entry.weight)

    def _replace(self, old: bytes, new: bytes, *, dead: bool) -> None:
        name = self._name(new)
        if old == new:
            raise _refused(f"{name} cannot take its own place")
        standing = self._standing(new)
        entry = self._table.get(new)
        if standing is not None or entry is None:
            raise _refused(
                f"{name} has its own place in the cluster, or had one",
                "A replacement is a node that has not joined yet: `everwrite serve --join "
                "HOST:PORT --stage`. To go without a replacement: `everwrite plan leave`.",
            )
        ruling = self._now(old)
        if ruling is None or old not in self._table.rulings:
            raise _refused(f"{self._name(old)} has no place in the cluster to be taken")
        if not dead and old not in self._up:  # silence is no word of an operator's (P6)
            raise _refused(
                f"{self._name(old)} does not answer now, and could not hand over",
                "Wait until it is back; or, if it is lost for good, add --dead: then it is removed "
                "for ever, and what it held is copied from the other owners.",
            )
        # Who was given no zone is in one of its own name, which is not to be handed on either.
        unzoned = entry.zone in ("", entry.name) and ruling.zone != ruling.name
        zone = ruling.zone if unzoned else entry.zone or entry.name
        self._rule(old, REMOVED if dead else LEAVING, ruling.zone, ruling.weight)
        self._rule(new, IN, zone, ruling.weight)

    def _weight(self, node: bytes, weight: float) -> None:
        if not 0 < weight <= WEIGHT_MAX:
            raise _refused(
                f"A weight of {weight:g} is not possible",
                f"Use a number over 0, up to {WEIGHT_MAX}; 1 is usual.",
            )
        ruling = self._must_be_in(node, "be given a weight")
        if ruling.weight == weight:
            raise _refused(f"{self._name(node)} has a weight of {weight:g} already")
        self._rule(node, IN, ruling.zone, weight)

    def _zone(self, node: bytes, zone: str) -> None:
        if not zone or len(zone.encode()) > ZONE_BYTES_MAX or not zone.isprintable():
            raise _refused(
                f"A zone cannot be named {zone[:ZONE_BYTES_MAX]!r}",
                f"Use printable text of 1 to {ZONE_BYTES_MAX} bytes.",
            )
        ruling = self._must_be_in(node, "be given a zone")
        if ruling.zone == zone:
            raise _refused(f"{self._name(node)} is in zone {zone} already")
        self._rule(node, IN, zone, ruling.weight)

    def _rule(self, node: bytes, standing: int, zone: str, weight: float) -> None:
        made = Ruling(node, self._name(node), standing, zone, float(weight), 0, b"")
        known = self._table.rulings.get(node)
        if known is not None and _content(known) == _content(made):
            self.changed.pop(node, None)
        else:
            self.changed[node] = made

    def _must_be_in(self, node: bytes, to: str) -> Ruling:
        ruling = self._now(node)
        if ruling is None:
            name = self._name(node)
            hint = f"First: everwrite plan join {name}."
            if to == "leave":
                hint = f"It owns nothing that it could hand over: everwrite plan remove {name}."
            raise _refused(f"{name} has not joined, so it cannot {to}", hint)
        if ruling.standing != IN and node in self.changed:
            word = "is removed" if ruling.standing == REMOVED else "leaves"
            raise _refused(
                f"{self._name(node)} {word} by the plan that is staged already, so it cannot {to}",
                "everwrite plan commit carries that plan out, everwrite plan cancel forgets it. To "
                f"keep the node: everwrite plan join {self._name(node)}.",
            )
        if ruling.standing != IN:
            word = "to be removed" if ruling.standing == REMOVED else "leaving"
            raise _refused(
                f"{self._name(node)} is {word}, so it cannot {to}",
                f"To keep it: everwrite plan join {self._name(node)}.",
            )
        return ruling

    # -- look-ups ------------------------------------------------------------------------------

    def _now(self, node: bytes) -> Ruling | None:
        return self.changed.get(node) or self._table.rulings.get(node)

    def _standing(self, node: bytes) -> int | None:
        ruling = self._now(node)
        return None if ruling is None else ruling.standing

    def _name(self, node: bytes) -> str:
        return name_of(self._table, node)

    def _find(self, name: str) -> bytes:
        """Return the node with this name or hex id, which must be one, and not removed."""
        table = self._table
        if not name:
            raise _refused("A node is missing from the change", "Name it, or give its hex id.")
        known = {entry.node_id: entry.name for entry in table}
        known |= {node: ruling.name for node, ruling in table.rulings.items() if node not in known}
        found = sorted(node for node, named in known.items() if name in (named, node.hex()))
        alive = [node for node in found if not table.removed(node)]
        if len(alive) > 1:
            ids = ", ".join(node.hex() for node in alive)
            raise _refused(f"{len(alive)} nodes are named {name}", f"Use an id: {ids}.")
        if alive:
            return alive[0]
        if found:
            raise _refused(
                f"{known[found[0]]} was removed, and that is for ever",
                "Its data can be offered under a new identity: `everwrite serve --rejoin-as-new`.",
            )
        names = ", ".join(sorted(named for node, named in known.items() if not table.removed(node)))
        raise _refused(f"There is no node {name[:64]!r}", f"Known: {names}.")


def name_of(table: MemberTable, node: bytes) -> str:
    """Return a node's name, as it says or as a ruling has it; its hex id if neither is known."""
    known = table.get(node) or table.rulings.get(node)
    return known.name if known is not None and known.name else node.hex()


def _refused(reason: str, hint: str = "") -> RequestError:
    return RequestError(f"{reason}.", hint=f"{_NOTHING_CHANGED} {hint}".strip())


# -- what is refused unless it is forced -----------------------------------------------------------


def check_safe(
    table: MemberTable, cluster: ClusterConfig, changed: Iterable[Ruling], *, force: bool
) -> None:
    """Raise RequestError for rulings that leave less than there is now, unless forced; for those
    that leave nothing, even so.
    """
    changed = list(changed)
    before, after = table.candidates(), candidates_after(table, changed)
    if changed and not after:
        raise _refused(
            "No node would be left to hold the data", "To be rid of a cluster, stop its nodes."
        )
    if force:
        return
    wanted = cluster.replicas
    if len(after) < wanted <= len(before):
        raise _refused(
            f"{_counted(len(after), 'node')} would be left for {wanted} replicas of each key, "
            f"and now there are {len(before)}",
            "Add a node first, or `everwrite plan replace OLD NEW`. To go on with fewer copies, "
            "or to be rid of a node that is lost: --force.",
        )
    zones_before, zones_after = _zones(before), _zones(after)
    if zones_after < wanted <= zones_before:
        raise _refused(
            f"{_counted(zones_after, 'zone')} would be left for {wanted} replicas of each key, "
            f"and now there are {zones_before}: two copies would share a zone",
            "Put another node into a zone of its own first. To go on with two copies in one "
            "zone: --force.",
        )
    check_copies(table, changed)


def check_copies(table: MemberTable, changed: Iterable[Ruling]) -> None:
    """Raise RequestError for rulings that may give up all copies of a partition."""
    changed = list(changed)
    lost = last_copies(table, changed)
    if lost:
        removed = [name_of(table, r.node_id) for r in changed if r.standing == REMOVED]
        raise _refused(
            f"{' and '.join(sorted(removed))} may hold the last copies of {_listed(lost)}",
            "Let them hand over: `everwrite plan leave`, or start them again first. To give "
            "up what only they hold: --force.",
        )


def last_copies(table: MemberTable, changed: Iterable[Ruling]) -> list[int]:
    """Return the partitions of which nodes that these rulings remove have copies, and of those that
    stay none serves.
    """
    removed = {ruling.node_id for ruling in changed if ruling.standing == REMOVED}
    going = staying = 0
    for entry in table:
        if entry.node_id in removed:
            going |= bits(entry.serves) | bits(entry.keeps)
        else:
            staying |= bits(entry.serves)
    return partitions_in(going & ~staying)


def _zones(candidates: Iterable[Candidate]) -> int:
    return len({candidate.zone for candidate in candidates})


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _listed(partitions: Sequence[int]) -> str:
    named = ", ".join(map(str, partitions[:_NAMED_MAX]))
    more = len(partitions) - _NAMED_MAX
    noun = "partition" if len(partitions) == 1 else "partitions"
    return f"{noun} {named}" + (f" and {more} more" if more > 0 else "")
