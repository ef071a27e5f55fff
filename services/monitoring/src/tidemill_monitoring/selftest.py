"""``python -m tidemill_monitoring.selftest``: grades a pipeline's settings on its champion's reference.

Takes one JSON object on standard input (``spec``: the pipeline's specification, ``reference``: the package's
``reference.json``, optional ``trials`` and ``seed``) and prints the report card as one. It reaches no server.
"""

import sys
from dataclasses import asdict

import orjson

from tidemill_contracts.package import Reference
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_monitoring.domain.selftest import grade
from tidemill_monitoring.promotions import translate
from tidemill_monitoring.translation import policy_of


def main() -> None:
    """Read, grade, print."""
    asked = orjson.loads(sys.stdin.buffer.read())
    spec, document = PipelineSpec.model_validate(asked["spec"]), Reference.model_validate(asked["reference"])
    card = grade(
        translate(document, "reference"),
        policy_of(spec),
        min(max(document.error, 0.0), 1.0),
        trials=asked.get("trials", 20),
        seed=asked.get("seed", 0),
    )
    sys.stdout.buffer.write(orjson.dumps(asdict(card)) + b"\n")


if __name__ == "__main__":
    main()
