"""Processes that outlive the command that started them, and are never mistaken for others.

A pid alone says nothing: once its process is gone, the system gives it to somebody else. So a
process is known by its pid and its *birth*, a text that no other process with that pid can have: on
Linux the boot's id and the start time in ticks since boot, elsewhere the start time that `ps`
prints. A signal goes out only after the birth was compared; on Linux through a pidfd opened before
the comparison, so that even a pid reused between the two is safe.

Costs: two small files read per look on Linux (20 us), one `ps` elsewhere (5 ms).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

State = Literal["running", "stopped", "gone"]

_LINUX = sys.platform.startswith("linux")
_LOOK_EVERY_SECONDS = 0.005


def birth(pid: int) -> str:
    """Return what tells this process from all others with its pid, ever; empty if it is gone."""
    return _look(pid)[0]


def state(pid: int, born: str) -> State:
    """Return how the process is that was born so; another one with its pid counts as gone."""
    found, letter = _look(pid)
    if not born or found != born:
        return "gone"
    return "stopped" if letter in {"T", "t"} else "running"


def send(pid: int, born: str, number: signal.Signals) -> bool:
    """Signal the process that was born so; False, and nobody is signalled, if it is gone."""
    handle = -1
    try:
        handle = _open_handle(pid)
        if state(pid, born) == "gone":
            return False
        if handle < 0:
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        if handle >= 0:
            os.close(handle)
    return True


def wait_gone(pid: int, born: str, seconds: float, child: subprocess.Popen[bytes] | None) -> bool:
    """Wait until the process is gone; False if it is still there after ``seconds``."""
    if child is not None:
        # A dead child stays a zombie until its parent, us, asks for its exit code.
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True
    return wait_until(pid, born, "gone", seconds)


def wait_until(pid: int, born: str, wanted: State, seconds: float) -> bool:
    """Wait until the process is as wanted; False if it is not after ``seconds``."""
    end = time.monotonic() + seconds
    while state(pid, born) != wanted:
        if time.monotonic() > end:
            return False
        time.sleep(_LOOK_EVERY_SECONDS)
    return True


def _open_handle(pid: int) -> int:
    """Return a handle that stays with this process; -1 where there are none (Linux before 5.3)."""
    if not _LINUX:
        return -1
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:
        return -1


def _look(pid: int) -> tuple[str, str]:
    """Return (birth, state letter); empty for a process that is gone or a zombie."""
    found = _look_linux(pid) if _LINUX else _look_elsewhere(pid)
    return found if found[1] not in {"Z", "X"} else ("", "")


def _look_linux(pid: int) -> tuple[str, str]:
    try:
        line = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return "", ""
    # The name, in parentheses, may hold spaces and parentheses itself; the fields follow the last
    # one.
    fields = line.rpartition(")")[2].split()
    return f"{_boot()}:{fields[19]}", fields[0]


def _boot() -> str:
    """Return this boot's id; some sandboxes do not tell it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "boot"


def _look_elsewhere(pid: int) -> tuple[str, str]:
    command = ["ps", "-o", "state=", "-o", "lstart=", "-p", str(pid)]
    plain = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=False)
    letters, _, started = done.stdout.strip().partition(" ")
    return started.strip(), letters[:1]
