"""The trainer's table of contents."""

from importlib.metadata import version

from tidemill_shared.child import Child
from tidemill_shared.service import Service
from tidemill_training.governing import Governing
from tidemill_training.handlers import Triggers
from tidemill_training.settings import TrainingSettings
from tidemill_training.trainer import Trainer
from tidemill_training.work import PRELOAD


def build(settings: TrainingSettings) -> Service:
    """Wire the service; nothing connects yet."""
    service = Service("training", settings)
    child = Child(PRELOAD, service="training")
    governing = Governing(service, child)
    triggers = Triggers(service, settings.training, governing)
    trainer = Trainer(service, settings.training, governing, child, version("tidemill-training"))

    service.bus.consume(triggers.on_dataset_prepared)
    service.bus.consume(triggers.on_training_requested)
    service.bus.consume(triggers.on_drift_detected)
    service.bus.consume(triggers.on_performance_degraded)
    service.bus.consume(triggers.on_drift_resolved)
    service.bus.consume(triggers.on_performance_recovered)
    service.bus.consume(triggers.on_model_trained)
    service.bus.consume(triggers.on_training_failed)
    service.bus.consume(triggers.on_model_rejected)
    service.bus.consume(triggers.on_packaging_failed)
    service.bus.consume(triggers.on_model_promoted)
    service.bus.consume(triggers.on_retraining_resumed)
    for _ in range(settings.training.concurrency):
        # A subscriber takes one event at a time; several of them share the stream.
        service.bus.consume(trainer.on_training_granted)

    service.task(triggers.tick)
    service.employ(child)
    return service
