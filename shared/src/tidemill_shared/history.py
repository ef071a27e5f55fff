"""A record of what was done to which event and when, for tests that compare it with what should have been done.

Off unless ``TIDEMILL_HISTORY__FILE`` or ``TIDEMILL_HISTORY__KILL_FILE`` is set; then a step costs one comparison.
"""

import json
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Protocol

from tidemill_shared.settings import HistorySettings

Step = Literal["read", "artifact", "manifest", "pointer", "completing", "complete"]
"""An entry was taken; an object, a manifest, an entry of a registry was stored; before and after the completion."""


class Entry(Protocol):
    """What is recorded of a delivery."""

    @property
    def stream(self) -> str: ...
    @property
    def entry(self) -> str: ...
    @property
    def body(self) -> bytes: ...


class History:
    """Appends a JSON line a step; one write a call, so that processes may share a file and may be killed."""

    def __init__(self, consumer: str, settings: HistorySettings) -> None:
        self._consumer = consumer
        self._file = settings.file
        self._kill_file = settings.kill_file

    def record(self, step: Step, entries: Iterable[Entry], key: str | None) -> None:
        """Write it down; die here when this is the step to die at."""
        if self._file is not None:
            about = [{"stream": e.stream, "entry": e.entry, "id": _id_of(e.body)} for e in entries] or [{"key": key}]
            head = {"at": time.time(), "consumer": self._consumer, "pid": os.getpid(), "step": step}
            lines = "".join(json.dumps(head | item) + "\n" for item in about)
            handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(handle, lines.encode())
            finally:
                os.close(handle)
        if self._kill_file is not None and self._told_to_die(self._kill_file, step):
            os.kill(os.getpid(), signal.SIGKILL)

    @staticmethod
    def _told_to_die(file: Path, step: Step) -> bool:
        """Whether the file names this step; it is gone then, so that one life is taken."""
        try:
            if file.read_text() != step:
                return False
            file.unlink()
        except OSError:
            return False
        return True


def _id_of(body: bytes) -> str | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    id_ = found.get("id") if isinstance(found, dict) else None
    return id_ if isinstance(id_, str) else None


_history: History | None = None


def configure(consumer: str, settings: HistorySettings) -> None:
    """Begin to record, if asked to."""
    global _history
    _history = History(consumer, settings) if settings.file or settings.kill_file else None


def record(step: Step, entries: Iterable[Entry] = (), *, key: str | None = None) -> None:
    """Something was done to these entries, or to the object ``key``."""
    if _history is not None:
        _history.record(step, entries, key)


def record_put(key: str) -> None:
    """An object was stored."""
    if _history is not None:
        step: Step = "artifact"
        if key.endswith("/manifest.json"):
            step = "manifest"
        elif key.startswith("registry/"):
            step = "pointer"
        _history.record(step, (), key)
