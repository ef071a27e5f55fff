"""Tables of requests into answers: the rows a model takes, and of what it says of them one answer a table."""

from collections import defaultdict
from datetime import UTC, datetime

from tidemill_serving import encode
from tidemill_serving.domain.features import Matrices, Refusal
from tidemill_serving.domain.model import Predictions
from tidemill_serving.loading import Loaded
from tidemill_serving.outcomes import EXPIRED, NO_ANSWER, NO_MODEL
from tidemill_serving.table import Table


class Tables:
    """The tables of one call."""

    def __init__(self, tables: list[Table]) -> None:
        now = datetime.now(UTC)
        self._tables = tables
        self._late = [t.request.expires_at is not None and t.request.expires_at < now for t in tables]
        self.inputs: list[Matrices] = [
            t.inputs for t, late in zip(tables, self._late, strict=True) if t.inputs is not None and not late
        ]
        """The rows that are fine, table after table."""

    def answers(self, predictions: Predictions | None, loaded: Loaded | None) -> list[tuple[bytes, int]]:
        """For each table the bytes of its ``predictions.completed``, and how many of its rows are refused;
        ``predictions`` are of ``inputs``."""
        at, found = 0, []
        for table, late in zip(self._tables, self._late, strict=True):
            if loaded is None or predictions is None or table.inputs is None or late:
                found.append(_refused(table, EXPIRED if late else NO_MODEL, loaded))
                continue
            found.append(_answered(table, predictions, at, loaded))
            at += len(table.inputs)
        return found


def _refused(table: Table, refusal: Refusal, loaded: Loaded | None) -> tuple[bytes, int]:
    version = (loaded.version, loaded.dataset_version) if loaded else None
    return encode.refused_table(table.request, {refusal: table.ids}, version), len(table.ids)


def _answered(table: Table, answers: Predictions, at: int, loaded: Loaded) -> tuple[bytes, int]:
    """The answer from ``answers``, in which the table's fine rows begin at ``at``."""
    n = len(table.ids) - len(table.refusals) + table.refusals.count(None)
    values = answers.values[at : at + n]
    odds = answers.probabilities[at : at + n] if answers.probabilities is not None else None
    ids, refused = table.ids, defaultdict[Refusal, list[str]](list)
    if n < len(ids):
        for id_, refusal in zip(ids, table.refusals, strict=True):
            if refusal:
                refused[refusal].append(id_)
        ids = [id_ for id_, refusal in zip(ids, table.refusals, strict=True) if not refusal]
    if None in values:
        good = [i for i, value in enumerate(values) if value is not None]
        refused[NO_ANSWER] += [id_ for id_, value in zip(ids, values, strict=True) if value is None]
        ids, values = [ids[i] for i in good], [values[i] for i in good]
        odds = odds[good] if odds is not None else None
    body = loaded.stamp.completed_table(table.request, ids, values, odds, refused)
    if body is None:
        return _refused(table, encode.TOO_LARGE, loaded)
    return body, len(table.ids) - len(ids)
