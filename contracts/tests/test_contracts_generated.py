"""The generated documents: complete, consistent, repeatable, and compared with the last release."""

import copy
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml

from tidemill_contracts.envelope import Event
from tidemill_contracts.events import PredictionRequested
from tidemill_contracts.prediction import RequestedPrediction
from tidemill_contracts.registry import EVENTS

FOLDER = Path(__file__).resolve().parents[1]
SCHEMAS = {path.stem: json.loads(path.read_text()) for path in (FOLDER / "schemas").glob("*.json")}
ASYNCAPI: dict[str, Any] = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text())


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compatibility = _load("compatibility")


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in node.values():
            yield from _references(child)
    elif isinstance(node, list):
        for child in node:
            yield from _references(child)


def _resolve(document: Any, reference: str) -> Any:
    node = document
    for part in reference.removeprefix("#/").split("/"):
        node = node[part.replace("~1", "/").replace("~0", "~")]
    return node


@pytest.mark.slow
def test_generation_agrees_with_what_is_committed_and_is_repeatable() -> None:
    command = [sys.executable, FOLDER / "generate.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_event_has_a_schema_and_every_schema_is_one() -> None:
    assert set(EVENTS) <= set(SCHEMAS)
    for body in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(body)


def test_a_schema_accepts_what_we_write_and_refuses_what_we_refuse() -> None:
    event = PredictionRequested.root(RequestedPrediction(features={"x": 1.5}), subject="p", source="urn:test")
    validator = jsonschema.Draft202012Validator(SCHEMAS["prediction.requested.v1"])
    raw = json.loads(event.to_json())
    validator.validate(raw)
    for wrong in ({"subject": "Not A Name"}, {"data": {"features": [1]}}, {"specversion": "0.3"}):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(raw | wrong)


def test_asyncapi_references_resolve() -> None:
    for reference in _references(ASYNCAPI):
        assert _resolve(ASYNCAPI, reference) is not None


@pytest.mark.parametrize("kind", EVENTS.values(), ids=EVENTS.keys())
def test_asyncapi_shows_both_directions(kind: type[Event[Any]]) -> None:
    operations = ASYNCAPI["operations"]
    channel = {"$ref": f"#/channels/{kind.type_name()}"}
    mine = [o for o in operations.values() if o["channel"] == channel]
    senders = {o["tags"][0]["name"] for o in mine if o["action"] == "send"}
    receivers = {o["tags"][0]["name"] for o in mine if o["action"] == "receive"}
    assert senders == {p.replace(" ", "-") for p in kind.publishers}
    assert receivers == set(kind.consumers)
    address = ASYNCAPI["channels"][kind.type_name()]
    assert address["address"].endswith(f"}}:{kind.type_name()}")
    assert set(address["parameters"]) == {"pipelineTag" if kind.plane == "data" else "namespaceTag"}


def _change(path: str, value: Any) -> dict[str, Any]:
    """The schemas with one place changed; None removes it."""
    changed = copy.deepcopy(SCHEMAS)
    name, *parts, last = path.split("/")
    node = changed[name]
    for part in parts:
        node = node[part]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return changed


MODEL = "model.trained.v1/$defs/TrainedModel"


def test_the_same_schemas_are_compatible() -> None:
    assert compatibility.compare(SCHEMAS, copy.deepcopy(SCHEMAS)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{MODEL}/properties/added", {"type": "string", "default": ""}),
        (f"{MODEL}/description", "other words"),
        ("model.trained.v1/$defs/Added", {"type": "object"}),
    ],
)
def test_additions_and_words_are_compatible(path: str, value: Any) -> None:
    assert compatibility.compare(SCHEMAS, _change(path, value)) == []


def test_a_new_event_is_compatible_and_a_lost_one_is_not() -> None:
    assert compatibility.compare(SCHEMAS, SCHEMAS | {"model.trained.v2": {}}) == []
    fewer = {name: body for name, body in SCHEMAS.items() if name != "model.trained.v1"}
    assert compatibility.compare(SCHEMAS, fewer) == ["model.trained.v1: removed"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{MODEL}/properties/family", None),
        (f"{MODEL}/properties/family/type", "integer"),
        (f"{MODEL}/properties/family/maxLength", 5),
        (f"{MODEL}/required", ["pipeline"]),
        ("model.trained.v1/$defs/ArtifactRef/properties/key/pattern", ".*"),
        ("dataset.prepared.v1/$defs/PreparedDataset/properties/origin/enum", ["upload", "feedback", "more"]),
    ],
)
def test_anything_else_breaks_and_is_named(path: str, value: Any) -> None:
    found = compatibility.compare(SCHEMAS, _change(path, value))
    assert found
    assert all(sentence.startswith(path.partition("/")[0]) for sentence in found)


def test_the_newest_release_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = tmp_path / "contracts" / "schemas" / "a.v1.json"
    schema.parent.mkdir(parents=True)
    schema.write_text('{"properties": {"x": {"type": "string"}}, "required": ["x"]}')
    assert compatibility.main(tmp_path) == 0
    git = ["git", "-C", tmp_path, "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    commands = (["init", "-q"], ["add", "."], ["commit", "-qm", "r"], ["tag", "v1.0.0"])
    for arguments in commands:
        subprocess.run([*git, *arguments], check=True, capture_output=True)
    assert compatibility.main(tmp_path) == 0
    schema.write_text('{"properties": {"x": {"type": "integer"}}, "required": ["x"]}')
    assert compatibility.main(tmp_path) == 1
    assert "a.v1.json/properties/x/type" in capsys.readouterr().err
