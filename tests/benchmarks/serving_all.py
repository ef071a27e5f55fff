"""All that is measured of serving, one after the other; the last line is one JSON object.

    python tests/benchmarks/serving_all.py [--peers]

With ``--peers`` what is compared with other products, which it installs under ``.peers``; else what needs none. A part
that fails does not cost the others their figures: it says why in its place, and the whole ends with code 1.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_PEERS = {
    "stream": ["serving_stream.py", "--peers"],
    "http": ["http_peers.py"],
}
_PARTS = {
    "stream": ["serving_stream.py", "--latency"],
    "delivery": ["delivery_cost.py"],
    "tables": ["serving_tables.py"],
    "large_tables": ["serving_large_tables.py"],
    "swap": ["serving_swap.py"],
    "rollback": ["serving_rollback.py"],
    "pipelines": ["serving_pipelines.py"],
    "http": ["http_infer.py"],
}


def run(script: str, *arguments: str) -> Any:
    """What a script prints on its last line; the lines before are shown. Raises RuntimeError when it fails."""
    command = [sys.executable, str(_HERE / script), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        last = ""
        for line in process.stdout or ():
            if last:
                print(f"  {last}", flush=True)
            last = line.rstrip("\n")
    if process.returncode:
        raise RuntimeError(f"{script} ended with code {process.returncode}")
    return json.loads(last)


def main() -> None:
    """Run and print."""
    found: dict[str, Any] = {}
    told = [word for word in sys.argv[1:] if word != "--peers"]
    for name, (script, *arguments) in (_PEERS if "--peers" in sys.argv else _PARTS).items():
        print(f"== {name}", flush=True)
        try:
            found[name] = run(script, *arguments, *told)
        except (RuntimeError, ValueError) as error:
            found[name] = {"failed": str(error)}
        print(f"  {json.dumps(found[name])}", flush=True)
    print(json.dumps(found))
    sys.exit(any("failed" in figures for figures in found.values()))


if __name__ == "__main__":
    main()
