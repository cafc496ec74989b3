"""Real nodes under all faults at once lose nothing; and a run would say so if they did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.chaos.nemesis import CAN_FILL_DISKS
from tests.chaos.planted import Forgetful, WithBug, WriteBehind, put_disks_back
from tests.chaos.run import Options, Verdict, run

pytestmark = pytest.mark.process

SHORT = ("kill", "kill-two", "kill-all", "pause", "split", "one-way", "loss", "delay")
"""Kinds that are sure to strike in half a minute, also where starts are slow."""


def rules(verdict: Verdict) -> set[str]:
    return {breach.rule for breach in verdict.breaches}


def told(verdict: Verdict) -> str:
    return "\n".join(verdict.lines())


def test_half_a_minute_of_chaos_loses_nothing(tmp_path: Path) -> None:
    kinds = (*SHORT, "client-tear", "members")
    options = Options(seconds=30, seed=4, kills=5, kinds=kinds, directory=tmp_path / "run")

    verdict = run(options)

    assert verdict.passed, told(verdict)
    assert verdict.acked > 200


@pytest.mark.skipif(not CAN_FILL_DISKS, reason="needs prlimit, which is Linux's")
def test_disks_that_are_full_in_turn_lose_nothing(tmp_path: Path) -> None:
    options = Options(seconds=8, seed=1, kinds=("full-disk",), directory=tmp_path / "run")

    verdict = run(options)

    assert verdict.passed, told(verdict)


def found_out(tmp_path: Path, seconds: float, kinds: tuple[str, ...], **how: Any) -> Verdict:
    """Return the verdict of the first of four runs in which something is lost, else of the last: a
    bug shows where a fault meets a write, and how many writes there are is up to the machine.
    """
    for seed in range(1, 5):
        options = Options(
            seconds=seconds, seed=seed, kinds=kinds, directory=tmp_path / f"run{seed}"
        )
        verdict = run(options, **how)
        if "lost" in rules(verdict):
            break
    return verdict


@pytest.mark.parametrize("bug", ["store-overwrites", "put-drops-unseen", "merge-by-wall-clock"])
def test_nodes_with_a_bug_are_found_out(bug: str, tmp_path: Path) -> None:
    kinds = ("kill-two", "kill-all", "split")

    verdict = found_out(tmp_path, 8, kinds, make=WithBug.named(bug))

    assert "lost" in rules(verdict), told(verdict)
    assert not verdict.passed


def test_disks_that_are_put_back_behind_the_clusters_back_are_found_out(tmp_path: Path) -> None:
    verdict = found_out(tmp_path, 4, ("pause",), make=Forgetful.create, before_heal=put_disks_back)

    assert "lost" in rules(verdict), told(verdict)
    assert not verdict.passed


def test_clients_that_acknowledge_before_the_answer_are_found_out(tmp_path: Path) -> None:
    verdict = found_out(tmp_path, 4, ("pause",), client=WriteBehind)

    assert "lost" in rules(verdict), told(verdict)


def test_a_run_without_the_kills_that_were_asked_for_proves_nothing_and_keeps_its_history(
    tmp_path: Path,
) -> None:
    where = tmp_path / "run"
    options = Options(seconds=3, seed=1, kills=1, kinds=("pause",), directory=where)

    verdict = run(options)

    assert verdict.breaches == []
    assert any("0 kills; 1 were asked for" in reason for reason in verdict.unproven)
    assert not verdict.passed
    assert verdict.kept == str(where)
    assert (where / "history.jsonl").stat().st_size > 0
    assert (where / "cluster" / "node1.log").stat().st_size > 0
