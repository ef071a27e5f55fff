"""The routes as ``openapi.json`` describes them: the same paths, and no answer it does not know.

``TIDEMILL_FUZZ_CASES`` says how many requests (``make fuzz``), ``TIDEMILL_FUZZ_SEED`` which.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tidemill_shared.service import Service
from tidemill_shared.testing.surface import attack, paths

CASES = int(os.environ.get("TIDEMILL_FUZZ_CASES", "200"))
SEED = int(os.environ.get("TIDEMILL_FUZZ_SEED", "1"))
ROOT = Path(__file__).resolve().parents[3]


def document() -> dict[str, Any]:
    """What serving says of itself, with the health checks that every service answers."""
    common = yaml.safe_load((ROOT / "contracts" / "openapi.yaml").read_text())
    found: dict[str, Any] = json.loads((ROOT / "services" / "serving" / "openapi.json").read_text())
    found["paths"] |= {path: common["paths"][path] for path in ("/livez", "/readyz")}
    found["components"]["schemas"] |= common["components"]["schemas"]
    found["components"]["schemas"]["Tensor"]["properties"]["name"] = {
        "enum": ["height", "weight", "colour", "numeric", "categorical"]
    }
    return found


DOCUMENT = document()


def test_every_route_is_described_and_no_other(running: tuple[Service, str]) -> None:
    service, _ = running
    assert {"/livez", "/readyz", *paths(list(service._routes))} == set(DOCUMENT["paths"])


@pytest.mark.timeout(1800)
async def test_every_answer_is_one_the_document_knows(running: tuple[Service, str]) -> None:
    pytest.importorskip("schemathesis", reason="an older environment: run make setup")
    service, key = running
    base = f"http://127.0.0.1:{service.port}"
    seen = await asyncio.to_thread(attack, DOCUMENT, base, key=key, cases=CASES, seed=SEED, path={"name": "sales"})
    print(f"seed {SEED}: {seen.total()} requests on {len(DOCUMENT['paths'])} paths: {dict(sorted(seen.items()))}")
    assert seen["5xx"] == 0
    assert seen["2xx"] > 5
    assert seen.total() >= CASES
