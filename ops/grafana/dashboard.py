"""The Grafana dashboard, made from a table of panels: ``make dashboard`` writes everwrite.json.

A panel is a title, a unit, and queries with legends; rows have three of them. Rates are over
``$__rate_interval``, and ``$node`` picks instances.
"""

from __future__ import annotations

import json
import sys
from typing import Any, NamedTuple

Json = dict[str, Any]

NODE = '{instance=~"$node"}'
RATE = "[$__rate_interval]"
COLUMNS, HEIGHT = 3, 8


class Panel(NamedTuple):
    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


def rate(metric: str, by: str = "instance", where: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{_where(where)}{RATE}))"


def quantile(share: float, metric: str, by: str = "instance", where: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    rates = f"rate({metric}_bucket{_where(where)}{RATE})"
    return f"histogram_quantile({share}, sum by ({labels}) ({rates}))"


def with_siblings(metric: str) -> str:
    single = _where('le="1.0"')
    return f"1 - sum(rate({metric}_bucket{single}{RATE})) / sum(rate({metric}_count{NODE}{RATE}))"


def gauge(metric: str, where: str = "") -> str:
    return metric + _where(where)


def _where(more: str) -> str:
    return f'{{instance=~"$node", {more}}}' if more else NODE


def latency(operation: str) -> Panel:
    name = "everwrite_request_duration_seconds"
    where = f'operation="{operation}", outcome="ok"'
    return Panel(
        f"{operation.capitalize()}s: how long",
        "s",
        tuple(
            (quantile(share, name, "", where), label)
            for share, label in ((0.5, "half"), (0.99, "99 %"), (0.999, "99.9 %"))
        ),
    )


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Is it well?",
        (
            Panel("Takes requests", "bool", ((gauge("everwrite_ready"), "{{instance}}"),)),
            Panel(
                "Peers not up, as each node sees them",
                "short",
                (
                    (gauge("everwrite_peers", 'state="down"'), "{{instance}} down"),
                    (gauge("everwrite_peers", 'state="slow"'), "{{instance}} slow"),
                ),
            ),
            Panel(
                "Errors, each second",
                "ops",
                ((rate("everwrite_request_errors_total", "code"), "{{code}}"),),
            ),
        ),
    ),
    (
        "Requests",
        (
            Panel(
                "Done, each second",
                "ops",
                (
                    (
                        rate(
                            "everwrite_request_duration_seconds_count",
                            "operation",
                            'outcome="ok"',
                        ),
                        "{{operation}}",
                    ),
                    (rate("everwrite_fetches_total", "job"), "copies read"),
                ),
            ),
            latency("get"),
            latency("put"),
            Panel(
                "Reads that clients coordinate: 99 %",
                "s",
                ((quantile(0.99, "everwrite_turn_duration_seconds"), "{{instance}}"),),
            ),
            Panel(
                "HTTP: 99 %",
                "s",
                (
                    (
                        quantile(0.99, "everwrite_http_request_duration_seconds", "operation"),
                        "{{operation}}",
                    ),
                ),
            ),
            Panel(
                "Waiting, and turned away each second",
                "short",
                (
                    (gauge("everwrite_requests_waiting"), "{{instance}} wait"),
                    (rate("everwrite_requests_turned_away_total"), "{{instance}} turned away"),
                ),
            ),
        ),
    ),
    (
        "How true are the answers?",
        (
            Panel(
                "Gets with siblings (paper 6.3: 0.06 %)",
                "percentunit",
                (
                    (
                        with_siblings("everwrite_get_siblings"),
                        "of gets",
                    ),
                    (
                        with_siblings("everwrite_put_siblings"),
                        "of puts",
                    ),
                ),
            ),
            Panel(
                "Time to visibility: 99 %",
                "s",
                (
                    (quantile(0.99, "everwrite_put_visible_seconds", ""), "by the put itself"),
                    (quantile(0.99, "everwrite_late_version_age_seconds", ""), "of late copies"),
                ),
            ),
            Panel(
                "Short or sloppy quorums, stale gets, each second",
                "ops",
                (
                    (rate("everwrite_quorum_shortfalls_total", "job"), "too few nodes"),
                    (rate("everwrite_sloppy_answers_total", "operation"), "{{operation}} sloppy"),
                    (rate("everwrite_stale_gets_total", "job"), "gets that met a stale owner"),
                ),
            ),
        ),
    ),
    (
        "Hints",
        (
            Panel("Kept", "short", ((gauge("everwrite_hints"), "{{instance}}"),)),
            Panel(
                "The oldest", "s", ((gauge("everwrite_hints_oldest_age_seconds"), "{{instance}}"),)
            ),
            Panel(
                "Come and gone, each second",
                "ops",
                (
                    (rate("everwrite_hints_came_total", "way"), "{{way}}"),
                    (rate("everwrite_hints_went_total", "way"), "{{way}}"),
                    (rate("everwrite_hints_refused_total", "job"), "refused"),
                ),
            ),
        ),
    ),
    (
        "Repair and damage",
        (
            Panel(
                "Copies that went to stale owners, each second",
                "ops",
                (
                    (rate("everwrite_read_repairs_total", "job"), "by gets"),
                    (
                        rate("everwrite_repair_keys_total", "direction"),
                        "by exchanges, {{direction}}",
                    ),
                ),
            ),
            Panel(
                "All pairs have agreed since",
                "s",
                (
                    (
                        gauge("everwrite_repair_oldest_agreement_age_seconds"),
                        "{{instance}}",
                    ),
                ),
            ),
            Panel(
                "Damaged copies, and leaves to be made anew",
                "short",
                (
                    (gauge("everwrite_damaged_copies"), "{{instance}} damaged"),
                    (gauge("everwrite_tree_leaves_wrong"), "{{instance}} leaves"),
                ),
            ),
        ),
    ),
    (
        "Moves, tombstones, ends",
        (
            Panel(
                "Partitions to gain and to shed",
                "short",
                (
                    (gauge("everwrite_partitions", 'state=~"to_.*"'), "{{instance}} {{state}}"),
                    (gauge("everwrite_moves_under_way"), "{{instance}} {{kind}} under way"),
                ),
            ),
            Panel(
                "Bytes moved, each second",
                "Bps",
                (
                    (
                        rate("everwrite_move_bytes_total", "instance, direction"),
                        "{{instance}} {{direction}}",
                    ),
                ),
            ),
            Panel(
                "Tombstones, and what has ended",
                "short",
                (
                    (gauge("everwrite_tombstones_queued"), "{{instance}} wait"),
                    (rate("everwrite_tombstones_collected_total", "job"), "collected /s"),
                    (rate("everwrite_expired_purged_total", "job"), "purged /s"),
                ),
            ),
        ),
    ),
    (
        "The others",
        (
            Panel(
                'Out of "up", each second',
                "ops",
                ((rate("everwrite_peer_falls_total"), "{{instance}}"),),
            ),
            Panel(
                "The longest round trip",
                "s",
                ((gauge("everwrite_peer_round_trip_seconds_max"), "{{instance}}"),),
            ),
            Panel(
                "Clocks, and news each second",
                "short",
                (
                    (gauge("everwrite_clock_off_seconds"), "{{instance}} off, s"),
                    (rate("everwrite_gossip_news_total"), "{{instance}} news"),
                ),
            ),
        ),
    ),
    (
        "The disk",
        (
            Panel(
                "Fsync: 99 %",
                "s",
                ((quantile(0.99, "everwrite_sync_duration_seconds"), "{{instance}}"),),
            ),
            Panel(
                "Batches and cold reads, each second",
                "ops",
                (
                    (rate("everwrite_batches_total"), "{{instance}} batches"),
                    (rate("everwrite_batch_keys_total"), "{{instance}} keys in them"),
                    (rate("everwrite_cold_reads_total"), "{{instance}} cold reads"),
                ),
            ),
            Panel(
                "Taken and free",
                "bytes",
                (
                    (gauge("everwrite_storage_bytes"), "{{instance}} taken"),
                    (gauge("everwrite_storage_free_bytes"), "{{instance}} free"),
                ),
            ),
        ),
    ),
    (
        "The process",
        (
            Panel(
                "Loop lag: 99 %",
                "s",
                ((quantile(0.99, "everwrite_loop_lag_seconds"), "{{instance}}"),),
            ),
            Panel(
                "Work behind requests, slices each second",
                "ops",
                (
                    (rate("everwrite_background_slices_total", "kind"), "{{kind}}"),
                    (rate("everwrite_background_waits_total", "kind"), "{{kind}} told to wait"),
                ),
            ),
            Panel(
                "Processor and memory",
                "short",
                (
                    (rate("process_cpu_seconds_total"), "{{instance}} cores"),
                    (gauge("process_resident_memory_bytes") + " / 1e9", "{{instance}} GB"),
                ),
            ),
        ),
    ),
)


def build() -> Json:
    """Return the dashboard."""
    panels: list[Json] = []
    at = 0
    for title, row in ROWS:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "gridPos": {"x": 0, "y": at, "w": 24, "h": 1},
                "panels": [],
            }
        )
        at += 1
        for number, panel in enumerate(row):
            x = number % COLUMNS * (24 // COLUMNS)
            y = at + number // COLUMNS * HEIGHT
            panels.append(_panel(len(panels) + 1, panel, x, y))
        at += (len(row) + COLUMNS - 1) // COLUMNS * HEIGHT
    return {
        "uid": "everwrite",
        "title": "Everwrite",
        "tags": ["everwrite"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _panel(number: int, panel: Panel, x: int, y: int) -> Json:
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": {"x": x, "y": y, "w": 24 // COLUMNS, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {"refId": chr(65 + at), "datasource": source, "expr": query, "legendFormat": legend}
            for at, (query, legend) in enumerate(panel.queries)
        ],
    }


def _variables() -> list[Json]:
    return [
        {"name": "source", "type": "datasource", "query": "prometheus", "label": "Source"},
        {
            "name": "node",
            "type": "query",
            "label": "Node",
            "datasource": {"type": "prometheus", "uid": "${source}"},
            "query": "label_values(everwrite_ready, instance)",
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
        },
    ]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(build(), indent=1) + "\n")
