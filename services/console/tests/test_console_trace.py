"""``trace`` finds a row of a table by its prediction id."""

from datetime import UTC, datetime
from typing import Any

from tidemill_console.commands.trace import Story, _causes, _find, note
from tidemill_console.history import line
from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.envelope import Event
from tidemill_contracts.events import ModelPromoted, PredictionCompleted, PredictionsCompleted, PredictionsRequested
from tidemill_contracts.prediction import CompletedPredictions, RefusedRows, RequestedPredictions
from tidemill_contracts.promotion import PromotedModel

VERSION = "0123456789ab"
REF = ArtifactRef(key="none", sha256="0" * 64, size=0)
PROMOTED = ModelPromoted.root(
    PromotedModel(
        pipeline="sales",
        version=VERSION,
        sequence=1,
        kind="promotion",
        promotion=REF,
        manifest=REF,
        attestation=REF,
        reason="a test",
    ),
    subject=f"sales/{VERSION}",
    source="urn:test",
)
ASKED = PredictionsRequested.root(
    RequestedPredictions(ids=("a", "b"), columns={"x": (1, 2)}), subject="sales", source="urn:test"
)
TOLD = PredictionsCompleted.caused_by(
    ASKED,
    CompletedPredictions(
        prediction_ids=("a",),
        predictions=(True,),
        refused=(RefusedRows(prediction_ids=("b",), error="expired", message="too late"),),
        model_version=VERSION,
        dataset_version=VERSION,
    ),
    time=datetime(2026, 3, 1, tzinfo=UTC),
)


def test_a_row_of_a_table_is_traced_to_its_table_and_model() -> None:
    story: Story = {}
    events: tuple[Event[Any], ...] = (PROMOTED, ASKED, TOLD)
    for event in events:
        note(story, event)
    (found,) = _find(story, "a")
    assert isinstance(found, PredictionCompleted)
    assert found.data.prediction is True
    assert _causes(found, story) == [ASKED, PROMOTED]
    assert _find(story, "b")[0].id == "b"  # refused: the request is what there is


def test_a_table_in_one_line() -> None:
    assert line(TOLD).endswith(f"predictions.completed  model_version={VERSION} refused=too late")
