"""A table and its answer are to the monitor what their rows would have been as events of their own."""

from datetime import UTC, datetime
from typing import Any

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.envelope import MAX_EVENT_BYTES, Event, content_id
from tidemill_contracts.events import (
    PredictionFailed,
    PredictionRequested,
    PredictionsCompleted,
    PredictionsRequested,
    RowsAnswered,
    TableCompleted,
)
from tidemill_contracts.prediction import CompletedPredictions, RefusedRows, RequestedPredictions
from tidemill_contracts.table import CompletedTable
from tidemill_monitoring.batch import Batch
from tidemill_monitoring.domain.findings import Resolved, Span
from tidemill_monitoring.domain.join import Join
from tidemill_monitoring.large_tables import events_of
from tidemill_monitoring.table_rows import Piece
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


def large(rows: int, text: str = "red") -> tuple[TableCompleted, Piece]:
    """A piece of a large table whose every third row was refused."""
    ref = ArtifactRef(key="tables/spins/inputs/x.arrow", sha256="0" * 64, size=1)
    completed = CompletedTable(
        table_id="table",
        table=ref,
        result=ref,
        rows=rows,
        refused=rows // 3,
        classes=(False, True),
        model_version=VERSION,
        dataset_version=VERSION,
    )
    event = TableCompleted.root(completed, subject="spins", source="urn:test", id="told", time=ASKED.time)
    bad = [i % 3 == 2 for i in range(rows)]
    return event, Piece(
        0,
        [f"r{i}" for i in range(rows)],
        {"x": [i / 2 for i in range(rows)], "colour": [text] * rows},
        [None if b else True for b in bad],
        [None if b else [0.25, 0.75] for b in bad],
        ["unknown_category" if b else None for b in bad],
        ["colour" if b else None for b in bad],
    )


def test_the_rows_of_a_large_table_are_joined_as_those_of_a_small_one() -> None:
    event, piece = large(6)
    (told,) = events_of(event, piece)
    batch, join = joined([told])
    assert batch.dead == []
    assert [row.id for row in join.answered] == ["r0", "r1", "r3", "r4"]
    assert [row.features for row in join.answered][1] == {"x": 0.5, "colour": "red"}
    failed = [e for e in told.each() if isinstance(e, PredictionFailed)]
    assert [(e.data.prediction_id, e.data.error, e.data.field) for e in failed] == [
        ("r2", "unknown_category", "colour"),
        ("r5", "unknown_category", "colour"),
    ]
    assert {e.time for e in told.each()} == {ASKED.time}
    assert events_of(event, piece) == [told]  # and so a repetition has the same ids


def test_a_piece_that_is_too_large_for_an_event_becomes_several() -> None:
    event, piece = large(256, "x" * 1_000)
    told = events_of(event, piece)
    assert len(told) > 1
    assert all(len(e.to_json()) <= MAX_EVENT_BYTES for e in told)
    assert [id_ for e in told for id_ in e.data.requested.ids] == piece.ids
    assert len({e.id for e in told}) == len(told)
    _, join = joined(list[Event[Any]](told))
    assert len(join.answered) == 256 - 256 // 3
    assert {type(e) for e in told} == {RowsAnswered}
