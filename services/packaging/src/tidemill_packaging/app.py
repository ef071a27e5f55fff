"""The packager's table of contents."""

from importlib.metadata import version

from tidemill_packaging.handlers import Packager
from tidemill_packaging.settings import PackagingSettings
from tidemill_shared.service import Service
from tidemill_shared.signing import Signer


def build(settings: PackagingSettings) -> Service:
    """Wire the service; nothing connects yet."""
    service = Service("packaging", settings)
    signer = Signer(settings.keys.private_file)
    packager = Packager(service, signer, settings.packaging, version("tidemill-packaging"))
    service.bus.consume(packager.on_model_trained)
    service.employ(packager.child)
    return service
