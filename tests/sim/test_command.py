"""`everwrite simulate`: what it prints, and the exit code that scripts go by."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.commands import everwrite

from everwrite.sim.campaign import SWITCHED_ON_MIN, TRIED_MIN, Campaign
from everwrite.sim.history import load
from everwrite.sim.options import FAULTS
from everwrite.sim.run import run_seed


def test_a_run_without_violations_is_exit_code_0_and_says_what_it_did() -> None:
    ended = everwrite("simulate", "--seeds", "3", "--processes", "1", "-o", "json")

    said = ended.json()
    assert ended.code == 0
    assert said["seeds"] == 3 and said["violations"] == [] and said["invalid"] == []
    assert min(said["events"], said["faults"], said["operations"]) > 100


def test_a_violation_is_exit_code_1_and_comes_with_the_command_that_repeats_it() -> None:
    ended = everwrite("simulate", "--seed", "2", "--bug", "skip-sync", "-o", "json")

    (violation,) = ended.json()["violations"]
    assert ended.code == 1
    assert violation["repeat"] == "everwrite simulate --seed 2 --bug skip-sync"
    assert violation["rule"] == "quorum" and "durable" in violation["sentence"]


def test_one_seed_says_all_that_it_drew_and_its_trace() -> None:
    ended = everwrite("simulate", "--seed", "7")

    assert "options: nodes" in ended.err and "faults:" in ended.err and "knobs:" in ended.err
    assert run_seed(7).trace in ended.out


def test_a_violation_is_told_in_words() -> None:
    ended = everwrite("simulate", "--seed", "2", "--bug", "hints-stay")

    assert "seed 2: calm" in ended.out
    assert "still keeps" in ended.out
    assert "repeat it: everwrite simulate --seed 2 --bug hints-stay" in ended.out


def test_a_history_can_be_kept(tmp_path: Path) -> None:
    kept = tmp_path / "history.jsonl"

    ended = everwrite("simulate", "--seed", "7", "--history", str(kept))

    assert ended.code == 0
    assert len(list(load(kept.read_bytes()))) == run_seed(7).operations["put"]["ok"] + sum(
        count
        for kind, outcomes in run_seed(7).operations.items()
        for outcome, count in outcomes.items()
        if (kind, outcome) != ("put", "ok")
    )


def test_the_deliberate_bugs_are_listed() -> None:
    ended = everwrite("simulate", "--bugs")

    assert ended.code == 0
    assert "skip-sync" in ended.out and "hint-deleted-early" in ended.out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--seed", "1", "--seeds", "2"), "exclude each other"),
        (("--history", "x"), "goes with --seed"),
        (("--bug", "typo"), "no deliberate bug"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(arguments: tuple[str, ...], why: str) -> None:
    ended = everwrite("simulate", *arguments)

    assert ended.code == 2
    assert why in ended.err


def test_a_run_in_which_a_kind_of_operation_never_succeeded_is_invalid() -> None:
    campaign = Campaign(seeds=1, operations={"get": {"fail": TRIED_MIN}})

    assert campaign.invalid() == ["no get ever succeeded"]


def test_a_run_in_which_a_fault_never_struck_is_invalid() -> None:
    often = SWITCHED_ON_MIN
    campaign = Campaign(
        seeds=often, switched_on={"split": often, "kill": often}, faults={"kill": 1}
    )

    assert campaign.invalid() == [f"split was switched on in {often} seeds and never struck"]
    assert "split" in FAULTS


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the children of a process")
@pytest.mark.timeout(60)
def test_its_processes_end_when_it_is_killed() -> None:
    command = [sys.executable, "-m", "everwrite", "simulate", "--seeds", "100000"]
    with subprocess.Popen([*command, "--processes", "2"], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        while len(children.read_text().split()) < 3:  # two workers, and who looks after semaphores
            assert parent.poll() is None
        parent.kill()

        # The workers hold the other end of this pipe as long as they live.
        assert parent.stdout.read() == b""
