"""Bugs in who is taken for up, who is asked, and what time it is."""

from __future__ import annotations

from typing import Any

import msgspec

from everwrite.core.cluster.members import MemberTable
from everwrite.core.cluster.routes import Route, Routes
from everwrite.core.local import Local
from everwrite.core.messages import Get, Member, Put
from everwrite.core.outbox import Place
from everwrite.core.request.forward import Forward
from everwrite.sim.bugs.registry import Patch, area
from everwrite.sim.machine import Machine

bug = area("cluster and time")


@bug(
    "routes-stay",
    "who goes for an owner that was down goes for it when it is back",
    rules=("reachable", "calm"),
)
def _routes_stay() -> list[Patch]:
    return [(Routes, "forget", lambda self: None)]


@bug(
    "members-stay",
    "what is known of a member is not replaced by what is newer",
    rules=("members",),
)
def _members_stay() -> list[Patch]:
    right = MemberTable.merge

    def merge(self: MemberTable, entries: list[Member], *, may_grow: bool) -> Any:
        news = [entry for entry in entries if entry.node_id not in self]
        return right(self, news, may_grow=may_grow)

    return [(MemberTable, "merge", merge)]


@bug(
    "forwards-for-ever",
    "a request that was handed on may be handed on again",
    rules=("forward",),
)
def _forwards_for_ever() -> list[Patch]:
    right = Forward.start

    def start(local: Local, source: Place, message: Put | Get, route: Route) -> bool:
        held = local.out.sends
        local.out.sends = {}
        started = right(local, source, message, route)
        sends, local.out.sends = local.out.sends, held
        for place, messages in sends.items():
            for each in messages:
                local.out.send(place, msgspec.structs.replace(each, forwarded=False))
        return started

    return [(Forward, "start", staticmethod(start))]


@bug(
    "timers-by-wall-clock",
    "time-outs go by the wall clock, which jumps",
    rules=("calm", "reachable"),
    needs=("wall_jump",),
)
def _timers_by_wall_clock() -> list[Patch]:
    right = Machine.clock_ms

    def clock_ms(self: Machine) -> int:
        return right(self) + self.wall_jump_ms

    return [(Machine, "clock_ms", clock_ms)]
