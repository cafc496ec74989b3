"""What goes on for long is logged at once, and then ever less often."""

from __future__ import annotations

PAUSE_MIN_S = 1.0
PAUSE_MAX_S = 60.0


MATTERS_MAX = 256
"""So many things that go on are told apart; with one more, what is known of them is forgotten."""


class Rarely:
    """Says when something that is still so is to be logged again: after 1, 2, 4, ... 60 seconds."""

    def __init__(self) -> None:
        self._due = 0.0
        self._pause = PAUSE_MIN_S

    def due(self, now: float) -> bool:
        """Say whether to log it now; ``now`` is in seconds of one clock that never goes back."""
        if now < self._due:
            return False
        self._due = now + self._pause
        self._pause = min(2 * self._pause, PAUSE_MAX_S)
        return True


class EachRarely:
    """The same for many things at once, each by its own name."""

    def __init__(self) -> None:
        self._each: dict[object, Rarely] = {}

    def __len__(self) -> int:
        return len(self._each)

    def due(self, what: object, now: float) -> bool:
        """Say whether to log this one now."""
        found = self._each.get(what)
        if found is None:
            if len(self._each) >= MATTERS_MAX:
                self._each.clear()
            found = self._each[what] = Rarely()
        return found.due(now)
