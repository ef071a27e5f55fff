"""Ingestion's table of contents."""

from tidemill_ingestion.handlers import Ingestion
from tidemill_ingestion.receiving import Receiving
from tidemill_ingestion.settings import IngestionSettings
from tidemill_ingestion.sweeper import Sweeper
from tidemill_shared.service import Service


def build(settings: IngestionSettings) -> Service:
    """Wire the service; nothing connects yet."""
    service = Service("ingestion", settings)
    ingestion = Ingestion(service, settings.ingestion)
    sweeper = Sweeper(service, settings.ingestion)
    service.bus.consume(ingestion.on_data_arrived)
    service.mount(Receiving(service, settings.ingestion).routes(), "publish")
    service.task(sweeper.sweep_for_ever)
    service.employ(ingestion.child)
    service.on_stop(ingestion.history.forget)
    return service
