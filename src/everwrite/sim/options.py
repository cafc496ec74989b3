"""What one seed stands for: the size of the cluster, its knobs, its workload, its faults.

Swarm testing (TigerBeetle, FoundationDB): each seed switches each class of faults on or off by
itself, with an intensity of its own, and draws buffers and time-outs that may be tiny. A cluster
under all faults at once spends its life recovering, and never gets into the states that take calm.
So some seeds are calm altogether.

Every part of a world draws from its own stream, named after the part, so that a change in one part
leaves the draws of the others as they were.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import msgspec

from everwrite.core.config import NodeConfig

TIMED = (
    "kill",
    "power_cut",
    "crash_loop",
    "fsync_error",
    "lost_disk",
    "old_disk",
    "bit_rot",
    "read_errors",
    "full_disk",
    "slow_disk",
    "pause",
    "slow_node",
    "split",
    "one_way",
    "broken_link",
    "triangle",
    "flapping",
    "clog",
    "wall_jump",
)
"""Faults that begin at a moment and may last a while."""

PER_MESSAGE = ("loss", "duplicate", "reorder", "replay")
"""Faults that a message meets, with a probability."""

STEADY = ("clock_drift", "foreign_context", "blackout", "hour_late")
"""Clocks that run at different speeds; clients that hand in contexts which are not theirs; the
power of all machines that goes at the end of the chaos; frames that come an hour late, to nodes
that were down meanwhile."""

FAULTS = TIMED + PER_MESSAGE + STEADY

PAST_ALL_RUNS_MS = 600_000

TYPED_SHARE = 0.2
"""In so many seeds clients change data types, too."""

CROWD, CROWD_SHARE = 50, 0.004
"""Now and then a seed has so many nodes."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """All that was drawn for one seed. Times are milliseconds unless they say otherwise."""

    seed: int
    nodes: int
    replicas: int
    partitions: int
    zones: int
    weighted: bool
    fsync: bool
    clients: int
    keys: int
    operations: int
    pace_ms: int
    chaos_ms: int
    near_us: int
    """Least delay of a message, one way."""
    spread_us: int
    """Mean of the exponential delay on top."""
    disk_us: int
    """Mean of a read's and of an fsync's time."""
    wide_puts: bool
    """Whether clients choose n for each write."""
    epoch_block: int
    faults: dict[str, float]
    """For each class that is on: mean milliseconds between two of them, or a probability."""
    knobs: dict[str, int]
    """Fields of NodeConfig that are not at their default."""
    survivors: int = 0
    """How many nodes must serve after the chaos while all others are lost; 0: there is no such
    phase."""
    lost_by: str = ""
    """How the others are lost: see survivors.py."""
    spares: int = 0
    """Machines that are no members at first, and may join."""
    changes_ms: int = 0
    """Mean time between two changes of members (changes.py); 0: there are none."""

    ttl_share: float = 0.0
    """How many of the puts are to end."""
    touch_share: float = 0.0
    """How many of the operations are touches instead."""
    delete_share: float = 0.05
    """How many of the merges of a read are deletes."""
    repairs: bool = False
    """Whether owners compare what they have; else each is left to hints and reads."""
    typed_share: float = 0.0
    """How many of the operations are of data types, by clients and on keys of their own."""
    typed_keys: int = 0
    """How many keys are data types."""
    encore: int = 0
    """Operations after the cluster has come to rest, by clients that still know what they knew."""

    @property
    def copies(self) -> int:
        """Owners of each key: as configured, or all nodes if there are fewer."""
        return min(self.replicas, self.nodes)

    @property
    def machines(self) -> int:
        """Members at first, and spare machines."""
        return self.nodes + self.spares

    @property
    def changing(self) -> bool:
        """Whether members come and go."""
        return self.changes_ms > 0

    @property
    def ending(self) -> bool:
        """Whether some of what is put ends."""
        return self.ttl_share > 0

    @property
    def touching(self) -> bool:
        """Whether some of what ends is touched."""
        return self.ending and self.touch_share > 0

    @property
    def typed(self) -> bool:
        """Whether clients change data types."""
        return self.typed_keys > 0

    def config(self) -> NodeConfig:
        """Return the configuration of every node."""
        return NodeConfig(fsync=self.fsync, pace=True, **self.knobs)

    def describe(self) -> str:
        """Return everything drawn, for a person."""
        faults = ", ".join(f"{name} {rate:g}" for name, rate in self.faults.items()) or "none"
        knobs = ", ".join(f"{name} {value}" for name, value in self.knobs.items()) or "defaults"
        plain = ", ".join(
            f"{name} {getattr(self, name)}"
            for name in self.__struct_fields__
            if name not in ("seed", "faults", "knobs")
        )
        return f"options: {plain}\nfaults:  {faults}\nknobs:   {knobs}"


def stream(seed: int, part: str) -> random.Random:
    """Return the random numbers of one part of the world of this seed."""
    return random.Random(f"{seed}/{part}")


def draw(seed: int) -> Options:
    """Return the options of a seed."""
    rng = stream(seed, "options")
    nodes = rng.choice((1, 2, 3, 3, 3, 4, 5, 5, 5, 5, 6, 7, 9, 12))
    near_us = rng.choice((50, 200, 1000, 5000))
    spread_us = rng.choice((near_us // 5, near_us, 4 * near_us))
    calm = rng.random() < 0.06
    crowd = stream(seed, "crowd").random() < CROWD_SHARE
    if crowd:
        nodes = CROWD
    options = Options(
        seed=seed,
        nodes=nodes,
        replicas=rng.choice((1, 2, 3, 3, 3, 3, 5)),
        partitions=rng.choice((1, 4, 16, 64)),
        zones=rng.choice((1, 2, 3, nodes)),
        weighted=rng.random() < 0.25,
        fsync=rng.random() < 0.75,
        clients=rng.randint(2, 7),
        keys=rng.choice((1, 2, 4, 8, 16)),
        operations=rng.randint(150, 450),
        pace_ms=rng.choice((1, 10, 50)),
        chaos_ms=rng.randint(3000, 8000),
        near_us=near_us,
        spread_us=spread_us,
        disk_us=rng.choice((50, 500, 5000)),
        wide_puts=rng.random() < 0.3,
        epoch_block=rng.choice((2, 32, 1 << 20)),
        faults={} if calm else _faults(rng),
        knobs=_knobs(rng, near_us + spread_us),
    )
    hint_knobs = _hint_knobs(seed)
    survivors, lost_by = _survivors(seed, nodes, options.knobs | hint_knobs)
    spares, changes_ms = _changes(seed, crowd=crowd)
    if changes_ms:
        survivors, lost_by = 0, ""
    repairs = stream(seed, "repairs drawn").random() < 0.75
    return msgspec.structs.replace(
        options,
        survivors=survivors,
        lost_by=lost_by,
        spares=spares,
        changes_ms=changes_ms,
        knobs=options.knobs
        | hint_knobs
        | _moving_knobs(seed)
        | (_placing_knobs(seed) if changes_ms else {})
        | _tree_knobs(seed)
        | _repair_knobs(seed, repairs=repairs),
        repairs=repairs,
        **_lives(seed),
        **_types(seed),
    )


def _lives(seed: int) -> dict[str, Any]:
    """Return how much of what is written is to end, or to be deleted, and whether clients come back
    later.
    """
    rng = stream(seed, "lives drawn")
    ending = rng.random() < 0.5
    return {
        "ttl_share": rng.choice((0.1, 0.5, 0.9)) if ending else 0.0,
        "touch_share": rng.choice((0.0, 0.05, 0.2)) if ending else 0.0,
        "delete_share": rng.choice((0.05, 0.05, 0.5)),
        "encore": rng.choice((0, 20, 60)),
    }


def _types(seed: int) -> dict[str, Any]:
    """Return how much is done to data types: mostly nothing."""
    rng = stream(seed, "types drawn")
    if rng.random() >= TYPED_SHARE:
        return {}
    return {"typed_share": rng.choice((0.3, 0.6, 0.6)), "typed_keys": rng.choice((1, 1, 2, 3, 8))}


LOST_BY = ("dead", "paused", "cut", "deaf", "mute")
HINTS_ENOUGH = 100
"""A node that may keep fewer hints refuses writes, rightly, when nodes stay away for long."""


def _room_for_hints(knobs: dict[str, int]) -> bool:
    return knobs.get("hints_max", HINTS_ENOUGH) >= HINTS_ENOUGH and "hints_bytes_max" not in knobs


def _survivors(seed: int, nodes: int, knobs: dict[str, int]) -> tuple[int, str]:
    rng = stream(seed, "survivors drawn")
    how = rng.choice(LOST_BY)
    if nodes < 2 or rng.random() < 0.5 or not _room_for_hints(knobs):
        return 0, ""
    return rng.randrange(1, nodes), how


CHANGES = ("join", "join", "leave", "remove", "reweigh")
SPARES_AT_ONCE = 20


def _changes(seed: int, *, crowd: bool) -> tuple[int, int]:
    rng = stream(seed, "changes drawn")
    if crowd or rng.random() < 0.6:
        return 0, 0
    spares = SPARES_AT_ONCE if rng.random() < 0.01 else rng.choice((0, 1, 1, 2, 3))
    return spares, rng.choice((300, 1000, 3000))


def _moving_knobs(seed: int) -> dict[str, int]:
    """Return knobs of moves: a lost disk is filled by them too, where no members change."""
    rng = stream(seed, "moving knobs")
    drawn: dict[str, tuple[int, ...]] = {
        "slice_keys": (1, 2, 4),
        "slice_bytes": (1, 300),
        "moves_max": (1, 2),
        "move_every_ms": (20, 50),
        "move_retry_ms": (300, 1000),
        "move_bytes_per_s": (2000, 20_000),
        "gossip_every_ms": (100, 300),
        "gossip_fanout": (1,),
    }
    return {name: rng.choice(values) for name, values in drawn.items() if rng.random() < 0.3}


def _placing_knobs(seed: int) -> dict[str, int]:
    """Return the knob by which all placements are too large to be made at once; mostly none."""
    return {"place_at_once": 1} if stream(seed, "placing knobs").random() < 0.1 else {}


NEVER_MS = 10**9


def _repair_knobs(seed: int, *, repairs: bool) -> dict[str, int]:
    """Return knobs of what goes on for ever: so short that it goes on within a run."""
    rng = stream(seed, "repair knobs")
    drawn: dict[str, tuple[int, ...]] = {
        "repair_every_ms": (100, 300),
        "repair_round_ms": (300, 1000),
        "repair_settle_ms": (10, 100, 300),
        "repair_retry_ms": (300, 1000),
        "repair_back_ms": (100, 500),
        "repair_session_ms": (500, 5000),
        "repairs_max": (1, 2),
        "expiry_slot_ms": (2000, 4000),
        "expiry_margin_ms": (1000, 4000),
        "store_life_ms": (800, 1500, 3000),
        "collect_every_ms": (100, 500),
        "collect_retry_ms": (300, 1000),
        "collect_batch": (1, 4, 64),
        "collect_watched_max": (2, 8, 100),
    }
    knobs = {name: rng.choice(values) for name, values in drawn.items()}
    if not repairs:
        knobs["repair_every_ms"] = NEVER_MS
    return knobs


def _hint_knobs(seed: int) -> dict[str, int]:
    """Return knobs of hints: little room for them, few bytes at a time."""
    rng = stream(seed, "hint knobs")
    drawn: dict[str, tuple[int, ...]] = {
        "hints_bytes_max": (300, 1000, 5000),
        "hint_batch_bytes": (1, 200),
    }
    return {name: rng.choice(values) for name, values in drawn.items() if rng.random() < 0.2}


def _tree_knobs(seed: int) -> dict[str, int]:
    """Return knobs of the tree: few leaves, short ranges, a scrub that comes around."""
    rng = stream(seed, "tree knobs")
    drawn: dict[str, tuple[int, ...]] = {
        "walk_keys": (1, 2, 5),
        "walk_keys_idle": (1, 3, 20),
        "walk_retry_ms": (20, 200),
        "scrub_cycle_ms": (500, 3000, 20_000),
        "mend_every_ms": (50, 500),
    }
    few = {name: rng.choice(values) for name, values in drawn.items() if rng.random() < 0.6}
    return {"leaf_bits": rng.choice((1, 3, 6, 8)), **few}


def _faults(rng: random.Random) -> dict[str, float]:
    faults: dict[str, float] = {}
    for name in TIMED:
        if rng.random() < 0.3:
            faults[name] = float(rng.choice((300, 1000, 3000)))
    for name in PER_MESSAGE:
        if rng.random() < 0.4:
            faults[name] = rng.choice((0.002, 0.02, 0.1))
    for name in STEADY:
        if rng.random() < 0.3:
            faults[name] = rng.choice((0.02, 0.05))
    return faults


def _knobs(rng: random.Random, way_us: int) -> dict[str, int]:
    """Return knobs that are not at their default: tiny buffers and time-outs find rare paths.

    The patience with a replica goes by the time of a way, or everything would be tried twice.
    """
    drawn: dict[str, Iterable[int]] = {
        "cache_bytes": (1, 1000, 20_000),
        "parked_max": (3, 50),
        "request_timeout_ms": (300, 1000),
        "spare_after_ms": tuple(10 + way_us * times // 1000 for times in (1, 5, 10)),
        "hint_pass_every_ms": (50, 200),
        "hint_batch": (1, 2, 8),
        "hint_retry_ms": (100, 500, 2000),
        "hints_max": (2, 10, 100),
        "siblings_max": (4, 16),
        "in_flight_max": (2, 20),
    }
    knobs = {
        name: rng.choice(tuple(values)) for name, values in drawn.items() if rng.random() < 0.4
    }
    if rng.random() < 0.5:
        knobs["ping_every_ms"] = ping_ms = rng.choice((100, 200))
        knobs["down_after_ms"] = ping_ms * rng.choice((3, 5))
        knobs["gray_after_ms"] = ping_ms * 4
        knobs["gray_back_ms"] = ping_ms * rng.choice((2, 10))
        knobs["gray_back_max_ms"] = ping_ms * 20
    return knobs


class Fault(msgspec.Struct, frozen=True):
    """One fault of a plan: when it begins, which class, on whom, and for how long."""

    at_us: int
    kind: str
    on: int
    """The number of the node that it strikes, or first strikes."""
    lasts_us: int
    salt: int
    """Everything else that the fault has to decide, it decides by this number."""


def plan(options: Options) -> list[Fault]:
    """Return the faults of a run in the order of their times: data, so that a run can be
    repeated with some of them left out.
    """
    rng = stream(options.seed, "plan")
    faults: list[Fault] = []
    for kind in TIMED:
        every_ms = options.faults.get(kind)
        at_ms = 0.0
        while every_ms:
            at_ms += rng.expovariate(1 / every_ms)
            if at_ms >= options.chaos_ms:
                break
            lasts_ms = rng.choice((5, 50, 300, 1000, 4000, PAST_ALL_RUNS_MS))
            faults.append(
                Fault(
                    int(at_ms * 1000),
                    kind,
                    rng.randrange(options.nodes),
                    lasts_ms * 1000,
                    rng.getrandbits(32),
                )
            )
    faults += _plan_changes(options)
    faults.sort(key=lambda fault: (fault.at_us, fault.kind))
    return faults


def _plan_changes(options: Options) -> list[Fault]:
    rng = stream(options.seed, "changes")
    changes: list[Fault] = []
    at_ms = 0.0
    while options.changes_ms:
        at_ms += rng.expovariate(1 / options.changes_ms)
        if at_ms >= options.chaos_ms:
            break
        on = rng.randrange(options.machines)
        changes.append(Fault(int(at_ms * 1000), rng.choice(CHANGES), on, 0, rng.getrandbits(32)))
    return changes
