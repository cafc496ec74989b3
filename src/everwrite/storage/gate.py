"""A gate: lets calls in until it is shut, and shuts only when those inside are out.

A native library that is closed by one thread while another is inside it refuses, crashes, or stays
half open. So calls that release the GIL, or that hold something of the library's between two steps,
pass through here.

Costs: two short locks per call, about 0.2 microseconds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from everwrite.core.errors import StorageError


class Gate:
    """``with gate:`` around each call. Invariant: after ``shut`` returned, nobody is inside."""

    def __init__(self, refusal: StorageError) -> None:
        self._refusal = refusal
        self._changed = threading.Condition()
        self._inside = 0
        self._alone = False
        self._shut = False

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self.check_open()
            self._inside += 1

    def __exit__(self, *exc_info: object) -> None:
        with self._changed:
            self._inside -= 1
            if not self._inside:
                self._changed.notify_all()

    def check_open(self) -> None:
        """Raise the refusal if the gate is shut."""
        if self._shut:
            raise StorageError(self._refusal.message, hint=self._refusal.hint)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait for those inside and let newcomers wait outside: for work that must find nobody."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._inside or self._alone))
            self.check_open()
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()

    def shut(self) -> bool:
        """Refuse newcomers, wait for those inside; False if it was shut already."""
        with self._changed:
            if self._shut:
                return False
            self._shut = True
            self._changed.wait_for(lambda: not (self._inside or self._alone))
            return True
