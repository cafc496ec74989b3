"""OpenTelemetry: a request becomes a span, in the trace that it came with, with its timeline."""

from __future__ import annotations

import asyncio
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from tests.client.fake_node import in_loop
from tests.server.http.api import KEY, one, three
from tests.server.nodes import Nodes

from everwrite.core.errors import ConfigError
from everwrite.server.runtime import Runtime
from everwrite.server.settings import ServeOptions
from everwrite.server.spans import Spans

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def keep_spans(runtime: Runtime, **options: object) -> InMemorySpanExporter:
    """Let a node keep its spans, to be looked at."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False, **options)  # type: ignore[arg-type]
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    assert runtime.http is not None
    runtime.http.front.spans = Spans(provider, runtime.node.local)
    return exporter


@in_loop
async def test_a_request_is_a_span_in_the_trace_that_it_came_with() -> None:
    async with three() as (nodes, clients):
        exporter = keep_spans(nodes.running["n1"])
        headers = {"traceparent": PARENT, "Request-Id": "mine"}
        answer = await clients[0].put(KEY, content=b"tea", params={"w": 3}, headers=headers)
        assert "trace" not in answer.headers, "who did not ask for a trace is told none"

        (span,) = exporter.get_finished_spans()
        assert span.name == "put_object"
        assert f"{span.get_span_context().trace_id:032x}" == TRACE
        assert span.parent is not None
        assert dict(span.attributes or {}) == {
            "http.request.method": "PUT",
            "http.response.status_code": 204,
            "everwrite.request_id": "mine",
        }
        written = {
            (event.attributes or {})["everwrite.node"]
            for event in span.events
            if event.name == "has it written"
        }
        assert written == {"n1", "n2", "n3"}
        assert span.start_time is not None and span.end_time is not None
        assert all(span.start_time <= e.timestamp <= span.end_time for e in span.events)


@in_loop
async def test_no_span_names_a_key_or_a_value() -> None:
    async with one() as (runtime, client):
        exporter = keep_spans(runtime)
        await client.put("/v1/kv/secretbucket/secretkey", content=b"secretvalue")
        await client.get("/v1/kv/secretbucket")

        assert len(exporter.get_finished_spans()) == 2
        assert all("secret" not in span.to_json() for span in exporter.get_finished_spans())


@in_loop
async def test_a_request_that_is_not_sampled_is_not_traced() -> None:
    async with one() as (runtime, client):
        exporter = keep_spans(runtime, sampler=ALWAYS_OFF)
        await client.put(KEY, content=b"tea")

        assert exporter.get_finished_spans() == ()


def test_spans_reach_a_collector_by_the_end_of_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    came: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            came.append((self.path, self.rfile.read(size)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    async def run() -> None:
        async with one(otel=True) as (_, client):
            await client.put(KEY, content=b"tea")

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        Thread(target=collector.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{collector.server_port}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        asyncio.run(run())
        collector.shutdown()

    assert {path for path, _ in came} == {"/v1/traces"}
    told = b"".join(body for _, body in came)
    assert b"put_object" in told
    assert b"service.instance.id" in told
    assert b"n1" in told


def test_spans_need_http() -> None:
    with pytest.raises(ConfigError, match="this node takes none"):
        ServeOptions(otel=True)


@in_loop
async def test_a_node_without_the_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
    async with Nodes() as nodes:
        with pytest.raises(ConfigError, match="OpenTelemetry is not installed") as caught:
            await nodes.start("n1", http_port=0, otel=True)
    assert "checkout[otel]" in caught.value.hint
