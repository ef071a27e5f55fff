"""Traces and metrics through OpenTelemetry: silent unless OTEL_EXPORTER_OTLP_ENDPOINT is set."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import default_getter, default_setter
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tidemill_contracts.envelope import Event

MetricName = Literal[
    # counter: events a handler took, by type and outcome (completed, retried, buried, refused)
    "tidemill.events.handled",
    # histogram, seconds: time from taking an event to its completion, by type
    "tidemill.events.duration",
    # counter: entries taken over from consumers that stopped renewing them
    "tidemill.events.reclaimed",
    # counter: entries removed from streams, which all groups had acknowledged
    "tidemill.events.trimmed",
    # counter: streams no longer read, since all that came from them was poison, by type
    "tidemill.events.halted",
    # counter: completions that wait, since Redis is full
    "tidemill.events.stalled",
    # counter: predictions answered, by pipeline and outcome
    "tidemill.serving.predictions",
    # histogram, seconds: one batch through validation, model and completion
    "tidemill.serving.batch.duration",
    # histogram, seconds: loading and proving a package
    "tidemill.serving.load.duration",
    # counter: models that made room for others, by pipeline
    "tidemill.serving.unloaded",
    # counter: batches, by pipeline and outcome
    "tidemill.serving.batches",
    # histogram, seconds: one request for explanations, by pipeline
    "tidemill.serving.explain.duration",
    # counter: rows accepted or quarantined, by pipeline and outcome
    "tidemill.ingestion.rows",
    # histogram, seconds: one file from fetch to manifest
    "tidemill.ingestion.duration",
    # counter: trainings, by pipeline and outcome
    "tidemill.training.runs",
    # histogram, seconds: one training
    "tidemill.training.duration",
    # counter: packages, by pipeline and outcome
    "tidemill.packaging.packages",
    # histogram, seconds: conversion, parity and replay
    "tidemill.packaging.duration",
    # counter: judgements, by pipeline and outcome
    "tidemill.validation.judgements",
    # histogram, seconds: one judgement
    "tidemill.validation.duration",
    # counter: stages that challengers entered, and champions withdrawn, by pipeline and stage
    "tidemill.validation.rollouts",
    # counter: requests, results, labels seen, by pipeline and kind
    "tidemill.monitoring.events",
    # histogram, seconds: event time of a label minus event time of its prediction
    "tidemill.monitoring.label.delay",
    # counter: closed windows, by pipeline and verdict
    "tidemill.monitoring.windows",
]

_PROPAGATOR = TraceContextTextMapPropagator()


def configure(service: str, instance: str) -> None:
    """Export over OTLP/HTTP when the standard variable names an endpoint; otherwise do nothing at all."""
    if not (os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
        return
    # Imported only when used: the exporter costs memory in every service.
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": f"tidemill-{service}", "service.instance.id": instance})
    tracing = TracerProvider(resource=resource)
    tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(tracing)
    metrics.set_meter_provider(
        MeterProvider(metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter())], resource=resource)
    )


def flush() -> None:
    """Send what is left; called once at the end."""
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
        shutdown = getattr(provider, "shutdown", None)
        if shutdown:
            shutdown()


# The caches are apart from what is called: through one of them mypy would let any name pass.
def counter(name: MetricName, unit: str = "1") -> metrics.Counter:
    """A monotonic counter."""
    return _counter(name, unit)


def histogram(name: MetricName, unit: str = "s") -> metrics.Histogram:
    """A distribution."""
    return _histogram(name, unit)


@cache
def _counter(name: str, unit: str) -> metrics.Counter:
    return metrics.get_meter("tidemill").create_counter(name, unit)


@cache
def _histogram(name: str, unit: str) -> metrics.Histogram:
    return metrics.get_meter("tidemill").create_histogram(name, unit)


def _context(traceparent: str | None) -> Context | None:
    return _PROPAGATOR.extract({"traceparent": traceparent}, getter=default_getter) if traceparent else None


@contextmanager
def consuming(event: Event[Any]) -> Iterator[Span]:
    """A span for handling an event, a child of the span that published it."""
    with trace.get_tracer("tidemill").start_as_current_span(
        f"consume {event.type}",
        context=_context(event.traceparent),
        kind=SpanKind.CONSUMER,
        attributes={
            "messaging.system": "redis",
            "messaging.message.id": event.id,
            "tidemill.pipeline": event.pipeline,
        },
    ) as span:
        yield span


def traced(event: Event[Any], cause: Event[Any] | None = None) -> Event[Any]:
    """The event with the current span as its ``traceparent``, else the one it was caused under."""
    if event.traceparent:
        return event
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, setter=default_setter)
    traceparent = carrier.get("traceparent") or (cause.traceparent if cause else None)
    return event.model_copy(update={"traceparent": traceparent}) if traceparent else event
