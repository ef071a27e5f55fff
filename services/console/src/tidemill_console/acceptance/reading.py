"""A labelled stream from somebody's file."""

import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tidemill_console.acceptance.specification import KEY, TARGET, TIME
from tidemill_console.acceptance.stream import Stream, stream
from tidemill_contracts.names import RESERVED_PREFIX

Array = NDArray[Any]
Task = Literal["classification", "regression"]
MOST_CLASSES = 50
"""More different numbers than this are values to predict, more different texts an error."""
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_TIME = re.compile(r"\d{4}-\d\d?-\d\d?([ T]\d\d?:\d\d.*)?|\d\d?[/.]\d\d?[/.]\d{4}([ T]\d\d?:\d\d.*)?")
_MISSING = ("", "?", "NA", "N/A", "#N/A", "n/a", "null", "NULL")
_LONGEST_NAME = 128
_MOST_MISSING = 0.95
_FEW_TEXTS = 50


def read(
    file: Path,
    target: str,
    *,
    delay: str | None = None,
    change: str | None = None,
    exclude: tuple[str, ...] = (),
    first: int = 2_000,
) -> Stream:
    """A Parquet or CSV file. ``delay`` names a column of rows until the label is known (empty or negative: never),
    ``change`` one that is true where a new concept begins, or that holds the concept's name or number. A target of
    more than MOST_CLASSES different numbers is a regression. Raises ValueError that names what is wrong."""
    table = _table(file, target)
    twice = table.columns[table.columns.duplicated()].unique()
    if len(twice):
        raise ValueError(f"column {str(twice[0])!r} appears twice")
    for column in (target, delay, change, *exclude):
        if column is not None and column not in table.columns:
            raise ValueError(f"no column {column!r}; there are {_listed(table.columns)}")
    if len(table) <= first:
        raise ValueError(f"{len(table)} rows: more than the {first} of the first data set are needed (--first)")
    task, labels = _target(table[target], target)
    features, remarks = _features(table.drop(columns=list({target, delay, change, *exclude} - {None})), first)
    told = stream(
        file.stem,
        features,
        labels,
        changes=_changes(table[change], first) if change else (),
        first=first,
        delays=_delays(table[delay], delay) if delay else None,
        task=task,
        remarks=remarks,
    )
    return _with_remarks(told) if told.classifies else told


def _table(file: Path, target: str) -> pd.DataFrame:
    if not file.is_file():
        raise ValueError("there is no such file")
    with file.open("rb") as opened:
        parquet = opened.read(4) == b"PAR1"
    if parquet:
        return pd.read_parquet(file).rename(columns=str)
    if file.suffix.lower() in (".parquet", ".pq"):
        raise ValueError("this is not a Parquet file")
    table = pd.read_csv(file, low_memory=False)
    if target not in table.columns and len(table.columns) == 1:
        header = str(table.columns[0])
        between = next((mark for mark in (";", "\t", "|") if mark in header), None)
        table = pd.read_csv(file, sep=between, low_memory=False) if between else table
    return table.rename(columns=lambda name: str(name).strip())


def _listed(names: Any) -> str:
    shown = [repr(str(name)) for name in names[:20]]
    return ", ".join(shown) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _target(column: pd.Series, name: str) -> tuple[Task, Array]:
    missing = column.isna() | column.astype(str).str.strip().eq("")
    if missing.any():
        what = f"{int(missing.sum())} rows have no {name!r}, the first of them row {int(missing.to_numpy().argmax())}"
        raise ValueError(f"{what}: leave them out, or give the truth and say -1 (never known) in a --delay column")
    plain = _plain(column)
    different = plain.nunique()
    numbers = pd.api.types.is_numeric_dtype(plain) and not pd.api.types.is_bool_dtype(plain)
    if different <= MOST_CLASSES:
        return "classification", column.to_numpy(dtype=object)
    if not numbers:
        raise ValueError(f"the target {name!r} holds {different} different texts: at most {MOST_CLASSES} classes")
    values = plain.to_numpy(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"the target {name!r} holds infinite values")
    return "regression", values


def _delays(column: pd.Series, name: str) -> Array:
    numbers = pd.to_numeric(column, errors="coerce").astype(np.float64)
    strange = numbers.isna() & ~column.isna()
    if strange.any():
        where = int(strange.to_numpy().argmax())
        raise ValueError(f"row {where} of {name!r} is {column.iloc[where]!r}: a number of rows is expected")
    rows = numbers.to_numpy()
    never = ~np.isfinite(rows) | (rows < 0)
    return np.where(never, -1, np.ceil(np.where(never, 0, rows))).astype(np.int64)


def _changes(column: pd.Series, first: int) -> tuple[int, ...]:
    text = column.astype(object).where(column.notna(), "").map(lambda v: str(v).strip())
    flags = text.str.lower().isin(["1", "1.0", "true"])
    marks = set(text.str.lower().unique()) <= {"", "0", "0.0", "false", "1", "1.0", "true"}
    if marks and flags.sum() < max(len(text) // 20, 1):
        found = np.flatnonzero(flags)
    else:  # the concept's name, on every row or on its first one
        names = text.where(text != "").ffill().fillna("").to_numpy()
        found = np.flatnonzero(names[1:] != names[:-1]) + 1
    return tuple(int(i) for i in found if i >= first)


def _features(table: pd.DataFrame, first: int) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The columns a model can use, and what was done with the others."""
    kept: dict[str, Any] = {}
    remarks = []
    for column in table.columns:
        plain = _plain(table[column])
        why = _useless(plain, first)
        if why:
            remarks.append(f"column {column!r} is left out: {why}")
            continue
        name = _free(str(column), {*kept, *map(str, table.columns)})
        if name != column:
            remarks.append(f"column {str(column)[:_LONGEST_NAME]!r} is called {name!r}")
        kept[name] = plain
    if not kept:
        raise ValueError("no column is left to predict from" + (": " + "; ".join(remarks) if remarks else ""))
    return pd.DataFrame(kept), tuple(remarks)


def _plain(column: pd.Series) -> pd.Series:
    """Numbers as floats (infinite ones are missing), texts trimmed, what is missing as None."""
    if pd.api.types.is_timedelta64_dtype(column):
        column = column.dt.total_seconds()
    known = column.dropna()
    if pd.api.types.is_bool_dtype(known) or known.map(type).isin([bool, Decimal, int, float]).all():
        column = pd.to_numeric(column.astype(object).where(column.notna(), None), errors="coerce").astype(np.float64)
    if pd.api.types.is_numeric_dtype(column):
        numbers = column.astype(np.float64)
        return numbers.where(numbers.abs() <= _FLOAT32_MAX)
    if (
        pd.api.types.is_datetime64_any_dtype(column)
        or known.map(lambda v: isinstance(v, list | dict | bytes | np.ndarray)).any()
    ):
        return column
    text = column.astype(object).where(column.notna(), "").map(lambda v: str(v).strip())
    unknown = text.isin(_MISSING)
    if (text == "?").any() and not unknown.all():
        numbers = pd.to_numeric(text.where(~unknown), errors="coerce")
        if not (numbers.isna() & ~unknown).any():
            return numbers.astype(np.float64)
    return text.where(~unknown, None)


def _useless(column: pd.Series, first: int) -> str | None:
    begin = column.iloc[:first]
    known = begin.dropna()
    if begin.isna().mean() > _MOST_MISSING:
        return f"it is missing in {begin.isna().mean():.0%} of the first {first} rows"
    if pd.api.types.is_numeric_dtype(column):
        whole = bool((known == known.round()).all())
        return "it numbers the rows" if whole and (column.diff().iloc[1:] > 0).all() else None
    if pd.api.types.is_datetime64_any_dtype(column) or known.map(lambda v: bool(_TIME.fullmatch(str(v)))).all():
        return "it holds times"
    if known.map(lambda v: isinstance(v, list | dict | bytes | np.ndarray)).any():
        return "its cells are neither numbers nor texts"
    different = known.nunique()
    if different > _FEW_TEXTS and different > len(known) / 2:
        return f"it holds {different} different texts in {len(known)} rows"
    return None


def _free(name: str, taken: set[str]) -> str:
    """The name, or a like one where the pipeline needs it for itself or cannot have it."""
    wanted = name or "column"
    if wanted in (TARGET, TIME, KEY) or wanted.startswith(RESERVED_PREFIX):
        wanted = f"x_{wanted}"
    wanted = wanted[:_LONGEST_NAME]
    number = 2
    free = wanted
    while free != name and free in taken:
        free, number = f"{wanted[: _LONGEST_NAME - 4]}_{number}", number + 1
    return free


def _with_remarks(told: Stream) -> Stream:
    """With what is to be known about its classes. Raises ValueError where the first model could not learn two."""
    known = set(told.labels[: told.first][told.learnable].tolist())
    if len(known) < 2:
        raise ValueError(f"the first {told.first} rows hold hardly more than one class: give more of them (--first)")
    strange = sorted(set(told.classes) - known)
    if not strange:
        return told
    rows = int(np.isin(told.labels[told.first :], strange).sum())
    remark = f"too rare in the first {told.first} rows to be learned: {_listed(strange)}; {rows} rows will be wrong"
    return replace(told, remarks=(*told.remarks, remark))
