"""`python -m everwrite.sim.scale`: measure clusters of 10 to 1000 nodes, and draw the figures."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from everwrite.core.errors import ConfigError
from everwrite.sim.scale.gossip import News, Rest, Unknown, measure_gossip
from everwrite.sim.scale.rings import Balance, Duration, measure_placement
from everwrite.sim.scale.tables import Table, write_table
from everwrite.sim.scale.traffic import Hops, Phase, Size, StandIns, Unrest, measure_traffic

GOSSIP_NODES = (10, 30, 100, 300, 1000)
LOSSY_NODES = (10, 30, 100, 300)
LOSS = 0.1
RING_NODES = (10, 30, 100, 300, 1000)
RING_PARTITIONS = (256, 1024, 4096, 16384, 65536)
TRAFFIC_SEEDS = 2

Say = Callable[[str], None]

NODES_MAX = 1023
"""A cluster has 1024 members at most, and one joins."""

ABOUT = """\
Measure what large clusters cost: simulated nodes, real cores, virtual time.

  gossip      traffic at rest, how news spreads, how a silent node is noticed   6 min, 0.6 GB
  placement   balance, movement on a join and a leave, time to compute          6 min, 1 GB
  traffic     100 nodes under requests, with 5 % of them gone                   3 min, 0.5 GB
  all         these three
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
    measures: dict[str, Callable[[argparse.Namespace, Say], Iterator[Table]]] = {
        "gossip": _gossip,
        "placement": _placement,
        "traffic": _traffic,
    }
    say = _stopwatch(quiet=chosen.quiet)
    out.mkdir(parents=True, exist_ok=True)
    try:
        for name, measure in measures.items():
            if chosen.what in (name, "all"):
                for table in measure(chosen, say):
                    print(write_table(out, table))
    except ConfigError as error:
        print(f"Nothing was measured: {error}", file=sys.stderr)
        return 2
    except (Unknown, Unrest) as error:
        print(f"{error} Tables that are not named above were not written.", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m everwrite.sim.scale",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("gossip", "placement", "traffic", "all", "plot"))
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
        help="sizes of clusters [default: 10,30,100,300,1000; traffic: 100]",
    )
    parser.add_argument(
        "--partitions",
        type=_numbers,
        metavar="Q,Q,...",
        help="placement: powers of two [default: 256,1024,4096,16384,65536]; traffic: the first "
        "[default: 1024]",
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


def _gossip(chosen: argparse.Namespace, say: Say) -> Iterator[Table]:
    nodes = _sizes(chosen, GOSSIP_NODES)
    lossy = _sizes(chosen, LOSSY_NODES)
    rest, news = measure_gossip(nodes, lambda n: chosen.seeds or _gossip_seeds(n), say=say)
    yield Table("gossip_rest", Rest._fields, rest)
    yield Table("gossip_news", News._fields, news)
    _, lossy_news = measure_gossip(
        lossy, lambda n: chosen.seeds or min(5, _gossip_seeds(n)), loss=LOSS, say=say
    )
    yield Table("gossip_news_lossy", News._fields, lossy_news)


def _gossip_seeds(nodes: int) -> int:
    return 20 if nodes <= 100 else 5 if nodes <= 300 else 2


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
    return 5 if pairs <= 300_000 else 2 if pairs <= 2_000_000 else 1


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
