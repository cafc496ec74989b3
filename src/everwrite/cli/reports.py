"""What nodes say about themselves: the answers of the administrative verbs, as types.

Unknown fields are ignored, so a newer node can say more. ``judge`` turns what several nodes say
into one verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from everwrite.cli.output import count, duration
from everwrite.cli.pacing import Pace, Requests
from everwrite.core.errors import ProtocolError

if TYPE_CHECKING:
    from everwrite.client import AsyncClient


class Identity(msgspec.Struct, frozen=True):
    """The node that answers."""

    id: str
    name: str
    address: str
    http: str | None = None
    """Where it answers HTTP; None: nowhere."""
    redis: str | None = None
    """Where it speaks the Redis protocol; None: nowhere."""
    zone: str = ""
    pid: int = 0
    version: str = ""
    engine: str = ""
    fsync: bool = False
    uptime_ms: float = 0
    ready: bool = False
    rss_bytes: int = 0
    sync_ms: float | None = None
    """What an fsync takes; None: there was none lately."""
    cpu_us: float = 0
    data: str | None = None


class Peer(msgspec.Struct, frozen=True):
    """A member, as the answering node sees it."""

    id: str
    name: str
    address: str
    state: Literal["self", "up", "slow", "down"]
    zone: str = ""
    weight: float = 1.0
    silent_ms: float | None = None
    rtt_ms: float | None = None
    """The round trip of pings; None: not measured lately."""
    owned: int = 0
    standing: str = "in"
    """joining, in, or leaving."""
    serves: int = 0
    """Partitions whose copies count in quorums."""
    keeps: int = 0
    to_gain: int = 0
    to_shed: int = 0


class Cluster(msgspec.Struct, frozen=True):
    """What all members agree on; ``view`` is the digest of their placement."""

    id: str
    name: str
    partitions: int
    replicas: int
    view: str
    replicas_wanted: int = 0
    """N as configured; ``replicas`` is what so many nodes allow."""


class HintTarget(msgspec.Struct, frozen=True):
    """What waits on one node for one owner, and for what."""

    owner: str
    notes: int
    bytes: int
    oldest_ms: int
    in_flight: int
    waits_for: str
    id: str = ""


class Hints(msgspec.Struct, frozen=True):
    """Writes that the answering node keeps for owners that were not there."""

    waiting: int
    by_owner: dict[str, int] = {}
    oldest_ms: float | None = None
    cap: int = 0
    bytes: int = 0
    """On its disk; one that is kept for several owners counts once."""
    cap_bytes: int = 0
    counted: bool = True
    """False soon after its start: there may be more on its disk."""
    full: bool = False
    """Whether it takes no more."""
    flow: dict[str, int] = {}
    """Where they came from and where they went since its start."""
    targets: list[HintTarget] = []


class ClockSeen(msgspec.Struct, frozen=True):
    """A machine's wall clock, against the time that its node goes by."""

    off_ms: int = 0
    """By how much it is ahead."""
    wrong: bool = False
    sure: bool = True
    """Whether most of the members agree with the time that the node goes by."""


class Damaged(msgspec.Struct, frozen=True):
    """A copy that a node cannot read."""

    bucket: str | None
    key: str | dict[str, str]
    since_ms: float


class Checked(msgspec.Struct, frozen=True):
    """What a node says of its own disk."""

    leaves: int = 0
    leaves_wrong: int = 0
    """Parts of its tree that are to be made anew."""
    leaves_unreadable: int = 0
    """Of these the ones that its disk will not give."""
    leaves_made: int = 0
    """How many were made anew in this run."""
    leaves_lost: int = 0
    """Parts in which something was lost, or came, without a write."""
    keys_read: int = 0
    bytes_read: int = 0
    """What the tree and the scrub have read."""
    scrub_done: float = 0.0
    """How much of the disk was looked through in this cycle."""
    scrub_cycle_ms: float = 0
    scrub_ended_ms: float | None = None
    """How long ago the last cycle ended."""
    damaged: int = 0
    damaged_found: int = 0
    damaged_mended: int = 0
    damaged_beyond: int = 0
    """Found when the list was full."""
    damaged_keys: list[Damaged] = []


class Status(msgspec.Struct, frozen=True):
    """The answer to "status"."""

    cluster: Cluster
    node: Identity
    nodes: list[Peer]
    hints: Hints
    counters: dict[str, int] = {}
    clock: ClockSeen = ClockSeen()
    pace: Pace | None = None
    requests: Requests | None = None
    disk: Checked = Checked()


class RingNode(msgspec.Struct, frozen=True):
    """A node's share of the ring; ``load`` is relative to its fair share, 1.0 is exactly fair.
    ``state`` is as the answering node sees it.
    """

    id: str
    name: str
    zone: str
    weight: float
    owned: int
    load: float
    standing: str = "in"
    serves: int = 0
    keeps: int = 0
    to_gain: int = 0
    to_shed: int = 0
    state: str = ""


class Ring(msgspec.Struct, frozen=True):
    """The answer to "ring"."""

    partitions: int
    replicas: int
    view: str
    nodes: list[RingNode]


class Place(msgspec.Struct, frozen=True):
    """A node in a key's preference list."""

    id: str
    name: str
    address: str
    role: Literal["owner", "filling", "serves", "fallback"]
    """Filling: it owns the key, and its copy does not count yet; another one serves for it."""
    state: Literal["self", "up", "slow", "down"]
    zone: str = ""
    serves_for: str | None = None
    keeps: bool = False
    """It has copies of the key's partition on its disk."""


class Location(msgspec.Struct, frozen=True):
    """The answer to "locate"."""

    partition: int
    preference: list[Place]
    hash: str | int = ""


class PlannedChange(msgspec.Struct, frozen=True):
    """What a plan rules on one node, and what was before."""

    name: str
    standing: str
    standing_before: str
    zone: str
    weight: float
    zone_before: str | None = None
    weight_before: float | None = None


class PlannedNode(msgspec.Struct, frozen=True):
    """A node's part in a plan; ``load`` is relative to its fair share afterwards."""

    name: str
    standing: str
    standing_after: str
    zone: str
    weight: float
    owned: int
    owned_after: int
    comes_in: int
    goes_out: int
    load: float


class PlannedMove(msgspec.Struct, frozen=True):
    """A copy of a partition that a node takes in."""

    partition: int
    to: str
    giver: str | None = msgspec.field(name="from", default=None)
    copied_from: list[str] = []


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to "plan_show", "plan_stage" and "plan_commit"."""

    plan: str
    staged: bool
    stands: bool = True
    committed: bool = False
    changes: list[PlannedChange] = []
    copies: int = 0
    copies_moved: int = 0
    times_optimum: float | None = None
    load_max: float = 0.0
    bytes: int = 0
    ms: int = 0
    notes: list[str] = []
    nodes: list[PlannedNode] = []
    moves: list[PlannedMove] = []


class Seat(msgspec.Struct, frozen=True):
    """A member's place, and how far it fills it, as the answering node sees it."""

    id: str
    name: str
    address: str
    standing: str = ""
    owned: int = 0
    serves: int = 0
    keeps: int = 0
    to_gain: int = 0
    to_shed: int = 0


class Moving(msgspec.Struct, frozen=True):
    """A partition on its way to or from the answering node."""

    partition: int
    kind: Literal["gain", "shed", "offer"]
    peer: str = ""
    phase: str = ""
    keys: int = 0
    bytes: int = 0
    for_ms: float = 0
    waiting: str = ""


class Transfers(msgspec.Struct, frozen=True):
    """The answer to "transfers"; nodes with equal ``view`` go by the same placement."""

    id: str
    name: str
    view: str
    moves: list[Moving]
    nodes: list[Seat]
    counters: dict[str, int] = {}
    move_bytes_per_s: int = 0


class Verdict(msgspec.Struct, frozen=True):
    """One word, and a sentence for each thing that is not as it should be."""

    healthy: bool
    summary: str
    reasons: list[str]

    def line(self) -> str:
        """Return the verdict as one line."""
        if self.healthy:
            return f"HEALTHY: {self.summary}"
        return f"DEGRADED: {'; '.join(self.reasons)} ({self.summary})"


Report = TypeVar("Report")


def read(answer: Mapping[str, Any], kind: type[Report]) -> Report:
    """Return a node's answer as its type; ProtocolError if it is not of that shape."""
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise ProtocolError(
            f"The node's answer is not understood: {error}.",
            hint="The node may be of another version: compare `everwrite --version` on both.",
        ) from error


async def ask_status(db: AsyncClient, node: str | None = None) -> Status:
    """Return the status of one node, by name or address (None: of any), its peers by name."""
    status = read(await db.ask("status", node=node), Status)
    status.nodes.sort(key=lambda peer: peer.name)
    return status


def judge(asked: Status, others: Mapping[str, Status | None]) -> Verdict:
    """Return the verdict from the node that was asked and what its peers said (None: nothing)."""
    reasons = _missing(asked, others)
    answers = [asked, *(other for other in others.values() if other is not None)]
    unready = [answer.node.name for answer in answers if not answer.node.ready]
    if unready:
        reasons.append(f"{names_of(unready)} not ready")
    if len({answer.cluster.view for answer in answers}) > 1:
        reasons.append("the nodes do not agree on the ring")
    alive = {answer.node.name for answer in answers}
    for answer in answers:
        cut = [peer.name for peer in answer.nodes if peer.state == "down" and peer.name in alive]
        if cut:
            reasons.append(f"{answer.node.name} can't reach {names_of(cut)}")
        slow = [peer.name for peer in answer.nodes if peer.state == "slow"]
        if slow:
            reasons.append(f"{answer.node.name} passes over {names_of(slow)} for being slow")
        if answer.clock.wrong:
            off = duration(abs(answer.clock.off_ms))
            where = "ahead" if answer.clock.off_ms > 0 else "behind"
            reasons.append(f"the clock of {answer.node.name} is {off} {where}")
    full = [answer.node.name for answer in answers if answer.hints.full]
    if full:
        reasons.append(f"{names_of(full)} can keep no more hints")
    reasons += [
        f"{answer.node.name} has {what}" for answer in answers for what in spoilt(answer.disk)
    ]
    names = Counter(peer.name for peer in asked.nodes)
    twins = [f"{number} nodes are named {name}" for name, number in names.items() if number > 1]
    reasons.extend(twins)
    hints = count(sum(answer.hints.waiting for answer in answers), "hint")
    summary = f"{len(alive)} of {count(len(asked.nodes), 'node')} up, {hints} waiting"
    moving = sum(peer.to_gain + peer.to_shed for peer in asked.nodes)
    if moving:
        summary += f", {count(moving, 'partition')} to move"
    wanted = asked.cluster.replicas_wanted
    inside = sum(peer.standing == "in" for peer in asked.nodes)
    if 0 < inside < wanted:  # it may be meant so, and no copy is lacking that there could be
        copies = "one copy" if inside == 1 else f"{inside} copies"
        summary += f"; {count(inside, 'node')} for {wanted} replicas, so each value has {copies}"
    return Verdict(not reasons, summary, reasons)


def spoilt(disk: Checked) -> list[str]:
    """Return in words what of a node's disk cannot be read."""
    found = []
    if disk.damaged:
        copies = "1 damaged copy" if disk.damaged == 1 else f"{disk.damaged:,} damaged copies"
        found.append(f"{copies} (`everwrite repairs` names them)")
    if disk.leaves_unreadable:
        found.append(f"{count(disk.leaves_unreadable, 'range')} that its disk will not give")
    return found


def _missing(asked: Status, others: Mapping[str, Status | None]) -> list[str]:
    reasons = []
    for peer in asked.nodes:
        if peer.state == "self" or others.get(peer.name) is not None:
            continue
        silent = f" (silent for {duration(peer.silent_ms)})" if peer.silent_ms is not None else ""
        reasons.append(f"{peer.name} at {peer.address} does not answer{silent}")
    return reasons


def names_of(names: Sequence[str]) -> str:
    """Return names as a person would list them.

    >>> names_of(["a"]), names_of(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
