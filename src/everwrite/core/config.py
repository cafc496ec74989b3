"""Every limit, default and unit of a node, each with its reason, frozen and validated."""

from __future__ import annotations

import msgspec

from everwrite.core.errors import ConfigError

FRAME_BYTES_MAX = 16 << 20
"""A frame: room for the largest value with its siblings, and for a tick's small messages."""

RECORD_BYTES_MAX = 2 << 20
"""A key with all its siblings, as a client's write may leave it: two of the largest values. Merges
are never refused, so a frame has room for what several sides of a partition wrote apart."""

STAMP_BITS = 40
"""Between where one start's count of milliseconds begins and the next one's there is room for 34
years of a monotonic clock, which may begin anew (``Local.stamp``)."""

STARTS_MAX = (1 << (64 - STAMP_BITS)) - 1
"""And a stamp has 64 bits, with room for sixteen million starts of one identity: one a minute for
thirty years. A higher incarnation is damaged, or made up."""

HANDSHAKE_BYTES_MAX = 1024
"""A frame of a stranger: nobody needs more to say who they are."""


class ClusterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What all nodes of one cluster must agree on; fixed when its first node starts."""

    cluster_id: bytes
    salt: bytes = b""
    """Part of the key that signs contexts; told to whoever says that it is a node. Without a secret
    any process on the machine can do so and forge contexts; with one the salt alone is of no use.
    """
    name: str = "everwrite"
    partitions: int = 256
    replicas: int = 3

    def __post_init__(self) -> None:
        if (
            self.partitions < 1
            or self.partitions & (self.partitions - 1)
            or self.partitions > 65536
        ):
            raise ConfigError(
                f"partitions = {self.partitions} is not possible.",
                hint="Use a power of two up to 65536.",
            )
        if not 1 <= self.replicas <= 9:
            raise ConfigError(
                f"replicas = {self.replicas} is not possible.", hint="Use 1 to 9; 3 is usual."
            )


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The knobs of one node's core. Times are milliseconds."""

    fsync: bool = True
    """Whether acks wait for the disk, where a put does not say otherwise (``dw``)."""
    cache_bytes: int = 128 << 20
    """Payloads kept in memory, in two generations: each holds 160,000 small keys."""
    parked_max: int = 20_000
    """Messages that wait for the disk; past it the node says that it is busy."""
    request_timeout_ms: int = 5_000
    """Deadline of a request that names none (Cassandra reads 5 s; Riak's 60 s hides trouble)."""
    request_timeout_max_ms: int = 60_000
    spare_after_ms: int = 100
    """A replica silent for this long gets a stand-in; ten times as long where that helps no client
    (core/request/spread.py).

    Well over a healthy p99.9, well under a person's patience.
    """
    ping_every_ms: int = 500
    down_after_ms: int = 1_500
    """Silence after which a peer is skipped: three pings (memberlist: one each second, 0.5 s)."""
    gray_times: int = 20
    """So many times as slow as the median of the peers, a node only holds up who waits for it. A
    busy one is a few times as slow as an idle one."""
    gray_floor_ms: int = 50
    """What is faster than this is left alone, however fast the others are: half of
    ``spare_after_ms``, so that nobody waits for it long."""
    gray_after_ms: int = 2_000
    """For how long it must be slow: longer than a pause of the collector, a burst, a compaction."""
    gray_back_ms: int = 5_000
    """For how long it must be well before it is up again; twice as long after each relapse."""
    gray_back_max_ms: int = 160_000
    """But never longer: six relapses, in which nobody could do anything with it."""
    hint_pass_every_ms: int = 500
    hint_batch: int = 128
    """Hints in flight to one returning node, so that it is never flooded (scylla 7976)."""
    hint_batch_bytes: int = 4 << 20
    """And at most so many bytes of them: a tenth of a second of a gigabit, beside that of others.
    """
    hint_retry_ms: int = 2_000
    """How long a delivery waits for its ack, and after that in vain, before the next one: a cut
    shorter than ``down_after_ms`` is seen by nobody and delays what was sent into it by both.
    """
    hints_max: int = 1_000_000
    """Notes kept at most; at the cap a node refuses to stand in: the write needs another holder."""
    hints_bytes_max: int = 4 << 30
    """And at most so many bytes of them on the disk. A million small values are a tenth of that; of
    4 KiB they reach both caps together. It is home again in two minutes at a third of a gigabit,
    and takes no more of a disk than what a node of some size has to spare."""
    siblings_max: int = 64
    """Client writes that would leave more siblings are refused; merges never are (riak_kv 1156).
    All pieces of a data type are one."""
    pieces_max: int = 16_384
    """Changes that would leave more pieces of a data type under one key are refused: a megabyte of
    short ones, read and written whole with each change. RECORD_BYTES_MAX holds for them too."""
    in_flight_max: int = 10_000
    """Requests coordinated at once; past it the node refuses early."""
    waiting_max: int = 20_000
    """Requests that were read and not begun (core/pace): two seconds of work. Past it the node
    refuses at once."""
    held_bytes_max: int = 256 << 20
    """What messages that wait for the disk, and puts and gets that wait for answers, may hold; past
    it the node refuses early: ten thousand of the largest values would be ten gigabytes."""
    gossip_every_ms: int = 1_000
    """How often one random peer is asked whether it knows the same (Dynamo 4.8.1)."""
    gossip_fanout: int = 3
    """Peers to whom news is passed on at once."""
    place_at_once: int = 8192
    """Pairs of a node and a partition whose placement is made in one go, in 20 ms: 32 nodes of 256
    partitions. A larger one is made in steps (core/cluster/placer.py)."""
    moves_max: int = 2
    """Partitions that come in at a time; and ranges that others may ask for at a time. Two keep a
    disk busy with large values. Small ones cost the processor, whose time is that of clients: with
    four (and twice the slice and window) the p99 of reads grew to six times the quiet one, with two
    to twice (bench/growing.py, two cores)."""
    move_every_ms: int = 200
    """How often a node looks what is to be moved."""
    move_retry_ms: int = 5_000
    """Silence after which a step of a move is given up, to be begun anew."""
    move_bytes_per_s: int = 32 << 20
    """What may come in by moves: a third of a gigabit, so that the foreground has the rest."""
    slice_keys: int = 256
    slice_bytes: int = 1 << 20
    """What one step of a move reads, sends and merges. A slice is decoded and digested in one go:
    256 small keys hold up requests for half a millisecond."""
    expiry_slot_ms: int = 64_000
    """Versions are purged by slots of so much time: a walk for each costs one scan if there is
    nothing to do. All nodes use the same, or their trees are rarely comparable."""
    expiry_margin_ms: int = 120_000
    """How long after its slot a version is purged: longer than a request may take, and than a copy
    may be on its way, so that hardly any comes after its purge."""
    store_life_ms: int = 120_000
    """How far a node's floor lies before its second answer about a tombstone, by its own count:
    what it read off a disk at or before its floor nobody takes any more. Between the two answers
    all wait for twice as long (core/tombstones/collect.py). Longer than any request may take."""
    collect_every_ms: int = 5_000
    """How often a node looks whether a tombstone may go: it lives for minutes anyway."""
    collect_retry_ms: int = 5_000
    """Silence after which a question about tombstones is given up, to be asked anew."""
    collect_batch: int = 256
    """Tombstones of one question. Each takes a member three microseconds where its copy is cached,
    so a question is about one slice of background work."""
    collect_waiting_max: int = 65_536
    """Tombstones that a node has in hand between the two confirmations, about 20 MB; more of them
    wait for their turn on the disk."""
    collect_watched_max: int = 262_144
    """Keys of which a node remembers that nothing has changed, about 40 MB: those of four nodes
    that collect as fast as they can. Past it a member does not confirm, and is asked again."""
    leaf_bits: int = 18
    """Leaves of the tree, see core/trees/trees.py: the same on all nodes, or none can compare."""
    walk_keys: int = 256
    walk_keys_idle: int = 2048
    """Copies of one range that is read to make leaves of the tree anew, or to look through the
    disk: half a millisecond; and while no request is served."""
    walk_retry_ms: int = 500
    """After the disk would not give a range; single leaves are left alone for ten times as long,
    and then twice as long each time."""
    scrub_cycle_ms: int = 86_400_000
    """In which the whole disk is looked through: a day, since while a copy is damaged a loss of
    another disk may be the last one's."""
    mend_every_ms: int = 5_000
    """How often damaged copies are looked at again, and asked of the other owners."""
    repair_every_ms: int = 2_000
    """How often one peer is asked whether it has the same. A message has a quarter of all roots, so
    with 256 partitions and three nodes a round takes less than twenty seconds of each minute."""
    repair_round_ms: int = 60_000
    """How often each partition is compared with each peer: Riak's default is hours, since there a
    comparison reads the disk; here it is twenty bytes."""
    repair_settle_ms: int = 1_000
    """How long a leaf must differ before its keys are looked at: longer than a write is on its way.
    """
    repair_retry_ms: int = 5_000
    """Silence after which an exchange is given up, and how long that pair of a partition and a peer
    then waits."""
    repair_session_ms: int = 60_000
    """An exchange that takes longer ends at its next step; another one goes on where it was."""
    repair_back_ms: int = 10_000
    """For how long a peer that came back is given its hints before it is compared with."""
    repair_keys: int = 1024
    """Copies of which one question of an exchange speaks: 9 KiB; its answer may be made of four
    times as many."""
    repair_leaves: int = 4096
    """Leaves that one exchange goes into; the next one goes on with the rest."""
    repairs_max: int = 2
    """Exchanges of this node that go through keys at a time; half of those in which it answers."""
    answer_bytes_max: int = 64 << 20
    """What one tick may answer with; past it the node says that it is busy. One frame can ask for
    thousands of the largest values."""

    pace: bool = True
    """Whether background work gives way to requests (core/pace/control.py). Off: for comparison."""
    pace_floor_ms: int = 2
    pace_cap_ms: int = 100
    """Between these is the p99 that background work may cause: nobody minds a faster one, whatever
    it is without; and nobody is to wait longer for its sake."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if name not in ("fsync", "pace") and getattr(self, name) < 1:
                raise ConfigError(
                    f"{name} = {getattr(self, name)} is not possible.", hint="Use 1 or more."
                )
        if self.leaf_bits > 24:
            raise ConfigError(f"leaf_bits = {self.leaf_bits} is not possible.", hint="Use 1 to 24.")
