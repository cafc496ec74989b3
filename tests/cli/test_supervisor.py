"""Children that are watched: they are kept up, heard, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.watched import Watched, until, watched

from everwrite.cli import processes

pytestmark = pytest.mark.process

PARENT = """
import logging, os, sys
from everwrite.cli.supervisor import Child, ChildrenFailed, Supervisor

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
children = [
    Child(f"c{n}", lambda lifeline, text=text: [sys.executable, "-S", "-c", text, str(lifeline)])
    for n, text in enumerate(sys.argv[2:], 1)
]
try:
    Supervisor(children, dict(os.environ), stop_seconds=float(sys.argv[1])).run()
except ChildrenFailed as error:
    sys.exit(f"failed: {error}")
"""
WAIT = "import signal; print('up', flush=True); signal.pause()"
WATCH = "import os, sys; print('up', flush=True); os.read(int(sys.argv[1]), 1); print('end')"
DIE = "import sys; print('up', flush=True); sys.exit(3)"
IGNORE = "import signal; signal.signal(15, signal.SIG_IGN)\n" + WAIT + "\nsignal.pause()"


@contextmanager
def parent_of(*children: str, log: Path, stop_seconds: float = 20.0) -> Iterator[Watched]:
    """Run a supervisor of children that run these texts, called c1, c2, ..."""
    command = [sys.executable, "-c", PARENT, str(stop_seconds), *children]
    with watched(command, log) as parent:
        yield parent


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def born(parent: Watched, times: int) -> list[tuple[int, str]]:
    """Return pid and birth of the children that were started so far, once there are so many."""
    pids = [int(pid) for pid in parent.until_said(r"started child=c\d pid=(\d+)", times)]
    parent.until_said(r"^c\d \| up$", times)
    return [(pid, processes.birth(pid)) for pid in pids]


def is_gone(child: tuple[int, str]) -> bool:
    return processes.state(*child) == "gone"


def test_what_children_write_comes_through_line_by_line_with_their_names(log: Path) -> None:
    speak = "import sys; sys.stderr.write('one\\ntwo\\n'); sys.stderr.flush();" + WAIT
    half = "import sys; sys.stdout.write('x' * 100_000 + 'no end'); " + WAIT
    with parent_of(speak, half, log=log) as parent:
        parent.until_said(r"up$", 2)
        parent.send(signal.SIGTERM)
        parent.wait()

        lines = parent.said().splitlines()
        pieces = [line.removeprefix("c2 | ") for line in lines if line.startswith("c2 | ")]
        assert [line for line in lines if line.startswith("c1 | ")] == [
            "c1 | one",
            "c1 | two",
            "c1 | up",
        ]
        assert "".join(pieces) == "x" * 100_000 + "no endup"


def test_a_line_without_an_end_comes_through_when_its_child_has_ended(log: Path) -> None:
    with parent_of("import os; os.write(1, b'last')", log=log) as parent:
        parent.until_said(r"^c1 \| last\n.*has ended for good")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all_and_is_no_error(number: signal.Signals, log: Path) -> None:
    with parent_of(WAIT, WAIT, WAIT, log=log) as parent:
        children = born(parent, 3)
        parent.send(number)

        assert parent.wait() == 0
        assert all(map(is_gone, children))
        assert "ERROR" not in parent.said()


def test_ctrl_c_that_reaches_the_children_too_is_a_stop_and_no_death(log: Path) -> None:
    with parent_of(WAIT, WAIT, log=log) as parent:
        born(parent, 2)
        os.killpg(parent.process.pid, signal.SIGINT)

        assert parent.wait() == 0
        assert "started again" not in parent.said()


def test_a_child_that_was_killed_is_started_again_and_that_is_said(log: Path) -> None:
    with parent_of(WAIT, WAIT, log=log) as parent:
        first, second = born(parent, 2)
        os.kill(first[0], signal.SIGKILL)
        again = born(parent, 3)[2]

        assert f"ERROR child=c1 pid={first[0]} was killed by SIGKILL" in parent.said()
        assert processes.state(*again) == processes.state(*second) == "running"


@pytest.mark.slow
def test_a_child_that_ends_well_is_not_started_again_and_the_last_one_ends_it(log: Path) -> None:
    leave = "print('up', flush=True); print('left', flush=True)"
    with parent_of(leave, leave, log=log) as parent:
        parent.until_said(r"^WARNING child=c\d has ended for good, and is not started again$", 2)

        assert parent.wait() == 0


def test_a_child_that_dies_again_and_again_ends_all_of_them(log: Path) -> None:
    with parent_of(WAIT, DIE, log=log) as parent:
        assert parent.wait() == 1

        said = parent.said()
        lives = [line for line in said.splitlines() if "started child=c2" in line]
        pauses = [line.split()[-2] for line in said.splitlines() if "started again" in line]
        first = int(parent.until_said(r"started child=c1 pid=(\d+)")[0])
        assert len(lives) == 5
        assert pauses == ["0.25", "0.5", "1", "2"]
        assert "exit code 3" in said
        assert "failed: c2 died 5 times" in said
        assert is_gone((first, processes.birth(first)))


def test_a_child_whose_program_is_not_there_counts_as_dead(log: Path) -> None:
    text = PARENT.replace("sys.executable, ", "'/nowhere/at/all', ")
    with watched([sys.executable, "-c", text, "1", WAIT], log) as parent:
        parent.until_said("child=c1 cannot be started: .*nowhere.*started again in 0.25 s")
        parent.send(signal.SIGTERM)

        assert parent.wait() == 0


def test_a_child_that_does_not_stop_in_time_is_killed(log: Path) -> None:
    with parent_of(IGNORE, WAIT, log=log, stop_seconds=0.2) as parent:
        children = born(parent, 2)
        parent.send(signal.SIGTERM)

        assert parent.wait() == 0
        assert all(map(is_gone, children))
        assert f"ERROR child=c1 pid={children[0][0]} does not stop: killed" in parent.said()


def test_a_frozen_child_is_stopped_too(log: Path) -> None:
    with parent_of(WAIT, log=log) as parent:
        (child,) = born(parent, 1)
        os.kill(child[0], signal.SIGSTOP)
        assert processes.wait_until(*child, "stopped", 10)
        parent.send(signal.SIGTERM)

        assert parent.wait() == 0
        assert "ERROR" not in parent.said(), "and it needed no kill"


def test_children_learn_of_the_death_of_a_parent_that_was_killed(log: Path) -> None:
    with parent_of(WATCH, WATCH, log=log) as parent:
        children = born(parent, 2)
        parent.send(signal.SIGKILL)

        until(lambda: all(map(is_gone, children)), lambda: "the children end by themselves")


def test_children_go_on_when_nobody_takes_their_words_any_more(tmp_path: Path) -> None:
    done = tmp_path / "done"
    text = f"print('x\\n' * 1_000_000, flush=True); open({str(done)!r}, 'w')\n" + WAIT
    command = [sys.executable, "-c", PARENT, "20", text]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as parent:
        try:
            assert parent.stderr is not None
            parent.stderr.close()

            until(done.exists, lambda: "all was written")
            assert parent.poll() is None
            parent.terminate()
            assert parent.wait(20) == 0
        finally:
            parent.kill()
