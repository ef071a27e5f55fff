"""Work for child processes in tests; here, because a child must be able to import it."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any


def add(a: int, b: int, progress: Callable[[Any], None]) -> int:
    """A sum, with one message."""
    progress("adding")
    return a + b


def fail(progress: Callable[[Any], None]) -> None:
    """Raises ValueError."""
    raise ValueError("no")


def die(progress: Callable[[Any], None]) -> None:
    """Ends as a process does that is killed for memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang(progress: Callable[[Any], None]) -> None:
    """Never ends in a test's lifetime."""
    time.sleep(60)


def grow(size: int, progress: Callable[[Any], None]) -> int:
    """Takes ``size`` bytes of memory."""
    return len(bytearray(size))


def spin(progress: Callable[[Any], None]) -> None:
    """Uses a processor for ever."""
    while True:
        pass


def fill(path: str, size: int, progress: Callable[[Any], None]) -> None:
    """Writes ``size`` bytes into a file."""
    with open(path, "wb") as file:  # noqa: PTH123 - a path that travels between processes
        file.write(b"x" * size)
