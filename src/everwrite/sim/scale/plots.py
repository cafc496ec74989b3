"""The tables as pictures: SVG that is the same for the same tables, readable on white and on black.

Lines differ in colour and in marker; the colours are told apart whatever one's eyes (Okabe and Ito
2008). The ground is left out and the ink is a grey half way between white and black. Text stays
text, so a picture has a few kilobytes and can be searched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from everwrite.core.cluster.placement import LOAD_EPS
from everwrite.core.config import NodeConfig
from everwrite.sim.scale.tables import Row, read_table

INK = "#7b828c"
COLOURS = ("#0a7fc4", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = "osD^vP"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "everwrite",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "grid.color": INK,
    "grid.alpha": 0.22,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}
CONFIG = NodeConfig()
WIDTH, HEIGHT = 9.0, 3.7
PHASES = ("calm", "killed", "silent")
AGREED = ("ruling", "entry", "restart", "join", "removal", "heal")


def draw_all(folder: Path) -> list[Path]:
    """Draw every picture from the tables in a folder; return their paths."""
    with matplotlib.rc_context(STYLE):
        return [_save(folder, name, picture(folder)) for name, picture in sorted(PICTURES.items())]


def gossip_rest(folder: Path) -> Figure:
    """What a node says and gets in a round while nothing happens, by the number of nodes."""
    rows = read_table(folder, "gossip_rest")
    figure, (left, right) = _panels(2)
    nodes = _column(rows, "nodes")
    for panel, what in ((left, "messages"), (right, "bytes")):
        pings = _column(rows, f"ping_{what}_per_node_per_round")
        told = _column(rows, f"membership_{what}_per_node_per_round")
        _line(panel, 0, nodes, pings, "pings and pongs")
        _line(panel, 1, nodes, told, "about members")
    bound = _column(rows, "membership_bytes_bound")[0]
    right.axhline(bound, color=INK, linewidth=1, linestyle=":", label="bound for members")
    _finish(left, "At rest: messages", "nodes", "messages per node and round", log="xy")
    _finish(right, "At rest: bytes in frames", "nodes", "bytes per node and round", log="xy")
    return figure


def gossip_agreement(folder: Path) -> Figure:
    """Rounds until all nodes know the same after a change, and the bytes of it."""
    figure, panels = _panels(3)
    for panel, name, title in (
        (panels[0], "gossip_agreement", "Rounds until all agree (p99)"),
        (panels[1], "gossip_agreement_lossy", "With a tenth of all frames lost"),
    ):
        rows = read_table(folder, name)
        for i, change in enumerate(AGREED):
            mine = _where(rows, change=change)
            _line(panel, i, _column(mine, "nodes"), _column(mine, "rounds_p99"), "")
        mine = _where(rows, change=AGREED[0])
        xs, ys = _column(mine, "nodes"), _column(mine, "rounds_bound")
        panel.plot(xs, ys, color=INK, linewidth=1, linestyle=":", label="3 log2(n) + 3")
        _finish(panel, title, "nodes", "rounds", log="x")
    rows = read_table(folder, "gossip_agreement")
    for i, change in enumerate(AGREED):
        mine = _where(rows, change=change)
        ys = _column(mine, "membership_bytes_per_node")
        _line(panels[2], i, _column(mine, "nodes"), ys, change)
    _finish(panels[2], "Bytes of it, mean of nodes", "nodes", "bytes in frames", log="xy")
    return figure


def placement_histories(folder: Path) -> Figure:
    """Movement and load along random changes of members, by the copies that a node owns."""
    rows = read_table(folder, "placement_histories")
    figure, (left, right) = _panels(2)
    for i, layout in enumerate(_kinds(rows, "layout")):
        mine = sorted(_where(rows, layout=layout), key=lambda row: float(row["copies_per_node"]))
        xs = _column(mine, "copies_per_node")
        _points(left, i, xs, _column(mine, "join_moved_over_least"), layout)
        _points(right, i, xs, _column(mine, "load_max_over_fair"), layout)
    for panel, bound in ((left, 1.3), (right, 1.06)):
        panel.axhline(bound, color=INK, linewidth=1, linestyle=":", label=f"bound {bound:g}")
    _finish(
        left, "Joins: copies moved / least possible", "copies per node", "over all joins", log="xy"
    )
    _finish(right, "Owned: the fullest node, ever", "copies per node", "times its share", log="x")
    return figure


def placement_balance(folder: Path) -> Figure:
    """How even placements are, by the number of partitions that a node owns."""
    rows = read_table(folder, "placement")
    figure, (left, right) = _panels(2)
    for i, layout in enumerate(_kinds(rows, "layout")):
        mine = _by_partitions(_where(rows, layout=layout))
        sizes = _column(mine, "partitions_per_node")
        _points(left, i, sizes, _column(mine, "load_max_over_fair_worst"), layout)
        _points(right, i, sizes, _column(mine, "coordinator_max_over_mean"), layout)
    for panel in (left, right):
        panel.axhline(1 + LOAD_EPS, color=INK, linewidth=1, linestyle=":")
    _finish(left, "Owned: the fullest node", "partitions per node", "times its fair share", log="x")
    _finish(
        right, "First owner: the busiest node", "partitions per node", "times the mean", log="xy"
    )
    return figure


def placement_moves(folder: Path) -> Figure:
    """How much a join or a leave moves."""
    rows = read_table(folder, "placement")
    figure, panels = _panels(2)
    titles = (("join_moved_over_least", "One node joins"), ("leave_moved_over_least", "One leaves"))
    for panel, (column, title) in zip(panels, titles, strict=True):
        for i, layout in enumerate(_kinds(rows, "layout")):
            mine = _by_partitions(_where(rows, layout=layout))
            _points(panel, i, _column(mine, "partitions_per_node"), _column(mine, column), layout)
        panel.axhline(1, color=INK, linewidth=1, linestyle=":")
        _finish(panel, title, "partitions per node", "copies moved / least possible", log="xy")
    return figure


def placement_time(folder: Path) -> Figure:
    """How long one placement takes to compute."""
    rows = read_table(folder, "placement_time")
    figure, (panel,) = _panels(1)
    for i, nodes in enumerate(_kinds(rows, "nodes")):
        mine = _where(rows, nodes=nodes)
        _line(panel, i, _column(mine, "partitions"), _column(mine, "place_cpu_s"), f"{nodes} nodes")
    panel.axhline(CONFIG.down_after_ms / 1000, color=INK, linewidth=1, linestyle=":")
    _finish(panel, "Computing a placement, on one machine", "partitions", "CPU seconds", log="xy")
    return figure


def traffic(folder: Path) -> Figure:
    """Latencies and hops of requests, by what is wrong and whom a client asks."""
    rows, hops = read_table(folder, "traffic"), read_table(folder, "traffic_hops")
    figure, (left, right) = _panels(2)
    places = [(phase, via) for phase in PHASES for via in _kinds(rows, "via")]
    for i, column in enumerate(("get_p50_ms", "put_p50_ms", "get_p99_ms", "put_p99_ms")):
        ys = [float(_where(rows, phase=phase, via=via)[0][column]) for phase, via in places]
        label = column.removesuffix("_ms").replace("_", " ")
        _points(left, i, list(range(len(places))), ys, label)
    _finish(left, "Virtual latency", "", "milliseconds", log="y")
    base = [0.0] * len(places)
    for i, count in enumerate(sorted(_kinds(hops, "hops"), key=int)):
        shares = [
            50 * sum(_column(_where(hops, phase=phase, via=via, hops=count), "share_of_operations"))
            for phase, via in places
        ]
        right.bar(range(len(places)), shares, 0.7, base, color=COLOURS[i % 6], label=count)
        base = [low + share for low, share in zip(base, shares, strict=True)]
    _finish(right, "From request to answer", "", "% of operations")
    right.legend(title="hops", loc="upper left", bbox_to_anchor=(1, 1))
    for panel in (left, right):
        panel.set_xticks(range(len(places)), [f"{phase}\n{via}" for phase, via in places])
        panel.tick_params(axis="x", labelsize=8)
        panel.grid(visible=False, axis="x")
    return figure


def traffic_standins(folder: Path) -> Figure:
    """On how many nodes the hints for one that is down are kept."""
    kept = read_table(folder, "traffic_standins")
    figure, (panel,) = _panels(1)
    for i, phase in enumerate(PHASES[1:]):
        for j, via in enumerate(_kinds(kept, "via")):
            mine = _where(kept, phase=phase, via=via)
            xs, ys = _column(mine, "hints"), _column(mine, "stand_ins")
            _points(panel, 2 * i + j, xs, ys, f"{phase}, asking {via}")
    _finish(panel, "Stand-ins of a node that is down", "hints kept for it", "nodes that keep some")
    return figure


PICTURES: dict[str, Callable[[Path], Figure]] = {
    picture.__name__: picture
    for picture in (
        gossip_agreement,
        gossip_rest,
        placement_balance,
        placement_histories,
        placement_moves,
        placement_time,
        traffic,
        traffic_standins,
    )
}


# -- rows ------------------------------------------------------------------------------------------


def _column(rows: Iterable[Row], name: str) -> list[float]:
    return [float(row[name]) for row in rows]


def _where(rows: Iterable[Row], **values: str) -> list[Row]:
    return [row for row in rows if all(row[name] == value for name, value in values.items())]


def _kinds(rows: Iterable[Row], name: str) -> list[str]:
    return list(dict.fromkeys(row[name] for row in rows))


def _by_partitions(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: float(row["partitions_per_node"]))


# -- drawing ---------------------------------------------------------------------------------------


def _panels(count: int) -> tuple[Figure, Sequence[Any]]:
    width = WIDTH * (0.6 if count == 1 else 1 if count == 2 else 1.4)
    figure = Figure(figsize=(width, HEIGHT), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False)[0]
    return figure, list(panels)


def _line(
    panel: Any,
    i: int,
    xs: Sequence[float],
    ys: Sequence[float],
    label: str,
    *,
    dashed: bool = False,
) -> None:
    panel.plot(
        xs,
        ys,
        color=COLOURS[i],
        marker=MARKERS[i],
        linestyle="--" if dashed else "-",
        markerfacecolor="none" if dashed else COLOURS[i],
        label=label or "_",
    )


def _points(panel: Any, i: int, xs: Sequence[float], ys: Sequence[float], label: str) -> None:
    panel.plot(xs, ys, color=COLOURS[i], marker=MARKERS[i], linestyle="", label=label)


def _finish(panel: Any, title: str, x: str, y: str, *, log: str = "") -> None:
    panel.set_title(title, loc="left")
    panel.set_xlabel(x)
    panel.set_ylabel(y)
    if "x" in log:
        panel.set_xscale("log")
        _plain(panel.xaxis)
    if "y" in log:
        panel.set_yscale("log")
        _plain(panel.yaxis)
    panel.legend()


def _plain(axis: Any) -> None:
    """Label a logarithmic axis as people write numbers, at 1, 2 and 5 where it spans little."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 30 * low else (1,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_in_words))


def _in_words(value: float, _: int) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


def _save(folder: Path, name: str, figure: Figure) -> Path:
    path = folder / f"{name}.svg"
    figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
    return path
