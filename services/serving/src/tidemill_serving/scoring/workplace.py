"""A folder for one piece of work, gone with it; what a killed process left behind is removed by the next."""

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "tidemill-batch-"


@contextlib.contextmanager
def workplace(base: Path | None) -> Iterator[Path]:
    """An empty folder below ``base`` (None: the system's for temporary files)."""
    base = base or Path(tempfile.gettempdir())
    _clear(base)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    with (folder / ".lock").open("w") as lock:
        # Held until this process ends, however it ends.
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _clear(base: Path) -> None:
    for left in base.glob(f"{_PREFIX}*/.lock"):
        with contextlib.suppress(OSError), left.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent, ignore_errors=True)
