"""What `everwrite ring`, `locate` and `hints` show while partitions move and nodes are down."""

from __future__ import annotations

from everwrite.cli.inspect import STATUS_HEAD, hint_rows, location_rows, ring_rows, status_rows
from everwrite.cli.reports import Hints, HintTarget, Location, Ring, Status, read


def a_node(name: str, owned: int, **said: object) -> dict[str, object]:
    return {"id": name, "name": name, "zone": name, "weight": 1.0, "owned": owned, **said}


def test_a_ring_shows_what_nodes_serve_and_gain_and_its_shares_are_of_all_copies() -> None:
    nodes = [
        a_node("n3", 0, load=0.0, standing="leaving", state="down", serves=32, to_shed=32),
        a_node("n1", 64, load=1.0, serves=64),
        a_node("n2", 64, load=1.0, serves=32, to_gain=32),
    ]

    ring = {"partitions": 64, "replicas": 2, "view": "v", "nodes": nodes}
    rows = ring_rows(read(ring, Ring))

    assert [row[0] for row in rows] == ["n1", "n2", "n3"]
    assert [row[5:9] for row in rows] == [
        ["64", "64", "0", "50.0%"],
        ["64", "32", "32", "50.0%"],
        ["0", "32", "0", "0.0%"],
    ]
    assert rows[2][1:3] == ["down", "leaving"]


def test_locate_shows_who_serves_for_an_owner_that_is_filling_up() -> None:
    def place(name: str, role: str, **said: object) -> dict[str, object]:
        address = f"{name}:7400"
        return {"id": name, "name": name, "address": address, "role": role, "state": "up", **said}

    preference = [
        place("n1", "owner", keeps=True),
        place("n4", "filling", keeps=True),
        place("n2", "serves", serves_for="n4", keeps=True),
        place("n3", "fallback"),
    ]
    rows = location_rows(read({"partition": 7, "preference": preference}, Location))

    assert [(row[1], row[2], row[6]) for row in rows] == [
        ("owner", "n1", "yes"),
        ("filling", "n4", "not yet"),
        ("serves for n4", "n2", "yes"),
        ("fallback", "n3", "-"),
    ]


def test_hints_have_a_row_for_each_keeper_and_owner_and_say_what_they_wait_for() -> None:
    kept = Hints(
        5,
        {"n3": 3, "n4": 2},
        targets=[
            HintTarget("n4", 2, 300, 61_000, 0, "the node, which is not up"),
            HintTarget("n3", 3, 4096, 5_000, 3, "acks"),
        ],
    )

    assert hint_rows({"n1": kept, "n2": Hints(0)}) == [
        ["n1", "n3", "3", "4.0 KiB", "5.0 s", "3", "acks"],
        ["n1", "n4", "2", "300 B", "61.0 s", "0", "the node, which is not up"],
    ]


def test_status_shows_the_ports_of_a_nodes_fronts() -> None:
    def said(name: str, **fronts: str | None) -> Status:
        nodes = [
            {"id": each, "name": each, "address": f"{each}:7400", "state": state}
            for each, state in (("n1", "self"), ("n2", "up"), ("n3", "down"))
        ]
        cluster = {"id": "c", "name": "c", "partitions": 4, "replicas": 3, "view": "v"}
        node = {"id": name, "name": name, "address": f"{name}:7400", **fronts}
        answer = {"cluster": cluster, "node": node, "nodes": nodes, "hints": {"waiting": 0}}
        return read(answer, Status)

    asked = said("n1", http="http://[::1]:7600", redis="[::1]:7800")
    rows = status_rows(asked, {"n2": said("n2", http=None, redis="n2:7801"), "n3": None})

    shown = [dict(zip(STATUS_HEAD, row, strict=True)) for row in rows]
    assert [(row["node"], row["http"], row["redis"]) for row in shown] == [
        ("n1", "7600", "7800"),
        ("n2", "-", "7801"),
        ("n3", "-", "-"),
    ]
