"""Bugs in who is taken for up, who is asked, and what time it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from everwrite.core.cluster.members import MemberTable
from everwrite.core.cluster.placement import Candidate, Placement
from everwrite.core.cluster.placer import Placer
from everwrite.core.cluster.routes import Route, Routes
from everwrite.core.local import Local
from everwrite.core.messages.members import News
from everwrite.core.messages.requests import Get, Put
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
    def hold(self: Routes, *held: Mapping[bytes, int]) -> None:
        made = dict(self._made)
        right(self, *held)
        self._made.update(made)

    right = Routes.hold
    return [(Routes, "forget", lambda self: None), (Routes, "hold", hold)]


@bug(
    "members-stay",
    "what is known of a member is not replaced by what is newer",
    rules=("members",),
)
def _members_stay() -> list[Patch]:
    right = MemberTable.merge

    def merge(self: MemberTable, news: News) -> Any:
        fresh = [entry for entry in news.entries if entry.node_id not in self]
        return right(self, News(fresh, news.rulings, news.draft))

    return [(MemberTable, "merge", merge)]


@bug(
    "ruling-without-its-placement",
    "a ruling is taken while its placement is being made, and nothing is placed by it later",
    rules=("members", "placement", "calm", "reachable"),
    needs=("place_at_once",),
)
def _ruling_without_its_placement() -> list[Patch]:
    ready, right = Placer.ready, Placer.place

    def place(self: Placer, candidates: list[Candidate]) -> Placement:
        if self.current is None or ready(self, candidates):
            return right(self, candidates)
        return self.current

    return [(Placer, "ready", lambda self, candidates: True), (Placer, "place", place)]


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
    rules=("calm", "reachable", "pace", "context"),
    needs=("wall_jump",),
)
def _timers_by_wall_clock() -> list[Patch]:
    right = Machine.clock_ms

    def clock_ms(self: Machine) -> int:
        return right(self) + self.wall_jump_ms

    return [(Machine, "clock_ms", clock_ms)]
