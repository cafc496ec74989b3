"""`everwrite simulate`: what it prints, and the exit code that scripts go by."""

from __future__ import annotations

import re
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


def test_one_seed_is_shrunk_to_a_list_that_says_what_happens(tmp_path: Path) -> None:
    kept = tmp_path / "case.json"
    arguments = ("--seed", "3", "--bug", "hint-deleted-early")

    ended = everwrite("simulate", *arguments, "--shrink", "--save", str(kept))

    assert ended.code == 1
    told = ended.out[ended.out.index("shrunk: ") :].split("repeat it")[0]
    sizes = re.findall(r"(faults|operations|nodes|knobs) (\d+) -> (\d+)", told.splitlines()[0])
    assert [what for what, _, _ in sizes] == ["faults", "operations", "nodes", "knobs"]
    assert all(int(after) <= int(before) for _, before, after in sizes)
    left = {what: int(after) for what, _, after in sizes}
    assert left["faults"] + left["operations"] <= 30
    assert told.count("\n  fault: ") == left["faults"]
    assert len(re.findall(r"\n  (?:get|put|delete|fetch) c", told)) == left["operations"]
    assert f"\n  {left['nodes']} node" in told and "nothing more can be left out" in told
    assert f"repeat it: everwrite simulate --case {kept}" in ended.out

    again = everwrite("simulate", "--case", str(kept), "-o", "json")

    assert again.code == 1
    (violation,) = again.json()["violations"]
    assert violation["sentence"] in told
    assert violation["repeat"] == f"everwrite simulate --case {kept}"
    assert again.json()["operations"] == left["operations"]


def test_a_shrunk_run_is_data_too() -> None:
    ended = everwrite("simulate", "--seed", "2", "--bug", "skip-sync", "--shrink", "-o", "json")

    shrunk = ended.json()["shrunk"]
    assert ended.code == 1
    assert len(shrunk["operations"]) == shrunk["after"]["operations"]
    assert shrunk["after"]["operations"] < shrunk["before"]["operations"]
    assert shrunk["ended"] == "minimal" and shrunk["rule"] == shrunk["case"]["rule"]
    assert shrunk["repeat"] == "everwrite simulate --seed 2 --bug skip-sync --shrink"


def test_the_budget_of_shrinking_can_be_given_and_what_it_was_spent_on_is_said() -> None:
    arguments = ("--seed", "2", "--bug", "hints-stay", "--shrink", "--shrink-runs", "4")

    ended = everwrite("simulate", *arguments)

    assert "after 4 runs; the budget of runs is spent" in ended.out


def test_a_run_that_breaks_no_rule_leaves_nothing_to_shrink(tmp_path: Path) -> None:
    kept = tmp_path / "case.json"

    ended = everwrite("simulate", "--seed", "7", "--shrink", "--save", str(kept))

    assert ended.code == 0
    assert "nothing to shrink" in ended.err
    assert not kept.exists()


def test_the_first_of_many_seeds_that_breaks_a_rule_is_shrunk_by_itself() -> None:
    arguments = ("simulate", "--seeds", "3", "--bug", "skip-sync", "-o", "json")

    shrunk = everwrite(*arguments)
    whole = everwrite(*arguments, "--no-shrink")

    said, left_whole = shrunk.json(), whole.json()
    assert shrunk.code == whole.code == 1
    assert said["violations"] == left_whole["violations"]
    assert said["shrunk"]["seed"] == said["violations"][0]["seed"]
    assert left_whole["shrunk"] is None


def test_a_run_goes_on_until_all_its_numbers_are_reached() -> None:
    ended = everwrite(
        "simulate", "--seeds", "2", "--events", "60000", "--faults", "50", "-o", "json"
    )

    said = ended.json()
    assert said["seeds"] >= 2 and said["events"] >= 60_000 and said["faults"] >= 50
    assert said["events_per_s"] >= said["events_per_s_and_core"] > 0


def test_a_fresh_run_says_its_first_seed_and_can_be_repeated_by_that() -> None:
    fresh = everwrite("simulate", "--seeds", "2", "--fresh", "-o", "json")
    first = fresh.json()["first"]
    again = everwrite("simulate", "--seeds", "2", "--first", str(first), "-o", "json")

    assert f"first seed {first}" in fresh.err
    assert again.json()["events"] == fresh.json()["events"]
    assert everwrite("simulate", "--seeds", "1", "--fresh", "-o", "json").json()["first"] != first


def test_the_verdict_says_what_the_run_was_worth() -> None:
    ended = everwrite("simulate", "--seeds", "3")

    verdict = ended.out.splitlines()[-1]
    assert re.fullmatch(
        r"3 seeds, [\d,]+ events, [\d,]+ faults, [\d,]+ operations, \d+ of \d+ probes hit, "
        r"0 violations, [\d,]+ events/s, [\d,]+ per core",
        verdict,
    )
    assert "never happened: " in ended.out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--seed", "1", "--seeds", "2"), "exclude each other"),
        (("--hours", "1", "--events", "2"), "exclude each other"),
        (("--seed", "1", "--case", "x"), "exclude each other"),
        (("--history", "x"), "goes with --seed"),
        (("--seed", "1", "--fresh"), "for many seeds"),
        (("--case", "x", "--first", "3"), "for many seeds"),
        (("--fresh", "--first", "3"), "leave out --first"),
        (("--seed", "1", "--save", "x"), "goes with --shrink"),
        (("--seeds", "1", "--no-shrink", "--save", "x"), "goes with --shrink"),
        (("--case", "x", "--bug", "skip-sync"), "leave out --bug"),
        (("--case", "/no/such/case"), "No such file"),
        (("--case", __file__), "not a case"),
        (("--events", "0"), "not in the range"),
        (("--shrink-runs", "0"), "not in the range"),
        (("--bug", "typo"), "no deliberate bug"),
        (("--seed", "1", "--bug", "typo"), "no deliberate bug"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(arguments: tuple[str, ...], why: str) -> None:
    ended = everwrite("simulate", *arguments)

    assert ended.code == 2
    assert why in " ".join(ended.err.split())


def test_a_case_that_cannot_be_kept_is_an_error_that_says_so(tmp_path: Path) -> None:
    nowhere = tmp_path / "no" / "such" / "folder"

    ended = everwrite(
        "simulate", "--seed", "2", "--bug", "skip-sync", "--shrink", "--save", str(nowhere)
    )

    assert ended.code == 1
    assert "The case cannot be written" in ended.err and "Name another file" in ended.err


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
