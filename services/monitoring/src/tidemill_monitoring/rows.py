"""How rows lie in Redis and travel back as new data."""

from collections.abc import Sequence
from datetime import datetime

import orjson

from tidemill_contracts.names import PREDICTION_COLUMN, TIME_COLUMN
from tidemill_monitoring.domain.logged_answer import LoggedAnswer
from tidemill_monitoring.domain.outcome import AnsweredRow, LabelledRow
from tidemill_monitoring.translation import moment


def feedback_item(row: LabelledRow, labelled: int, target: str, wall: float) -> bytes:
    """A labelled row for the feedback spool: time of waiting, event time, its number among answered and among labelled
    rows, and the row as one line of JSON."""
    line = {
        **row.row.features,
        target: row.label,
        TIME_COLUMN: moment(row.row.time).isoformat(),
        PREDICTION_COLUMN: row.row.id,
    }
    return b"%.3f %.6f %d %d %b" % (wall, row.row.time, row.row.number, labelled, orjson.dumps(line))


def feedback_lines(items: Sequence[bytes]) -> tuple[bytes, datetime]:
    """The JSON Lines file of some items, and the newest event time among them."""
    split = [item.split(b" ", 4) for item in items]
    data = b"".join(line + b"\n" for *_, line in split)
    return data, moment(max(float(time) for _, time, *_ in split))


def numbers_of(item: bytes) -> tuple[int, int]:
    """Of a feedback item: the row's number among the answered and among the labelled rows."""
    _, _, answered, labelled, _ = item.split(b" ", 4)
    return int(answered), int(labelled)


def log_item(row: AnsweredRow, wall: float) -> bytes:
    """An answered row for the log's spool."""
    a = row.answer
    fields = [row.id, row.time, a.version, a.dataset, row.features, a.prediction, a.probabilities]
    return b"%.3f %b" % (wall, orjson.dumps(fields))


def logged(item: bytes) -> LoggedAnswer:
    """What ``log_item`` made, as a line of the log."""
    id_, time, version, dataset, features, prediction, probabilities = orjson.loads(item.split(b" ", 1)[1])
    return LoggedAnswer(
        id_,
        time,
        version,
        dataset,
        orjson.dumps(features).decode(),
        orjson.dumps(prediction).decode(),
        tuple(probabilities),
    )


def waiting_since(item: bytes) -> float:
    """When an item of either spool was put there, in seconds."""
    return float(item.split(b" ", 1)[0])
