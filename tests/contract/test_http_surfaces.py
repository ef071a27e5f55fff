"""What each service answers over HTTP is in ``contracts/openapi.yaml``; requests made from it never end above 499.

``TIDEMILL_FUZZ_CASES`` says how many requests to each that has routes of its own (``make fuzz``), a tenth to those that
answer health checks only; serving's routes are tested beside it.
"""

import asyncio
import copy
import importlib
import os
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tidemill_contracts.pipeline import PipelineSpec
from tidemill_shared.service import Service
from tidemill_shared.settings import Settings
from tidemill_shared.testing.platform import Platform
from tidemill_shared.testing.surface import attack, paths

ROOT = Path(__file__).resolve().parents[2]
CASES = int(os.environ.get("TIDEMILL_FUZZ_CASES", "40"))
SEED = int(os.environ.get("TIDEMILL_FUZZ_SEED", "1"))
DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "contracts" / "openapi.yaml").read_text())
SERVICES = sorted(p.parent.name for p in ROOT.glob("services/*/pyproject.toml"))
HEALTH = {"/livez", "/readyz"}
UPLOAD, ARRIVAL = "/v1/pipelines/{pipeline}/data", "/v1/arrivals/{event}"
SPEC = PipelineSpec(name="games", task="classification", target="won", positive="yes", primary="f1")


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


def described(service: Service) -> dict[str, Any]:
    """The document's part about a service; among the ids of arrivals that are asked for is one that there is."""
    mine = {path: copy.deepcopy(part) for path, part in DOCUMENT["paths"].items() if path in HEALTH | own(service)}
    if ARRIVAL in mine:
        mine[ARRIVAL]["parameters"][0]["schema"] = {"anyOf": [{"enum": ["monday"]}, {"type": "string"}]}
    return DOCUMENT | {"paths": mine}


def own(service: Service) -> set[str]:
    """The paths of a service besides its health checks."""
    return set(paths(service._routes))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [name for name in SERVICES if name not in ("console", "serving")])
async def test_a_service_answers_what_is_described_and_nothing_else(name: str, platform: Platform) -> None:
    service = built(name, platform)
    assert own(service) <= set(DOCUMENT["paths"])
    pytest.importorskip("schemathesis", reason="an older environment: run make setup")
    document, cases = described(service), CASES if own(service) else CASES // 10
    await platform.declare(SPEC)
    async with platform.running(service):
        base = f"http://127.0.0.1:{service.port}"
        if UPLOAD in own(service):
            await upload(base)
        seen = await asyncio.to_thread(
            attack, document, base, key="none", cases=cases, seed=SEED, path={"pipeline": SPEC.name}
        )
    print(f"{name}: {seen.total()} requests on {len(document['paths'])} paths: {dict(sorted(seen.items()))}")
    assert seen["5xx"] == 0
    assert seen["2xx"]
    if own(service):
        assert seen.total() >= cases
        assert len(await platform.store.list("inbox/")) > 1  # some of what was made up is taken


async def upload(base: str) -> None:
    """Rows under a known id, whatever becomes of them."""
    headers = {"content-type": "text/csv", "idempotency-key": "monday"}
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.post(base + UPLOAD.format(pipeline=SPEC.name), content=b"x,won\n1,yes\n", headers=headers)
    assert answer.status_code == 202, answer.text


def test_the_document_has_the_version_of_the_contracts() -> None:
    manifest = tomllib.loads((ROOT / "contracts" / "pyproject.toml").read_text())
    assert DOCUMENT["info"]["version"] == manifest["project"]["version"]
