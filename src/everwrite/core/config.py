"""Every limit, default and unit of a node, each with its reason, frozen and validated."""

from __future__ import annotations

import msgspec

from everwrite.core.errors import ConfigError

FRAME_BYTES_MAX = 16 << 20
"""A frame: room for the largest value with its siblings, and for a tick's small messages."""

RECORD_BYTES_MAX = 2 << 20
"""A key with all its siblings, as a client's write may leave it: two of the largest values. Merges
are never refused, so a frame has room for what several sides of a partition wrote apart."""

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
    """A replica silent for this long gets a stand-in.

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
    hint_retry_ms: int = 2_000
    """How long a delivery waits for its ack, and after that in vain, before the next one: a cut
    shorter than ``down_after_ms`` is seen by nobody and delays what was sent into it by both.
    """
    hints_max: int = 1_000_000
    """Notes kept at most; at the cap a node refuses to stand in: the write needs another holder."""
    siblings_max: int = 64
    """Client writes that would leave more siblings are refused; merges never are (riak_kv 1156)."""
    in_flight_max: int = 10_000
    """Requests coordinated at once; past it the node refuses early."""
    held_bytes_max: int = 256 << 20
    """What messages that wait for the disk, and puts and gets that wait for answers, may hold; past
    it the node refuses early: ten thousand of the largest values would be ten gigabytes."""
    gossip_every_ms: int = 1_000
    """How often one random peer is asked whether it knows the same (Dynamo 4.8.1)."""
    gossip_fanout: int = 3
    """Peers to whom news is passed on at once."""
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
    answer_bytes_max: int = 64 << 20
    """What one tick may answer with; past it the node says that it is busy. One frame can ask for
    thousands of the largest values."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if name != "fsync" and getattr(self, name) < 1:
                raise ConfigError(
                    f"{name} = {getattr(self, name)} is not possible.", hint="Use 1 or more."
                )
