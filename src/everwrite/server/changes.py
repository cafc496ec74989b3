"""The verbs by which an operator changes the cluster, and sees how far the changes are.

    plan_stage   {"changes": [{"verb", "node", "by", "weight", "zone"}], "force"}
    plan_show    what the plan would do
    plan_commit  {"force"}: turn it into rulings, on all nodes
    plan_cancel  forget it
    transfers    what is on its way to and from this node; how far each node is, as this one sees it

A plan is kept by all nodes, so each can be asked. What it would carry is measured on this node: the
first records of a few partitions that it serves, and the part of the ring that they cover.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from everwrite.core.cluster.forecast import Forecast, forecast
from everwrite.core.cluster.holdings import bits, partitions_in
from everwrite.core.cluster.plans import (
    Change,
    cancel,
    candidates_after,
    check_copies,
    commit,
    name_of,
    stage,
    stands,
)
from everwrite.core.errors import RequestError
from everwrite.core.local import Local
from everwrite.core.messages.members import IN, LEAVING, REMOVED, Member, News, Ruling
from everwrite.core.records import OWN

if TYPE_CHECKING:
    from everwrite.server.runtime import Runtime

Answer = dict[str, Any]

MOVES_SHOWN_MAX = 16_384
"""Moves in one answer: 3 MiB; the rest are in the sums."""
PLAN_KEPT_MS = 10_000
"""How old what is said of a plan may be: in it only the sizes change by themselves."""
_SAMPLES = 4
_SAMPLE_KEYS = 16
"""Read on the loop, so few: within a quarter of the truth for values of like sizes."""
STANDINGS = {None: "joining", IN: "in", LEAVING: "leaving", REMOVED: "removed"}
"""Joining: it is there, and nobody has ruled on it yet."""


class Changes:
    """Plans and transfers of one node."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._node = runtime.node
        self._local = runtime.node.local
        self._told: Answer = {}
        self._told_of: tuple[bytes, frozenset[bytes]] | None = None
        self._told_ms = 0
        self.verbs: dict[str, Callable[[Answer], Answer]] = {
            "plan_stage": self.stage,
            "plan_show": self.show,
            "plan_commit": self.commit,
            "plan_cancel": self.cancel,
            "transfers": self.transfers,
        }

    # -- plans -------------------------------------------------------------------------------------

    def ready(self, verb: str, arguments: Answer) -> bool:
        """Say whether a verb can be answered now; if not, what it needs is on its way: large
        placements are made in steps.
        """
        local, members = self._local, self._local.members
        if verb == "plan_stage":
            changes, force = _changes(arguments), _flag(arguments, "force")
            draft = stage(
                members, local.cluster, changes, up=frozenset(local.liveness.up), force=force
            )
        elif verb in ("plan_show", "plan_commit"):
            draft = members.draft
        else:
            return True
        candidates = candidates_after(members, draft.rulings)
        if not draft.rulings or not candidates or local.placer.ready(candidates):
            return True
        local.placer.want(candidates)
        return False

    def stage(self, arguments: Answer) -> Answer:
        """Lay changes over the plan that is there, and say so."""
        local = self._local
        over, stood = local.members.draft, stands(local.members)
        changes, force = _changes(arguments), _flag(arguments, "force")
        draft = stage(
            local.members, local.cluster, changes, up=frozenset(local.liveness.up), force=force
        )
        self._node.rounds.publish(News([], [], draft))
        answer = self._plan()
        if over.rulings:
            names = ", ".join(name_of(local.members, each.node_id) for each in over.rulings)
            what = (
                "was staged before, and is a part of this one; to have only this: everwrite plan "
                "cancel, then plan again."
                if stood
                else "was made before the cluster changed, and is forgotten."
            )
            note = f"Plan {over.plan.hex()} ({names}) {what}"
            answer |= {"over": over.plan.hex(), "notes": [note, *answer.get("notes", [])]}
        return answer

    def show(self, _: Answer) -> Answer:
        """What the plan would do, if there is one."""
        return self._plan()

    def commit(self, arguments: Answer) -> Answer:
        """Go by the plan from now on. Who holds what may have changed since it was staged."""
        members = self._local.members
        _check_plan(members.draft.plan.hex(), arguments.get("plan", ""))
        news = commit(members)
        if not _flag(arguments, "force"):
            check_copies(members, news.rulings)
        answer = self._plan()
        self._node.rounds.publish(news)
        return {**answer, "committed": True}

    def cancel(self, _: Answer) -> Answer:
        """Forget the plan."""
        plan = self._local.members.draft.plan.hex()
        self._node.rounds.publish(cancel(self._local.members))
        return {"plan": plan, "cancelled": True}

    def _plan(self) -> Answer:
        """Return what the plan would do. To find that out is 0.1 s in a large cluster, so it is not
        done for each who asks, while the members, their states and the plan are the same.
        """
        local = self._local
        if not local.members.draft.rulings:
            return {"plan": "", "staged": False}
        made_of = (local.members.digest(), frozenset(local.liveness.up))
        if made_of != self._told_of or local.now - self._told_ms > PLAN_KEPT_MS:
            self._told, self._told_of, self._told_ms = self._forecast(), made_of, local.now
        return dict(self._told)

    def _forecast(self) -> Answer:
        local = self._local
        table, draft = local.members, local.members.draft
        each = self._bytes_per_partition()
        found = forecast(
            table,
            local.cluster,
            draft.rulings,
            up=local.liveness.up,
            placed=local.placer.place,
            bytes_per_partition=each,
            move_bytes_per_s=local.config.move_bytes_per_s,
        )
        return {
            "plan": draft.plan.hex(),
            "staged": True,
            "stands": stands(table),
            "committed": False,
            "changes": [self._change(ruling) for ruling in draft.rulings],
            "copies": local.cluster.partitions * min(local.cluster.replicas, _owners(found)),
            "copies_moved": len(found.moves),
            "optimum": round(found.optimum, 2),
            "times_optimum": _rounded(found.times_optimum),
            "load_max": found.load_max,
            "bytes_per_partition": round(each),
            "bytes": found.bytes,
            "ms": found.ms,
            "notes": found.notes,
            "nodes": [
                {
                    "id": part.node_id.hex(),
                    "name": name_of(table, part.node_id),
                    "standing": STANDINGS[part.standing_before],
                    "standing_after": STANDINGS[part.standing],
                    "zone": part.zone,
                    "weight": part.weight,
                    "owned": part.before,
                    "owned_after": part.after,
                    "comes_in": part.comes_in,
                    "goes_out": part.goes_out,
                    "load": part.load,
                }
                for part in found.parts
            ],
            "moves": [
                {
                    "partition": move.partition,
                    "to": name_of(table, move.to),
                    "from": name_of(table, move.giver) if move.giver else None,
                    "copied_from": [name_of(table, node) for node in move.copied_from],
                }
                for move in found.moves[:MOVES_SHOWN_MAX]
            ],
        }

    def _change(self, ruling: Ruling) -> Answer:
        """Say in words what a ruling of the draft changes."""
        table = self._local.members
        known, entry = table.rulings.get(ruling.node_id), table.get(ruling.node_id)
        before: Ruling | Member | None = known or entry
        answer: Answer = {
            "id": ruling.node_id.hex(),
            "name": name_of(table, ruling.node_id),
            "standing": STANDINGS[ruling.standing],
            "standing_before": STANDINGS[None if known is None else known.standing],
            "zone": ruling.zone,
            "weight": ruling.weight,
        }
        if before is not None:
            answer |= {"zone_before": before.zone, "weight_before": before.weight}
        return answer

    def _bytes_per_partition(self) -> float:
        """Return about how much a partition holds; 0 on a node that serves none."""
        local = self._local
        served = partitions_in(bits(local.members.me.serves))
        step = max(1, len(served) // _SAMPLES)
        sampled = served[::step][:_SAMPLES]
        width = (1 << 64) // local.cluster.partitions
        found = [self._sampled_bytes(partition * width, width) for partition in sampled]
        return sum(found) / len(found) if found else 0.0

    def _sampled_bytes(self, start: int, width: int) -> float:
        end = start + width
        last = OWN + end.to_bytes(8, "big") if end < 1 << 64 else bytes((OWN[0] + 1,))
        store = self._runtime.driver.disk.store
        pairs = store.scan(OWN + start.to_bytes(8, "big"), last, _SAMPLE_KEYS)
        total = sum(len(key) + len(value) for key, value in pairs if isinstance(value, bytes))
        if len(pairs) < _SAMPLE_KEYS:
            return total
        # Hashes are even, so the rest of the partition holds as much in proportion; the last record
        # is where the part ends, not in it.
        covered = int.from_bytes(pairs[-1][0][1:9], "big") - start
        return total * (1 - 1 / len(pairs)) * width / max(1, covered)

    # -- how far it is -----------------------------------------------------------------------------

    def transfers(self, _: Answer) -> Answer:
        """What moves to and from this node now, and how far all nodes are."""
        local = self._local
        moves = self._node.moves
        # What waits comes last: there may be tens of thousands, and one frame must hold them.
        under_way = sorted(moves.progress(), key=lambda move: bool(move.waiting))
        return {
            "id": local.me.hex(),
            "name": local.members.me.name,
            "view": local.routes.placement.digest.hex(),
            "known": local.members.digest().hex(),
            "moves_max": local.config.moves_max,
            "move_bytes_per_s": local.config.move_bytes_per_s,
            "counters": msgspec.structs.asdict(moves.counters),
            "moves": [
                {
                    "partition": move.partition,
                    "kind": move.kind,
                    "peer": name_of(local.members, move.peer) if move.peer else "",
                    "phase": move.phase,
                    "keys": move.keys,
                    "bytes": move.bytes,
                    "for_ms": max(0, local.now - move.since_ms),
                    "waiting": move.waiting,
                }
                for move in under_way[:MOVES_SHOWN_MAX]
            ],
            "nodes": [
                {
                    "id": member.node_id.hex(),
                    "name": member.name,
                    "address": f"{member.host}:{member.port}",
                    **seat_of(local, member),
                }
                for member in local.members
            ],
        }


def seat_of(local: Local, member: Member) -> Answer:
    """Return a node's place in the cluster and how far it fills it; what counts is the ruling."""
    ruling = local.members.rulings.get(member.node_id)
    said: Ruling | Member = member if ruling is None else ruling
    serves, keeps = bits(member.serves), bits(member.keeps)
    owned = local.routes.owned_by(member.node_id)
    return {
        "standing": STANDINGS[None if ruling is None else ruling.standing],
        "zone": said.zone,
        "weight": said.weight,
        "owned": owned.bit_count(),
        "serves": serves.bit_count(),
        "keeps": keeps.bit_count(),
        "to_gain": (owned & ~serves).bit_count(),
        "to_shed": ((serves | keeps) & ~owned).bit_count(),
    }


def _owners(found: Forecast) -> int:
    return sum(part.after > 0 for part in found.parts)


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 3)


def _flag(arguments: Answer, name: str) -> bool:
    given = arguments.get(name, False)
    if not isinstance(given, bool):
        raise RequestError(f'"{name}" is true or false, not {str(given)[:64]!r}.')
    return given


def _check_plan(there: str, meant: object) -> None:
    """Raise RequestError if the plan is another one than that which was meant; empty: any."""
    if not meant or (isinstance(meant, str) and there.startswith(meant.lower())):
        return
    raise RequestError(
        f"The plan is {there or 'none'} now, not {str(meant)[:64]!r}: somebody has changed it.",
        hint="Nothing was changed. Look at it (everwrite plan show), then commit that.",
    )


def _changes(arguments: Answer) -> list[Change]:
    try:
        return msgspec.convert(arguments.get("changes"), list[Change])
    except msgspec.ValidationError as error:
        raise RequestError(
            f"The changes are not understood: {error}.",
            hint='Nothing was changed. Give "changes": [{"verb": "join", "node": "n4"}, ...].',
        ) from error
