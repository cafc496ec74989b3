"""The list of members: newer entries win, but none that would move data which is there."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from everwrite.core.cluster.members import MemberTable
from everwrite.core.messages import Member

ME = Member(b"a" * 8, "a", "127.0.0.1", 1, "a", 1.0, 1, 1)
PEER = Member(b"b" * 8, "b", "127.0.0.1", 2, "b", 1.0, 1, 1)


@pytest.mark.parametrize("change", [{"zone": "elsewhere"}, {"weight": 2.0}], ids=str)
def test_another_zone_or_weight_of_a_member_is_refused_while_there_is_data(
    change: dict[str, object],
) -> None:
    table = MemberTable(ME, [PEER])
    before = table.candidates()

    changed = table.merge([replace(PEER, port=7, incarnation=2, **change)], may_grow=False)

    assert changed
    assert table.get(PEER.node_id) == replace(PEER, port=7, incarnation=2)
    assert table.candidates() == before
    assert table.refused == {PEER.node_id: "b"}


def test_another_zone_and_weight_are_taken_while_there_is_none() -> None:
    table = MemberTable(ME, [PEER])
    moved = replace(PEER, zone="elsewhere", weight=2.0, incarnation=2)

    assert table.merge([moved], may_grow=True)

    assert table.get(PEER.node_id) == moved
    assert not table.refused


def test_a_restart_at_another_address_is_taken_as_it_is() -> None:
    table = MemberTable(ME, [PEER])
    moved = replace(PEER, host="127.0.0.2", port=9, incarnation=2)

    assert table.merge([moved], may_grow=False)

    assert table.get(PEER.node_id) == moved
    assert not table.refused
