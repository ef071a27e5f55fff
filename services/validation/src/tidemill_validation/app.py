"""The judge's table of contents."""

from importlib.metadata import version

from tidemill_shared.seal import OperatorCheck, PromotionSeal
from tidemill_shared.service import Service
from tidemill_shared.signing import Verifier
from tidemill_validation.handlers import Judge
from tidemill_validation.settings import ValidationSettings


def build(settings: ValidationSettings) -> Service:
    """Wire the service; nothing connects yet."""
    service = Service("validation", settings)
    verifier = Verifier(settings.keys.public_file)
    seal, operator = PromotionSeal.of(settings.keys), OperatorCheck.of(settings.keys)
    judge = Judge(service, verifier, seal, operator, settings.validation, version("tidemill-validation"))
    service.bus.consume(judge.on_model_packaged)
    service.bus.consume(judge.on_model_approved)
    service.bus.consume(judge.on_rollback_requested)
    service.bus.consume(judge.anchoring.on_anchor_requested)
    service.bus.consume(judge.baking.on_dataset_prepared)
    service.bus.consume(judge.conducting.on_rollout_observed)
    service.bus.consume(judge.steering.on_trial_requested)
    service.employ(judge.child)
    return service
