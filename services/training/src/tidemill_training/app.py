"""The trainer's table of contents."""

from importlib.metadata import version

from tidemill_shared.service import Service
from tidemill_training.handlers import Trainer, Triggers
from tidemill_training.settings import TrainingSettings


def build(settings: TrainingSettings) -> Service:
    """Wire the service; nothing connects yet."""
    service = Service("training", settings)
    triggers = Triggers(service, settings.training)
    trainer = Trainer(service, settings.training, version("tidemill-training"))
    service.bus.consume(triggers.on_dataset_prepared)
    service.bus.consume(triggers.on_training_requested)
    service.bus.consume(triggers.on_drift_detected)
    service.bus.consume(triggers.on_performance_degraded)
    service.bus.consume(triggers.on_model_trained)
    service.bus.consume(triggers.on_training_failed)
    service.bus.consume(trainer.on_training_granted)
    service.task(triggers.tick)
    service.on_start(trainer.child.warm)
    service.on_stop(trainer.child.stop)
    return service
