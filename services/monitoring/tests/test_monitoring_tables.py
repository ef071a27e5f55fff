"""A table and its answer are to the monitor what their rows would have been as events of their own."""

from datetime import UTC, datetime
from typing import Any

from tidemill_contracts.envelope import Event, content_id
from tidemill_contracts.events import PredictionFailed, PredictionRequested, PredictionsCompleted, PredictionsRequested
from tidemill_contracts.prediction import CompletedPredictions, RefusedRows, RequestedPredictions
from tidemill_monitoring.batch import Batch
from tidemill_monitoring.domain.findings import Resolved, Span
from tidemill_monitoring.domain.join import Join
from tidemill_shared.delivery import Delivery

IDS = ("a", "b", "c", "d")
VERSION = "0123456789ab"
ASKED = PredictionsRequested.root(
    RequestedPredictions(ids=IDS, columns={"x": (0.5, None, 2, -1.0), "colour": ("red", None, "", "blue")}),
    subject="spins",
    source="urn:test",
    id="table",
    time=datetime(2026, 3, 1, tzinfo=UTC),
)
TOLD = PredictionsCompleted.caused_by(
    ASKED,
    CompletedPredictions(
        prediction_ids=("a", "b", "d"),
        predictions=(True, False, True),
        probabilities=((0.1, 0.9), (0.8, 0.2), (0.4, 0.6)),
        classes=(False, True),
        refused=(RefusedRows(prediction_ids=("c",), error="unknown_category", field="colour", message="new"),),
        model_version=VERSION,
        dataset_version=VERSION,
    ),
    time=ASKED.time,
)


def delivery(event: Event[Any], entry: str) -> Delivery:
    return Delivery(f"{{t:spins}}:{event.type}", event.type, entry, event.to_json())


def joined(events: list[Event[Any]]) -> tuple[Batch, Join]:
    batch = Batch.parse([delivery(e, f"{i}-0") for i, e in enumerate(events)], regression=False)
    join = Join({}, set())
    batch.feed(join)
    return batch, join


def test_a_table_is_joined_as_its_rows_would_be() -> None:
    batch, join = joined([TOLD, ASKED])
    assert batch.dead == []
    assert batch.ids == list(IDS)
    _, alone = joined([*ASKED.each(), *TOLD.each()])
    assert {type(e) for e in ASKED.each()} == {PredictionRequested}
    assert [e.data.prediction_id for e in TOLD.each() if isinstance(e, PredictionFailed)] == ["c"]
    assert (join.answered, join.counts, join.finished) == (alone.answered, alone.counts, alone.finished)
    assert [row.id for row in join.answered] == ["a", "b", "d"]
    assert join.answered[1].features == {"x": None, "colour": None}


def test_a_finding_about_a_row_leaves_with_the_table_that_led_to_it() -> None:
    batch, _ = joined([ASKED, TOLD])
    finding = Resolved("data", VERSION, Span(3, 1, 3, 0.0, 1.0), "stable")
    completion = batch.completion([("d", finding)], [], "accuracy", [], ("key", None))
    (first, nothing), (second, outputs) = completion.outputs
    assert (first.type, nothing) == (ASKED.type, [])
    assert second.type == TOLD.type
    event = outputs[0]
    assert isinstance(event, Event)
    row = next(e for e in TOLD.each() if e.data.prediction_id == "d")
    assert event.id == content_id(row.id, event.type, event.subject, "data", "answered")


def test_a_table_that_is_none_is_set_aside() -> None:
    body = ASKED.to_json().replace(b'"a","b"', b'"a","a"')
    batch = Batch.parse([Delivery("s", ASKED.type, "1-0", body)], regression=False)
    assert [code for _, code, _ in batch.dead] == ["invalid"]
