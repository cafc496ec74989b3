"""The verdict of `everwrite status`."""

from __future__ import annotations

import msgspec
import pytest

from everwrite.cli.reports import Cluster, Hints, Identity, Peer, Status, judge, read
from everwrite.core.errors import ProtocolError

NAMES = ["n1", "n2", "n3"]


def status(
    name: str, *, down: str = "", hints: int = 0, view: str = "v", ready: bool = True
) -> Status:
    """Return what node ``name`` of three says, to whom ``down`` seems down."""
    return Status(
        cluster=Cluster("c", "everwrite", 64, 3, view),
        node=Identity("id", name, f"{name}:7400", ready=ready),
        nodes=[
            Peer(other, other, f"{other}:7400", state_of(other, name, down), silent_ms=1500.0)
            for other in NAMES
        ],
        hints=Hints(hints, {"n2": hints} if hints else {}),
    )


def state_of(other: str, me: str, down: str) -> str:
    return "self" if other == me else "down" if other == down else "up"


def test_a_cluster_in_which_all_answer_is_healthy() -> None:
    verdict = judge(status("n1"), {"n2": status("n2"), "n3": status("n3")})

    assert verdict.healthy
    assert verdict.line() == "HEALTHY: 3 of 3 nodes up, 0 hints waiting"


def test_waiting_hints_are_added_up_but_are_no_fault_by_themselves() -> None:
    verdict = judge(status("n1", hints=2), {"n2": status("n2"), "n3": status("n3", hints=3)})

    assert verdict.healthy
    assert "5 hints waiting" in verdict.line()


@pytest.mark.parametrize(
    ("asked", "others", "says"),
    [
        (status("n1"), {"n2": None, "n3": status("n3")}, "n2 at n2:7400 does not answer"),
        (status("n1", down="n2"), {"n2": None, "n3": status("n3")}, "n2 at n2:7400"),
        (
            status("n1", down="n3"),
            {"n2": status("n2"), "n3": status("n3")},
            "n1 can't reach n3",
        ),
        (
            status("n1"),
            {"n2": status("n2", down="n1"), "n3": status("n3")},
            "n2 can't reach n1",
        ),
        (
            status("n1"),
            {"n2": status("n2", view="w"), "n3": status("n3")},
            "do not agree on the ring",
        ),
        (status("n1", ready=False), {"n2": status("n2"), "n3": status("n3")}, "n1 not ready"),
    ],
)
def test_whatever_is_wrong_is_named(
    asked: Status, others: dict[str, Status | None], says: str
) -> None:
    verdict = judge(asked, others)

    assert not verdict.healthy
    assert verdict.line().startswith("DEGRADED: ")
    assert says in verdict.line()


@pytest.mark.scenario(54)
def test_a_node_that_can_keep_no_more_hints_degrades_the_cluster() -> None:
    full = msgspec.structs.replace(status("n2"), hints=Hints(7, full=True))

    verdict = judge(status("n1"), {"n2": full, "n3": status("n3")})

    assert verdict.reasons == ["n2 can keep no more hints"]


def test_two_nodes_of_one_name_degrade_the_cluster() -> None:
    asked = status("n1")
    twins = [*asked.nodes, msgspec.structs.replace(asked.nodes[-1], id="another")]
    asked = msgspec.structs.replace(asked, nodes=twins)

    verdict = judge(asked, {"n2": status("n2"), "n3": status("n3")})

    assert verdict.reasons == ["2 nodes are named n3"]


def test_partitions_on_their_way_are_named_and_a_node_that_waits_is_no_replica() -> None:
    waiting = [
        Peer("n1", "n1", "n1:7400", "self", to_shed=2),
        Peer("n2", "n2", "n2:7400", "up", to_gain=3),
        Peer("n3", "n3", "n3:7400", "up", standing="joining"),
    ]
    asked = Status(
        cluster=Cluster("c", "everwrite", 64, 2, "v", replicas_wanted=3),
        node=Identity("id", "n1", "n1:7400", ready=True),
        nodes=waiting,
        hints=Hints(0),
    )

    verdict = judge(asked, {"n2": status("n2"), "n3": status("n3")})

    assert verdict.summary == (
        "3 of 3 nodes up, 0 hints waiting, 5 partitions to move; 2 nodes for 3 replicas, so each "
        "value has 2 copies"
    )
    assert verdict.healthy


def test_one_node_of_three_replicas_says_that_there_is_one_copy_and_is_well() -> None:
    asked = Status(
        cluster=Cluster("c", "everwrite", 64, 1, "v", replicas_wanted=3),
        node=Identity("id", "n1", "n1:7400", ready=True),
        nodes=[Peer("n1", "n1", "n1:7400", "self")],
        hints=Hints(0),
    )

    assert judge(asked, {}).line() == (
        "HEALTHY: 1 of 1 node up, 0 hints waiting; 1 node for 3 replicas, so each value has one "
        "copy"
    )


def test_two_nodes_for_three_replicas_are_degraded_once_one_is_down() -> None:
    asked = Status(
        cluster=Cluster("c", "everwrite", 64, 2, "v", replicas_wanted=3),
        node=Identity("id", "n1", "n1:7400", ready=True),
        nodes=[
            Peer("n1", "n1", "n1:7400", "self"),
            Peer("n2", "n2", "n2:7400", "down", silent_ms=1500.0),
        ],
        hints=Hints(0),
    )

    assert not judge(asked, {"n2": None}).healthy


def test_an_answer_of_a_newer_node_is_understood_and_one_of_another_shape_is_not() -> None:
    answer = msgspec.to_builtins(status("n1"))

    assert read({**answer, "weather": "fine"}, Status) == status("n1")
    with pytest.raises(ProtocolError, match="hints"):
        read({**answer, "hints": 5}, Status)


def test_a_node_that_is_passed_over_is_named_with_who_does_so() -> None:
    asked = status("n1")
    asked.nodes[2] = msgspec.structs.replace(asked.nodes[2], state="slow")

    verdict = judge(asked, {"n2": status("n2"), "n3": status("n3")})

    assert verdict.line().startswith("DEGRADED: n1 passes over n3 for being slow")
