"""What each service answers over HTTP is in ``contracts/openapi.yaml``; requests made from it never end above 499.

``TIDEMILL_FUZZ_CASES`` says how many requests to each (``make fuzz``); serving's own routes are tested beside it.
"""

import asyncio
import importlib
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tidemill_shared.service import Service
from tidemill_shared.settings import Settings
from tidemill_shared.testing.platform import Platform
from tidemill_shared.testing.surface import attack, paths

ROOT = Path(__file__).resolve().parents[2]
CASES = int(os.environ.get("TIDEMILL_FUZZ_CASES", "40")) // 10
SEED = int(os.environ.get("TIDEMILL_FUZZ_SEED", "1"))
DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "contracts" / "openapi.yaml").read_text())
SERVICES = sorted(p.parent.name for p in ROOT.glob("services/*/pyproject.toml"))


def built(name: str, platform: Platform) -> Service:
    """A service as it is wired, in a corner of the test's servers."""
    module = importlib.import_module(f"tidemill_{name}.settings")
    (kind,) = (
        found
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, Settings) and found is not Settings
    )
    service: Service = importlib.import_module(f"tidemill_{name}.app").build(platform.settings(kind))
    return service


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [name for name in SERVICES if name != "console"])
async def test_a_service_answers_what_is_described_and_nothing_else(name: str, platform: Platform) -> None:
    service = built(name, platform)
    if name == "serving":  # see services/serving/tests/test_serving_openapi.py
        return
    assert set(paths(service._routes)) <= set(DOCUMENT["paths"])
    pytest.importorskip("schemathesis", reason="an older environment: run make setup")
    mine = {
        path: part for path, part in DOCUMENT["paths"].items() if path in {"/livez", "/readyz", *paths(service._routes)}
    }
    async with platform.running(service):
        base = f"http://127.0.0.1:{service.port}"
        seen = await asyncio.to_thread(
            attack, DOCUMENT | {"paths": mine}, base, key="none", cases=CASES, seed=SEED, path={}
        )
    print(f"{name}: {seen.total()} requests on {len(mine)} paths: {dict(seen)}")
    assert seen["5xx"] == 0
    assert seen["2xx"]


def test_the_document_has_the_version_of_the_contracts() -> None:
    manifest = tomllib.loads((ROOT / "contracts" / "pyproject.toml").read_text())
    assert DOCUMENT["info"]["version"] == manifest["project"]["version"]
