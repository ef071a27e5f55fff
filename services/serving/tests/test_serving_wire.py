"""Requests and answers as bytes: the fast reading agrees with the contracts, what is written is a valid event."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill_contracts.envelope import MAX_EVENT_BYTES, child_id
from tidemill_contracts.events import PredictionCompleted, PredictionFailed, PredictionRequested
from tidemill_contracts.prediction import CompletedPrediction, FailedPrediction, RequestedPrediction
from tidemill_contracts.registry import InvalidEvent, parse_as
from tidemill_serving import decode, encode
from tidemill_serving.derived import derived_id, derived_ids
from tidemill_serving.domain.features import Layout, Refusal, matrices
from tidemill_serving.typed import Reader

BODY: dict[str, Any] = {
    "specversion": "1.0",
    "id": "r-1",
    "type": "prediction.requested.v1",
    "source": "urn:shop",
    "subject": "sales",
    "time": "2026-03-01T12:00:00.5Z",
    "data": {"features": {"height": 1.5, "colour": None}},
}

odd = st.one_of(
    st.none(),
    st.integers(-3, 300),
    st.floats(),
    st.booleans(),
    st.text(max_size=140),
    st.lists(st.integers(), max_size=2),
    st.sampled_from(
        [
            "1.0",
            "sales",
            "sales/",
            "sales/0123",
            "sales\n",
            "sales/a\n",
            "salesmen",
            "r-1\n",
            "-r",
            "prediction.requested.v1",
            "application/json",
            "2026-02-30T00:00:00Z",
            "2026-02-28T24:00:00Z",
            "2026-02-28T23:59:60Z",
            "2026-02-28",
            "2026-02-28 10:00:00",
            "2026-02-28T10:00:00+23:59",
            "2026-02-28T10:00:00",
            "0000-01-01T00:00:00Z",
            "٢026-02-28T10:00:00Z",
            1772000000,
            {},
            {"features": {}},
            {"features": {"a": [1]}},
            {"features": None},
        ]
    ),
)
keys = st.sampled_from(
    [*BODY, "datacontenttype", "correlationid", "causationid", "traceparent", "surplus"],
)


@given(st.dictionaries(keys, odd, max_size=3), st.sets(keys, max_size=2))
def test_what_the_fast_reading_takes_the_contracts_take_alike(changes: dict[str, Any], gone: set[str]) -> None:
    body = {k: v for k, v in (BODY | changes).items() if k not in gone}
    if not decode._plain(json.loads(json.dumps(body)), "sales"):
        return
    request = decode.read(json.dumps(body).encode(), "sales")
    event = parse_as(decode._Envelope, json.dumps(body).encode())
    assert (request.id, request.subject, request.correlationid, request.traceparent) == (
        event.id,
        event.subject,
        event.correlationid,
        event.traceparent,
    )
    assert event.pipeline == "sales"
    written = parse_as(decode._Envelope, json.dumps(body | {"time": request.time}).encode())
    assert written.time == event.time


LAYOUT = Layout(("height", "weight of it"), ("colour",), None)
READER = Reader(LAYOUT)
cells = st.one_of(odd, st.integers(-(10**400), 10**400), st.floats(-10, 10), st.just("red"))


def read_or_refuse(read: Callable[[bytes, str], decode.Request], raw: bytes) -> decode.Request | str:
    try:
        return read(raw, "sales")
    except InvalidEvent as error:
        return error.code


@given(
    st.dictionaries(keys, odd, max_size=2),
    st.sets(keys, max_size=1),
    st.dictionaries(st.sampled_from(["height", "weight of it", "colour", "surplus"]), cells, max_size=4),
    st.sampled_from([None, "2099-01-01T00:00:00Z", "soon"]),
)
def test_the_typed_reading_and_the_general_one_agree(
    changes: dict[str, Any], gone: set[str], row: dict[str, Any], until: str | None
) -> None:
    features = {"height": 1, "weight of it": 2.5, "colour": "red"} | row
    data = {"features": features} | ({"expires_at": until} if until else {})
    body = BODY | {"data": data} | changes
    raw = json.dumps({k: v for k, v in body.items() if k not in gone}).encode()
    typed, general = read_or_refuse(READER.read, raw), read_or_refuse(decode.read, raw)
    if isinstance(typed, str) or isinstance(general, str) or type(typed.features) is not tuple:
        assert repr(typed) == repr(general)  # NaN is not itself
        return
    same = (typed.id, typed.subject, typed.correlationid, typed.traceparent)
    assert same == (general.id, general.subject, general.correlationid, general.traceparent)
    assert datetime.fromisoformat(typed.time) == datetime.fromisoformat(general.time)
    assert typed.expires_at == general.expires_at
    found, expected = matrices([typed.features], LAYOUT), matrices([general.features], LAYOUT)
    assert found[1] == expected[1]
    np.testing.assert_array_equal(found[0].numeric, expected[0].numeric)
    np.testing.assert_array_equal(found[0].categorical, expected[0].categorical)


@given(st.lists(st.tuples(st.dictionaries(keys, odd, max_size=1), st.sets(keys, max_size=1)), max_size=4))
def test_requests_read_together_are_what_each_is_by_itself(bodies: list[tuple[dict[str, Any], set[str]]]) -> None:
    full = BODY | {"data": {"features": {"height": 1, "weight of it": 2.5, "colour": "red"}}}
    raws = [json.dumps({k: v for k, v in (full | more).items() if k not in gone}).encode() for more, gone in bodies]
    together = READER.read_all(raws, "sales")
    if together is not None:
        assert [
            decode.Request(e.id, e.subject, e.time, e.correlationid, e.traceparent, cells)
            for e, cells in zip(*together, strict=True)
        ] == [READER.read(raw, "sales") for raw in raws]
        found = matrices(together[1], LAYOUT)
        expected = matrices([decode.read(raw, "sales").features for raw in raws], LAYOUT)
        assert found[1] == expected[1]
        np.testing.assert_array_equal(found[0].numeric, expected[0].numeric)
        np.testing.assert_array_equal(found[0].categorical, expected[0].categorical)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "r-1\nr-2"},
        {"id": ""},
        {"subject": "salesmen"},
        {"time": "2026-02-29T00:00:00Z"},
        {"time": "2026-03-01T12:00:00Z\n"},
        {"data": {"features": {"height": "tall"}}},
        {"data": {"features": BODY["data"]["features"], "expires_at": "2099-01-01T00:00:00Z"}},
        {"data": {"features": BODY["data"]["features"], "expires_at": ""}},
    ],
)
def test_one_request_that_is_not_plainly_right_leaves_all_to_be_read_alone(change: dict[str, Any]) -> None:
    full = BODY | {"data": {"features": {"height": 1, "weight of it": None, "colour": "red"}}}
    fine = [full, full | {"id": "r:2", "subject": "sales/7"}, full | {"id": "r-3", "time": "2024-02-29T23:59:59+01:00"}]
    raws = [json.dumps(body).encode() for body in fine]
    plain = READER.read_all(raws, "sales")
    assert plain is not None
    assert [event.id for event in plain[0]] == ["r-1", "r:2", "r-3"]
    assert plain[1] == [(1.0, None, "red")] * 3
    assert READER.read_all([*raws, json.dumps(full | change).encode()], "sales") is None
    assert READER.read_all([*raws, b"{}" + b" " * MAX_EVENT_BYTES], "sales") is None


@given(st.lists(st.one_of(st.from_regex(decode.TIME, fullmatch=True), st.text(max_size=30)), min_size=1, max_size=3))
def test_times_judged_together_are_judged_as_each_alone(times: list[str]) -> None:
    alone = [decode.TIME.fullmatch(time) is not None and decode.exists(time) for time in times]
    assert decode.are_times(times) == all(alone)


@given(st.lists(st.one_of(st.from_regex(decode.ID, fullmatch=True), st.text(max_size=9)), min_size=1, max_size=3))
def test_ids_judged_together_are_judged_as_each_alone(ids: list[str]) -> None:
    assert decode.are_ids(ids) == all(decode.ID.fullmatch(id_) for id_ in ids)


def test_what_is_plainly_right_is_read_into_cells() -> None:
    features = {"colour": "red", "weight of it": None, "surplus": [1], "height": 3}
    raw = json.dumps(BODY | {"data": {"features": features}}).encode()
    assert READER.read(raw, "sales").features == (3.0, None, "red")


@given(st.dictionaries(keys, odd, max_size=3), st.sets(keys, max_size=2))
def test_reading_gives_a_request_or_an_invalid_event(changes: dict[str, Any], gone: set[str]) -> None:
    raw = json.dumps({k: v for k, v in (BODY | changes).items() if k not in gone}).encode()
    try:
        request = decode.read(raw, "sales")
    except InvalidEvent:
        with pytest.raises(InvalidEvent):  # nobody else would have understood it either
            if parse_as(PredictionRequested, raw).pipeline != "sales":
                raise InvalidEvent("invalid", "elsewhere") from None
        return
    assert parse_as(PredictionFailed, encode.failed(request, Refusal("no_model", None, "none"), None))


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "undecodable"),
        (b"{", "undecodable"),
        (b"[1]", "invalid"),
        (b"\xff\xfe", "undecodable"),
        (json.dumps(BODY | {"id": "../x"}).encode(), "invalid"),
        (json.dumps(BODY | {"type": "label.observed.v1"}).encode(), "invalid"),
        (json.dumps(BODY | {"subject": "other"}).encode(), "invalid"),
        (json.dumps(BODY | {"data": None}).encode(), "invalid"),
        (json.dumps(BODY | {"source": "x" * MAX_EVENT_BYTES}).encode(), "too_large"),
        (b"[" * 10_000, "undecodable"),
    ],
)
def test_what_nobody_could_be_answered_for_is_invalid(raw: bytes, code: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        decode.read(raw, "sales")
    assert caught.value.code == code


@pytest.mark.parametrize("data", [{}, {"features": None}, {"features": [1]}, {"features": {"height": [1]}}])
def test_a_sound_envelope_is_answered_whatever_it_carries(data: dict[str, Any]) -> None:
    assert decode.read(json.dumps(BODY | {"data": data}).encode(), "sales").features == data.get("features")


def test_nan_reaches_the_rules_for_rows() -> None:
    raw = json.dumps(BODY | {"data": {"features": {"height": float("nan")}}}).encode()
    assert decode.read(raw, "sales").features["height"] != decode.read(raw, "sales").features["height"]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.none() | texts.filter(bool),
    st.none() | texts.filter(bool),
    st.sampled_from([(), ("no", "yes"), (0, 1), (False, True), ('é"\\', "\n")]),
    st.lists(st.floats(0, 1, width=32), min_size=2, max_size=2),
)
def test_completed_is_what_the_contracts_would_have_written(
    root: str | None, trace: str | None, classes: tuple[Any, ...], odds: list[float]
) -> None:
    request = decode.Request("r-1", "sales/0123", "2026-03-01T12:00:00+00:00", root, trace, {})
    stamp = encode.Stamp("0123456789ab", "ba9876543210", classes)
    value = classes[1] if classes else odds[0]
    matrix = np.array([odds, odds], np.float32)
    text = encode.probability_texts(matrix)[1] if classes else None
    event = parse_as(PredictionCompleted, stamp.completed([request], [(value, text)])[0])
    assert event.id == child_id("r-1", "prediction.completed.v1", "sales/0123")
    assert (event.correlationid, event.causationid, event.traceparent) == (root or "r-1", "r-1", trace)
    cause = PredictionRequested.root(RequestedPrediction(features={}), id="r-1", subject="sales/0123", source="x")
    expected = PredictionCompleted.caused_by(
        cause,
        CompletedPrediction(
            prediction_id="r-1",
            prediction=value,
            probabilities=event.data.probabilities,
            classes=classes,
            model_version="0123456789ab",
            dataset_version="ba9876543210",
        ),
        time=event.time,
    ).model_copy(update={"correlationid": event.correlationid, "traceparent": trace})
    assert event == expected
    np.testing.assert_array_equal(np.array(event.data.probabilities, np.float32), matrix[1] if classes else [])


@given(st.none() | texts, texts, st.sampled_from([None, "0123456789ab"]))
def test_failed_is_what_the_contracts_would_have_written(field: str | None, message: str, version: str | None) -> None:
    request = decode.Request("r-1", "sales", "2026-03-01T12:00:00Z", None, None, {})
    event = parse_as(PredictionFailed, encode.failed(request, Refusal("wrong_type", field, message * 100), version))
    assert event.data == FailedPrediction(
        prediction_id="r-1", error="wrong_type", field=field, message=(message * 100)[:1000], model_version=version
    )


@given(texts.filter(bool), texts, texts)
def test_derived_ids_are_the_contracts_ids(cause: str, type_: str, subject: str) -> None:
    assert derived_id(cause, type_, subject) == child_id(cause, type_, subject)


@given(st.lists(st.tuples(texts.filter(bool), st.sampled_from(["sales", "sales/a", "ä"])), max_size=40), texts)
def test_ids_derived_together_are_the_same(pairs: list[tuple[str, str]], type_: str) -> None:
    found = derived_ids([cause for cause, _ in pairs], type_, [subject for _, subject in pairs])
    assert found == [child_id(cause, type_, subject) for cause, subject in pairs]


def test_the_same_request_gets_the_same_bytes() -> None:
    raw, stamp = json.dumps(BODY).encode(), encode.Stamp("0123456789ab", "ba9876543210", ("no", "yes"))
    first, second = (stamp.completed([decode.read(raw, "sales")], [("yes", "[0.25,0.75]")]) for _ in range(2))
    assert first == second
