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


def draw_all(folder: Path) -> list[Path]:
    """Draw every picture from the tables in a folder; return their paths."""
    with matplotlib.rc_context(STYLE):
        return [_save(folder, name, picture(folder)) for name, picture in sorted(PICTURES.items())]


def gossip_rest(folder: Path) -> Figure:
    """What a node says and gets while nothing happens, by the number of nodes."""
    rows = read_table(folder, "gossip_rest")
    figure, (left, right) = _panels(2)
    nodes = _column(rows, "nodes")
    pings = [
        every - told
        for every, told in zip(
            _column(rows, "messages_per_node_per_s"),
            _column(rows, "membership_messages_per_node_per_s"),
            strict=True,
        )
    ]
    _line(left, 0, nodes, pings, "pings and pongs")
    _line(left, 1, nodes, _column(rows, "membership_messages_per_node_per_s"), "lists of members")
    _finish(left, "At rest: messages", "nodes", "messages per node per second", log="xy")
    _line(right, 0, nodes, _column(rows, "bytes_per_node_per_s"), "all, mean of nodes")
    _line(right, 1, nodes, _column(rows, "membership_bytes_per_node_per_s"), "of these, lists")
    _line(right, 2, nodes, _column(rows, "busiest_receiver_bytes_per_s"), "busiest receiver")
    _finish(right, "At rest: bytes in frames", "nodes", "bytes per node per second", log="xy")
    return figure


def gossip_news(folder: Path) -> Figure:
    """How long news takes, and what it costs, by the number of nodes."""
    rows, late = read_table(folder, "gossip_news"), read_table(folder, "gossip_news_lossy")
    figure, (left, right) = _panels(2)
    for i, event in enumerate(("restart", "join", "silence")):
        mine = _where(rows, event=event)
        _line(left, i, _column(mine, "nodes"), _column(mine, "all_max_ms"), event)
        lossy = _where(late, event=event)
        label = "10 % of frames lost" if event == "silence" else ""
        _line(left, i, _column(lossy, "nodes"), _column(lossy, "all_max_ms"), label, dashed=True)
    _finish(left, "Until all nodes know (worst seed)", "nodes", "milliseconds", log="xy")
    for i, event in enumerate(("restart", "join")):
        mine = _where(rows, event=event)
        nodes = _column(mine, "nodes")
        _line(
            right, i, nodes, _column(mine, "membership_bytes_per_node"), f"{event}, mean of nodes"
        )
        busiest = _column(mine, "busiest_receiver_bytes")
        _line(right, i, nodes, busiest, f"{event}, busiest receiver", dashed=True)
    _finish(right, "Bytes that one event costs", "nodes", "bytes", log="xy")
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
        panel.axhline(1.05, color=INK, linewidth=1, linestyle=":")
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
        gossip_rest,
        gossip_news,
        placement_balance,
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
    width = WIDTH if count > 1 else WIDTH * 0.6
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
