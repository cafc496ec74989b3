"""Questions and orders to one node: status, ring, locate, hints; and the cuts of a development
cluster.

Each verb is a method that takes its arguments as a dictionary and returns what becomes JSON. Ids
are shown in hex.
"""

from __future__ import annotations

import base64
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import msgspec

from everwrite.core.data.keys import checked_bucket, checked_key, data_key
from everwrite.core.errors import DeniedError, EverwriteError, RequestError
from everwrite.core.messages import Ask, Failure, Member, Message, Told
from everwrite.core.outbox import Place

if TYPE_CHECKING:
    from everwrite.server.runtime import Runtime

Answer = dict[str, Any]


class Admin:
    """The verbs of one node."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._node = runtime.node
        self._local = runtime.node.local
        self._verbs: dict[str, Callable[[Answer], Answer]] = {
            "view": self.view,
            "status": self.status,
            "ring": self.ring,
            "locate": self.locate,
            "hints": self.hints,
            "partition": self.partition,
            "heal": self.heal,
        }

    def ask(self, place: Place, ask: Ask) -> None:
        """Answer one client."""
        message: Message
        try:
            message = Told(ask.rid, msgspec.json.encode(self._answer(ask)))
        except EverwriteError as error:
            message = Failure(ask.rid, error.code, error.message, error.hint, "none", 0, 0)
        self._local.out.send(place, message)
        self._runtime.driver.soon()

    def _answer(self, ask: Ask) -> Answer:
        verb = self._verbs.get(ask.verb)
        if verb is None:
            known = ", ".join(sorted(self._verbs))
            raise RequestError(f"There is no verb {ask.verb[:64]!r}.", hint=f"Use one of: {known}.")
        try:
            arguments = msgspec.json.decode(ask.arguments or b"{}", type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise RequestError(f"The arguments are no JSON object: {error}.") from error
        return verb(arguments)

    # -- questions ---------------------------------------------------------------------------------

    def view(self, _: Answer) -> Answer:
        """What a client needs to know to go to the right node."""
        local = self._local
        cluster = local.cluster
        return {
            "cluster_id": cluster.cluster_id.hex(),
            "cluster_name": cluster.name,
            "partitions": cluster.partitions,
            "replicas": cluster.replicas,
            "digest": local.routes.placement.digest.hex(),
            "members": [
                {
                    "id": member.node_id.hex(),
                    "name": member.name,
                    "host": member.host,
                    "port": member.port,
                    "zone": member.zone,
                    "weight": member.weight,
                }
                for member in local.members
            ],
        }

    def status(self, _: Answer) -> Answer:
        """How this node is, and how it sees the others."""
        runtime, local = self._runtime, self._local
        me, cluster = local.members.me, local.cluster
        owned = local.routes.placement.owned()
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
                "zone": me.zone,
                "weight": me.weight,
                "pid": os.getpid(),
                "version": version("everwrite"),
                "engine": runtime.driver.disk.store.name,
                "fsync": local.fsync,
                "uptime_ms": time.monotonic_ns() // 1_000_000 - runtime.started_ms,
                "ready": self._node.ready,
                "development": runtime.options.development,
                "rss_bytes": rss_bytes(),
                "cpu_us": int((usage.ru_utime + usage.ru_stime) * 1e6),
                "data": str(runtime.options.data or ""),
            },
            "nodes": [self._seen(member, len(owned[member.node_id])) for member in local.members],
            "hints": {**self.hints({}), "cap": local.config.hints_max},
            "requests": {"in_flight": len(local.requests), "parked": local.records.parked_count},
            "counters": {
                **msgspec.structs.asdict(local.counters),
                "dropped": runtime.driver.dropped,
                "ticks": runtime.driver.ticks,
                "frames_in": runtime.driver.frames_in,
                "messages_in": runtime.driver.messages_in,
            },
            "refused_members": sorted(set(local.members.refused.values())),
        }

    def ring(self, _: Answer) -> Answer:
        """Which node owns what."""
        placement = self._local.routes.placement
        members = list(self._local.members)
        index = {member.node_id: at for at, member in enumerate(members)}
        owned = placement.owned()
        total = placement.partitions * placement.replicas
        weights = sum(member.weight for member in members)
        nodes = [
            {
                "id": member.node_id.hex(),
                "name": member.name,
                "zone": member.zone,
                "weight": member.weight,
                "owned": len(owned[member.node_id]),
                "load": round(len(owned[member.node_id]) / (total * member.weight / weights), 4),
            }
            for member in members
        ]
        return {
            "partitions": placement.partitions,
            "replicas": placement.replicas,
            "view": placement.digest.hex(),
            "nodes": nodes,
            "preference": [[index[node] for node in row] for row in placement.preference],
        }

    def locate(self, arguments: Answer) -> Answer:
        """Which nodes a key lives on, in order of preference."""
        bucket, key = (
            checked_bucket(_bytes(arguments, "bucket")),
            checked_key(_bytes(arguments, "key")),
        )
        data = data_key(bucket, key)
        local = self._local
        placement = local.routes.placement
        partition = placement.partition_of(data)
        owners = placement.owners(partition)
        rows = []
        for node_id in placement.preference[partition]:
            member = local.members.get(node_id)
            if member is not None:
                row = self._seen(member, 0)
                del row["owned"], row["silent_ms"], row["weight"]
                rows.append({**row, "role": "owner" if node_id in owners else "fallback"})
        return {
            "bucket": bucket.decode(),
            "key": arguments["key"],
            "hash": data[:8].hex(),
            "partition": partition,
            "preference": rows,
        }

    def hints(self, _: Answer) -> Answer:
        """What this node keeps for others."""
        waiting = self._node.hints.waiting
        names = {owner: self._name(owner) for owner in waiting}
        oldest = [min(keys.values()) for keys in waiting.values() if keys]
        return {
            "waiting": self._node.hints.notes,
            "by_owner": {names[owner]: len(keys) for owner, keys in sorted(waiting.items())},
            "oldest_ms": self._local.now - min(oldest) if oldest else None,
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

    def _seen(self, member: Member, owned: int) -> Answer:
        local = self._local
        mine = member.node_id == local.me
        up = member.node_id in local.liveness.up
        return {
            "id": member.node_id.hex(),
            "name": member.name,
            "address": f"{member.host}:{member.port}",
            "zone": member.zone,
            "weight": member.weight,
            "state": "self" if mine else "up" if up else "down",
            "silent_ms": 0 if mine else local.liveness.silent_ms(member.node_id, local.now),
            "owned": owned,
        }

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
        member = self._local.members.get(node_id)
        return member.name if member is not None else node_id.hex()

    def _blocked(self) -> Answer:
        driver = self._runtime.driver
        both = {place for place in driver.deaf_to | driver.mute_to if isinstance(place, bytes)}
        return {"blocked": sorted(self._name(node_id) for node_id in both)}


def rss_bytes() -> int:
    """Return the resident memory of this process."""
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _bytes(arguments: Answer, name: str) -> bytes:
    """Return a bucket or key given as text, or as {"base64": text}."""
    given = arguments.get(name)
    if isinstance(given, str):
        return given.encode()
    if isinstance(given, dict) and isinstance(given.get("base64"), str):
        try:
            return base64.b64decode(given["base64"], validate=True)
        except ValueError as error:
            raise RequestError(f"The {name} is no valid base64.") from error
    raise RequestError(f"A {name} is needed, as text or as {{'base64': ...}}.")
