"""All that is measured of monitoring, one after the other; the last line is one JSON object.

    python tests/benchmarks/monitoring_all.py

Arguments are passed on to the window check.
"""

import json
import sys

from serving_all import run


def main() -> None:
    """Run and print."""
    found = {}
    for name, script, arguments in (
        ("window_check", "monitoring/window_check.py", sys.argv[1:]),
        ("state_size", "monitoring/state_size.py", []),
        ("false_alarms", "false_alarms.py", []),
    ):
        print(f"== {name}", flush=True)
        found[name] = run(script, *arguments)
        print(f"  {json.dumps(found[name])}", flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
