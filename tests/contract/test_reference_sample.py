"""The rows a package brings of its reference, written by packaging, read by monitoring."""

from base64 import b64encode

import numpy as np

from tidemill_contracts.dataset import Histogram
from tidemill_contracts.package import Reference, ReferenceColumn, ReferenceSample
from tidemill_monitoring.domain.sample import coded
from tidemill_monitoring.promotions import translate
from tidemill_packaging.domain import reference
from tidemill_packaging.domain.column import Column


def written(column: Column) -> ReferenceColumn:
    histogram = Histogram(edges=column.edges, counts=column.counts) if column.counts else None
    return ReferenceColumn(
        name=column.name,
        kind="numeric" if column.kind == "numeric" else "categorical",
        rows=column.rows,
        missing=column.missing,
        histogram=histogram,
        categories=column.categories,
    )


def test_both_put_a_cell_into_the_same_bin() -> None:
    rng = np.random.default_rng(0)
    numbers = np.where(rng.random(700) < 0.1, np.nan, rng.poisson(3, 700).astype(float))
    words = rng.choice(np.array(["True", "true", "False", "b", "", "é"], object), 700)
    made = [
        reference.sampled(reference.numeric_column("n", numbers), numbers),
        reference.sampled(reference.categorical_column("w", words), words),
    ]
    bins = bytes(cell for row in zip(*(c.sample for c in made), strict=True) for cell in row)
    document = Reference(
        rows=700,
        columns=tuple(written(c) for c in made),
        prediction=written(made[0]),
        target=written(made[0]),
        metric="accuracy",
        score=0.9,
        error=0.1,
        error_rows=100,
        sample=ReferenceSample(columns=("n", "w"), rows=700, bins=b64encode(bins).decode()),
    )
    found = translate(Reference.model_validate_json(document.to_json()), "digest")
    assert found.sample is not None
    ours = [coded(found.columns[0], numbers), coded(found.columns[1], words.tolist())]
    assert np.array_equal(found.sample.codes, np.column_stack(ours))
    broken = document.sample.model_copy(update={"rows": 699}) if document.sample else None
    assert translate(document.model_copy(update={"sample": broken}), "digest").sample is None
