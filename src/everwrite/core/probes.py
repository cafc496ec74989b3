"""Probes: rare branches that say that they were taken, so that a test run can tell what it reached.

A run of the simulator proves little about a branch that it never took. So each rare branch carries
one line, ``sometimes("what happened, in words")``, and ``everwrite simulate`` counts: a long run in
which a probe was never hit is invalid, though no rule was broken.

Nothing in the core reads the counts: a probe changes no behaviour. It is a function call and a
dictionary entry (0.1 us), and stands on rare branches only, never on the way of an ordinary put or
get. Each name is a literal and stands in one place, so the list of all probes can be read from the
source (``sim/probed.py``).

Source: FoundationDB's CODE_PROBE, Antithesis' ``sometimes``.
"""

from __future__ import annotations

HITS: dict[str, int] = {}
"""How often each probe was hit in this process. Whoever counts a run empties it first."""


def sometimes(name: str) -> None:
    """Count that this branch was taken."""
    HITS[name] = HITS.get(name, 0) + 1
