"""/metrics: what a node has counted, in the forms that Prometheus reads."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as in_open_metrics,
)
from prometheus_client.parser import text_string_to_metric_families
from tests.client.fake_node import in_loop
from tests.server.http.api import client_of, one, problem, three
from tests.server.nodes import Nodes

from everwrite.core import unsettled
from everwrite.server.metrics.disk import look_at
from everwrite.server.metrics.exposition import Exposition


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Return each value under its name and its labels' values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@in_loop
async def test_requests_are_counted_by_operation_and_outcome() -> None:
    async with three() as (_, clients):
        for path in ("alice", "bob"):
            await clients[0].put(f"/v1/kv/carts/{path}", content=b"tea")
        await clients[0].get("/v1/kv/carts/alice")
        await clients[0].get("/v1/kv/carts/nobody")
        await clients[0].put("/v1/kv/carts/alice", content=b"", headers={"Causal-Context": "AAAA"})

        found = [samples((await client.get("/metrics")).text) for client in clients]

        name = "everwrite_request_duration_seconds_count"
        assert sum(each[name, "put", "ok"] for each in found) == 2
        assert sum(each[name, "get", "ok"] for each in found) == 2
        assert sum(each[name, "put", "none"] for each in found) == 1
        assert sum(each["everwrite_request_errors_total", "bad_context"] for each in found) == 1
        http = "everwrite_http_request_duration_seconds_count"
        assert found[0][http, "put_object", "2xx"] == 2
        assert found[0][http, "get_object", "4xx"] == 1


@in_loop
async def test_a_form_that_nobody_knows_is_told_as_text() -> None:
    async with one() as (_, client):
        for version in ("next", "1.0.0.0", "1.0.next", ""):
            accept = {"Accept": f"application/openmetrics-text; version={version}"}
            told = await client.get("/metrics", headers=accept)

            assert told.status_code == 200
            assert b"everwrite_ready 1.0" in told.content


@in_loop
async def test_a_scrape_is_told_in_the_form_that_is_asked_for() -> None:
    async with one() as (_, client):
        plain = await client.get("/metrics")
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        strict = await client.get("/metrics", headers=accept)

        assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert strict.headers["content-type"].startswith("application/openmetrics-text")
        names = {family.name for family in in_open_metrics(strict.text)}
        assert {"everwrite_request_duration_seconds", "everwrite_hints"} <= names
        problem(await client.get("/metrics?name[]=everwrite_hints"), 400, "bad_request")


@in_loop
async def test_metrics_ask_for_the_secret_if_there_is_one() -> None:
    async with one(secret=b"s" * 20) as (_, client):
        problem(await client.get("/metrics"), 401, "denied")
        said = {"Authorization": "Bearer " + "s" * 20}
        assert (await client.get("/metrics", headers=said)).status_code == 200


@in_loop
async def test_nothing_that_a_client_sends_becomes_a_label() -> None:
    async with one() as (_, client):
        for method in ("GET", "PUT", "BREW"):
            await client.request(method, "/v1/kv/secretbucket/secretkey", content=b"secretvalue")
        await client.get("/secretpath")

        assert "secret" not in (await client.get("/metrics")).text.lower()


@in_loop
async def test_increments_that_are_folded_before_their_time_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unsettled, "UNSETTLED_MAX", 2)
    async with one() as (runtime, client):
        runtime.node.local.unsettled.add([b"%d" % number for number in range(5)], 0)

        found = samples((await client.get("/metrics")).text)
        assert found["everwrite_doubts_dropped_total",] == 3


@in_loop
async def test_two_nodes_of_one_process_count_apart() -> None:
    async with three() as (_, clients):
        found = [samples((await client.get("/metrics")).text) for client in clients]

        named = {key for each in found for key in each if key[0] == "everwrite_node_info"}
        assert len(named) == 3
        assert all(each["everwrite_peers", "up"] == 2 for each in found)


@pytest.mark.parametrize("hangs", [False, True])
def test_a_disk_says_how_full_it_is_unless_it_hangs(hangs: bool, tmp_path: Path) -> None:
    async def run() -> None:
        async with Nodes(tmp_path) as nodes:
            runtime = await nodes.start("n1", http_port=0)
            if hangs:
                runtime.exposition._look_at_disk = _silent  # type: ignore[method-assign]
            async with client_of(runtime) as client:
                text = (await client.get("/metrics")).text
            assert ("everwrite_storage_free_bytes" in samples_names(text)) is not hangs

    asyncio.run(run())


async def _silent() -> None:
    return None


def samples_names(text: str) -> set[str]:
    return {key[0] for key in samples(text)}


def test_what_a_directory_takes_is_what_its_files_take(tmp_path: Path) -> None:
    before = look_at(tmp_path)
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "file").write_bytes(b"x" * 100_000)

    after = look_at(tmp_path)

    assert 100_000 <= after.taken - before.taken < 200_000
    assert after.free > 0


@in_loop
async def test_the_collector_yields_each_family_once() -> None:
    async with one() as (runtime, client):
        await client.put("/v1/kv/carts/alice", content=b"tea")
        names = [family.name for family in Exposition(runtime).collect()]

        assert len(names) == len(set(names)) > 80
