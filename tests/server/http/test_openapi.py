"""The OpenAPI document is what the code is; and a real node keeps to it, whatever it is sent."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS

from everwrite.cli.devcluster import DevCluster
from everwrite.server.http.openapi import build, document
from everwrite.server.http.routes import OPERATIONS

ROOT = Path(__file__).parents[3]


def test_the_document_is_checked_in_as_it_is() -> None:
    there = json.loads((ROOT / "docs/openapi.json").read_bytes())

    assert there == json.loads(document()), "make openapi, and look at what has changed"


def test_every_operation_is_described_and_every_reference_leads_somewhere() -> None:
    described = build()

    assert described["openapi"] == "3.1.0"
    for operation in OPERATIONS:
        assert described["paths"][operation.path][operation.method.lower()]["summary"]
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described)))
    assert references == set(described["components"]["schemas"])


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One of three nodes that are processes of their own."""
    directory = tmp_path_factory.mktemp("openapi") / "dev"
    with DevCluster.create(directory, nodes=3, engine="sqlite", fsync=False) as cluster:
        asyncio.run(cluster.start())
        yield cluster.node(1).http


@schemathesis.serializer("application/x-ndjson")
def _lines(_: object, value: object) -> bytes:
    return str(value).encode(errors="replace")


api = schemathesis.openapi.from_dict(build()).exclude(path="/v1/events")
"""Events never end: tests/server/ui/test_feed.py listens to some."""

UNFIT = {"positive_data_acceptance", "negative_data_rejection", "missing_required_header"}
"""What the document cannot say: which texts are contexts, plans, or JSON of a certain form."""
KEPT = [CHECKS.get_one(name) for name in CHECKS.get_all_names() if name not in UNFIT]


@pytest.mark.process
@pytest.mark.slow
@api.parametrize()
@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_node_keeps_to_its_description(case: schemathesis.Case, node: str) -> None:
    case.call_and_validate(base_url=node, checks=KEPT, timeout=20)
