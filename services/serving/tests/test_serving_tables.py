"""Tables of requests: answered as their rows would be, one event each."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.envelope import MAX_EVENT_BYTES
from tidemill_contracts.events import (
    EventDeadLettered,
    ModelDeployed,
    PredictionCompleted,
    PredictionFailed,
    PredictionsCompleted,
    PredictionsRequested,
)
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.prediction import RequestedPredictions
from tidemill_contracts.registry import InvalidEvent, parse, parse_as
from tidemill_serving import encode
from tidemill_serving.app import build
from tidemill_serving.domain.features import Layout, Refusal, stacked
from tidemill_serving.domain.model import Model
from tidemill_serving.loading import Loaded
from tidemill_serving.outcomes import predicted
from tidemill_serving.rows import answers
from tidemill_serving.settings import ServingSettings
from tidemill_serving.table import TableReader
from tidemill_serving.tables import Tables
from tidemill_shared.testing.platform import Platform

NUMERIC, CATEGORICAL, COLOURS = ("height", "weight"), ("colour",), frozenset({"red", "green", "blue"})
LAYOUT = Layout(NUMERIC, CATEGORICAL, {"colour": COLOURS})
NOWHERE = ArtifactRef(key="none", sha256="0" * 64, size=0)
GOOD = {"height": (1, 0.5, None), "weight": (2.5, 0, 1e3), "colour": ("red", None, "blue")}


def table(columns: dict[str, Any], ids: tuple[str, ...] = ("a", "b", "c"), **more: Any) -> PredictionsRequested:
    payload = RequestedPredictions(ids=ids, columns=columns, **more)
    return PredictionsRequested.root(payload, id="t-1", subject="sales", source="urn:test")


@pytest.fixture
def loaded(make_onnx: Callable[[float], bytes]) -> Loaded:
    model = Model(make_onnx(0.3), LAYOUT, task="classification", classes=("no", "yes"), positive="yes")
    return Loaded(model, "0123456789ab", "ba9876543210", 1, NOWHERE)


def answer(event: PredictionsRequested, loaded: Loaded | None) -> PredictionsCompleted:
    reader = loaded.tables if loaded else TableReader(None)
    asked = Tables([reader.read(event.to_json(), "sales")])
    predictions = predicted(loaded.model, stacked(asked.inputs)) if loaded and asked.inputs else None
    body, refused = asked.answers(predictions, loaded)[0]
    found = parse_as(PredictionsCompleted, body)
    assert sum(len(group.prediction_ids) for group in found.data.refused) == refused
    return found


numbers = st.none() | st.integers(-9, 9) | st.floats(-1e3, 1e3) | st.sampled_from([1e300, "tall", True])
colours = st.none() | st.sampled_from(["red", "green", "mauve", 7])


# The model stays as it was loaded.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data(), st.integers(1, 5), st.booleans())
def test_a_table_is_answered_as_its_rows_would_be(loaded: Loaded, data: st.DataObject, n: int, whole: bool) -> None:
    def cells(of: st.SearchStrategy[Any]) -> tuple[Any, ...]:
        return tuple(data.draw(st.lists(of, min_size=n, max_size=n)))

    columns = {"height": cells(numbers), "weight": cells(numbers)} | ({"colour": cells(colours)} if whole else {})
    event = table(columns, tuple(f"r-{i}" for i in range(n)))
    alone: dict[str, Any] = {}
    for row in event.each():
        found = answers([loaded.reader.read(row.to_json(), "sales")], loaded)[0]
        request = loaded.reader.read(row.to_json(), "sales")
        body = encode.failed(request, found, loaded.version) if isinstance(found, Refusal) else found
        alone[row.id] = parse(body).data
    together = answer(event, loaded).each()
    assert {row.data.prediction_id: type(row) for row in together}.keys() == alone.keys()
    for row in together:
        expected = alone[row.data.prediction_id]
        if isinstance(row, PredictionFailed):
            assert row.data.model_dump() == expected.model_dump()
            continue
        assert row.data.model_copy(update={"probabilities": ()}) == expected.model_copy(update={"probabilities": ()})
        np.testing.assert_allclose(row.data.probabilities, expected.probabilities, rtol=1e-6)


def test_what_is_plainly_right_is_read_without_rows() -> None:
    reader = TableReader(LAYOUT)
    read = reader._at_once(reader._decode(table(GOOD).to_json()), "sales", LAYOUT)
    careful = reader._carefully(table(GOOD).to_json(), "sales")
    assert read is not None
    assert read.inputs is not None
    assert careful.inputs is not None
    assert (read.ids, read.refusals) == (careful.ids, careful.refusals) == (["a", "b", "c"], [None] * 3)
    np.testing.assert_array_equal(read.inputs.numeric, careful.inputs.numeric)
    np.testing.assert_array_equal(read.inputs.categorical, careful.inputs.categorical)
    assert read.inputs.numeric.flags.c_contiguous


def test_without_a_model_or_in_time_every_row_is_refused(loaded: Loaded) -> None:
    without = answer(table(GOOD), None)
    late = answer(table(GOOD, expires_at="2020-01-01T00:00:00Z"), loaded)
    assert [(g.error, g.prediction_ids) for g in without.data.refused] == [("no_model", ("a", "b", "c"))]
    assert [(g.error, g.prediction_ids) for g in late.data.refused] == [("expired", ("a", "b", "c"))]
    assert (without.data.model_version, late.data.model_version) == (None, loaded.version)


def test_an_answer_that_would_be_too_large_says_so(make_onnx: Callable[[float], bytes]) -> None:
    classes = ("n" * 50_000, "y" * 50_000)
    model = Model(make_onnx(0.3), LAYOUT, task="classification", classes=classes)
    found = answer(table(GOOD), Loaded(model, "0123456789ab", "ba9876543210", 1, NOWHERE))
    assert [g.error for g in found.data.refused] == ["answer_too_large"]
    assert found.data.refused[0].prediction_ids == ("a", "b", "c")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"ids": ["a", "a", "c"]}, "invalid"),
        ({"ids": ["a", "b"]}, "invalid"),
        ({"ids": ["a", "b", "../c"]}, "invalid"),
        ({"ids": []}, "invalid"),
        ({"columns": GOOD | {"surplus": [1]}}, "invalid"),
        ({"columns": GOOD | {"surplus": ["x" * MAX_EVENT_BYTES] * 3}}, "too_large"),
    ],
)
def test_a_table_nobody_could_answer_is_invalid(change: dict[str, Any], code: str, loaded: Loaded) -> None:
    body = json.loads(table(GOOD).to_json())
    body["data"] |= change
    with pytest.raises(InvalidEvent) as caught:
        loaded.tables.read(json.dumps(body).encode(), "sales")
    assert caught.value.code == code


async def test_tables_on_the_stream(platform: Platform, spec: PipelineSpec, promote: Any, probability: Any) -> None:
    await platform.declare(spec)
    async with platform.running(build(platform.settings(ServingSettings))):
        await platform.publish(await promote(1, bias=0.5))
        await platform.wait_for(ModelDeployed)
        asked = table(GOOD | {"colour": ("red", "mauve", None)})
        await platform.publish(asked, asked)
        bad = json.loads(asked.to_json())
        bad["data"]["ids"] = ["a", "a", "a"]
        await platform.redis.xadd(asked.stream(platform.namespace), {"__data__": json.dumps(bad).encode()})
        letter = await platform.wait_for(EventDeadLettered)
        found = await platform.wait_for(PredictionsCompleted, pipeline="sales")
        assert await platform.events(PredictionsCompleted, "sales") == [found]  # sent twice, answered once
        assert await platform.events(PredictionCompleted, "sales") == []
    assert letter.data.reason == "invalid"
    assert (found.causationid, found.correlationid, found.time) == ("t-1", "t-1", asked.time)
    assert found.data.prediction_ids == ("a", "c")
    rows = [{"height": 1, "weight": 2.5, "colour": "red"}, {"height": None, "weight": 1e3, "colour": None}]
    odds = [probability(row, 0.5) for row in rows]
    assert [row[1] for row in found.data.probabilities] == pytest.approx(odds, rel=1e-5)
    assert found.data.predictions == ("yes", "yes")
    assert [(g.error, g.field, g.prediction_ids) for g in found.data.refused] == [
        ("unknown_category", "colour", ("b",))
    ]
