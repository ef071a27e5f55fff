"""The column to predict: class labels or numbers."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemill_ingestion.domain.coercion import Floats, Mask, numbers, texts
from tidemill_ingestion.domain.job import Label, Policy, Refused

MAX_CLASSES = 1000
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})(\.0+)?")
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


@dataclass(frozen=True)
class Target:
    """``codes`` index ``labels`` (classification; -1 where refused) or ``values`` hold numbers (regression)."""

    refused: dict[str, Mask]
    labels: tuple[Label, ...] = ()
    codes: npt.NDArray[np.int64] | None = None
    values: Floats | None = None

    def column(self, rows: npt.NDArray[np.int64]) -> pa.Array:
        """The cells of ``rows`` as they are stored."""
        if self.codes is None:
            assert self.values is not None  # noqa: S101 - one of the two is there
            return pa.array(self.values[rows])
        return pa.array(self.labels).take(pa.array(self.codes[rows]))


def regression_target(column: pa.Array) -> Target:
    """Numbers; refuses rows as ``no_target``, ``bad_target`` (not a number) or ``not_finite``."""
    parsed = numbers(column)
    empty = pc.is_null(texts(column).values).to_numpy(zero_copy_only=False)
    bad = np.isnan(parsed.values) & ~empty & ~parsed.not_finite
    return Target({"no_target": empty, "bad_target": bad, "not_finite": parsed.not_finite}, values=parsed.values)


def classification_target(column: pa.Array, known: tuple[Label, ...], policy: Policy) -> Target:
    """Class labels; refuses rows as ``no_target``, ``bad_target`` (not of the classes' type) or ``unknown_class``.

    The classes' type is that of the known classes, else that of the declared positive class, else told from the
    cells: integers, true/false, or strings. Raises Refused: too_many_classes.
    """
    encoded = pc.dictionary_encode(texts(column).values)
    words = encoded.dictionary.to_pylist()
    if len(words) > MAX_CLASSES and not known:
        raise Refused(
            "too_many_classes",
            f"The target {policy.target!r} has {len(words)} different values, more than {MAX_CLASSES} classes: "
            "is this a regression?",
            column=policy.target,
        )
    read = _reader(words, known, policy.positive, typed_bool=pa.types.is_boolean(column.type))
    found = [read(word) for word in words]
    labels = known or tuple(sorted({label for label in found if label is not None}))
    position = {label: index for index, label in enumerate(labels)}
    # Codes of words: -2 unreadable, -3 a class that earlier versions do not have; the last place is "missing".
    table = np.array([-2 if label is None else position.get(label, -3) for label in found] + [-1], np.int64)
    codes = table[pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)]
    refused = {"no_target": codes == -1, "bad_target": codes == -2, "unknown_class": codes == -3}
    return Target(refused, labels=labels, codes=codes)


def _reader(words: list[str], known: tuple[Label, ...], positive: Label, *, typed_bool: bool) -> Callable[[str], Label]:
    example = known[0] if known else positive
    if isinstance(example, bool) or (
        example is None and (typed_bool or (bool(words) and {w.lower() for w in words} <= {"true", "false"}))
    ):
        return lambda word: _BOOLEANS.get(word.lower())
    if isinstance(example, int) or (example is None and all(_INTEGER.fullmatch(w) for w in words)):
        return _integer
    return lambda word: word


def _integer(word: str) -> Label:
    if word.lower() in ("true", "false"):
        return int(word.lower() == "true")
    return int(word.partition(".")[0]) if _INTEGER.fullmatch(word) else None


def check_variety(target: Target, rows: npt.NDArray[np.int64], policy: Policy) -> tuple[Label, ...]:
    """The classes of a first data set, from the rows it keeps. Raises Refused: one_class, missing_class,
    constant_target."""
    if target.codes is None:
        assert target.values is not None  # noqa: S101 - one of the two is there
        if np.unique(target.values[rows]).size < 2:
            message = f"The target {policy.target!r} has the same value in every usable row: nothing can be learned."
            raise Refused("constant_target", message, column=policy.target)
        return ()
    classes = tuple(target.labels[code] for code in np.unique(target.codes[rows]))
    if policy.positive is not None and policy.positive not in classes:
        message = (
            f"The positive class {policy.positive!r} does not occur in the target {policy.target!r}, which has "
            f"{len(classes)} other classes: compare spelling and type."
        )
        raise Refused("missing_class" if len(classes) > 1 else "one_class", message, column=policy.target)
    if len(classes) < 2:
        message = f"The target {policy.target!r} has one class only: at least two are needed."
        raise Refused("one_class", message, column=policy.target)
    return classes
