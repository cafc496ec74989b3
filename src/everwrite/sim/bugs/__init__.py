"""DELIBERATE BUGS: what the judges must catch, or they judge nothing.

Purpose:       Mistakes that stores of this kind have really made, each as small as can be, switched
               on one at a time by name (``everwrite simulate --bug NAME``).
Comes in:      The name of a bug.
Goes out:      A context in which the core, or a simulated machine, has that bug.
May import:    everwrite.core, sim.options, sim.machine; ``hunt`` everything of sim.
Must never:    leave anything patched; be known to the core.
Start reading: registry.py, then any area; hunt.py for how they are caught.

A bug that no seed catches any more is a hole in the judges, or a patch that a change of the core
has disarmed; the tests treat both alike.
"""

from everwrite.sim.bugs import (  # noqa: F401 - each registers the bugs of its area
    cluster,
    collect,
    contexts,
    dots,
    exchange,
    expiry,
    hints,
    merging,
    moving,
    pace,
    puts,
    reads,
    retries,
    storage,
    trees,
    types,
)
from everwrite.sim.bugs.registry import BUGS, Bug, planted, seeds_for

__all__ = ["BUGS", "Bug", "planted", "seeds_for"]
