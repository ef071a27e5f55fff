"""The server's table of contents."""

from typing import Any

from tidemill_contracts.envelope import Event
from tidemill_contracts.events import (
    ModelPromoted,
    PredictionRequested,
    PredictionsRequested,
    RolloutChanged,
    TableRequested,
)
from tidemill_serving.answering import Answering
from tidemill_serving.batches import Batches
from tidemill_serving.calls import Calls
from tidemill_serving.garbage import look_rarely
from tidemill_serving.http import Protocol
from tidemill_serving.large_tables import LargeTables
from tidemill_serving.loading import Loader
from tidemill_serving.models import Models
from tidemill_serving.rollouts import Rollouts
from tidemill_serving.settings import ServingSettings
from tidemill_serving.work import works
from tidemill_shared.seal import PromotionCheck
from tidemill_shared.service import Service
from tidemill_shared.signing import Verifier


def build(settings: ServingSettings) -> Service:
    """Wire the service; nothing connects yet."""
    service = Service("serving", settings)
    loader = Loader(service.store, Verifier(settings.keys.public_file), settings.serving.threads)
    check = PromotionCheck.of(settings.keys)
    models = Models(service, loader, check, settings.serving)
    rollouts = Rollouts(service, models, loader, check, works(settings.namespace), settings.serving)
    calls = Calls()
    answering = Answering(models, rollouts, settings.namespace, settings.delivery.once_seconds, calls)
    service.bus.consume(models.on_model_promoted)
    service.bus.tail(ModelPromoted, models.follow)
    service.bus.tail(RolloutChanged, rollouts.follow)
    requests: list[type[Event[Any]]] = [PredictionRequested, PredictionsRequested]
    service.bus.lanes(requests, answering.on_batch, max_records=settings.serving.max_batch, ahead=True)
    batches = Batches(service, models, settings.serving)
    service.bus.consume(batches.on_batch_requested)
    service.on_stop(batches.stop)
    service.on_stop(rollouts.stop)
    tables = LargeTables(service, models, settings.serving)
    service.bus.lanes([TableRequested], tables.on_batch, max_records=1)
    service.on_stop(tables.stop)
    service.mount(
        Protocol(
            models, rollouts.beside_asked, service.bus, service.pipelines, service.store, settings.serving, calls
        ).routes(),
        "predict",
    )
    service.on_start(models.begin)
    service.ready_when(lambda: models.warm)
    service.on_start(rollouts.load_all)
    service.on_start(look_rarely)
    service.task(models.watch)
    service.task(rollouts.watch)
    service.task(rollouts.observe)
    return service
