"""The story of a demo: what must happen does, in an order that makes sense."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from everwrite.cli.demo.story import Step, plan_story
from everwrite.cli.splits import parse_split

STORIES = st.builds(
    lambda nodes, seconds, pauses, seed: (
        nodes,
        seconds,
        plan_story(nodes, seconds, pauses=pauses, rng=random.Random(seed)),
    ),
    st.integers(3, 16),
    st.floats(5, 1000),
    st.booleans(),
    st.integers(0, 1000),
)


@given(STORIES)
def test_every_fault_is_undone_before_four_fifths_of_the_time(
    story: tuple[int, float, list[Step]],
) -> None:
    _, seconds, steps = story
    undoes = {"restart": "kill", "resume": "pause", "heal": "partition"}
    open_faults: set[tuple[str, int]] = set()

    for step in steps:
        if step.act in undoes:
            open_faults.remove((undoes[step.act], step.node))
        else:
            open_faults.add((step.act, step.node))

    assert not open_faults
    assert [step.at for step in steps] == sorted(step.at for step in steps)
    assert steps[0].at > 0
    assert steps[-1].at <= 0.8 * seconds
    assert {"kill", "restart", "partition", "heal"} <= {step.act for step in steps}


@given(STORIES)
def test_the_cut_names_every_node_once_in_two_halves(
    story: tuple[int, float, list[Step]],
) -> None:
    nodes, _, steps = story
    text = next(step.split for step in steps if step.act == "partition")

    halves = [half.split(",") for half in text.split("|")]

    assert sorted(len(half) for half in halves) == sorted([nodes // 2, nodes - nodes // 2])
    assert parse_split(text, nodes).nodes() == set(range(1, nodes + 1))


@given(STORIES)
def test_small_clusters_never_miss_two_nodes_at_once(
    story: tuple[int, float, list[Step]],
) -> None:
    nodes, _, steps = story
    away, most = 0, 0
    for step in steps:
        away += {"kill": 1, "pause": 1, "restart": -1, "resume": -1}.get(step.act, 0)
        most = max(most, away)

    assert most <= (1 if nodes < 5 else 2)


def test_a_seed_tells_the_same_story_twice() -> None:
    once = plan_story(5, 20, pauses=True, rng=random.Random(7))

    assert once == plan_story(5, 20, pauses=True, rng=random.Random(7))
    assert any(step.act == "pause" for step in once)


def test_nobody_is_frozen_where_that_was_not_wanted() -> None:
    steps = plan_story(5, 20, pauses=False, rng=random.Random(7))

    assert not any(step.act in {"pause", "resume"} for step in steps)
