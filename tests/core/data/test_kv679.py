"""riak_kv issue 679 and its family: an actor that is used twice erases acknowledged writes.

``traces.py`` tells each story; here the rule of ``epochs.py`` plays in it.
"""

from __future__ import annotations

import pytest
from tests.core.data.traces import (
    Node,
    amnesia_on_a_replica_and_fallback_handoff,
    amnesia_on_the_coordinator,
    doomstone,
    restart_after_a_lost_write,
    same_actor_twins,
)


@pytest.mark.scenario(15)
def test_amnesia_on_the_coordinator_loses_no_later_write() -> None:
    amnesia_on_the_coordinator(Node)


@pytest.mark.scenario(16)
def test_amnesia_on_a_replica_and_a_late_hint_lose_no_later_write() -> None:
    amnesia_on_a_replica_and_fallback_handoff(Node)


@pytest.mark.scenario(50)
def test_a_doomstone_does_not_kill_the_next_life_of_its_key() -> None:
    doomstone(Node)


def test_same_actor_twins_overwrite_nothing_of_each_other() -> None:
    same_actor_twins(Node)


def test_a_restart_after_a_lost_write_does_not_repeat_its_dot() -> None:
    restart_after_a_lost_write(Node)
