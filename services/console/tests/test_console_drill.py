"""What a drill replays."""

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

pytest.importorskip("sklearn")

from tidemill_console.acceptance.specification import KEY, TARGET, TIME, rehearsal
from tidemill_console.drill.recent import changed
from tidemill_contracts.pipeline import PipelineSpec, PromotionPolicy, RetrainPolicy
from tidemill_shared.errors import TidemillError

SPEC = PipelineSpec(
    name="loans",
    task="classification",
    target="late",
    positive=True,
    primary="f1",
    keys=("id",),
    retrain=RetrainPolicy(mode="suggest", min_rows=120, cool_down_seconds=600),
    promotion=PromotionPolicy(approval="person", goals={"f1": 0.5}),
)
ROWS = pa.table({"age": [20.0, 30.0, 40.0], "town": ["a", "b", None], "late": [True, False, False], "id": [1, 2, 3]})


def manifest(**changes: Any) -> Any:
    columns = [SimpleNamespace(name=n, role="feature") for n in ("age", "town")]
    facts = {"task": "classification", "classes": (False, True), "columns": columns}
    return SimpleNamespace(**(facts | changes))


def test_classes_are_exchanged_from_the_change_on_and_few_rows_are_repeated() -> None:
    stream = changed(ROWS, manifest(), SPEC, first=6, calm=3, after=3)
    assert (len(stream), stream.first, stream.changes) == (12, 6, (9,))
    assert stream.labels.tolist() == ["True", "False", "False"] * 3 + ["False", "True", "True"]
    assert (stream.numeric, stream.categorical) == (["age"], ["town"])
    assert stream.cells(2) == {"age": 40.0, "town": None}


def test_a_regression_has_no_classes_to_exchange() -> None:
    with pytest.raises(TidemillError, match="it has none"):
        changed(ROWS, manifest(task="regression"), SPEC, first=6, calm=3, after=3)


def test_a_rehearsal_keeps_the_pipelines_settings_but_waits_for_nobody() -> None:
    stream = changed(ROWS, manifest(), SPEC, first=6, calm=3, after=3)
    own = rehearsal(stream, SPEC, 250)
    assert (own.name, own.target, own.keys, own.time, own.positive) == ("drill-loans", TARGET, (KEY,), TIME, "True")
    assert (own.retrain.mode, own.retrain.min_rows, own.retrain.cool_down_seconds) == ("auto", 120, 0)
    assert (own.promotion.approval, own.promotion.goals) == ("automatic", {"f1": 0.5})
    assert own.drift.feedback_rows == 250
