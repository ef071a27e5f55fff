"""An environment of its own for each peer, made once under ``.peers`` beside ``.venv``."""

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[3] / ".peers"


def python_of(name: str, *requirements: str) -> Path:
    """The interpreter of the peer's environment. Raises CalledProcessError when a package cannot be installed."""
    folder = _ROOT / name
    wanted = "\n".join(requirements)
    made = folder / "requirements.txt"
    if not made.exists() or made.read_text() != wanted:
        print(f"installing {', '.join(requirements)} in {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        subprocess.run([*pip, *requirements], check=True)
        made.write_text(wanted)
    return folder / "bin" / "python"
