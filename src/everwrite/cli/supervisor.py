"""Child processes that are started, watched, started again when they die, and stopped together.

Each child is in one of three states; nothing but death and a signal to this process moves it:

    running --dies--> pausing --after 0.25 s, 0.5 s, 1 s, 2 s--> running
       |                 |
       +-- SIGTERM or SIGINT here, or one child's 5th death within a minute --> stopping --> gone

The parent is one thread that waits for descriptors: the children's output, which it passes on with
the child's name before each line, and a pipe into which the system writes when a signal came
(SIGCHLD among them), so that none is missed between a look and the wait.

**The lifeline.** A parent that is killed can stop nobody. So all children inherit the reading end
of a pipe whose only writing end is here: it ends with this process, however that ends, and a child
that watches it then stops by itself. That works on every Unix; Linux's parent-death signal does
not, and it is sent already when the thread that forked ends.

Children stay in the terminal's process group: Ctrl-C, Ctrl-Z and a closed terminal mean all of
them, as they would mean a single node. What a child writes is not kept: if nobody takes our
standard error the children wait as they would without us, and if it is closed it is thrown away.

Costs: one wake-up for each burst of output, death or signal; at rest none.
Source: Erlang/OTP's one-for-one supervisor (so many restarts in such a time, then give up).
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from everwrite.core.errors import EverwriteError

log = logging.getLogger("everwrite")

DEATHS_MAX = 5
DEATHS_WITHIN_SECONDS = 60.0
"""So many deaths of one child in such a time are no accident: starting it again does not help."""
PAUSE_SECONDS = 0.25
"""Before the first new start; doubled with each further death that still counts."""
STOP_SECONDS = 20.0
"""Patience with children that were told to stop: a node closes its store, usually in 0.1 s. What
it has acknowledged is on the disk, so SIGKILL after it costs only a longer start."""
_KILL_SECONDS = 5.0
_READ_BYTES = 1 << 16
_LINE_BYTES_MAX = 1 << 16
"""A longer line is passed on in pieces, so that no child can make us keep more."""


class ChildrenFailed(EverwriteError):
    """A child died again and again; the others were stopped."""

    code = "children_failed"


FOR_GOOD = 75
"""A child's exit code that says that to start it again is of no use. Between the two of them only:
what scripts see are the codes of ``exits.py``.
"""


class Child:
    """One process that should run; ``command`` is asked at each start, for it may change."""

    def __init__(self, name: str, command: Callable[[int], Sequence[str]]) -> None:
        self.name = name
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None
        self.start_at: float | None = 0.0
        """When to start it; None while it runs, and once it is to run no more."""
        self.deaths: deque[float] = deque(maxlen=DEATHS_MAX)
        self.begun = b""
        """The last line that it wrote, as long as its end is still to come."""


class Supervisor:
    """Runs children until it is told to stop; made and run in the main thread."""

    def __init__(
        self,
        children: Sequence[Child],
        environment: dict[str, str],
        *,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        self._children = children
        self._environment = environment
        self._stop_seconds = stop_seconds
        self._selector = selectors.DefaultSelector()
        self._lifeline = -1
        self._told = False
        self._unheard = 0
        """Lines that could not be passed on."""

    def run(self) -> None:
        """Return when a signal stopped all, or all have ended well; raise ChildrenFailed if one
        could not be kept up.
        """
        with self._lifeline_held(), self._signals_heard():
            try:
                failed = self._watch()
                self._stop()
            finally:
                self._kill()
        if self._unheard:
            log.warning("lines of output that nobody took count=%d", self._unheard)
        if failed is not None:
            raise ChildrenFailed(
                f"{failed.name} died {DEATHS_MAX} times within {DEATHS_WITHIN_SECONDS:g} s; "
                "all others were stopped.",
                hint="Its last lines above say why. Mend that, then start again.",
            )

    # -- watching ----------------------------------------------------------------------------------

    def _watch(self) -> Child | None:
        """Keep all children up until a signal comes (None) or one of them dies too often."""
        while True:
            now = time.monotonic()
            for child in self._children:
                if self._told:
                    return None
                if self._has_ended(child) and self._bury(child, now):
                    return child
                if child.start_at is not None and child.start_at <= now and self._start(child, now):
                    return child
            if not self._left():
                return None
            pauses = [child.start_at for child in self._children if child.start_at is not None]
            self._wait(max(0.0, min(pauses) - time.monotonic()) if pauses else None)

    def _start(self, child: Child, now: float) -> bool:
        """Start a child; True if that failed once too often."""
        try:
            child.process = subprocess.Popen(
                child.command(self._lifeline),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self._environment,
                pass_fds=(self._lifeline,),
            )
        except (OSError, EverwriteError) as error:
            return self._count_death(child, now, f"cannot be started: {error}")
        child.start_at = None
        output = child.process.stdout
        assert output is not None
        os.set_blocking(output.fileno(), False)
        self._selector.register(output, selectors.EVENT_READ, child)
        log.info("started child=%s pid=%d", child.name, child.process.pid)
        return False

    def _left(self) -> bool:
        """Say whether any child runs, or is to be started."""
        return any(
            child.process is not None or child.start_at is not None for child in self._children
        )

    def _has_ended(self, child: Child) -> bool:
        return child.process is not None and child.process.poll() is not None

    def _bury(self, child: Child, now: float) -> bool:
        """Note the death of a child that should live; True if it was one too many. One that ended
        by itself and well is done: a node that has left the cluster.
        """
        process = self._forget(child)
        if process.returncode in (0, FOR_GOOD):
            log.warning("child=%s has ended for good, and is not started again", child.name)
            return False
        return self._count_death(child, now, _last_words(process))

    def _count_death(self, child: Child, now: float, how: str) -> bool:
        child.deaths.append(now)
        counted = sum(now - death < DEATHS_WITHIN_SECONDS for death in child.deaths)
        if counted >= DEATHS_MAX:
            log.error("child=%s %s, for the %dth time: stopping all", child.name, how, counted)
            return True
        pause = PAUSE_SECONDS * 2 ** (counted - 1)
        child.start_at = now + pause
        log.error("child=%s %s; it is started again in %g s", child.name, how, pause)
        return False

    def _forget(self, child: Child) -> subprocess.Popen[bytes]:
        """Pass on the last that a dead child wrote, and close its pipe."""
        process = child.process
        assert process is not None and process.stdout is not None
        while self._read(child):
            continue
        if child.begun:
            self._pass_on(child, [child.begun])
            child.begun = b""
        self._deafen(process)
        child.process = None
        return process

    # -- stopping ----------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Ask all children to end, and wait for them; whoever is late stays for ``_kill``."""
        for child in self._children:
            child.start_at = None
            if child.process is not None:
                child.process.send_signal(signal.SIGTERM)
                child.process.send_signal(signal.SIGCONT)  # a frozen one would not hear it
        self._await_ends(self._stop_seconds)

    def _kill(self) -> None:
        late = [child for child in self._children if child.process is not None]
        for child in late:
            assert child.process is not None
            log.error("child=%s pid=%d does not stop: killed", child.name, child.process.pid)
            child.process.kill()
        self._await_ends(_KILL_SECONDS)
        self._selector.close()

    def _await_ends(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            for child in self._children:
                if self._has_ended(child):
                    self._forget(child)
            left = end - time.monotonic()
            if left <= 0 or not any(child.process for child in self._children):
                return
            self._wait(left)

    # -- descriptors -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _lifeline_held(self) -> Iterator[None]:
        self._lifeline, held = os.pipe()
        try:
            yield
        finally:
            os.close(held)
            os.close(self._lifeline)

    @contextlib.contextmanager
    def _signals_heard(self) -> Iterator[None]:
        """Have every signal end a wait; SIGTERM and SIGINT are kept in mind."""

        def tell(_: int, __: FrameType | None) -> None:
            self._told = True

        def look(_: int, __: FrameType | None) -> None:
            """The system wakes us only for signals with a handler; the wait's end is enough."""

        hear, wake = os.pipe()
        os.set_blocking(hear, False)
        os.set_blocking(wake, False)
        before = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        handlers = {
            number: signal.signal(number, handler)
            for number, handler in (
                (signal.SIGTERM, tell),
                (signal.SIGINT, tell),
                (signal.SIGCHLD, look),
            )
        }
        self._selector.register(hear, selectors.EVENT_READ, None)
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)
            os.close(hear)
            os.close(wake)

    def _wait(self, seconds: float | None) -> None:
        """Wait for output or a signal; pass the output on."""
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                os.read(key.fd, _READ_BYTES)
            else:
                self._read(key.data)

    def _read(self, child: Child) -> bool:
        """Pass on what a child has written; False if there is no more for now."""
        process = child.process
        assert process is not None and process.stdout is not None
        if process.stdout.closed:
            return False
        try:
            data = os.read(process.stdout.fileno(), _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._deafen(process)
            return False
        *lines, child.begun = (child.begun + data).split(b"\n")
        if len(child.begun) > _LINE_BYTES_MAX:
            lines.append(child.begun)
            child.begun = b""
        self._pass_on(child, lines)
        return True

    def _deafen(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is not None and not process.stdout.closed:
            self._selector.unregister(process.stdout)
            process.stdout.close()

    def _pass_on(self, child: Child, lines: Sequence[bytes]) -> None:
        name = child.name.encode()
        left = b"".join(
            # A line of JSON names its node by itself, and stays JSON.
            line + b"\n" if line.startswith(b"{") else b"%b | %b\n" % (name, line)
            for line in lines
        )
        try:
            while left:
                left = left[os.write(sys.stderr.fileno(), left) :]
        except BrokenPipeError:
            self._unheard += len(lines)
            _silence()
        except OSError:
            self._unheard += len(lines)  # a full disk: no reason to stop serving


def _silence() -> None:
    """Nobody will ever read what is said: say it to nobody, or what is still in a buffer at the end
    would make a failure of a good exit.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stderr.fileno())
    os.close(nowhere)


def _last_words(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    if code >= 0:
        return f"pid={process.pid} ended by itself with exit code {code}"
    try:
        how = signal.Signals(-code).name
    except ValueError:
        how = f"signal {-code}"
    return f"pid={process.pid} was killed by {how}"
