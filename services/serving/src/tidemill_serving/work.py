"""A batch of requests into its completion: read, one model call for all its rows, one answer a request."""

from collections.abc import Sequence

from tidemill_contracts.events import PredictionsRequested
from tidemill_contracts.registry import InvalidEvent
from tidemill_contracts.streams import state_key, stream_key
from tidemill_serving import decode, encode
from tidemill_serving.decode import Request
from tidemill_serving.domain.features import Matrices, Refusal, stacked
from tidemill_serving.domain.model import Predictions
from tidemill_serving.loading import Loaded
from tidemill_serving.outcomes import NO_MODEL, predicted
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
        self._requests: list[Request] = []
        self._asked_tables: list[Delivery] = []
        self._tables: list[Table] = []
        self._dead: list[tuple[Delivery, str, str]] = []
        self._rows: Rows | None = None
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
            requests = self._loaded.reader.read_all([delivery.body for delivery in part], pipeline)
            if requests is not None:
                self._requests += requests
                self._asked += part
                return
        for delivery in part:
            try:
                if delivery.type == _TABLE:
                    self._tables.append(self._read_table(delivery.body, pipeline))
                    self._asked_tables.append(delivery)
                else:
                    self._requests.append(read_row(delivery.body, pipeline))
                    self._asked.append(delivery)
            except InvalidEvent as error:
                self._dead.append((delivery, error.code, str(error)))

    def inputs(self) -> Matrices | None:
        """The rows that are fine of all that was read: those of the requests, then those of the tables. None without a
        model to read them for."""
        self._of_tables = Tables(self._tables)
        if self._loaded is None:
            return None
        self._rows = Rows(self._requests, self._loaded)
        parts = [part for part in (self._rows.inputs, *self._of_tables.inputs) if len(part)]
        return stacked(parts or [self._rows.inputs])

    def completion(self, predictions: Predictions | None, once_seconds: float) -> Completion:
        """Answers and dead letters; ``predictions`` are of ``inputs``."""
        found = Completion(dead=self._dead)
        self._answer_rows(found, predictions)
        self._answer_tables(found, predictions)
        # The id of a table is an event's, not a prediction's: no prediction's id begins so.
        ids = (*[request.id for request in self._requests], *[f"*{table.request.id}" for table in self._tables])
        key = state_key(self._namespace, "serving", "answered", self._pipeline)
        found.once = Once(key, ids, once_seconds)
        return found

    def _answer_rows(self, completion: Completion, predictions: Predictions | None) -> None:
        answers: Sequence[bytes | Refusal] = [NO_MODEL] * len(self._requests)
        if self._rows is not None and predictions is not None:
            answers = self._rows.answers(predictions[: len(self._rows.inputs)])
        completed = stream_key(self._namespace, encode.COMPLETED, self._pipeline)
        failed = stream_key(self._namespace, encode.FAILED, self._pipeline)
        version = self._loaded.version if self._loaded else None
        refused = 0
        for delivery, request, answer in zip(self._asked, self._requests, answers, strict=True):
            if isinstance(answer, Refusal):
                refused += 1
                completion.outputs.append((delivery, [(failed, encode.failed(request, answer, version))]))
            else:
                completion.outputs.append((delivery, [(completed, answer)]))
        self.answered += len(self._requests) - refused
        self.refused += refused

    def _answer_tables(self, completion: Completion, predictions: Predictions | None) -> None:
        of_tables = predictions
        if self._rows is not None and predictions is not None:
            of_tables = predictions[len(self._rows.inputs) :]
        completed = stream_key(self._namespace, encode.TABLE, self._pipeline)
        answers = self._of_tables.answers(of_tables, self._loaded)
        for delivery, table, (body, refused) in zip(self._asked_tables, self._tables, answers, strict=True):
            completion.outputs.append((delivery, [(completed, body)]))
            self.answered += len(table.ids) - refused
            self.refused += refused


def works(namespace: str) -> Works:
    """Work on batches of any pipeline by any model."""
    return lambda pipeline, loaded: Work(pipeline, namespace, loaded)
