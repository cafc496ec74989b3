"""Spans for OpenTelemetry: one for each HTTP request, with its timeline as events.

    pip install '/path/to/this/checkout[otel]'
    OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 everwrite serve --otel ...

A request that brings a ``traceparent`` goes on in that trace. Which are recorded says the SDK's
sampler, by its own variables (OTEL_TRACES_SAMPLER); one that is not recorded costs a few
microseconds. A recorded request for keys is traced as by ``?trace=1`` (tracing.py), and its span
has an event for each answer of a replica, each batch and each fsync. No key is an attribute.

Spans go out in batches from a thread of the SDK's.
"""

from __future__ import annotations

import asyncio
import contextlib
from threading import Thread
from typing import TYPE_CHECKING

from everwrite.core.errors import ConfigError
from everwrite.core.local import Local
from everwrite.server.http.asked import Asked

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span


class Spans:
    """The spans of one node."""

    def __init__(self, provider: TracerProvider, local: Local) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._local = local
        self._provider = provider
        self._tracer = provider.get_tracer("everwrite")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, asked: Asked) -> Span:
        """A request came."""
        from opentelemetry.trace import SpanKind

        carrier = {
            name: asked.headers[name.encode()].decode("latin-1")
            for name in ("traceparent", "tracestate")
            if name.encode() in asked.headers
        }
        parent = self._propagator.extract(carrier) if carrier else None
        span = self._tracer.start_span("request", parent, SpanKind.SERVER)
        asked.recorded = span.is_recording()
        return span

    def end(self, span: Span, asked: Asked) -> None:
        """It was answered, or nobody waits for an answer any more."""
        from opentelemetry.trace import StatusCode

        if span.is_recording():
            span.update_name(asked.operation)
            span.set_attribute("http.request.method", asked.method)
            span.set_attribute("everwrite.request_id", asked.id.decode())
            if asked.status:
                span.set_attribute("http.response.status_code", asked.status)
            if asked.status >= 500:
                span.set_status(StatusCode.ERROR)
            if asked.timeline is not None:
                began_ns = asked.timeline.began_wall_ns
                for event in asked.timeline.told(self._local):
                    at = began_ns + event.us * 1000
                    span.add_event(event.what, {"everwrite.node": event.node}, at)
        span.end()

    async def close(self, seconds: float) -> None:
        """Send what was not sent yet; a collector that takes longer does not hold up the end."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
                loop.call_soon_threadsafe(ended.set)

        Thread(target=end, name="everwrite-spans", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), seconds)


def check_installed() -> None:
    """Raise ConfigError if the libraries that spans need are not there."""
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace.export  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"OpenTelemetry is not installed ({error}).",
            hint="Install Everwrite with its extra: pip install '/path/to/this/checkout[otel]'; or "
            "leave out --otel. Nothing was started.",
        ) from error


def open_spans(local: Local) -> Spans:
    """Return the spans of a node, to be sent where the variables of OpenTelemetry say."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    me = local.members.me
    named = {"service.name": "everwrite", "service.instance.id": me.name}
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Spans(provider, local)
