"""The prediction log: every answer with what it was given, as Parquet by hour of event time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq

from tidemill_monitoring.domain.logged_answer import LoggedAnswer

SCHEMA = pa.schema(
    [
        ("prediction_id", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("model_version", pa.string()),
        ("dataset_version", pa.string()),
        ("features", pa.string()),
        ("prediction", pa.string()),
        ("probabilities", pa.list_(pa.float64())),
    ]
)
"""``features`` and ``prediction`` are JSON: pipelines differ in columns, and a pipeline's own may change."""


def parts(answers: Sequence[LoggedAnswer]) -> list[tuple[datetime, bytes]]:
    """A Parquet file for each hour among the answers; the same answers give the same bytes."""
    hours: dict[datetime, list[LoggedAnswer]] = {}
    for answer in answers:
        hour = datetime.fromtimestamp(answer.time, UTC).replace(minute=0, second=0, microsecond=0)
        hours.setdefault(hour, []).append(answer)
    return [(hour, _parquet(hours[hour])) for hour in sorted(hours)]


def _parquet(answers: Sequence[LoggedAnswer]) -> bytes:
    columns = {
        "prediction_id": [a.prediction_id for a in answers],
        "time": [datetime.fromtimestamp(a.time, UTC) for a in answers],
        "model_version": [a.model_version for a in answers],
        "dataset_version": [a.dataset_version for a in answers],
        "features": [a.features for a in answers],
        "prediction": [a.prediction for a in answers],
        "probabilities": [list(a.probabilities) for a in answers],
    }
    out = BytesIO()
    pq.write_table(pa.Table.from_pydict(columns, schema=SCHEMA), out, compression="zstd")
    return out.getvalue()
