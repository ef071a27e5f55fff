"""The tables of who publishes and who consumes what are true: they are compared with what each service wires."""

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tidemill_contracts.envelope import Event
from tidemill_contracts.registry import EVENTS
from tidemill_shared.service import Service
from tidemill_shared.settings import Settings, StoreSettings

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("ingestion", "training", "packaging", "validation", "serving", "monitoring")
EACH = pytest.mark.parametrize("service", SERVICES)


def settings_of(service: str) -> Settings:
    """The service's own settings, with no server behind them."""
    module = importlib.import_module(f"tidemill_{service}.settings")
    (cls,) = (
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Settings) and c.__module__ == module.__name__
    )
    return cls(store=StoreSettings(secret_key=SecretStr("unused-secret")))


def built(service: str, signing_keys: tuple[Path, Path]) -> Service:
    """The service, wired and not connected."""
    settings = settings_of(service)
    private, public = signing_keys
    files = {"private_file": private, "public_file": public}
    files |= {"promotion_private_file": private, "promotion_public_file": public}
    keys = settings.keys.model_copy(update=files)
    app = importlib.import_module(f"tidemill_{service}.app")
    result = app.build(settings.model_copy(update={"keys": keys}))
    assert isinstance(result, Service)
    return result


def names(kinds: Any) -> set[str]:
    """Wire names of event classes."""
    return {kind.type_name() for kind in kinds}


def taken(service: Service) -> set[str]:
    """What it consumes: in turn, in batches, or as a broadcast."""
    lane: list[type[Event[Any]]] = [event for lanes in service.bus.data for event in lanes.events]
    tails = [event for event, *_ in service.bus._tails]
    return names([s.event for s in service.bus.subscriptions]) | names(lane) | names(tails)


@EACH
def test_it_consumes_what_the_table_says(service: str, signing_keys: tuple[Path, Path]) -> None:
    told = names(cls for cls in EVENTS.values() if service in cls.consumers)
    assert taken(built(service, signing_keys)) == told


@EACH
def test_its_handlers_return_what_the_table_says(service: str, signing_keys: tuple[Path, Path]) -> None:
    told = names(cls for cls in EVENTS.values() if service in cls.publishers)
    returned = names(output for s in built(service, signing_keys).bus.subscriptions for output in s.outputs)
    assert returned <= told, "a handler returns an event whose `publishers` do not name the service"


def called_on_events(service: str, *methods: str) -> set[str]:
    """Names of the event classes one of whose methods is used in the service's code."""
    known = {cls.__name__ for cls in EVENTS.values()}
    return known & {
        node.value.id
        for path in (ROOT / "services" / service / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in methods and isinstance(node.value, ast.Name)
    }


@EACH
def test_what_the_table_says_it_publishes_is_made_in_its_code(service: str) -> None:
    told = {cls.__name__ for cls in EVENTS.values() if service in cls.publishers}
    # `type_name`: where speed asks for it, an event's bytes are put together without the class.
    assert told - called_on_events(service, "root", "caused_by", "type_name") == set(), "declared, but never made"
    assert called_on_events(service, "root", "caused_by") - told == set(), "made, but the table does not say so"


def test_every_event_has_somebody_at_both_ends() -> None:
    assert not [cls for cls in EVENTS.values() if not (cls.publishers and cls.consumers)]
    known = {*SERVICES, "operator", "producer", "consumer", "any service"}
    assert {p for cls in EVENTS.values() for p in (*cls.publishers, *cls.consumers)} <= known
