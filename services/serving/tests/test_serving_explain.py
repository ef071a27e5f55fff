"""Explanations over HTTP: they add up, they are bounded, and who asks too much is told so."""

import asyncio
from typing import Any

import httpx
import numpy as np
import pytest

from tidemill_contracts.dataset import Histogram
from tidemill_contracts.package import Reference, ReferenceColumn
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_serving.app import build
from tidemill_serving.domain.background import Spread, background
from tidemill_serving.settings import ServingGroup, ServingSettings
from tidemill_shared.testing.platform import Platform


def column(name: str) -> ReferenceColumn:
    shape = Histogram(edges=(-1.0, 0.0, 1.0), counts=(10, 30, 40, 20))
    return ReferenceColumn(name=name, kind="numeric", rows=100, missing=0, histogram=shape, minimum=-3.0, maximum=3.0)


COLOUR = ReferenceColumn(name="colour", kind="categorical", rows=100, missing=25, categories={"red": 50, "green": 25})
REFERENCE = Reference(
    rows=100,
    columns=(column("height"), column("weight"), COLOUR),
    prediction=column("prediction"),
    target=column("target"),
    metric="f1",
    score=0.9,
    error=0.1,
    error_rows=100,
)
BODY: dict[str, Any] = {
    "id": "why",
    "inputs": [
        {"name": "numeric", "datatype": "FP32", "shape": [2, 2], "data": [1.0, None, -2.0, 0.5]},
        {"name": "categorical", "datatype": "BYTES", "shape": [2, 1], "data": ["red", "blue"]},
    ],
}


def test_a_background_has_the_distribution_of_training() -> None:
    numbers = Spread(missing=25, edges=(0.0, 10.0), counts=(0, 75, 0))
    texts = Spread(missing=25, categories=(("a", 50), ("b", 25)))
    found = background([numbers], [texts], 100)
    assert np.isnan(found.numeric).sum() == 25
    present = np.sort(found.numeric[~np.isnan(found.numeric)])
    np.testing.assert_allclose(present, (np.arange(75) + 0.5) / 7.5, atol=0.01)
    assert [list(found.categorical[:, 0]).count(v) for v in ("", "a", "b")] == [25, 50, 25]
    empty = background([Spread(missing=0)], [Spread(missing=0)], 3)
    assert np.isnan(empty.numeric).all()
    assert empty.categorical.tolist() == [[""]] * 3


async def test_contributions_over_http(platform: Platform, spec: PipelineSpec, promote: Any) -> None:
    await platform.declare(spec)
    await promote(1, bias=0.0, files={"reference.json": REFERENCE.to_json()})
    service = build(platform.settings(ServingSettings, serving=ServingGroup(explain_rows=2)))
    path = "/v2/models/sales/explain"
    async with (
        platform.running(service),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=60) as http,
    ):
        answer = (await http.post(path, json=BODY)).json()
        found = {t["name"]: np.array(t["data"]).reshape(t["shape"]) for t in answer["outputs"]}
        assert (answer["id"], answer["parameters"]["method"]) == ("why", "exact")
        assert found["features"].tolist() == ["height", "weight", "colour"]
        assert found["explained"].tolist() == ["yes", "yes"]
        np.testing.assert_allclose(found["contributions"].sum(axis=1), found["output"] - found["base"], atol=1e-6)
        assert found["contributions"][0, 0] > 0 > found["contributions"][1, 0]
        inferred = (await http.post("/v2/models/sales/infer", json=BODY)).json()["outputs"][1]["data"]
        assert found["output"].tolist() == pytest.approx([inferred[1], inferred[3]], abs=1e-6)
        for junk in (b"{", b'{"inputs": []}'):
            assert (await http.post(path, content=junk)).status_code == 400
        three = [
            {"name": "numeric", "datatype": "FP32", "shape": [3, 2], "data": [1.0] * 6},
            {"name": "categorical", "datatype": "BYTES", "shape": [3, 1], "data": ["red"] * 3},
        ]
        for wrong in ({"inputs": three}, BODY | {"parameters": {"pairs": 0}}, BODY | {"parameters": {"pairs": "x"}}):
            response = await http.post(path, json=wrong)
            assert (response.status_code, set(response.json())) == (400, {"error"})
        assert (await http.post("/v2/models/nobody/explain", json=BODY)).status_code == 404
        many = await asyncio.gather(*(http.post(path, json=BODY) for _ in range(60)))
        assert {r.status_code for r in many} <= {200, 429}
        assert 200 in {r.status_code for r in many}  # which of them came first is not the order they were sent in


async def test_a_package_without_a_reference_says_so(platform: Platform, spec: PipelineSpec, promote: Any) -> None:
    await platform.declare(spec)
    await promote(1)
    service = build(platform.settings(ServingSettings))
    async with (
        platform.running(service),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=60) as http,
    ):
        response = await http.post("/v2/models/sales/explain", json=BODY)
    assert (response.status_code, set(response.json())) == (404, {"error"})
