"""References to stored objects, and the only place that builds their keys."""

from datetime import date, datetime
from pathlib import PurePosixPath
from typing import Final

from pydantic import Field, field_validator

from tidemill_contracts.document import Document
from tidemill_contracts.names import Digest


class ArtifactRef(Document):
    """An object in the bucket with the digest a reader must verify before parsing it."""

    key: str = Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z0-9][A-Za-z0-9._=:/-]*$")
    sha256: Digest
    size: int = Field(ge=0)

    @field_validator("key")
    @classmethod
    def _inside(cls, key: str) -> str:
        if any(part in ("", ".", "..") for part in key.split("/")):
            raise ValueError("a key has no empty, `.` or `..` parts")
        return key

    @property
    def name(self) -> str:
        """The last part of the key."""
        return PurePosixPath(self.key).name


def raw_key(pipeline: str, sha256: str, suffix: str) -> str:
    """A raw input file; content-addressed, so that the same upload twice is one object."""
    return f"raw/{pipeline}/{sha256}{suffix}"


def inbox_key(event_id: str) -> str:
    """An accepted new-data event, written before it is acknowledged to its sender."""
    return f"inbox/{event_id}.json"


def arrival_prefix(day: date) -> str:
    """The ids accepted on a day (UTC), so that what is owed is found without listing the whole inbox."""
    return f"arrivals/date={day:%Y-%m-%d}/"


def arrival_key(day: date, event_id: str) -> str:
    """An empty document, written before the inbox entry."""
    return f"{arrival_prefix(day)}{event_id}.json"


def outcome_key(event_id: str) -> str:
    """What became of an accepted event: a dataset version or a rejection. Inbox minus outcomes is what is owed."""
    return f"outcomes/{event_id}.json"


def pipeline_key(pipeline: str, version: str) -> str:
    """One declared version of a pipeline."""
    return f"pipelines/{pipeline}/{version}.json"


def dataset_key(pipeline: str, version: str, file: str) -> str:
    """``manifest.json``, ``train|validation|test.parquet``, ``quarantine.parquet``, ``profile.json``."""
    return f"datasets/{pipeline}/{version}/{file}"


def dataset_log_key(pipeline: str, sequence: int) -> str:
    """The append-only order of a pipeline's dataset versions; the highest entry is the head."""
    return f"{dataset_log_prefix(pipeline)}{sequence:08d}.json"


def dataset_log_prefix(pipeline: str) -> str:
    """Where the order of a pipeline's datasets lies."""
    return f"registry/{pipeline}/datasets/"


def model_key(pipeline: str, version: str, file: str) -> str:
    """``manifest.json``, ``model.skops``, ``evaluation.json``, ``explanation.json``."""
    return f"models/{pipeline}/{version}/{file}"


def package_key(pipeline: str, version: str, file: str) -> str:
    """``manifest.json``, ``manifest.dsse.json``, ``model.onnx``, ``signature.json``, ``golden.json``, …"""
    return f"packages/{pipeline}/{version}/{file}"


def report_key(pipeline: str, version: str, digest: str) -> str:
    """A validation report. The digest tells apart two judgements of the same package."""
    return f"reports/{pipeline}/{version}/validation-{digest[:12]}.json"


def promotion_key(pipeline: str, sequence: int) -> str:
    """One entry of the promotion registry; the highest is the champion."""
    return f"{promotions_prefix(pipeline)}{sequence:08d}.json"


def promotions_prefix(pipeline: str) -> str:
    """Where a pipeline's promotions lie."""
    return f"registry/{pipeline}/promotions/"


def trial_key(pipeline: str, sequence: int) -> str:
    """One entry of the log of rollouts; the highest says what is being tried."""
    return f"{trials_prefix(pipeline)}{sequence:08d}.json"


def trials_prefix(pipeline: str) -> str:
    """Where a pipeline's rollouts lie."""
    return f"registry/{pipeline}/trials/"


def anchor_key(pipeline: str, sequence: int) -> str:
    """One entry of the anchors; the highest is the present one."""
    return f"{anchors_prefix(pipeline)}{sequence:08d}.json"


def anchors_prefix(pipeline: str) -> str:
    """Where a pipeline's anchors lie."""
    return f"registry/{pipeline}/anchors/"


def golden_key(pipeline: str, sha256: str) -> str:
    """A golden set: frozen labelled rows; content-addressed, so that later data cannot change it."""
    return f"golden/{pipeline}/{sha256}.parquet"


EVENT_LOG_PREFIX: Final = "events/"
"""Where the archive of the control plane's events lies."""


def event_log_key(day: date, type_: str, first: str, last: str) -> str:
    """A part of a stream's archive, from its first entry to its last; parts may overlap after a crash."""
    return f"{EVENT_LOG_PREFIX}date={day:%Y-%m-%d}/{type_}/{first}_{last}.jsonl.gz"


def prediction_log_key(pipeline: str, hour: datetime, digest: str) -> str:
    """A part of the prediction log, by event time."""
    return f"predictions/{pipeline}/date={hour:%Y-%m-%d}/hour={hour:%H}/{digest[:16]}.parquet"


def monitoring_key(pipeline: str, file: str) -> str:
    """The monitor's own objects."""
    return f"monitoring/{pipeline}/{file}"


def state_copy_key(namespace: str, pipeline: str, service: str) -> str:
    """The latest copy of what a service keeps of a pipeline in Redis. The one key that is written again and again."""
    return f"states/{namespace}/{pipeline}/{service}.json"


def batch_input_key(pipeline: str, sha256: str, suffix: str) -> str:
    """A file to score; content-addressed."""
    return f"batches/{pipeline}/inputs/{sha256}{suffix}"


def table_inputs_prefix(pipeline: str) -> str:
    """Below it lie the large tables of a pipeline that may be asked for."""
    return f"tables/{pipeline}/inputs/"


def table_input_key(pipeline: str, sha256: str) -> str:
    """A large table to answer; content-addressed."""
    return f"{table_inputs_prefix(pipeline)}{sha256}.arrow"


def table_result_key(pipeline: str, sha256: str) -> str:
    """The answers to a large table; content-addressed."""
    return f"tables/{pipeline}/results/{sha256}.arrow"


def table_answer_key(pipeline: str, event_id: str) -> str:
    """Which result answered the request of this id: the first that did."""
    return f"tables/{pipeline}/answers/{event_id}.json"


def batch_key(pipeline: str, batch: str, file: str) -> str:
    """``plan.json``, ``part-00000.parquet`` and ``part-00000.json`` for each part, ``manifest.json``."""
    return f"batches/{pipeline}/results/{batch}/{file}"
