"""What must hold for any package, whatever its score."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill_validation.domain.answers import Answers
from tidemill_validation.domain.gate import Finding
from tidemill_validation.domain.package import Package

Array = NDArray[Any]
_REPEATED, _ALONE = 200, 20
_SUM_TOLERANCE, _ALONE_TOLERANCE = 1e-3, 1e-5


def invariants(package: Package, answers: Answers, numbers: Array, strings: Array) -> list[Finding]:
    """Finite, repeatable, the same for a row alone as in a batch, and probabilities that are some."""
    out = answers.numbers
    again = package.answer(numbers[:_REPEATED], strings[:_REPEATED]).numbers
    single = [package.answer(numbers[i : i + 1], strings[i : i + 1]).numbers[0] for i in range(min(_ALONE, len(out)))]
    off = _worst(np.abs(np.array(single) - out[:_ALONE]) / np.maximum(1.0, np.abs(out[:_ALONE])))
    findings = [
        Finding("finite", bool(np.isfinite(out).all()), "every answer is a finite number", code="not_finite"),
        Finding(
            "repeatable",
            bool(np.array_equal(again, out[:_REPEATED], equal_nan=True)),
            "the same rows get the same answers",
            code="not_repeatable",
        ),
        Finding(
            "alone",
            off <= _ALONE_TOLERANCE,
            f"a row alone is answered as in a batch, within {off:.1g}",
            off,
            _ALONE_TOLERANCE,
            "depends_on_batch",
        ),
    ]
    if answers.probabilities is not None:
        outside = _worst(np.maximum(-out, out - 1))
        off = max(_worst(np.abs(out.sum(axis=1) - 1)), outside)
        message = f"probabilities lie between 0 and 1 and sum to 1, within {off:.1g}"
        findings.append(
            Finding("probabilities", off <= _SUM_TOLERANCE, message, off, _SUM_TOLERANCE, "no_probabilities")
        )
    return findings


def _worst(values: Array) -> float:
    """The largest, or infinity where one is not a number."""
    found = float(values.max(initial=0.0))
    return found if np.isfinite(found) else float("inf")
