"""Requests that serving refused: a column that went missing, came under another name, or changed its type."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tidemill_monitoring.domain.symptoms import LEAST_ROWS, BreakKind, Symptom

_SHARE = 0.3
_KINDS: Mapping[str, BreakKind] = {
    "missing_feature": "missing_column",
    "wrong_type": "wrong_type",
    "unknown_category": "unknown_values",
}


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A request that got no answer: why, for which column, and what it held (None: not known here)."""

    error: str
    column: str | None
    features: frozenset[str] = frozenset()


@dataclass(slots=True)
class Refusals:
    """Refusals among the latest requests, answered or not."""

    rows: int = 0
    by: Counter[str] = field(default_factory=Counter)
    """By error and column, with a line break between."""
    strangers: Counter[str] = field(default_factory=Counter)
    """Columns nobody knows, among requests that lacked one."""

    def add(self, refused: RefusedRow, known: frozenset[str]) -> None:
        """Take a refused request."""
        self.rows += 1
        if refused.column is None or refused.error not in _KINDS:
            return
        self.by[f"{refused.error}\n{refused.column}"] += 1
        if refused.error == "missing_feature" and len(self.strangers) < 100:
            self.strangers.update(refused.features - known)

    def symptoms(self) -> list[Symptom]:
        """The columns for which many requests were refused."""
        found = []
        for key, rows in self.by.items():
            error, column = key.split("\n", 1)
            if rows < LEAST_ROWS // 2 or rows / self.rows < _SHARE:
                continue
            kind, instead = _KINDS[error], None
            if kind == "missing_column" and self.strangers:
                instead, times = self.strangers.most_common(1)[0]
                kind, instead = ("renamed_column", instead) if times >= 0.9 * rows else (kind, None)
            message = f"{rows} of {self.rows} requests were refused: {error} {column!r}"
            message += f"; {instead!r} comes in its place" if instead else ""
            found.append(Symptom(kind, column, rows / self.rows, self.rows, message, instead=instead))
        return found
