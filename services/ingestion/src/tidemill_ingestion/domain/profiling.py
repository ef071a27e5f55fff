"""The exploratory summary of a dataset version: newest live rows, bounded, so that its cost does not grow for ever."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tidemill_ingestion.domain.association import Codes, Floats, correlation_ratio, cramers_v, pearson
from tidemill_ingestion.domain.job import ORDINAL, EarlierPart, Feature, Label, Task
from tidemill_ingestion.domain.recent import newest

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_EDGES = tuple(np.arange(1, 20) / 20)
_TOP = 20
_TOP_WIDTH = 80
"""Categories are cut to this length in a profile."""


@dataclass(frozen=True)
class TargetColumn:
    """The target as numbers (regression, and two classes as 0 and 1) and as codes (classes)."""

    values: Floats | None
    codes: Codes | None


def sample(
    new: pa.Table, earlier: Sequence[EarlierPart], columns: Sequence[str], *, from_ordinal: int, rows: int
) -> pa.Table:
    """The newest live rows, at most ``rows``, in order of arrival. The parts that are needed must have their path."""
    tables = [new.select([*columns, ORDINAL])]
    for position in newest(earlier, rows - new.num_rows):
        part = earlier[position]
        tables.append(pq.read_table(part.path, columns=[*columns, ORDINAL]).cast(tables[0].schema))
    table = pa.concat_tables(tables)
    table = table.filter(pc.greater_equal(table[ORDINAL], from_ordinal)).sort_by(ORDINAL)
    return table.slice(max(0, table.num_rows - rows)).combine_chunks()


def profile(
    table: pa.Table,
    features: Sequence[Feature],
    target: str,
    task: Task,
    classes: Sequence[Label],
    edges: Mapping[str, tuple[float, ...]],
) -> dict[str, Any]:
    """A profile as plain values: rows, one summary a feature, and the target's.

    Histograms use the edges given; a column without takes its twentieths, to be kept by later versions.
    """
    column = _target(table[target].combine_chunks(), task, classes)
    summaries = []
    for feature in features:
        cells = table[feature.name].combine_chunks()
        if feature.kind == "numeric":
            values = cells.to_numpy(zero_copy_only=False).astype(np.float64)
            summary = _numeric(feature.name, values, edges.get(feature.name))
            summary["target_association"] = _numeric_association(values, column)
        else:
            summary = _categorical(feature.name, cells)
            summary["target_association"] = _categorical_association(cells, column)
        summaries.append(summary)
    if task == "regression":
        whole = _numeric(target, np.asarray(column.values), edges.get(target))
    else:
        whole = _categorical(target, table[target].combine_chunks().cast(pa.string()))
    return {"rows": table.num_rows, "columns": summaries, "target": whole}


def _target(cells: pa.Array, task: Task, classes: Sequence[Label]) -> TargetColumn:
    if task == "regression":
        return TargetColumn(cells.to_numpy(zero_copy_only=False).astype(np.float64), None)
    codes = pc.index_in(cells, value_set=pa.array(classes).cast(cells.type)).to_numpy(zero_copy_only=False)
    return TargetColumn(codes.astype(np.float64) if len(classes) == 2 else None, codes.astype(np.int64))


def _numeric_association(values: Floats, target: TargetColumn) -> float | None:
    if target.values is not None:
        return pearson(values, target.values)
    return correlation_ratio(np.asarray(target.codes), values)


def _categorical_association(cells: pa.Array, target: TargetColumn) -> float | None:
    codes = pc.fill_null(pc.dictionary_encode(cells).indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    if target.codes is not None:
        return cramers_v(codes, target.codes)
    return correlation_ratio(codes, np.asarray(target.values))


def _numeric(name: str, values: Floats, edges: tuple[float, ...] | None) -> dict[str, Any]:
    present = np.sort(values[~np.isnan(values)])
    summary: dict[str, Any] = {
        "name": name,
        "kind": "numeric",
        "rows": values.size,
        "missing": values.size - present.size,
        "distinct": int(np.count_nonzero(np.diff(present))) + bool(present.size),
    }
    if present.size:
        edges = edges or tuple(float(e) for e in np.unique(np.quantile(present, _EDGES)))
        summary |= {
            "mean": float(present.mean()),
            "std": float(present.std()),
            "minimum": float(present[0]),
            "maximum": float(present[-1]),
            "quantiles": {f"{q:g}": float(v) for q, v in zip(QUANTILES, np.quantile(present, QUANTILES), strict=True)},
        }
    if edges:
        counts = np.bincount(np.searchsorted(edges, present, side="right"), minlength=len(edges) + 1)
        summary["histogram"] = {"edges": edges, "counts": tuple(int(n) for n in counts)}
    return summary


def _categorical(name: str, cells: pa.Array) -> dict[str, Any]:
    counted = [(v["values"], v["counts"]) for v in pc.value_counts(cells.drop_null()).to_pylist()]
    top = sorted(counted, key=lambda pair: (-pair[1], pair[0]))[:_TOP]
    return {
        "name": name,
        "kind": "categorical",
        "rows": len(cells),
        "missing": cells.null_count,
        "distinct": len(counted),
        "top": {word[:_TOP_WIDTH]: count for word, count in top},
    }
