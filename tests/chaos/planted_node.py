"""``everwrite serve`` with a deliberate bug of the simulator's register in its core:
``planted_node.py BUG serve ...``. The bug lasts as long as the process.
"""

from __future__ import annotations

import sys

from everwrite.cli.main import main
from everwrite.sim.bugs import planted

if __name__ == "__main__":
    with planted(sys.argv[1]):
        main(sys.argv[2:])
