"""`python -m everwrite.sim.scale`: measure clusters of 5 to 1000 nodes, and draw the figures."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from everwrite.core.errors import ConfigError
from everwrite.sim.scale.agreement import Agreement, Disagreement, measure_agreement
from everwrite.sim.scale.gossip import Rest, Silence, Unnoticed, measure_gossip
from everwrite.sim.scale.histories import Moved, measure_histories
from everwrite.sim.scale.rings import Balance, Duration, measure_placement
from everwrite.sim.scale.tables import Table, write_table
from everwrite.sim.scale.traffic import Hops, Phase, Size, StandIns, Unrest, measure_traffic

GOSSIP_NODES = (10, 30, 100, 300, 1000)
AGREEMENT_NODES = (5, 8, 16, 32, 64, 128, 256, 1000)
LOSSY_MAX = 256
LOSS = 0.1
HISTORY_NODES = (5, 8, 12, 20, 30, 50, 70, 100)
HISTORY_PARTITIONS = (256, 1024)
RING_NODES = (10, 30, 100, 300, 1000)
RING_PARTITIONS = (256, 1024, 4096, 16384, 65536)
TRAFFIC_SEEDS = 2

Say = Callable[[str], None]

NODES_MAX = 1023
"""A cluster has 1024 members at most, and one joins."""

ABOUT = """\
Measure what large clusters cost: simulated nodes, real cores, virtual time.

  agreement   rounds until all know the same after a change, lossy links too   9 min, 1.1 GB
  gossip      traffic at rest, and how a silent node is noticed                 2 min, 1.4 GB
  placement   balance, movement on a join and a leave, time to compute          3 min, 0.5 GB
  histories   balance and movement along random changes of members              3 min, 0.1 GB
  traffic     100 nodes under requests, with 5 % of them gone                   3 min, 0.5 GB
  all         all of these
  plot        draw the CSV files in DIR as SVG; needs matplotlib: pip install 'everwrite[plots]'

The same command gives the same CSV files, to the byte, but for placement_time.csv, which says how
long this machine took.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    chosen = _parser().parse_args(arguments)
    out: Path = chosen.out
    if chosen.what == "plot":
        return _plot(out)
    say = _stopwatch(quiet=chosen.quiet)
    out.mkdir(parents=True, exist_ok=True)
    try:
        for name, measure in MEASURES.items():
            if chosen.what in (name, "all"):
                for table in measure(chosen, say):
                    print(write_table(out, table))
    except ConfigError as error:
        print(f"Nothing was measured: {error}", file=sys.stderr)
        return 2
    except (Disagreement, Unnoticed, Unrest) as error:
        print(f"{error} Tables that are not named above were not written.", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m everwrite.sim.scale",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=(*MEASURES, "all", "plot"))
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("docs/scale"),
        metavar="DIR",
        help="where the CSV files are written, or read to be drawn [default: docs/scale]",
    )
    parser.add_argument(
        "--nodes",
        type=_numbers,
        metavar="N,N,...",
        help="sizes of clusters [default: see the tables in docs/scale; traffic: 100]",
    )
    parser.add_argument(
        "--partitions",
        type=_numbers,
        metavar="Q,Q,...",
        help="placement, histories: powers of two [default: 256 to 65536; 256 and 1024]; traffic: "
        "the first [default: 1024]",
    )
    parser.add_argument(
        "--seeds", type=int, metavar="K", help="clusters of each size [default: fewer for larger]"
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing while it runs")
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(each) for each in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers like 10,30,100") from None
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError("numbers start at 1")
    return numbers


def _sizes(chosen: argparse.Namespace, usual: tuple[int, ...]) -> tuple[int, ...]:
    nodes: tuple[int, ...] = chosen.nodes or usual
    if max(nodes) > NODES_MAX or min(nodes) < 3:
        raise SystemExit(f"Nothing was measured: a cluster here has 3 to {NODES_MAX} nodes.")
    return nodes


def _agreement(chosen: argparse.Namespace, say: Say) -> Iterator[Table]:
    nodes = _sizes(chosen, AGREEMENT_NODES)

    def runs(n: int, change: str) -> int:
        return chosen.seeds or _runs(n, change)

    rows = measure_agreement(nodes, runs, say=say)
    yield Table("gossip_agreement", Agreement._fields, rows)
    lossy = [each for each in nodes if each <= LOSSY_MAX]
    rows = measure_agreement(
        lossy, lambda n, change: min(runs(n, change), _lossy_runs(n)), loss=LOSS, say=say
    )
    yield Table("gossip_agreement_lossy", Agreement._fields, rows)


def _runs(nodes: int, change: str) -> int:
    """Return how often a change is made: what is costly at many nodes less often."""
    if nodes > LOSSY_MAX:
        return int(change != "boot")
    if change == "boot":
        return 100 if nodes <= 32 else 20 if nodes <= 64 else 1
    return 100 if nodes < LOSSY_MAX else 40


def _lossy_runs(nodes: int) -> int:
    return 100 if nodes <= 32 else 20 if nodes < LOSSY_MAX else 5


def _gossip(chosen: argparse.Namespace, say: Say) -> Iterator[Table]:
    rest, silence = measure_gossip(
        _sizes(chosen, GOSSIP_NODES), lambda n: chosen.seeds or _gossip_seeds(n), say=say
    )
    yield Table("gossip_rest", Rest._fields, rest)
    yield Table("gossip_silence", Silence._fields, silence)


def _gossip_seeds(nodes: int) -> int:
    return 20 if nodes <= 30 else 10 if nodes <= 100 else 2 if nodes <= 300 else 1


def _placement(chosen: argparse.Namespace, say: Say) -> Iterator[Table]:
    balance, durations = measure_placement(
        _sizes(chosen, RING_NODES),
        chosen.partitions or RING_PARTITIONS,
        lambda pairs: chosen.seeds or _placement_seeds(pairs),
        say=say,
    )
    yield Table("placement", Balance._fields, balance)
    yield Table("placement_time", Duration._fields, durations)


def _placement_seeds(pairs: int) -> int:
    return 5 if pairs <= 100_000 else 2 if pairs <= 500_000 else 1


def _histories(chosen: argparse.Namespace, say: Say) -> Iterator[Table]:
    rows = measure_histories(
        _sizes(chosen, HISTORY_NODES),
        chosen.partitions or HISTORY_PARTITIONS,
        lambda pairs: chosen.seeds or (10 if pairs <= 15_000 else 5),
        say=say,
    )
    yield Table("placement_histories", Moved._fields, rows)


def _traffic(chosen: argparse.Namespace, say: Say) -> Iterator[Table]:
    size = Size()
    if chosen.nodes and chosen.what == "traffic":
        nodes = _sizes(chosen, (size.nodes,))[0]
        size = size._replace(nodes=nodes, clients=2 * nodes, keys=100 * nodes)
    if chosen.partitions and chosen.what == "traffic":
        size = size._replace(partitions=chosen.partitions[0])
    phases, hops, stand_ins = measure_traffic(size, chosen.seeds or TRAFFIC_SEEDS, say=say)
    yield Table("traffic", Phase._fields, phases)
    yield Table("traffic_hops", Hops._fields, hops)
    yield Table("traffic_standins", StandIns._fields, stand_ins)


MEASURES: dict[str, Callable[[argparse.Namespace, Say], Iterator[Table]]] = {
    "agreement": _agreement,
    "gossip": _gossip,
    "placement": _placement,
    "histories": _histories,
    "traffic": _traffic,
}


def _plot(folder: Path) -> int:
    try:
        from everwrite.sim.scale.plots import draw_all
    except ImportError as error:
        print(f"Nothing was drawn: {error}. Try: pip install 'everwrite[plots]'", file=sys.stderr)
        return 1
    try:
        for path in draw_all(folder):
            print(path)
    except FileNotFoundError as error:
        print(
            f"{error.filename} is not there. Measure first: python -m everwrite.sim.scale all",
            file=sys.stderr,
        )
        return 1
    return 0


def _stopwatch(*, quiet: bool) -> Say:
    began = time.monotonic()

    def say(what: str) -> None:
        if not quiet:
            print(f"{time.monotonic() - began:7.1f} s  {what}", file=sys.stderr)

    return say
