"""The guard of a cluster that must not outlive the command that runs it.

It waits for the end of its standard input, which comes when that command ends, in whatever way, and
then kills the nodes that cluster.json names and that still run. With --remove the directory goes,
too.
"""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

from everwrite.cli.devcluster import SAFE, DevCluster


def main(directory: Path, *, remove: bool) -> None:
    """Outlast the owner of our standard input, then leave nothing of its cluster running."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read() == SAFE:
        return
    DevCluster.open(directory).stop(seconds=0)
    if remove:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]), remove="--remove" in sys.argv[2:])
