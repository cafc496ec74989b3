"""What happens to one request, noted as it happens: for whoever asked for it with ``?trace=1``.

The shell gives a trace to the core with the request, under its client's place and number. Each
conversation that is begun for that request (read.py, spread.py, forward.py, look.py) is noted, and
its number, by which the shell knows the messages that go and come for it. The trace has the clock:
the core only says what happened, so nothing here depends on the time.

Costs: one look at an empty dictionary for each conversation that is begun.
"""

from __future__ import annotations

from typing import Protocol


class Trace(Protocol):
    """The notes on one request."""

    key: bytes
    """Data key."""

    def note(self, what: str, node: bytes = b"") -> None:
        """Something happened now, at this node (empty: here)."""
