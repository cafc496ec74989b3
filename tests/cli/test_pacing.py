"""What `everwrite status` says of background work."""

from __future__ import annotations

from everwrite.cli.pacing import Kind, Pace, Sort, pace_rows


def test_each_figure_of_the_pace_table_says_what_it_is() -> None:
    pace = Pace(
        rate=40.0,
        why="it needs no more than it may do",
        requests={"reads": Sort(9.06, 7.5, 11.3)},
        kinds={"repair": Kind(per_s=1.2, wants=True)},
    )

    row = pace_rows([("n1", pace), ("n2", None)])

    p99 = "reads 9.1 ms, may be 11.3 (alone 7.5)"
    assert row == [["n1", "40 slices/s", "repair 1/s", p99, "it needs no more than it may do"]]
