"""The guard of a cluster that must not outlive the command that runs it.

It waits for the end of its standard input, which comes when that command ends, in whatever way, and
then kills the nodes that cluster.json names and that still run.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from everwrite.cli.devcluster import DevCluster


def main(directory: str) -> None:
    """Outlast the owner of our standard input, then leave nothing of its cluster running."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    if Path(directory).exists():
        DevCluster.open(Path(directory)).stop(seconds=0)


if __name__ == "__main__":
    main(sys.argv[1])
