"""A process that a test starts and listens to, and that ends with the test."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 30.0
LOOK_EVERY_S = 0.02


def until(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Return once a condition holds; fails, saying what was waited for, if that takes too long."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"in vain: {what()}"
        time.sleep(LOOK_EVERY_S)


class Watched:
    """A running process and the file that its standard error goes to."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def until_said(self, pattern: str, times: int = 1) -> list[str]:
        """Return what the pattern (its group, if it has one) found, once that is so often."""
        found: list[str] = []

        def heard() -> bool:
            found[:] = re.findall(pattern, self.said(), re.MULTILINE)
            return len(found) >= times

        until(heard, lambda: f"{pattern!r}, {times} times, in\n{self.said()}")
        return found

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Return the exit code, once it has ended."""
        return self.process.wait(PATIENCE_S)


@contextmanager
def watched(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Watched]:
    """Run a command in a process group of its own, all of which is gone at the end."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        yield Watched(process, log)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            assert process.wait(PATIENCE_S) is not None
        process.wait(PATIENCE_S)
