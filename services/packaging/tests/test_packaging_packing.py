"""Conversion, parity, golden predictions and reference: the body of the child process."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC

from tidemill_packaging.domain import rows
from tidemill_packaging.domain.conversion import UnconvertibleError, cautions, convert
from tidemill_packaging.domain.runtime import Packaged
from tidemill_packaging.job import Packed, Unpackable
from tidemill_packaging.packing import pack

Build = Callable[..., Any]


def packed(result: Packed | Unpackable) -> Packed:
    assert isinstance(result, Packed), result
    return result


def refused(result: Packed | Unpackable) -> Unpackable:
    assert isinstance(result, Unpackable), result
    return result


@pytest.mark.parametrize("kind", ["binary", "three", "regression"])
@pytest.mark.parametrize("family", ["linear", "forest", "boosting"])
def test_every_family_and_task_is_packed_with_parity(case: Build, family: str, kind: str) -> None:
    built = case(family, kind)
    found = packed(pack(built.job))
    assert found.rows >= 1_000
    assert found.label_agreement >= 0.999
    assert found.p999 <= found.maximum < 0.05
    assert [name for name, _, _ in found.inputs] == ["numeric", "categorical"]
    assert found.inputs[1] == ("categorical", "BYTES", (-1, 1))
    names = [name for name, _, _ in found.outputs]
    assert names == (["value"] if kind == "regression" else ["label", "probabilities"])
    assert found.warnings == ()
    assert found.tolerance < 0.01
    k, m = rows.layout(
        rows.read(built.job.validation, ("age", "income", "town"), 0, None, 200), ("age", "income"), ("town",)
    )
    answers = Packaged((built.job.folder / "model.onnx").read_bytes()).run(k, m)
    own = rows.as_trained(k, m, ("age", "income"), ("town",))
    if kind == "regression":
        np.testing.assert_allclose(answers[0].reshape(-1), built.model.predict(own), rtol=1e-4, atol=1e-4)
    else:
        np.testing.assert_allclose(answers[1], built.model.predict_proba(own), atol=1e-4)
        assert answers[0].dtype == np.int64


def test_the_same_model_gives_the_same_bytes(case: Build) -> None:
    built = case("forest", "binary")
    first = packed(pack(built.job))
    model = (built.job.folder / "model.onnx").read_bytes()
    (built.job.folder / "model.onnx").unlink()
    assert pack(built.job) == first
    assert (built.job.folder / "model.onnx").read_bytes() == model


def test_golden_rows_hold_missing_values_unknown_categories_and_real_rows(case: Build) -> None:
    found = packed(pack(case("boosting", "binary").job))
    features = [row for row, _, _ in found.golden]
    assert len(features) == 32
    assert {"age": None, "income": None, "town": None} in features
    assert rows.UNKNOWN in [row["town"] for row in features]
    assert len({answer for _, answer, _ in found.golden}) == 2
    assert all(answer == ("no", "yes")[int(np.argmax(p))] for _, answer, p in found.golden)


def test_golden_answers_follow_the_decision_threshold(case: Build) -> None:
    found = packed(pack(case("linear", "binary", threshold=0.2).job))
    assert all((answer == "yes") == (p[1] >= 0.2) for _, answer, p in found.golden)
    assert any(0.2 <= p[1] < 0.5 for _, _, p in found.golden)


def test_the_reference_counts_the_training_rows_of_the_selection_alone(case: Build) -> None:
    built = case("boosting", "binary", newest=300)
    found = packed(pack(built.job))
    assert found.reference_rows == 100  # of the newest 300 rows, 200 are validation rows
    age = next(c for c in found.columns if c.name == "age")
    assert age.rows == 100
    assert sum(age.counts) + age.missing == 100
    assert len(age.counts) == len(age.edges) + 1
    values = built.rows["train"]["age"].to_numpy()[-100:]
    assert age.minimum == np.nanmin(values)  # as in the data, not rounded to float32
    town = next(c for c in found.columns if c.name == "town")
    assert sum(town.categories.values()) + town.missing == 100
    assert found.target.categories == built.rows["train"]["outcome"][-100:].value_counts().to_dict()


def test_where_validation_rows_were_learned_from_test_rows_show_how_the_model_answers(case: Build) -> None:
    built = case("forest", "binary")
    apart = packed(pack(built.job))
    unseen = built.job.folder / "test"
    built.rows["validation"].tail(120).to_parquet(unseen, index=False)
    found = packed(pack(replace(built.job, pooled=True, test=(unseen,))))
    assert (apart.reference_rows, apart.prediction.rows) == (600, 200)
    assert (found.reference_rows, found.prediction.rows) == (800, 120)
    assert {c.rows for c in found.validation} == {120}


def test_rows_before_the_change_are_left_out(case: Build) -> None:
    since = table_time(case, 500)
    found = packed(pack(case("boosting", "binary", since=since).job))
    assert found.reference_rows == 100


def table_time(case: Build, row: int) -> Any:
    return case("linear", "binary").rows["train"]["tidemill_time"][row].to_pydatetime()


def test_without_training_rows_there_is_no_package(case: Build) -> None:
    found = refused(pack(replace(case("boosting", "binary").job, train=(), validation=())))
    assert (found.step, found.code) == ("parity", "no_rows")


def fitted_pipeline(case: Build, encoder: Any, estimator: Any, numeric: Any = "passthrough") -> Any:
    built = case("linear", "binary")
    k, m = rows.layout(
        rows.read(built.job.train, ("age", "income", "town"), 0, None, 600), ("age", "income"), ("town",)
    )
    x = rows.as_trained(np.nan_to_num(k), m, ("age", "income"), ("town",))
    y = rows.targets(rows.read(built.job.train, ("outcome",), 0, None, 600), "outcome", ("no", "yes"))
    blocks = ColumnTransformer([("numeric", numeric, [0, 1]), ("categorical", encoder, [2])])
    return Pipeline([("preprocessing", blocks), ("model", estimator)]).fit(x, y)


def test_native_categories_are_refused_because_they_convert_wrongly(case: Build) -> None:
    model = fitted_pipeline(
        case,
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        HistGradientBoostingClassifier(max_iter=5, categorical_features=[2]),
    )
    with pytest.raises(UnconvertibleError, match="native categories"):
        convert(model, numeric=2, categorical=1, classify=True, opset=21)
    refused(pack(case("boosting", "binary", model=model).job))


def test_an_encoder_that_fails_at_run_time_is_refused(case: Build) -> None:
    encoder = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=5, sparse_output=False)
    model = fitted_pipeline(case, encoder, HistGradientBoostingClassifier(max_iter=5, categorical_features=None))
    found = refused(pack(case("boosting", "binary", model=model).job))
    assert (found.step, found.code) == ("convert", "unconvertible")
    assert "infrequent_if_exist" in found.message


def test_a_scaler_before_trees_is_warned_about(case: Build) -> None:
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    forest = RandomForestClassifier(5, random_state=0)
    assert cautions(fitted_pipeline(case, encoder, forest, make_pipeline(StandardScaler())))
    assert not cautions(fitted_pipeline(case, encoder, forest))


def test_types_that_nobody_reviewed_are_never_constructed(case: Build, tmp_path: Path) -> None:
    built = case("linear", "binary")

    skops.io.dump(Pipeline([("model", SVC()), ("other", Unreviewed())]), built.job.model)
    found = refused(pack(built.job))
    assert found.step == "load"
    assert "Unreviewed" in found.message
    assert not Unreviewed.constructed


class Unreviewed:
    """Would be code of somebody's choosing."""

    constructed = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        Unreviewed.constructed = True


def test_a_file_that_is_no_model_is_refused(case: Build) -> None:
    built = case("linear", "binary")
    built.job.model.write_bytes(b"\x80\x04not a model")
    assert refused(pack(built.job)).step == "load"


def test_a_model_that_lacks_a_class_is_refused(case: Build) -> None:
    built = case("linear", "binary")
    found = refused(pack(replace(built.job, classes=("no", "yes", "perhaps"))))
    assert (found.step, found.code) == ("convert", "missing_class")


def test_disagreement_is_refused_with_both_figures(case: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    built = case("linear", "binary")
    monkeypatch.setattr(type(built.model[-1]), "predict_proba", lambda self, x: np.tile([0.9, 0.1], (len(x), 1)))
    found = refused(pack(built.job))
    assert (found.step, found.code) == ("parity", "disagreement")
    assert "99.9%" in found.message
