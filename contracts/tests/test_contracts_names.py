"""Names, keys, versions: nothing a producer sends can point outside its place."""

from datetime import UTC, datetime
from posixpath import normpath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tidemill_contracts import artifacts
from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.document import canonical_json, content_version
from tidemill_contracts.names import EVENT_ID_PATTERN, NAME_PATTERN, VERSION_PATTERN, Digest, EventId, Name, Version
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.streams import dead_letter_key, state_key, stream_key

NAMES = st.from_regex(NAME_PATTERN, fullmatch=True).map(lambda s: s.rstrip("\n"))
IDS = st.from_regex(EVENT_ID_PATTERN, fullmatch=True).map(lambda s: s.rstrip("\n"))
VERSIONS = st.from_regex(VERSION_PATTERN, fullmatch=True).map(lambda s: s.rstrip("\n"))
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
FILES = st.sampled_from(["manifest.json", "model.onnx", "train.parquet"])


@pytest.mark.parametrize("name", ["home-runs", "a", "0", "a" * 63])
def test_names(name: str) -> None:
    assert TypeAdapter(Name).validate_python(name) == name


@pytest.mark.parametrize("name", ["", "A", "-a", "a_b", "a/b", "a.b", "a\n", "a:b", "{a}", "ä", "a" * 64, ".."])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)


@pytest.mark.parametrize("text", ["", ".", "..", "../x", "a/b", "a b", "a\n", "-", "a" * 129])
def test_what_is_no_event_id(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(EventId).validate_python(text)


@pytest.mark.parametrize(
    ("kind", "text"), [(Version, "0" * 11), (Version, "G" * 12), (Digest, "0" * 63), (Digest, "A" * 64)]
)
def test_what_is_no_version_or_digest(kind: object, text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(text)


@given(pipeline=NAMES, event=IDS, version=VERSIONS, digest=DIGESTS, file=FILES, sequence=st.integers(1, 10**9))
def test_keys_stay_below_their_prefix_and_are_references(
    pipeline: str, event: str, version: str, digest: str, file: str, sequence: int
) -> None:
    hour = datetime(2026, 1, 31, 7, tzinfo=UTC)
    keys = {
        artifacts.raw_key(pipeline, digest, ".csv.gz"): f"raw/{pipeline}/",
        artifacts.inbox_key(event): "inbox/",
        artifacts.outcome_key(event): "outcomes/",
        artifacts.pipeline_key(pipeline, version): f"pipelines/{pipeline}/",
        artifacts.dataset_key(pipeline, version, file): f"datasets/{pipeline}/{version}/",
        artifacts.dataset_log_key(pipeline, sequence): artifacts.dataset_log_prefix(pipeline),
        artifacts.model_key(pipeline, version, file): f"models/{pipeline}/{version}/",
        artifacts.package_key(pipeline, version, file): f"packages/{pipeline}/{version}/",
        artifacts.report_key(pipeline, version, digest): f"reports/{pipeline}/{version}/",
        artifacts.promotion_key(pipeline, sequence): artifacts.promotions_prefix(pipeline),
        artifacts.trial_key(pipeline, sequence): artifacts.trials_prefix(pipeline),
        artifacts.prediction_log_key(pipeline, hour, digest): f"predictions/{pipeline}/date=2026-01-31/hour=07/",
        artifacts.monitoring_key(pipeline, file): f"monitoring/{pipeline}/",
    }
    for key, prefix in keys.items():
        assert key.startswith(prefix)
        assert normpath(key) == key
        assert ArtifactRef(key=key, sha256=digest, size=0).key == key


@pytest.mark.parametrize("key", ["/etc/passwd", "a/../b", "a/..", "..", "a//b", "a/", "a/./b", "a b", "a\\b", ""])
def test_a_reference_never_points_elsewhere(key: str) -> None:
    with pytest.raises(ValidationError):
        ArtifactRef(key=key, sha256="0" * 64, size=0)


@given(st.lists(st.integers(1, 10**8 - 1), min_size=2, max_size=9))
def test_the_registry_lists_in_order(sequences: list[int]) -> None:
    keys = [artifacts.promotion_key("p", n) for n in sequences]
    assert sorted(keys) == [artifacts.promotion_key("p", n) for n in sorted(sequences)]


@given(namespace=NAMES, pipeline=NAMES)
def test_what_changes_together_shares_a_slot(namespace: str, pipeline: str) -> None:
    def tag(key: str) -> str:
        return key[key.index("{") + 1 : key.index("}")]

    data = stream_key(namespace, "prediction.requested.v1", pipeline)
    assert tag(data) == tag(state_key(namespace, "monitoring", "windows", pipeline)) == f"{namespace}:{pipeline}"
    control = stream_key(namespace, "model.trained.v1")
    assert tag(control) == tag(state_key(namespace, "training", "governor")) == tag(dead_letter_key(namespace))


@given(st.lists(st.binary(max_size=8), max_size=4), st.lists(st.binary(max_size=8), max_size=4))
def test_content_versions_tell_lists_apart(a: list[bytes], b: list[bytes]) -> None:
    assert (content_version(*a) == content_version(*b)) is (a == b)


@given(st.dictionaries(st.text(max_size=5), st.integers(), max_size=5))
def test_canonical_json_does_not_depend_on_order(value: dict[str, int]) -> None:
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


def _spec(**changes: object) -> PipelineSpec:
    values: dict[str, object] = {"name": "p", "task": "classification", "target": "y", "primary": "f1"}
    return PipelineSpec.model_validate(values | changes)


def test_a_pipelines_version_is_its_content() -> None:
    assert _spec().version == _spec().version != _spec(revision=2).version
    assert PipelineSpec.from_json(_spec().to_json()) == _spec()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"primary": "rmse"}, "do not fit"),
        ({"promotion": {"goals": {"mae": 1}}}, "do not fit"),
        ({"features": [{"name": "y", "kind": "numeric"}]}, "cannot be a feature"),
        ({"features": [{"name": "x", "kind": "numeric"}] * 2}, "appears twice"),
        ({"keys": ["tidemill_row"]}, "reserved"),
        ({"split": {"train": 0.9, "validation": 0.2, "test": 0.1}}, "must be 1"),
    ],
)
def test_a_contradictory_pipeline_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        _spec(**changes)
