"""Processes by pid and birth: a pid alone is never trusted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from everwrite.cli import processes


@contextmanager
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that waits for the end of its input."""
    command = [sys.executable, "-S", "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(params=["here", "elsewhere"], autouse=True)
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test as on this system, and as on one without /proc."""
    if request.param == "elsewhere":
        if shutil.which("ps") is None:
            pytest.skip("there is no ps")
        monkeypatch.setattr(processes, "_LINUX", False)


def test_a_birth_tells_two_processes_apart_and_stays_the_same() -> None:
    with child() as one, child() as other:
        assert processes.birth(one.pid) == processes.birth(one.pid) != ""
        assert processes.birth(one.pid) != processes.birth(1)
        assert processes.state(other.pid, processes.birth(other.pid)) == "running"


def test_a_process_with_a_reused_pid_is_gone_and_gets_no_signal() -> None:
    with child() as stranger:
        born = processes.birth(stranger.pid) + "0"

        assert processes.state(stranger.pid, born) == "gone"
        assert not processes.send(stranger.pid, born, signal.SIGKILL)
        assert not processes.send(stranger.pid, "", signal.SIGKILL)
        assert processes.state(stranger.pid, processes.birth(stranger.pid)) == "running"


def test_a_frozen_process_is_stopped_until_it_goes_on() -> None:
    with child() as process:
        born = processes.birth(process.pid)

        assert processes.send(process.pid, born, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        assert processes.state(process.pid, born) == "stopped"

        assert processes.send(process.pid, born, signal.SIGCONT)
        os.waitpid(process.pid, os.WCONTINUED)
        assert processes.state(process.pid, born) == "running"


def test_a_killed_process_is_gone_even_before_its_parent_has_looked() -> None:
    with child() as process:
        born = processes.birth(process.pid)

        processes.send(process.pid, born, signal.SIGKILL)

        assert processes.wait_gone(process.pid, born, 5, None)
        assert not processes.send(process.pid, born, signal.SIGKILL)


def test_waiting_for_a_process_that_stays_ends_at_the_deadline() -> None:
    with child() as process:
        born = processes.birth(process.pid)

        assert not processes.wait_gone(process.pid, born, 0.02, None)
        assert not processes.wait_gone(process.pid, born, 0.02, process)
