"""The dashboard and the alerts ask for metrics, labels and label values that there are."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.client.fake_node import in_loop
from tests.server.http.api import one, three
from tests.server.redis.redis_api import client_of

ROOT = Path(__file__).resolve().parent.parent
OPS = ROOT / "ops"
PAGE = ROOT / "docs/metrics.md"

Labels = dict[str, set[str]]
PROMETHEUS_OWN: dict[str, Labels] = {"up": {}}
ANY_NODE = {"instance", "job"}
BY_LINUX_ONLY = ("process_",)


def told(text: str) -> dict[str, Labels]:
    """Return the samples of a scrape, with the values of each of their labels."""
    found: dict[str, Labels] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def rules() -> list[dict[str, str]]:
    """Return the fields of each alert, wherever in it they stand. The file has plain, quoted and
    folded texts, and a map in braces: no more of YAML than this reads.
    """
    text = (OPS / "prometheus/alerts.yml").read_text()
    found = []
    for part in text.split("- alert: ")[1:]:
        unfolded = re.sub(r">-\n((?: {10}.+\n)+)", _unfold, f"alert: {part}")
        pairs = re.findall(r"^ *(?:labels: \{)?(\w+): (.+?)$", unfolded, re.MULTILINE)
        found.append({name: _unquoted(said) for name, said in pairs})
    return found


def _unfold(lines: re.Match[str]) -> str:
    return " ".join(lines[1].split()) + "\n"


def _unquoted(said: str) -> str:
    return said[1:-1] if said.startswith('"') else said.removesuffix("}")


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((OPS / "grafana/everwrite.json").read_text())["panels"]
    return found


def queries() -> Iterator[tuple[str, str]]:
    """Yield where it stands, and the query, of all queries."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel.get("targets", []):
            query = target["expr"].replace("$__rate_interval", "1m").replace("$node", ".*")
            yield panel["title"], query


def selectors(query: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield the name, and the (label, value) pairs that must be equal, of all that a query reads;
    a value is empty where any will do.
    """
    for name, inside in re.findall(r"\b((?:everwrite|process)_\w+|up\b)(?:\{([^}]*)\})?", query):
        matchers = re.findall(r'(\w+)\s*(=~|=|!=)\s*"([^"]*)"', inside)
        yield name, [(label, value if how == "=" else "") for label, how, value in matchers]


def grouped_by(query: str) -> set[str]:
    found = re.findall(r"\bby \(([^)]*)\)", query)
    return {label.strip() for each in found for label in each.split(",")}


def complaints(query: str, known: dict[str, Labels]) -> Iterator[str]:
    """Yield what is wrong with a query, as far as a scrape can tell."""
    try:
        promql_parser.parse(query)
    except ValueError as error:
        yield str(error)
    labels = set(ANY_NODE)
    for name, matchers in selectors(query):
        if name.startswith(BY_LINUX_ONLY) and sys.platform != "linux":
            continue
        if name not in known and name not in PROMETHEUS_OWN:
            yield f"there is no {name}"
            continue
        mine = known.get(name, {})
        labels |= mine.keys()
        for label, value in matchers:
            if label in ANY_NODE:
                continue
            if label not in mine:
                yield f"{name} has no label {label}"
            elif value and value not in mine[label]:
                yield f"{name} is never told with {label}={value}"
    if not grouped_by(query) <= labels:
        yield f"nothing there has the labels {sorted(grouped_by(query) - labels)}"


@in_loop
async def test_dashboard_and_alerts_ask_for_what_a_node_tells() -> None:
    async with one() as (_, client):
        await client.put("/v1/kv/carts/alice", content=b"tea")  # now HTTP has something to tell
        known = told((await client.get("/metrics")).text)
        on_disk = {"everwrite_storage_bytes": {}, "everwrite_storage_free_bytes": {}}
        for where, query in queries():
            assert list(complaints(query, {**known, **on_disk})) == [], f"{where}: {query}"


@pytest.mark.parametrize(
    "query",
    [
        "everwrite_no_such_thing",
        'everwrite_peers{color="red"}',
        'everwrite_peers{state="asleep"}',
        "sum by (bucket) (everwrite_peers)",
        "sum by (state (everwrite_peers)",
        "rate(everwrite_peers)",
    ],
)
def test_a_query_that_asks_for_something_else_is_found(query: str) -> None:
    assert list(complaints(query, {"everwrite_peers": {"state": {"up", "slow", "down"}}}))


def test_each_alert_says_how_bad_it_is_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) > 15
    for rule in rules():
        assert rule["severity"] in ("page", "ticket")
        assert rule["summary"].endswith(".") and rule["action"].endswith((".", "?"))
        assert rule["alert"] in PAGE.read_text(), "docs/metrics.md explains all alerts"


def test_the_dashboard_is_the_one_that_its_table_makes() -> None:
    made = subprocess.run(
        [sys.executable, OPS / "grafana/dashboard.py"], capture_output=True, check=True
    )
    assert (OPS / "grafana/everwrite.json").read_bytes() == made.stdout, "make dashboard"


def test_panels_do_not_overlap() -> None:
    cells = [
        (x, y)
        for panel in panels()
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))


@in_loop
async def test_the_page_lists_all_families_with_their_labels_and_no_others() -> None:
    rows = re.findall(r"^\| `(everwrite_\w+)` \| (\w+) \| ([^|]*) \|", PAGE.read_text(), re.M)
    listed = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    async with three(redis_port=0) as (nodes, clients):
        await clients[0].put("/v1/kv/carts/alice", content=b"tea")
        async with client_of(nodes.running["n1"]) as redis:
            await redis.set("cart", "tea", nx=True)
        text = (await clients[0].get("/metrics")).text
        there = {}
        for family in text_string_to_metric_families(text):
            labels = {label for sample in family.samples for label in sample.labels}
            if family.name.startswith("everwrite_"):
                there[family.name] = family.type, labels - {"le"}
        for name in ("everwrite_storage_bytes", "everwrite_storage_free_bytes"):
            there[name] = ("gauge", set())  # of nodes with a disk

        assert listed == there
