"""A promotion that validation did not write is refused with its reason, and the model at hand goes on answering."""

from typing import Any

import pytest

from tidemill_contracts.artifacts import promotion_key
from tidemill_contracts.events import EventDeadLettered, ModelDeployed, ModelPromoted, PredictionCompleted
from tidemill_contracts.events import PredictionRequested as Requested
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.prediction import RequestedPrediction
from tidemill_contracts.promotion import Promotion
from tidemill_serving.app import build
from tidemill_serving.settings import ServingSettings
from tidemill_shared.seal import PromotionSeal
from tidemill_shared.settings import KeySettings
from tidemill_shared.signing import generate_keys
from tidemill_shared.testing.platform import Platform

ROW: dict[str, Any] = {"height": 1.0, "weight": None, "colour": "green"}


async def entry(platform: Platform, sequence: int) -> Promotion:
    found = await platform.store.read_document(promotion_key("sales", sequence), Promotion)
    assert found is not None
    return found


async def forged(platform: Platform, how: str) -> bytes:
    """What an intruder puts in the place of entry 2, which names a package that was judged and signed like any."""
    genuine = await entry(platform, 2)
    if how == "unsigned":
        return genuine.model_copy(update={"signature": None}).to_json()
    if how == "changed":
        return genuine.model_copy(update={"reason": "because I say so"}).to_json()
    if how == "another key":
        file = platform.directory / "intruder.pem"
        file.write_bytes(generate_keys()[0])
        return PromotionSeal.of(KeySettings(promotion_private_file=file)).sealed(genuine).to_json()
    if how == "an older entry again":
        return (await entry(platform, 1)).to_json()
    return b'{"pipeline": "sales"'


@pytest.mark.parametrize("how", ["unsigned", "changed", "another key", "an older entry again", "cut off"])
async def test_a_forged_promotion_moves_nothing(platform: Platform, spec: PipelineSpec, promote: Any, how: str) -> None:
    await platform.declare(spec)
    first = await promote(1, bias=0.5)
    service = build(platform.settings(ServingSettings))
    async with platform.running(service):
        await platform.publish(first)
        await platform.wait_for(ModelDeployed, lambda e: e.data.sequence == 1)
        second: ModelPromoted = await promote(2, bias=-0.5)
        await platform.store.put(promotion_key("sales", 2), await forged(platform, how))
        await platform.publish(second)
        letter = await platform.wait_for(EventDeadLettered, lambda e: e.data.event_id == second.id)
        asked = Requested.root(RequestedPrediction(features=ROW), id="r", subject="sales", source="urn:test")
        await platform.publish(asked)
        answer = await platform.wait_for(PredictionCompleted, pipeline="sales")
        third = await promote(3, bias=-0.25)  # what validation promotes next takes effect all the same
        await platform.publish(third)
        await platform.wait_for(ModelDeployed, lambda e: e.data.sequence == 3)
    assert "promotion 2 of sales" in letter.data.message
    assert answer.data.model_version == first.data.version
    assert len(await platform.events(ModelDeployed)) == 2
