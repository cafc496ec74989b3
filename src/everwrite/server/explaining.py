"""The verb by which a person sees why a key is as it is.

explain  {"bucket", "key", "n", "r"}: where it lives and why there; what each node has of it; what a
         get would answer; what is going to be repaired

All nodes are asked first (core/request/survey.py), so it is answered later. Values are not told,
only how long they are: whoever may look at a cluster need not see what is in it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from everwrite.core.cluster.holdings import NONE
from everwrite.core.cluster.plans import name_of
from everwrite.core.cluster.reasons import Reason, reasons
from everwrite.core.data import versions
from everwrite.core.data.epochs import SALT_BITS
from everwrite.core.data.keys import checked_bucket, checked_key, data_key
from everwrite.core.data.labels import KIND_PIECE, label_of
from everwrite.core.data.versions import Dot, Version
from everwrite.core.errors import EverwriteError, ProtocolError
from everwrite.core.failures import failure_of
from everwrite.core.messages.explain import Copy, Shown
from everwrite.core.messages.requests import FOUND, UNREADABLE, Get, Told
from everwrite.core.outbox import Place
from everwrite.core.request.foresee import Outlook, Voice, answers, joined, lacking, voices
from everwrite.core.request.limits import check_get
from everwrite.core.request.survey import Found
from everwrite.core.types import pieces
from everwrite.core.types.composing import TYPE_NAMES
from everwrite.server.answering import answering
from everwrite.server.arguments import bytes_in, number_in

if TYPE_CHECKING:
    from everwrite.server.runtime import Runtime

Answer = dict[str, Any]
Roles = Callable[[int], list[tuple[bytes, str, bytes]]]

_WHY = {
    "drawn": "owns it: rank {rank} by score",
    "first of fewer": "owns it: rank {rank} by score, and first, since whoever ranks higher is "
    "first of as many partitions as it may be",
    "zone": "rank {rank} by score, but its zone has as many copies as it may",
    "full": "rank {rank} by score, but it owns as many partitions as its share",
    "rest": "rank {rank} by score: stands in where owners are down",
}
_COUNTS = {
    "owner": "counts as an owner's answer",
    "fallback": "counts as a stand-in's answer",
    "nothing": "has nothing, which says nothing: it is no owner",
    "strange": "does not count: it does not serve the partition",
    "unreadable": "does not count: its copy cannot be read",
    "silent": "does not answer",
}


class Explaining:
    """The explanations of one node."""

    def __init__(self, runtime: Runtime, roles: Roles) -> None:
        self._runtime = runtime
        self._node = runtime.node
        self._local = runtime.node.local
        self._roles = roles

    def begin(self, place: Place, rid: int, arguments: Answer) -> None:
        """Ask all nodes about a key, and answer a client once they have said."""
        bucket = checked_bucket(bytes_in(arguments, "bucket"))
        key = data_key(bucket, checked_key(bytes_in(arguments, "key")))
        n, r = (number_in(arguments, name, 0, 255) for name in ("n", "r"))
        check_get(Get(rid, key, 0, n, r), self._local.cluster.replicas)
        named = {"bucket": bucket.decode(), "key": arguments["key"]}
        self._node.surveys.ask(key, partial(self._told, place, rid, named, key, n, r))

    def _told(
        self, place: Place, rid: int, named: Answer, key: bytes, n: int, r: int, found: Found
    ) -> None:
        local = self._local
        try:
            with answering(self._runtime.log, "explain"):
                answer = {**named, **self._explain(key, n, r, found)}
                local.out.send(place, Told(rid, msgspec.json.encode(answer)))
        except EverwriteError as error:  # a node has sent what is no record
            local.out.send(place, failure_of(rid, error))

    def _explain(self, key: bytes, n: int, r: int, found: Found) -> Answer:
        local = self._local
        placement = local.routes.placement
        route = local.routes.route(key, n)
        n = n or placement.replicas
        r = r or n // 2 + 1
        heard = voices(route, found)
        full = local.routes.route(key, 0)
        all_owners = full.owners if full.whole and not full.stray else ()
        foreseen = answers(heard, r, all_owners=all_owners, time_ms=local.time_ms)
        return {
            "hash": key[:8].hex(),
            "partition": placement.partition_of(key),
            "partitions": placement.partitions,
            "leaf": local.trees.leaf_of(key),
            "asked": local.members.me.name,
            "time_ms": local.time_ms,
            "preference": self._preference(key, n),
            "replicas": [self._replica(key, node, said) for node, said in found.items()],
            "read": self._read(n, r, heard, foreseen),
            "repair": self._repair(heard, found),
        }

    # -- where it lives ----------------------------------------------------------------------------

    def _preference(self, key: bytes, n: int) -> list[Answer]:
        local = self._local
        placement = local.routes.placement
        partition = placement.partition_of(key)
        route = local.routes.route(key, n)
        why = reasons(placement, partition)
        zones = {each.node_id: each.zone for each in placement.candidates}
        targets = dict(route.targets)
        return [
            {
                "node": self._name(node),
                "zone": zones.get(node, ""),
                "role": role,
                "state": self._state(node),
                "reason": self._reason(role, why.get(node), served),
                "asked": node in targets,
                "stands_in_for": self._name(targets[node])
                if targets.get(node, node) not in (b"", node)
                else None,
            }
            for node, role, served in self._roles(partition)
        ]

    def _reason(self, role: str, reason: Reason | None, served: bytes) -> str:
        if role == "serves":
            return f"owns it no more, and serves it until {self._name(served)} does"
        said = _WHY[reason.why].format(rank=reason.rank) if reason is not None else ""
        return f"{said}; it is still being filled" if role == "filling" else said

    # -- what each has -----------------------------------------------------------------------------

    def _replica(self, key: bytes, node: bytes, said: Shown | None) -> Answer:
        answer: Answer = {"node": self._name(node), "state": self._state(node)}
        if said is None:
            return {**answer, "answered": False}
        return {
            **answer,
            "answered": True,
            "clock_off_ms": said.time_ms - self._local.time_ms,
            "own": self._copy(said.own),
            "kept": self._copy(said.kept),
            "kept_for": [
                {
                    "node": self._name(owner),
                    "for_ms": max(0, self._local.time_ms - since * 1000),
                }
                for owner, since in sorted(said.owners.items())
            ],
        }

    def _copy(self, copy: Copy) -> Answer | None:
        """Return a copy for people; None: there is none."""
        if copy.status == UNREADABLE:
            return {"unreadable": copy.reason, "versions": [], "clock": {}, "bytes": None}
        if copy.status != FOUND:
            return None
        record = versions.decode(copy.record)
        return {
            "unreadable": "",
            "bytes": len(copy.record),
            "versions": [self._version(version) for version in record.siblings],
            "clock": {self._actor(actor): counter for actor, counter in record.clock.items()},
        }

    def _version(self, version: Version) -> Answer:
        value = version.value
        ended = 0 < version.expires <= self._local.time_ms
        return {
            "dot": self._dot((version.actor, version.counter)),
            "id": f"{version.actor.hex()}-{version.counter}",
            "written_ms": version.time_ms,
            "bytes": len(value) if value is not None else 0,
            "content_type": _content_type(version),
            "tombstone": value is None,
            "expires_ms": version.expires or None,
            "ended": ended,
        }

    # -- what a get answers ------------------------------------------------------------------------

    def _read(self, n: int, r: int, heard: list[Voice], foreseen: Outlook) -> Answer:
        return {
            "n": n,
            "r": r,
            "asks": [
                {"node": self._name(voice.node), "counts": _COUNTS[voice.kind]} for voice in heard
            ],
            "certain": foreseen.whole and len(foreseen.answers) == 1,
            "why": _certainty(foreseen, heard, r),
            "answers": [
                {
                    "absent": each.absent,
                    "dots": [self._dot(dot) for dot in each.live],
                    "after": [self._name(node) for node in each.nodes],
                }
                for each in foreseen.answers
            ],
        }

    # -- what is going to be repaired --------------------------------------------------------------

    def _repair(self, heard: list[Voice], found: Found) -> list[Answer]:
        whole = joined(heard)
        rows = [*self._of_owners(heard, whole), *self._of_hints(found), *self._of_strays(found)]
        if whole and not rows:
            rows += self._of_the_end(whole)
        return rows

    def _of_owners(self, heard: list[Voice], whole: bytes) -> list[Answer]:
        rows: list[Answer] = []
        for voice in heard:
            node = self._name(voice.node)
            if voice.kind == "unreadable":
                why = "gets the join of all others, once every other owner has said what it has"
                rows.append({"what": "mend", "node": node, "lacks": [], "why": why})
            elif voice.kind == "owner" and voice.record != whole:
                dots = [self._dot(dot) for dot in lacking(voice.record, whole)]
                why = "the next get that hears it, or the next exchange, gives it the join"
                rows.append({"what": "read repair", "node": node, "lacks": dots, "why": why})
        return rows

    def _of_hints(self, found: Found) -> list[Answer]:
        rows: list[Answer] = []
        for node, said in found.items():
            for owner in sorted(said.owners) if said is not None else ():
                up = self._state(owner) in ("up", "self")
                home = f"is brought home to {self._name(owner)}"
                why = f"{home} in its turn" if up else f"{home} once that is up"
                rows.append({"what": "hint", "node": self._name(node), "lacks": [], "why": why})
        return rows

    def _of_strays(self, found: Found) -> list[Answer]:
        return [
            {
                "what": "shed",
                "node": self._name(node),
                "lacks": [],
                "why": "goes once all owners have what it has: it does not own the partition",
            }
            for node, said in found.items()
            if said is not None and said.role == NONE and said.own.status == FOUND
        ]

    def _of_the_end(self, whole: bytes) -> list[Answer]:
        record = versions.decode(whole)
        if any(version.value is not None for version in record.siblings):
            end = versions.next_end(record)
            if not 0 < end <= self._local.time_ms:
                return []
            why = "has ended, and is purged on all owners in the same way"
            return [{"what": "purge", "node": "", "lacks": [], "why": why}]
        why = "goes once every member has confirmed twice that nothing older can come"
        return [{"what": "collect", "node": "", "lacks": [], "why": why}]

    # -- parts -------------------------------------------------------------------------------------

    def _dot(self, dot: Dot) -> str:
        return f"{self._actor(dot[0])}-{dot[1]}"

    def _actor(self, actor: bytes) -> str:
        """Return who wrote: the node, and the number of its epoch with the salt of its run."""
        epoch = int.from_bytes(actor[8:], "big")
        number, salt = epoch >> SALT_BITS, epoch & ((1 << SALT_BITS) - 1)
        return f"{self._name(actor[:8])}/{number}.{salt:06x}"

    def _state(self, node: bytes) -> str:
        return "self" if node == self._local.me else self._node.detector.state(node)

    def _name(self, node: bytes) -> str:
        return name_of(self._local.members, node)


def _content_type(version: Version) -> str:
    """Return what a version's value is; of a piece of a data type, of which."""
    if version.value is None:
        return ""
    if version.kind != KIND_PIECE:
        return label_of(version.kind).content_type
    try:
        return f"piece of a {TYPE_NAMES[pieces.decode(version.value).type]}"
    except ProtocolError:  # a newer node's
        return "piece of a data type"


def _certainty(foreseen: Outlook, heard: list[Voice], r: int) -> str:
    if not foreseen.answers:
        count = sum(voice.kind in ("owner", "fallback") for voice in heard)
        return f"It fails with quorum_not_met: {count} of the {r} nodes that it needs would count."
    if not foreseen.whole:
        return "It depends on who answers first, in more ways than are told: this is after all."
    if len(foreseen.answers) > 1:
        return "It depends on who answers first: not all of them have the same."
    return "Whoever answers first, it comes to the same."
