"""What is told of each pipeline, read from memory."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.events import PredictionRequested
from tidemill_contracts.prediction import RequestedPrediction
from tidemill_contracts.streams import stream_key
from tidemill_serving.answering import Answering
from tidemill_serving.domain.features import Layout
from tidemill_serving.domain.model import Model
from tidemill_serving.loading import Loaded
from tidemill_shared import telemetry
from tidemill_shared.delivery import Delivery

LAYOUT = Layout(("height", "weight"), ("colour",), None)
ROW: dict[str, Any] = {"height": 1.0, "weight": None, "colour": "green"}


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> InMemoryMetricReader:
    """Of instruments made from here on; those made before are not told of it."""
    made = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[made])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    for name in ("_counter", "_histogram"):
        monkeypatch.setattr(telemetry, name, cache(getattr(telemetry, name).__wrapped__))
    return made


def points(reader: InMemoryMetricReader, name: str) -> list[Any]:
    data = reader.get_metrics_data()
    assert data is not None
    (scope,) = data.resource_metrics[0].scope_metrics
    (metric,) = [m for m in scope.metrics if m.name == name]
    return list(metric.data.data_points)


class Champion:
    """The same model for every pipeline, and nothing beside it."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded

    async def ensure(self, _: str) -> Loaded:
        """As ``Models`` does."""
        return self._loaded

    def beside(self, *_: object) -> None:
        """As ``Rollouts`` does."""


def delivered(pipeline: str, number: int, features: dict[str, Any]) -> Delivery:
    data = RequestedPrediction(features=features)
    event = PredictionRequested.root(data, id=f"r-{number}", subject=pipeline, source="urn:test")
    stream = stream_key("test", PredictionRequested.type_name(), pipeline)
    return Delivery(stream, event.type, f"{number}-0", event.to_json())


async def test_answers_and_batches_are_counted_by_pipeline(
    reader: InMemoryMetricReader, make_onnx: Callable[[float], bytes]
) -> None:
    model = Model(make_onnx(0.3), LAYOUT, task="classification", classes=("no", "yes"))
    loaded = Loaded(model, "a" * 12, "b" * 12, 1, ArtifactRef(key="k", sha256="0" * 64, size=1))
    champion: Any = Champion(loaded)
    answering = Answering(champion, champion, "test", 60.0)
    for pipeline, rows in (("sales", [ROW, ROW, {}]), ("returns", [ROW]), ("sales", [ROW])):
        await answering.on_batch(pipeline, [delivered(pipeline, i, row) for i, row in enumerate(rows)])
    counted = {
        (p.attributes["pipeline"], p.attributes["outcome"]): p.value
        for p in points(reader, "tidemill.serving.predictions")
    }
    batches = {p.attributes["pipeline"]: p.count for p in points(reader, "tidemill.serving.batch.duration")}
    assert counted == {
        ("sales", "completed"): 3,
        ("sales", "failed"): 1,
        ("returns", "completed"): 1,
        ("returns", "failed"): 0,
    }
    assert batches == {"sales": 2, "returns": 1}
