"""Questions and orders to one node: status, locate, hints; and the cuts of a development cluster.
Those that change the cluster are in changes.py, the ring is in ring.py.

Each verb is a method that takes its arguments as a dictionary and returns what becomes JSON. Ids
are shown in hex.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import msgspec
import xxhash

from everwrite.core.cluster.holdings import bits
from everwrite.core.cluster.plans import name_of
from everwrite.core.data.keys import checked_bucket, checked_key, data_key
from everwrite.core.errors import DeniedError, EverwriteError, RequestError, UnavailableError
from everwrite.core.failures import failure_of
from everwrite.core.messages.members import Member
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Ask, Told
from everwrite.core.outbox import Place
from everwrite.core.repair.met import RepairCounters
from everwrite.server.answering import answering
from everwrite.server.arguments import bytes_in
from everwrite.server.changes import Changes, seat_of
from everwrite.server.checking import disk_report
from everwrite.server.collecting import Collecting
from everwrite.server.explaining import Explaining
from everwrite.server.repairing import Repairing
from everwrite.server.ring import Ring
from everwrite.server.sockets import address_of
from everwrite.server.ui.glance import glance, http_of

if TYPE_CHECKING:
    from everwrite.server.runtime import Runtime

Answer = dict[str, Any]


class Admin:
    """The verbs of one node."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._node = runtime.node
        self._local = runtime.node.local
        self._explaining = Explaining(runtime, self.roles)
        self._changes = Changes(runtime)
        self._ring = Ring(runtime, self._placed)
        self._view: Answer = {}
        self._view_made_of: tuple[bytes, bytes, int] | None = None
        self._verbs: dict[str, Callable[[Answer], Answer]] = {
            "view": self.view,
            "status": self.status,
            "locate": self.locate,
            "hints": self.hints,
            "glance": lambda _: glance(runtime, self.status),
            "partition": self.partition,
            "heal": self.heal,
            **self._changes.verbs,
            **Repairing(runtime).verbs,
            **Collecting(runtime).verbs,
        }

    def ask(self, place: Place, ask: Ask) -> None:
        """Answer one client."""
        message: Message
        try:
            with answering(self._runtime.log, ask.verb):
                if ask.verb == "explain":  # other nodes are asked first
                    self._explaining.begin(place, ask.rid, _arguments(ask))
                    self._runtime.driver.soon()
                    return
                if ask.verb == "ring":  # a long answer is made in slices
                    self._ring.begin(place, ask.rid)
                    return
                if not self._changes.ready(ask.verb, _arguments(ask)):
                    if place in self._runtime.driver.lines:  # else nobody waits any more
                        self._ask_again(place, ask)
                    return
                message = Told(ask.rid, msgspec.json.encode(self._answer(ask)))
        except EverwriteError as error:
            message = failure_of(ask.rid, error)
        self._local.out.send(place, message)
        self._runtime.driver.soon()

    def _ask_again(self, place: Place, ask: Ask) -> None:
        """Look at a question again in a turn of its own, once a placement is made that it needs."""
        loop = self._runtime.driver.loop

        def made() -> None:
            loop.call_soon(self.ask, place, ask)

        self._local.placer.tell(made)

    def _answer(self, ask: Ask) -> Answer:
        verb = self._verbs.get(ask.verb)
        if verb is None:
            known = ", ".join(sorted([*self._verbs, "explain", "ring"]))
            raise RequestError(f"There is no verb {ask.verb[:64]!r}.", hint=f"Use one of: {known}.")
        return verb(_arguments(ask))

    # -- questions ---------------------------------------------------------------------------------

    def view(self, arguments: Answer) -> Answer:
        """What a client needs to know to go to the right node, unless that is what is ``known``.

        Clients ask often while partitions move, so it is made once for each change.
        """
        if not self._node.ready:
            raise UnavailableError(
                "This node is starting and does not know its cluster yet.",
                hint="Ask another node, or try again in a moment.",
            )
        local = self._local
        made_of = (local.members.digest(), local.routes.placement.digest, local.serves)
        if made_of != self._view_made_of:
            view = self._make_view()
            version = xxhash.xxh3_64_hexdigest(msgspec.json.encode(view))
            self._view, self._view_made_of = {**view, "version": version}, made_of
        version = self._view["version"]
        return {"same": version} if arguments.get("known") == version else self._view

    def _make_view(self) -> Answer:
        local = self._local
        cluster, placement = local.cluster, local.routes.placement
        rulings = local.members.rulings.values()
        return {
            "cluster_id": cluster.cluster_id.hex(),
            "cluster_name": cluster.name,
            "partitions": cluster.partitions,
            "replicas": cluster.replicas,
            "digest": placement.digest.hex(),
            "stamp": max((ruling.stamp for ruling in rulings), default=0),
            "members": [
                {
                    "id": member.node_id.hex(),
                    "name": member.name,
                    "host": member.host,
                    "port": member.port,
                }
                for member in local.members
                if not local.members.removed(member.node_id)
            ],
            "candidates": [
                {"id": node.node_id.hex(), "zone": node.zone, "weight": node.weight}
                for node in placement.candidates
            ],
            "moving": {
                str(partition): [node_id.hex() for node_id in serving]
                for partition, serving in local.routes.moving().items()
            },
        }

    def status(self, _: Answer) -> Answer:
        """How this node is, and how it sees the others."""
        runtime, local = self._runtime, self._local
        me, cluster = local.members.me, local.cluster
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "cluster": {
                "id": cluster.cluster_id.hex(),
                "name": cluster.name,
                "partitions": cluster.partitions,
                "replicas": local.routes.placement.replicas,
                "replicas_wanted": cluster.replicas,
                "view": local.routes.placement.digest.hex(),
            },
            "node": {
                "id": local.me.hex(),
                "name": me.name,
                "address": runtime.address,
                "http": http_of(runtime),
                "redis": _redis(runtime),
                **self._place_of(me),
                "pid": os.getpid(),
                "version": version("everwrite"),
                "engine": runtime.driver.disk.store.name,
                "fsync": local.fsync,
                "uptime_ms": time.monotonic_ns() // 1_000_000 - runtime.started_ms,
                "ready": self._node.ready,
                "development": runtime.options.development,
                "rss_bytes": rss_bytes(),
                "sync_ms": local.disk_ms if local.disk_ms >= 0 else None,
                "cpu_us": int((usage.ru_utime + usage.ru_stime) * 1e6),
                "data": str(runtime.options.data or ""),
            },
            "nodes": [{**self._seen(member), **seat_of(local, member)} for member in local.members],
            "clock": {
                "time_ms": local.time_ms,
                "off_ms": local.clock.off_ms,
                "sure": local.clock.sure,
                "wrong": local.clock.wrong,
            },
            "hints": self.hints({}),
            "disk": disk_report(self._node),
            "requests": self._requests(),
            "pace": local.pace.report(local.now),
            "counters": {
                **msgspec.structs.asdict(local.counters),
                "dropped": runtime.driver.dropped,
                **_counted(self._node.repairs.counters),
                "members_refused": local.members.refused,
                "ticks": runtime.driver.ticks,
                "frames_in": runtime.driver.frames_in,
                "messages_in": runtime.driver.messages_in,
            },
        }

    def _requests(self) -> Answer:
        """What is under way, what waits to be begun, and what was refused."""
        local, door = self._local, self._node.clients.door
        now_us = time.monotonic_ns() // 1000
        return {
            "in_flight": len(local.requests),
            "parked": local.records.parked_count,
            "waiting": len(door),
            "oldest_ms": door.oldest_us(now_us) // 1000,
            "turned_away": door.refused,
            "turned_away_ago_ms": (now_us - door.turned_away_us) // 1000
            if door.turned_away_us >= 0
            else None,
        }

    def locate(self, arguments: Answer) -> Answer:
        """Which nodes a key lives on: its owners, in order of preference, each that does not serve
        it yet followed by who does so in its stead; then who would stand in.
        """
        bucket, key = (
            checked_bucket(bytes_in(arguments, "bucket")),
            checked_key(bytes_in(arguments, "key")),
        )
        data = data_key(bucket, key)
        local = self._local
        partition = local.routes.placement.partition_of(data)
        members = {member.node_id: member for member in self._placed()}
        rows = []
        for node_id, role, served in self.roles(partition):
            member = members[node_id]
            row = self._seen(member)
            del row["silent_ms"], row["rtt_ms"]
            rows.append(
                {
                    **row,
                    "zone": self._place_of(member)["zone"],
                    "role": role,
                    "serves_for": self._name(served) if served else None,
                    "keeps": self._keeps(member) >> partition & 1 == 1,
                }
            )
        return {
            "bucket": bucket.decode(),
            "key": arguments["key"],
            "hash": data[:8].hex(),
            "partition": partition,
            "preference": rows,
        }

    def hints(self, _: Answer) -> Answer:
        """What this node keeps for others."""
        hints, config = self._node.hints, self._local.config
        targets = hints.deliveries.targets()
        return {
            "waiting": hints.notes,
            "bytes": hints.kept.bytes,
            "by_owner": {self._name(each.owner): each.notes for each in targets},
            "oldest_ms": max((each.oldest_ms for each in targets), default=None),
            "counted": hints.whole,
            "full": hints.full(),
            "cap": config.hints_max,
            "cap_bytes": config.hints_bytes_max,
            "flow": msgspec.structs.asdict(hints.kept.flow),
            "targets": [
                {**each._asdict(), "owner": self._name(each.owner), "id": each.owner.hex()}
                for each in targets
            ],
        }

    # -- orders, on development clusters only ------------------------------------------------------

    def partition(self, arguments: Answer) -> Answer:
        """Drop frames from or to the named nodes: both, "in" or "out"."""
        self._development_only()
        named, direction = arguments.get("from", []), arguments.get("direction", "both")
        if direction not in ("both", "in", "out") or not isinstance(named, list):
            raise RequestError(
                'A partition needs "from": a list of nodes, and "direction": both, in or out.'
            )
        ids = [self._id(str(name)) for name in named]
        driver = self._runtime.driver
        if direction in ("both", "in"):
            driver.deaf_to |= set(ids)
        if direction in ("both", "out"):
            driver.mute_to |= set(ids)
        return self._blocked()

    def heal(self, _: Answer) -> Answer:
        """Drop nothing any more."""
        self._development_only()
        self._runtime.driver.deaf_to.clear()
        self._runtime.driver.mute_to.clear()
        return self._blocked()

    # -- parts -------------------------------------------------------------------------------------

    def roles(self, partition: int) -> list[tuple[bytes, str, bytes]]:
        """Return (node, role, owner whom it serves for) of all nodes that a partition may go to."""
        routes = self._local.routes
        _, filling, others = routes.serving(partition)
        serves_for = dict(zip(filling, others, strict=False))
        roles: list[tuple[bytes, str, bytes]] = []
        for owner in routes.placement.owners(partition):
            roles.append((owner, "filling" if owner in filling else "owner", b""))
            if owner in serves_for:
                roles.append((serves_for[owner], "serves", owner))
        seen = {node for node, _, _ in roles}
        rest = routes.placement.preference[partition]
        return roles + [(node, "fallback", b"") for node in rest if node not in seen]

    def _placed(self) -> list[Member]:
        """Return all members; of one that is ruled in and not heard of, what the ruling says."""
        local = self._local
        members = {member.node_id: member for member in local.members}
        for node in local.routes.placement.candidates:
            if node.node_id not in members:
                name = self._name(node.node_id)
                members[node.node_id] = Member(
                    node.node_id, name, "", 0, node.zone, node.weight, 0, 0
                )
        return [members[node_id] for node_id in sorted(members)]

    def _keeps(self, member: Member) -> int:
        """Return the partitions of which a node has copies, whether or not they count."""
        local = self._local
        if member.node_id == local.me:
            return local.serves | local.keeps
        return bits(member.serves) | bits(member.keeps)

    def _seen(self, member: Member) -> Answer:
        local = self._local
        mine = member.node_id == local.me
        detector = self._node.detector
        rtt_ms = -1 if mine else detector.rtt_ms(member.node_id)
        silent_ms = 0 if mine else detector.silent_ms(member.node_id)
        return {
            "id": member.node_id.hex(),
            "name": member.name,
            "address": f"{member.host}:{member.port}",
            "state": "self" if mine else detector.state(member.node_id),
            "silent_ms": silent_ms if silent_ms >= 0 else None,
            "rtt_ms": rtt_ms if rtt_ms >= 0 else None,
        }

    def _place_of(self, member: Member) -> Answer:
        """Return the zone and weight that a node is ruled to have; what it asks for until then."""
        said = self._local.members.rulings.get(member.node_id) or member
        return {"zone": said.zone, "weight": said.weight}

    def _development_only(self) -> None:
        if not self._runtime.options.development:
            raise DeniedError(
                "This is not a node of a development cluster.",
                hint="Only `everwrite cluster start` makes nodes that can be cut off on purpose.",
            )

    def _id(self, name: str) -> bytes:
        member = self._local.members.named(name)
        if member is None:
            known = ", ".join(member.name for member in self._local.members)
            raise RequestError(f"There is no node {name[:64]!r}.", hint=f"Known: {known}.")
        return member.node_id

    def _name(self, node_id: bytes) -> str:
        return name_of(self._local.members, node_id)

    def _blocked(self) -> Answer:
        driver = self._runtime.driver
        both = {place for place in driver.deaf_to | driver.mute_to if isinstance(place, bytes)}
        return {"blocked": sorted(self._name(node_id) for node_id in both)}


def _arguments(ask: Ask) -> Answer:
    try:
        return msgspec.json.decode(ask.arguments or b"{}", type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise RequestError(f"The arguments are no JSON object: {error}.") from error


def rss_bytes() -> int:
    """Return the resident memory of this process."""
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _counted(counters: RepairCounters) -> dict[str, int]:
    """Return counters under names that say what is counted."""
    return {f"repair_{name}": number for name, number in msgspec.structs.asdict(counters).items()}


def _redis(runtime: Runtime) -> str | None:
    """Return where others reach this node by the Redis protocol; None: it speaks none."""
    if runtime.redis is None:
        return None
    return address_of(runtime.node.local.members.me.host, runtime.redis.port)
