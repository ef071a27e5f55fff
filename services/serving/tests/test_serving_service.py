"""The service on a real Redis and a real S3: promoted, deployed, asked, swapped, tampered with."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import (
    EventDeadLettered,
    ModelDeployed,
    PredictionCompleted,
    PredictionFailed,
    PredictionRequested,
)
from tidemill_contracts.package import Golden
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.prediction import RequestedPrediction
from tidemill_contracts.streams import stream_key
from tidemill_serving.app import build
from tidemill_serving.settings import ServingGroup, ServingSettings
from tidemill_shared.service import Service
from tidemill_shared.settings import DeliverySettings
from tidemill_shared.signing import Signer, generate_keys
from tidemill_shared.testing.platform import Platform

ROW: dict[str, Any] = {"height": 1.0, "weight": None, "colour": "green"}
Probability = Callable[[dict[str, Any], float], float]


def request(id_: str, features: dict[str, Any]) -> PredictionRequested:
    return PredictionRequested.root(RequestedPrediction(features=features), id=id_, subject="sales", source="urn:test")


def service_for(platform: Platform, **overrides: Any) -> Service:
    return build(platform.settings(ServingSettings, **overrides))


async def add(platform: Platform, body: dict[str, Any] | bytes) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    await platform.redis.xadd(stream_key(platform.namespace, "prediction.requested.v1", "sales"), {FIELD: raw})


async def pending(platform: Platform) -> int:
    stream = stream_key(platform.namespace, "prediction.requested.v1", "sales")
    return int((await platform.redis.xpending(stream, "serving"))["pending"])


async def deployed(platform: Platform, sequence: int) -> ModelDeployed:
    return await platform.wait_for(ModelDeployed, lambda e: e.data.sequence == sequence)


async def test_promoted_deployed_asked(
    platform: Platform, spec: PipelineSpec, promote: Any, probability: Probability
) -> None:
    async with platform.running(service_for(platform)):
        await platform.declare(spec)  # while running: no restart is needed
        promoted = await promote(1, bias=0.5)
        await platform.publish(promoted)
        event = await deployed(platform, 1)
        assert (event.data.version, event.data.manifest) == (promoted.data.version, promoted.data.manifest)
        assert (event.causationid, event.data.instance) == (promoted.id, "serving-1")
        asked = request("r-1", ROW | {"surplus": 1})
        await platform.publish(asked, request("r-2", {"height": 1.0, "weight": 1.0}))
        completed = await platform.wait_for(PredictionCompleted, pipeline="sales")
        failed = await platform.wait_for(PredictionFailed, pipeline="sales")
    p = probability(ROW, 0.5)
    assert completed.data.prediction_id == completed.causationid == completed.correlationid == "r-1"
    assert completed.data.prediction == "yes"
    assert completed.data.classes == ("no", "yes")
    assert completed.data.probabilities == pytest.approx((1 - p, p), rel=1e-5)
    assert (completed.data.model_version, completed.data.dataset_version) == (promoted.data.version, "0123456789ab")
    assert completed.time == asked.time
    assert (failed.data.prediction_id, failed.data.error, failed.data.field) == ("r-2", "missing_feature", "colour")


async def test_each_bad_request_is_answered_by_name_or_set_aside(
    platform: Platform, spec: PipelineSpec, promote: Any
) -> None:
    await platform.declare(spec)
    await promote(1)
    bad: dict[str, tuple[dict[str, Any], str, str]] = {
        "null": (ROW | {"height": float("nan")}, "not_finite", "height"),
        "huge": (ROW | {"height": 1e300}, "not_finite", "height"),
        "text": (ROW | {"height": "tall"}, "wrong_type", "height"),
        "list": (ROW | {"weight": [1]}, "wrong_type", "weight"),
        "kind": (ROW | {"colour": 7}, "wrong_type", "colour"),
        "new": (ROW | {"colour": "mauve"}, "unknown_category", "colour"),
    }
    envelope = json.loads(request("x", ROW).to_json())
    async with platform.running(service_for(platform)):
        for id_, (features, _, _) in bad.items():
            await add(platform, envelope | {"id": id_, "data": {"features": features}})
        await add(platform, b"no JSON")
        await add(platform, envelope | {"subject": "elsewhere"})
        await platform.publish(request("good", ROW))
        await platform.wait_for(PredictionCompleted, lambda e: e.data.prediction_id == "good", pipeline="sales")
        for id_, (_, error, field) in bad.items():
            failed = await platform.wait_for(
                PredictionFailed, lambda e, id_=id_: e.data.prediction_id == id_, pipeline="sales"
            )
            assert (failed.data.error, failed.data.field) == (error, field)
            assert "Traceback" not in failed.data.message
        await platform.wait_for(EventDeadLettered, lambda e: e.data.reason == "invalid")
        letters = await platform.events(EventDeadLettered)
        assert sorted(e.data.reason for e in letters) == ["invalid", "undecodable"]
        assert await pending(platform) == 0


async def test_no_model_is_said_at_once_and_ends_with_the_first_promotion(
    platform: Platform, spec: PipelineSpec, promote: Any
) -> None:
    await platform.declare(spec)
    async with platform.running(service_for(platform)):
        await platform.publish(request("early", ROW))
        failed = await platform.wait_for(PredictionFailed, pipeline="sales")
        assert (failed.data.error, failed.data.model_version) == ("no_model", None)
        await promote(1)  # its event never comes: the registry is asked all the same
        for i in range(100):
            await platform.publish(request(f"late-{i}", ROW))
            if await platform.events(PredictionCompleted, "sales"):
                break
            await asyncio.sleep(0.1)
        assert await platform.events(PredictionCompleted, "sales")


async def test_a_request_that_comes_again_after_a_swap_keeps_its_first_answer(
    platform: Platform, spec: PipelineSpec, promote: Any
) -> None:
    await platform.declare(spec)
    async with platform.running(service_for(platform)):
        await platform.publish(await promote(1, bias=0.5))
        first = await deployed(platform, 1)
        await platform.publish(request("twice", ROW))
        await platform.wait_for(PredictionCompleted, pipeline="sales")
        await platform.publish(await promote(2, bias=-3.0))
        await deployed(platform, 2)
        await platform.publish(request("twice", ROW), request("other", ROW))
        await platform.wait_for(PredictionCompleted, lambda e: e.data.prediction_id == "other", pipeline="sales")
        assert await pending(platform) == 0
    answers = [e for e in await platform.events(PredictionCompleted, "sales") if e.data.prediction_id == "twice"]
    assert [a.data.model_version for a in answers] == [first.data.version]


async def test_an_expired_request_is_answered_and_not_computed(
    platform: Platform, spec: PipelineSpec, promote: Any
) -> None:
    await platform.declare(spec)
    now = datetime.now(UTC)

    def expiring(id_: str, at: datetime) -> PredictionRequested:
        data = RequestedPrediction(features=ROW, expires_at=at)
        return PredictionRequested.root(data, id=id_, subject="sales", source="urn:test")

    async with platform.running(service_for(platform)):
        await platform.publish(await promote(1))
        await deployed(platform, 1)
        await platform.publish(expiring("late", now - timedelta(seconds=1)), expiring("soon", now + timedelta(hours=1)))
        failed = await platform.wait_for(PredictionFailed, pipeline="sales")
        completed = await platform.wait_for(PredictionCompleted, pipeline="sales")
    assert (failed.data.prediction_id, failed.data.error) == ("late", "expired")
    assert completed.data.prediction_id == "soon"


async def test_swaps_under_load_lose_and_double_nothing(
    platform: Platform, spec: PipelineSpec, promote: Any, probability: Probability
) -> None:
    await platform.declare(spec)
    biases = {(await promote(1, bias=0.0)).data.version: 0.0}
    count = 0
    async with platform.running(service_for(platform, serving=ServingGroup(max_batch=50))):
        done = asyncio.Event()

        async def load() -> None:
            nonlocal count
            while not done.is_set():
                await platform.publish(*(request(f"r-{count + i}", ROW) for i in range(50)))
                count += 50

        loading = asyncio.create_task(load())
        for sequence in range(2, 7):
            event = await promote(sequence, bias=float(sequence % 3))  # also returns to models seen before
            biases[event.data.version] = float(sequence % 3)
            await platform.publish(event)
            await deployed(platform, sequence)
        done.set()
        await loading
        last = f"r-{count - 1}"
        await platform.wait_for(PredictionCompleted, lambda e: e.data.prediction_id == last, pipeline="sales")
    answers = await platform.events(PredictionCompleted, "sales")
    assert sorted(a.data.prediction_id for a in answers) == sorted(f"r-{i}" for i in range(count))
    assert not await platform.events(PredictionFailed, "sales")
    assert {a.data.model_version for a in answers} == set(biases)
    for answer in answers:
        expected = probability(ROW, biases[answer.data.model_version])
        assert answer.data.probabilities[1] == pytest.approx(expected, rel=1e-5)
    assert await pending(platform) == 0


async def replace(platform: Platform, ref: ArtifactRef) -> None:
    data = bytearray(await platform.store.get(ref))
    data[len(data) // 2] ^= 1
    await platform.store.put(ref.key, bytes(data))


@pytest.mark.parametrize("how", ["onnx", "signature", "golden", "judgement", "file", "graph", "document"])
async def test_a_package_that_does_not_stand_up_is_refused_and_the_old_model_goes_on(
    how: str,
    platform: Platform,
    spec: PipelineSpec,
    promote: Any,
    make_golden: Callable[[float], Golden],
    tmp_path: Path,
) -> None:
    await platform.declare(spec)
    old = await promote(1, bias=0.0)
    options: dict[str, Any] = {}
    if how == "onnx":
        options["after"] = lambda refs: replace(platform, refs["model.onnx"])
    elif how == "signature":
        stranger = tmp_path / "stranger.pem"
        stranger.write_bytes(generate_keys()[0])
        options["signer"] = Signer(stranger)
    elif how == "golden":
        options["files"] = {"golden.json": make_golden(0.9).to_json()}
    elif how == "judgement":
        options["passed"] = False
    elif how == "file":
        options["after"] = lambda refs: platform.store.delete(refs["golden.json"].key)
    elif how == "graph":
        options["files"] = {"model.onnx": b"no graph"}
    else:
        options["files"] = {"signature.json": b"{}"}
    service = service_for(platform, delivery=DeliverySettings(lease_seconds=0.4, block_seconds=0.2, max_deliveries=2))
    async with (
        platform.running(service),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=60) as http,
    ):
        assert (await http.get("/v2/models/sales/ready")).status_code == 200
        new = await promote(2, bias=1.0, **options)
        await platform.publish(new)
        letter = await platform.wait_for(EventDeadLettered, lambda e: e.data.event_id == new.id)
        assert letter.data.reason == {"onnx": "checksum", "file": "deliveries"}.get(how, "poison")
        await platform.publish(request("r-1", ROW))
        answer = await platform.wait_for(PredictionCompleted, pipeline="sales")
        assert answer.data.model_version == old.data.version
        ready = await http.get("/v2/models/sales/ready")
        assert ready.status_code == 503
        assert ready.json()["error"]
        third = await promote(3, bias=2.0)  # a later good one heals
        await platform.publish(third)
        await deployed(platform, 3)
        assert (await http.get("/v2/models/sales/ready")).status_code == 200
    assert not [e for e in await platform.events(ModelDeployed) if e.data.sequence == 2]


async def test_a_start_takes_the_newest_promotion_that_stands_up(
    platform: Platform, spec: PipelineSpec, promote: Any, make_golden: Callable[[float], Golden]
) -> None:
    await platform.declare(spec)
    good = await promote(1, bias=0.0)
    await promote(2, bias=1.0, files={"golden.json": make_golden(0.9).to_json()})
    await promote(3, bias=2.0, after=lambda refs: platform.store.delete(refs["model.onnx"].key))
    async with platform.running(service_for(platform)):
        await platform.publish(request("r-1", ROW))
        answer = await platform.wait_for(PredictionCompleted, pipeline="sales")
    assert answer.data.model_version == good.data.version


async def test_every_replica_follows(platform: Platform, spec: PipelineSpec, promote: Any) -> None:
    await platform.declare(spec)
    first, second = service_for(platform, instance="1"), service_for(platform, instance="2")
    async with platform.running(first), platform.running(second):
        for sequence in (1, 2):
            event = await promote(sequence, bias=float(sequence))
            await platform.publish(event)
            await deployed(platform, sequence)
            for service in (first, second):
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=60) as http:
                    for _ in range(200):
                        found = await http.get("/v2/models/sales")
                        if found.status_code == 200 and found.json()["versions"][0] == event.data.version:
                            break
                        await asyncio.sleep(0.02)
                    assert found.json()["versions"][0] == event.data.version
    assert [e.data.sequence for e in await platform.events(ModelDeployed)] == [1, 2]


async def test_a_promotion_without_its_event_is_found(platform: Platform, spec: PipelineSpec, promote: Any) -> None:
    await platform.declare(spec)
    await promote(1, bias=0.0)
    service = service_for(platform, serving=ServingGroup(refresh_seconds=0.1))
    async with (
        platform.running(service),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=60) as http,
    ):
        silent = await promote(2, bias=1.0)
        for _ in range(200):
            found = await http.get("/v2/models/sales")
            if found.json()["versions"][0] == silent.data.version:
                break
            await asyncio.sleep(0.02)
        assert len(found.json()["versions"]) == 2
        await platform.publish(silent)  # late, and still worth a word
        await deployed(platform, 2)


async def test_the_inference_protocol(
    platform: Platform, spec: PipelineSpec, promote: Any, probability: Probability
) -> None:
    await platform.declare(spec)
    await platform.declare(spec.model_copy(update={"name": "idle"}))
    version = (await promote(1, bias=0.5)).data.version
    service = service_for(platform, serving=ServingGroup(max_body_bytes=100_000, max_rows=2_000))
    numeric = {"name": "numeric", "datatype": "FP32", "shape": [1, 2], "data": [1.0, None]}
    colour = {"name": "colour", "datatype": "BYTES", "shape": [1], "data": ["green"]}
    async with (
        platform.running(service),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=60) as http,
    ):
        paths = ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/openapi.json")
        for path in (*paths, f"/v2/models/sales/versions/{version}/ready"):
            assert (await http.get(path)).status_code == 200, path
        described = (await http.get("/v2/models/sales")).json()
        assert [t["name"] for t in described["inputs"]] == ["numeric", "categorical"]
        assert described["versions"] == [version]
        for path in ("/v2/models/sales/infer", f"/v2/models/sales/versions/{version}/infer"):
            found = (await http.post(path, json={"id": "mine", "inputs": [numeric, colour]})).json()
            assert (found["id"], found["model_name"], found["model_version"]) == ("mine", "sales", version)
            assert found["parameters"] == {"model_version": version, "dataset_version": "0123456789ab"}
            prediction, odds = found["outputs"]
            assert prediction == {"name": "prediction", "datatype": "BYTES", "shape": [1], "data": ["yes"]}
            assert odds["data"][1] == pytest.approx(probability(ROW, 0.5), rel=1e-5)
        many = {"name": "numeric", "datatype": "FP32", "shape": [2_000, 2], "data": [1.0] * 4_000}
        colours = {"name": "categorical", "datatype": "BYTES", "shape": [2_000, 1], "data": ["red"] * 2_000}
        found = (await http.post("/v2/models/sales/infer", json={"inputs": [many, colours]})).json()
        assert found["outputs"][1]["shape"] == [2_000, 2]
        refused: list[tuple[int, httpx.Response]] = [
            (404, await http.get("/v2/models/nobody")),
            (404, await http.get("/v2/models/sales/versions/000000000000")),
            (404, await http.get("/v2/nothing")),
            (405, await http.get("/v2/models/sales/infer")),
            (503, await http.get("/v2/models/idle/ready")),
            (400, await http.post("/v2/models/sales/infer", content=b"{")),
            (400, await http.post("/v2/models/sales/infer", json={"inputs": [numeric]})),
            (400, await http.post("/v2/models/sales/infer", json={"inputs": [numeric, colour | {"data": ["mauve"]}]})),
            (413, await http.post("/v2/models/sales/infer", content=b" " * 100_001)),
        ]
        for status, response in refused:
            assert response.status_code == status, response.request.url
            assert set(response.json()) == {"error"}
