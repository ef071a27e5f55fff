"""The monitoring service's wiring."""

from tidemill_contracts.events import TableCompleted
from tidemill_monitoring.batch import ORDER
from tidemill_monitoring.flushing import Flushing
from tidemill_monitoring.handlers import Handlers
from tidemill_monitoring.large_tables import LargeTables
from tidemill_monitoring.settings import MonitoringSettings
from tidemill_shared.service import Service


def build(settings: MonitoringSettings) -> Service:
    """The service, wired and not yet connected."""
    service = Service("monitoring", settings)
    handlers = Handlers(service.bus, service.store, service.pipelines, settings.monitoring)
    flushing = Flushing(service.bus, service.store, service.pipelines, settings.monitoring)

    service.bus.consume(handlers.on_model_promoted)
    service.bus.consume(handlers.on_model_deployed)
    service.bus.lanes(
        ORDER,
        handlers.on_batch,
        max_records=settings.monitoring.batch_records,
        on_stale=handlers.on_stale,
    )
    tables = LargeTables(service.bus, service.store)
    service.bus.lanes([TableCompleted], tables.on_batch, max_records=1)
    service.on_stop(tables.stop)
    service.task(flushing.run)
    return service
