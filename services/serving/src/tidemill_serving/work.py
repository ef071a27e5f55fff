"""A batch of requests into its completion: read, one model call for all its rows, one answer a request."""

from collections.abc import Sequence

from tidemill_contracts.events import PredictionsRequested
from tidemill_contracts.registry import InvalidEvent
from tidemill_contracts.streams import state_key, stream_key
from tidemill_serving import decode, encode
from tidemill_serving.decode import Request
from tidemill_serving.domain.features import Matrices, matrices, stacked
from tidemill_serving.domain.model import Predictions
from tidemill_serving.loading import Loaded
from tidemill_serving.outcomes import predicted
from tidemill_serving.rows import Rows
from tidemill_serving.table import Table, TableReader
from tidemill_serving.tables import Tables
from tidemill_serving.trying import Works
from tidemill_shared.delivery import Completion, Delivery, Once

_TABLE = PredictionsRequested.type_name()


class Work:
    """One batch by one model: ``complete``, or its three steps, of which only the middle one leaves Python alone:
    ``read`` part by part, ``predicted`` on ``inputs``, ``completion``."""

    def __init__(self, pipeline: str, namespace: str, loaded: Loaded | None) -> None:
        self._pipeline = pipeline
        self._namespace = namespace
        self._loaded = loaded
        self._read_row = loaded.reader.read if loaded else decode.read
        self._read_table = (loaded.tables if loaded else TableReader(None)).read
        self._asked: list[Delivery] = []
        self._rows = Rows(loaded)
        self._asked_tables: list[Delivery] = []
        self._tables: list[Table] = []
        self._dead: list[tuple[Delivery, str, str]] = []
        self._of_tables = Tables([])
        self.answered = 0
        self.refused = 0

    def complete(self, batch: list[Delivery], once_seconds: float) -> Completion:
        """Answers and dead letters; rows answered and refused are counted."""
        self.read(batch)
        inputs = self.inputs()
        return self.completion(
            predicted(self._loaded.model, inputs) if self._loaded and inputs is not None else None, once_seconds
        )

    def read(self, part: Sequence[Delivery]) -> None:
        """The requests in a part of the batch; what is none is for the dead letters."""
        read_row, pipeline = self._read_row, self._pipeline
        if self._loaded and _TABLE not in {delivery.type for delivery in part}:
            plain = self._loaded.reader.read_all([delivery.body for delivery in part], pipeline)
            if plain:
                self._rows.take(*plain)
                self._asked += part
                return
        requests: list[Request] = []
        for delivery in part:
            try:
                if delivery.type == _TABLE:
                    self._tables.append(self._read_table(delivery.body, pipeline))
                    self._asked_tables.append(delivery)
                else:
                    requests.append(read_row(delivery.body, pipeline))
                    self._asked.append(delivery)
            except InvalidEvent as error:
                self._dead.append((delivery, error.code, str(error)))
        if requests:
            self._rows.judge(requests)

    def inputs(self) -> Matrices | None:
        """The rows that are fine of all that was read: those of the requests, then those of the tables. None without a
        model to read them for."""
        self._of_tables = Tables(self._tables)
        if self._loaded is None:
            return None
        parts = [part for part in (*self._rows.inputs, *self._of_tables.inputs) if len(part)]
        return stacked(parts) if parts else matrices([], self._loaded.model.layout)[0]

    def completion(self, predictions: Predictions | None, once_seconds: float) -> Completion:
        """Answers and dead letters; ``predictions`` are of ``inputs``."""
        found = Completion(dead=self._dead)
        self._answer_rows(found, predictions)
        self._answer_tables(found, predictions)
        # The id of a table is an event's, not a prediction's: no prediction's id begins so.
        ids = (*[request.id for request in self._rows.requests], *[f"*{table.request.id}" for table in self._tables])
        key = state_key(self._namespace, "serving", "answered", self._pipeline)
        found.once = Once(key, ids, once_seconds)
        return found

    def _answer_rows(self, completion: Completion, predictions: Predictions | None) -> None:
        rows = self._rows
        answers = rows.answers(predictions and predictions[: rows.fine])
        completed = stream_key(self._namespace, encode.COMPLETED, self._pipeline)
        failed = stream_key(self._namespace, encode.FAILED, self._pipeline)
        version = self._loaded.version if self._loaded else None
        refused = 0
        for delivery, request, answer in zip(self._asked, rows.requests, answers, strict=True):
            if isinstance(answer, bytes):
                completion.outputs.append((delivery, [(completed, answer)]))
            else:
                refused += 1
                completion.outputs.append((delivery, [(failed, encode.failed(request, answer, version))]))
        self.answered += len(answers) - refused
        self.refused += refused

    def _answer_tables(self, completion: Completion, predictions: Predictions | None) -> None:
        completed = stream_key(self._namespace, encode.TABLE, self._pipeline)
        answers = self._of_tables.answers(predictions and predictions[self._rows.fine :], self._loaded)
        for delivery, table, (body, refused) in zip(self._asked_tables, self._tables, answers, strict=True):
            completion.outputs.append((delivery, [(completed, body)]))
            self.answered += len(table.ids) - refused
            self.refused += refused


def works(namespace: str) -> Works:
    """Work on batches of any pipeline by any model."""
    return lambda pipeline, loaded: Work(pipeline, namespace, loaded)
