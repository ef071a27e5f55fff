"""Every event, with generated payloads: our own round trip, and the one through the CloudEvents SDK."""

import json
import math
from datetime import UTC, datetime, timedelta
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_structured_event
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import WithJsonSchema
from pydantic.fields import FieldInfo

from tidemill_contracts.document import Document
from tidemill_contracts.envelope import MAX_EVENT_BYTES, Event, child_id
from tidemill_contracts.names import DIGEST_PATTERN, VERSION_PATTERN
from tidemill_contracts.pipeline import PipelineSpec, SplitPolicy
from tidemill_contracts.prediction import CompletedPredictions, RefusedRows, RequestedPredictions
from tidemill_contracts.registry import EVENTS, InvalidEvent, parse

KINDS = pytest.mark.parametrize("kind", EVENTS.values(), ids=EVENTS.keys())
EXAMPLES = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)).map(lambda t: t.replace(tzinfo=UTC))
SUBJECTS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}(/[0-9a-f]{12})?", fullmatch=True)
SPECS = st.builds(
    PipelineSpec,
    name=st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True),
    task=st.just("classification"),
    target=st.just("y"),
    primary=st.sampled_from(["f1", "roc_auc", "accuracy"]),
    positive=st.sampled_from([None, True, 1, "yes"]),
    description=st.text(max_size=50),
)


def values(annotation: Any, constraints: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    """Values of a field's type within its constraints."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return values(arguments[0], (*arguments[1:], *constraints))
    if origin in (Union, UnionType):
        return st.one_of(*(values(a, constraints) for a in arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return st.lists(values(arguments[0]), min_size=_bound(constraints, "min_length", 0), max_size=2).map(tuple)
        return st.tuples(*(values(a) for a in arguments))
    if origin is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=2)
    if isinstance(annotation, type) and issubclass(annotation, Document):
        return documents(annotation)
    return _plain(annotation, constraints)


def _plain(annotation: Any, constraints: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if annotation is NoneType:
        return st.none()
    if annotation is bool:
        return st.booleans()
    if annotation is datetime:
        return MOMENTS
    if annotation is int:
        low = _bound(constraints, "ge", None)
        return st.integers(low if low is not None else -(2**40), 2**40)
    if annotation is float:
        return st.floats(0.01, 0.49)
    assert annotation is str, annotation
    pattern = _bound(constraints, "pattern", None)
    if pattern in (DIGEST_PATTERN, VERSION_PATTERN):
        width = 64 if pattern == DIGEST_PATTERN else 12
        return st.integers(0, 16**width - 1).map(lambda number: f"{number:0{width}x}")
    if pattern:
        return (
            st.from_regex(pattern, fullmatch=True).filter(lambda text: len(text) < 200 and text.isascii()).map(_clean)
        )
    return st.text(st.characters(codec="utf-8"), min_size=_bound(constraints, "min_length", 0), max_size=20)


def _clean(text: str) -> str:
    # `$` in a Python pattern also matches before a final newline; keys have no `..` or empty parts.
    return "/".join(part for part in text.rstrip("\n").replace("..", "._").split("/") if part not in ("", "."))


def _bound(constraints: tuple[Any, ...], name: str, default: Any) -> Any:
    found = []
    for constraint in constraints:
        parts = constraint.metadata if isinstance(constraint, FieldInfo) else (constraint,)
        found += [getattr(part, name) for part in parts if getattr(part, name, None) is not None]
    return found[-1] if found else default


@cache
def documents(cls: type[Document]) -> st.SearchStrategy[Any]:
    """Payloads and documents of a class."""
    if cls is PipelineSpec:
        return SPECS
    if cls is SplitPolicy:
        return st.just(SplitPolicy())
    if cls is RequestedPredictions:
        return st.integers(1, 3).flatmap(_tables)
    if cls is CompletedPredictions:
        return st.integers(0, 3).flatmap(_answers)
    if cls.__name__ == "ArrivedData":
        uri = st.from_regex(r"s3://[a-z]{1,9}/[a-z]{1,9}", fullmatch=True)
        return st.builds(cls, uri=uri, sha256=st.just("0" * 64), size=st.integers(0, 2**40), note=st.text(max_size=9))
    return st.builds(cls, **{name: _cell(field) for name, field in cls.model_fields.items()})


CELLS = st.one_of(st.booleans(), st.integers(-9, 9), st.floats(0.01, 0.49), st.text(st.characters(codec="utf-8")))


def _ids(n: int) -> tuple[str, ...]:
    return tuple(f"row-{i}" for i in range(n))


def _tables(n: int) -> st.SearchStrategy[Any]:
    column = st.tuples(*[CELLS | st.none()] * n)
    return st.builds(RequestedPredictions, ids=st.just(_ids(n)), columns=st.dictionaries(st.text(), column, max_size=3))


def _answers(n: int) -> st.SearchStrategy[Any]:
    return st.builds(
        CompletedPredictions,
        prediction_ids=st.just(_ids(n)),
        predictions=st.tuples(*[CELLS] * n),
        probabilities=st.just(()) | st.tuples(*[st.tuples(st.floats(0, 1), st.floats(0, 1))] * n),
        refused=st.lists(documents(RefusedRows), max_size=2).map(tuple),
        model_version=st.just("0123456789ab"),
        dataset_version=st.just("0123456789ab"),
    )


def _cell(field: FieldInfo) -> st.SearchStrategy[Any]:
    strategy = values(field.annotation, tuple(field.metadata))
    refuses_null = any(isinstance(constraint, WithJsonSchema) for constraint in field.metadata)
    return strategy.filter(lambda cell: cell is not None) if refuses_null else strategy


@cache
def events(kind: type[Event[Any]]) -> st.SearchStrategy[Any]:
    """Events of a kind."""
    return st.builds(
        kind.root,
        documents(kind.model_fields["data"].annotation),  # type: ignore[arg-type]
        subject=SUBJECTS,
        source=st.just("urn:test"),
        time=MOMENTS,
    )


@KINDS
@EXAMPLES
@given(data=st.data())
def test_parsing_what_was_written_gives_the_same_event(kind: type[Event[Any]], data: st.DataObject) -> None:
    event = data.draw(events(kind))
    again = parse(event.to_json())
    assert type(again) is kind
    assert again == event
    assert again.to_json() == event.to_json()


@KINDS
@EXAMPLES
@given(data=st.data())
def test_the_cloudevents_sdk_reads_and_writes_the_same_event(kind: type[Event[Any]], data: st.DataObject) -> None:
    event = data.draw(events(kind))
    theirs = from_http_event(HTTPMessage({"content-type": "application/cloudevents+json"}, event.to_json()))
    assert (theirs.get_id(), theirs.get_type(), theirs.get_subject()) == (event.id, event.type, event.subject)
    assert theirs.get_time() == event.time
    assert parse(bytes(to_structured_event(theirs).body)) == event


@KINDS
@EXAMPLES
@given(data=st.data())
def test_fields_of_the_future_are_ignored(kind: type[Event[Any]], data: st.DataObject) -> None:
    event = data.draw(events(kind))
    raw = json.loads(event.to_json())
    raw["futureextension"] = {"nested": [1]}
    raw["data"]["field_of_the_future"] = "?"
    assert parse(json.dumps(raw).encode()) == event


@KINDS
@EXAMPLES
@given(data=st.data())
def test_a_caused_event_repeats_its_id_and_names_its_cause(kind: type[Event[Any]], data: st.DataObject) -> None:
    cause = data.draw(events(EVENTS["training.requested.v1"]))
    payload = data.draw(documents(kind.model_fields["data"].annotation))  # type: ignore[arg-type]
    first, second = kind.caused_by(cause, payload), kind.caused_by(cause, payload)
    assert first.id == second.id == child_id(cause.id, kind.type_name(), cause.subject)
    assert (first.causationid, first.correlationid) == (cause.id, cause.id)
    grandchild = kind.caused_by(first, payload, subject="other")
    assert grandchild.correlationid == cause.id
    assert grandchild.id != first.id


@given(a=st.text(), b=st.text(), type_a=st.sampled_from(list(EVENTS)), type_b=st.sampled_from(list(EVENTS)))
def test_different_causes_or_types_never_share_a_child_id(a: str, b: str, type_a: str, type_b: str) -> None:
    same = (a, type_a) == (b, type_b)
    assert (child_id(a, type_a, "p") == child_id(b, type_b, "p")) is same


def _request(**changes: Any) -> bytes:
    raw = {
        "specversion": "1.0",
        "id": "e1",
        "type": "prediction.requested.v1",
        "source": "urn:test",
        "subject": "p",
        "time": "2026-01-01T00:00:00Z",
        "data": {"features": {"x": 1}},
    }
    return json.dumps(raw | changes).encode()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "undecodable"),
        (b"\xff\xfe", "undecodable"),
        (b"{", "undecodable"),
        (b"[" * 40_000, "undecodable"),
        (b"[]", "invalid"),
        (b"{}", "invalid"),
        (_request(type=7), "invalid"),
        (_request(type="model.trained.v9"), "unknown_type"),
        (_request(type="PydanticUndefined"), "unknown_type"),
        (_request(specversion="0.3"), "invalid"),
        (_request(id="../../etc/passwd"), "invalid"),
        (_request(id=""), "invalid"),
        (_request(subject="Not A Name"), "invalid"),
        (_request(subject="p\n"), "invalid"),
        (_request(time="yesterday"), "invalid"),
        (_request(data={"features": [1, 2]}), "invalid"),
        (_request(data={"features": {"x": {"nested": 1}}}), "invalid"),
        (_request(data=None), "invalid"),
        (_request(type="label.observed.v1", data={"prediction_id": "e0", "label": None}), "invalid"),
        (b" " * (MAX_EVENT_BYTES + 1), "too_large"),
    ],
)
def test_what_is_no_event_is_refused_with_a_code(data: bytes, code: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        parse(data)
    assert caught.value.code == code


def test_the_reason_names_the_field() -> None:
    with pytest.raises(InvalidEvent, match=r"data\.features"):
        parse(_request(data={"features": 3}))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_raise_anything_else(data: bytes) -> None:
    with pytest.raises(InvalidEvent):
        parse(data)


def test_a_time_without_a_zone_is_utc_and_offsets_are_kept() -> None:
    assert parse(_request(time="2026-01-01T00:00:00")).time == datetime(2026, 1, 1, tzinfo=UTC)
    assert parse(_request(time="2026-01-01T00:00:00+02:00")).time.utcoffset() == timedelta(hours=2)


def test_scalars_keep_their_json_type() -> None:
    event = parse(_request(data={"features": {"a": 1, "b": 1.5, "c": True, "d": "1", "e": None}}))
    cells = event.data.features
    assert [type(v) for v in cells.values()] == [int, float, bool, str, NoneType]
    assert math.isclose(cells["b"], 1.5)
