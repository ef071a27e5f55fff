"""The features of a pipeline: inferred from the first data set or declared, then fixed."""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tidemill_ingestion.domain.coercion import Mask, Numbers, flat, is_number, is_usable, numbers, texts
from tidemill_ingestion.domain.csv_file import UNNAMED
from tidemill_ingestion.domain.job import RESERVED, Feature, Policy, Refused

NUMERIC_SHARE = 0.995
"""A text column is numeric when at least this share of its cells are numbers."""
UNPARSABLE_SHARE = 0.2
"""A numeric column with more cells that are no numbers has changed its meaning."""
_IDENTIFIER_SHARE = 0.9
_IDENTIFIER_ROWS = 50


@dataclass(frozen=True)
class Features:
    """The file's feature columns, coerced, in schema order."""

    schema: tuple[Feature, ...]
    numeric: dict[str, Numbers]
    categorical: dict[str, pa.Array]
    dropped: dict[str, str]
    changes: Counter[str] = field(default_factory=Counter)

    @property
    def not_finite(self) -> Mask:
        """Rows with at least one number that is not finite. There must be a numeric feature."""
        rows: Mask = np.any([column.not_finite for column in self.numeric.values()], axis=0)
        return rows


def require(name: str, names: Sequence[str], known: Sequence[str], *, code: str, what: str) -> None:
    """Raise Refused with ``code`` when the column is not in the file, with the likeliest new name for it."""
    if name in names:
        return
    strangers = [n for n in names if n not in known and not n.startswith((RESERVED, UNNAMED))]
    lowered = {n.lower(): n for n in strangers}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    hint = f" The file has a column {lowered[close[0]]!r} that nobody asked for: was it renamed?" if close else ""
    raise Refused(code, f"The {what} column {name!r} is missing.{hint}", column=name)


def fixed_features(table: pa.Table, schema: Sequence[Feature], policy: Policy, *, fill: bool) -> Features:
    """Coerce the columns of a known schema; order and extra columns do not matter.

    ``fill`` lets absent columns be missing values, as production requests may omit a feature. Raises Refused:
    breaking_schema.
    """
    known = {f.name for f in schema} | {policy.target, *policy.exclude, *policy.keys, policy.time or policy.target}
    numeric: dict[str, Numbers] = {}
    categorical: dict[str, pa.Array] = {}
    changes: Counter[str] = Counter()
    for feature in schema:
        if fill and feature.name not in table.column_names:
            column: pa.Array = pa.nulls(table.num_rows)
            changes["absent_cell"] += table.num_rows
        else:
            names = table.column_names
            require(feature.name, names, tuple(known), code="breaking_schema", what="feature")
            column = flat(table[feature.name])
        if not is_usable(column.type):
            message = f"The column {feature.name!r} holds {column.type} values, which cannot be a feature."
            raise Refused("breaking_schema", message, column=feature.name)
        if feature.kind == "numeric":
            numeric[feature.name] = parsed = numbers(column)
            _check_parsable(feature.name, parsed)
            changes += parsed.changes
        else:
            text = texts(column)
            categorical[feature.name] = text.values
            changes += text.changes
    extra = [n for n in table.column_names if n not in known and not n.startswith((RESERVED, UNNAMED))]
    if extra:
        changes["extra_column"] = len(extra)
    return Features(tuple(schema), numeric, categorical, {}, changes)


def _check_parsable(name: str, parsed: Numbers) -> None:
    if parsed.present and parsed.unparsable / parsed.present > UNPARSABLE_SHARE:
        message = (
            f"The column {name!r} is numeric, but {parsed.unparsable} of its {parsed.present} values are not numbers."
        )
        raise Refused("breaking_schema", message, column=name, count=parsed.unparsable)


def inferred_features(table: pa.Table, policy: Policy) -> Features:
    """Choose features and kinds from a first data set. Says in ``dropped`` what was left out and why."""
    schema: list[Feature] = []
    numeric: dict[str, Numbers] = {}
    categorical: dict[str, pa.Array] = {}
    dropped: dict[str, str] = {}
    changes: Counter[str] = Counter()
    aside = {policy.target, policy.time, *policy.exclude, *policy.keys}
    for name in table.column_names:
        if name in aside or name.startswith((RESERVED, UNNAMED)):
            continue
        column = flat(table[name])
        parsed = numbers(column)
        if is_number(column.type) or (
            parsed.present and parsed.unparsable <= (1 - NUMERIC_SHARE) * parsed.present and is_usable(column.type)
        ):
            schema.append(Feature(name, "numeric"))
            numeric[name] = parsed
            changes += parsed.changes
        elif not is_usable(column.type) or pa.types.is_temporal(column.type):
            dropped[name] = f"{column.type} values cannot be a feature"
        else:
            text = texts(column)
            if _identifies(text.values):
                dropped[name] = "nearly every row has its own value"
                continue
            schema.append(Feature(name, "categorical"))
            categorical[name] = text.values
            changes += text.changes
    return Features(tuple(schema), numeric, categorical, dropped, changes)


def _identifies(text: pa.Array) -> bool:
    present = len(text) - text.null_count
    return present > _IDENTIFIER_ROWS and bool(pc.count_distinct(text).as_py() >= _IDENTIFIER_SHARE * present)


def without_empty(features: Features, max_missing: float) -> Features:
    """Drop the columns of a first data set that are missing in more than ``max_missing`` of the rows.

    Raises Refused: no_features, when none is left.
    """
    dropped = dict(features.dropped)
    for feature in features.schema:
        share = _missing_share(features, feature)
        if share > max_missing:
            dropped[feature.name] = f"{share:.0%} of the cells are missing"
    schema = tuple(f for f in features.schema if f.name not in dropped)
    if not schema:
        raise Refused(
            "no_features", "No column can be a feature: " + "; ".join(f"{k}: {v}" for k, v in dropped.items())
        )
    numeric = {name: column for name, column in features.numeric.items() if name not in dropped}
    categorical = {name: column for name, column in features.categorical.items() if name not in dropped}
    return Features(schema, numeric, categorical, dropped, features.changes)


def _missing_share(features: Features, feature: Feature) -> float:
    if feature.kind == "numeric":
        column = features.numeric[feature.name]
        return float((np.isnan(column.values) & ~column.not_finite).mean())
    text = features.categorical[feature.name]
    return float(text.null_count / max(len(text), 1))
