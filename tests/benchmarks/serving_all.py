"""All that is measured of serving, one after the other; the last line is one JSON object.

    python tests/benchmarks/serving_all.py [--peers | --batch]

With ``--peers`` what is compared with other products, which it installs under ``.peers``; else what needs none. With
``--batch`` the file of ten million rows too. Before the last line stands a table of what was aimed at (``aims.py``);
the object has the same under ``aims``. A part that fails does not cost the others their figures: it says why in its
place, and the whole ends with code 1. A missed aim does not: rates are the machine's.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import aims

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
    "kills": ["serving_kills.py"],
    "pipelines": ["serving_pipelines.py"],
    "http": ["http_infer.py"],
}
_BATCH = {"batch": ["batch_scoring.py"]}


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
    told = [word for word in sys.argv[1:] if word not in ("--peers", "--batch")]
    parts = _PEERS if "--peers" in sys.argv else _PARTS | (_BATCH if "--batch" in sys.argv else {})
    for name, (script, *arguments) in parts.items():
        print(f"== {name}", flush=True)
        try:
            found[name] = run(script, *arguments, *told)
        except (RuntimeError, ValueError) as error:
            found[name] = {"error": str(error)}
        print(f"  {json.dumps(found[name])}", flush=True)
    judged = aims.judged(found)
    print("\n".join(["== aims", *aims.table(judged)]))
    print(json.dumps(found | {"aims": judged}, ensure_ascii=False))
    sys.exit(any("error" in figures for figures in found.values()))


if __name__ == "__main__":
    main()
