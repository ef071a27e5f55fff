"""Structured logs: one JSON object a line on stderr, a constant message plus fields, never row data."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}


class JsonFormatter(logging.Formatter):
    """Renders a record and its extra fields as one JSON object."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class Logger:
    """A logger whose keyword arguments become fields."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, message: str, **fields: Any) -> None:
        """For developers."""
        self._logger.debug(message, extra=fields)

    def info(self, message: str, **fields: Any) -> None:
        """Something worth knowing happened."""
        self._logger.info(message, extra=fields)

    def warning(self, message: str, **fields: Any) -> None:
        """Something is wrong but handled."""
        self._logger.warning(message, extra=fields)

    def error(self, message: str, *, exc_info: bool = False, **fields: Any) -> None:
        """Something is wrong and somebody should look."""
        self._logger.error(message, extra=fields, exc_info=exc_info)


def logger(name: str) -> Logger:
    """The logger for a module: ``log = logger(__name__)``."""
    return Logger(name)


def configure(service: str, level: str = "INFO") -> None:
    """Send this process's logs to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # These describe each message or connection; ours say what matters once.
    for chatty in ("faststream", "uvicorn.access", "urllib3", "opentelemetry"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
