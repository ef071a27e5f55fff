"""What each service may do in the bucket, as policies that AWS S3, MinIO, SeaweedFS and Ceph understand.

``python -m tidemill_shared.store_permissions BUCKET FOLDER`` writes one JSON file a user. Servers with one key for
everybody, such as the embedded one, cannot use them: there a promotion or a package that nobody signed is what is
refused.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DATASETS, _PROMOTIONS = "registry/*/datasets/*", "registry/*/promotions/*"
_TRIALS = "registry/*/trials/*"
_ANCHORS = ("registry/*/anchors/*", "golden/*")
_INBOX = ("inbox/*", "arrivals/*")
_EVENTS = "events/*"
_GOVERNOR, _MONITOR = "states/*/training.json", "states/*/monitoring.json"


@dataclass(frozen=True)
class StoreRule:
    """Keys (``*`` is any part of one) a user may read and may write. Nobody may delete."""

    user: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]


RULES = (
    StoreRule(
        "ingestion",
        ("raw/*", *_INBOX, "outcomes/*", "pipelines/*", "datasets/*", _DATASETS),
        (*_INBOX, "outcomes/*", "datasets/*", _DATASETS, _EVENTS),
    ),
    StoreRule(
        "training",
        ("pipelines/*", "datasets/*", "models/*", _DATASETS, _PROMOTIONS, _GOVERNOR),
        ("models/*", _EVENTS, _GOVERNOR),
    ),
    StoreRule("packaging", ("pipelines/*", "datasets/*", "models/*", "packages/*"), ("packages/*", _EVENTS)),
    StoreRule(
        "validation",
        ("pipelines/*", "datasets/*", "models/*", "packages/*", "reports/*", _PROMOTIONS, _TRIALS, *_ANCHORS),
        ("reports/*", _PROMOTIONS, _TRIALS, *_ANCHORS, _EVENTS),
    ),
    StoreRule(
        "serving",
        ("pipelines/*", "packages/*", "reports/*", "batches/*", "tables/*", _PROMOTIONS, _TRIALS),
        ("batches/*/results/*", "tables/*/results/*", "tables/*/answers/*", _EVENTS),
    ),
    StoreRule(
        "monitoring",
        ("pipelines/*", "packages/*", "monitoring/*", "tables/*", _PROMOTIONS, _MONITOR),
        ("raw/*", *_INBOX, "predictions/*", "monitoring/*", _EVENTS, _MONITOR),
    ),
    StoreRule("producer", ("tables/*/results/*",), ("raw/*", "batches/*/inputs/*", "tables/*/inputs/*", *_INBOX)),
    StoreRule("operator", ("*",), ("*",)),
)
"""``operator`` is the console, which declares pipelines, backs up and restores; ``producer`` uploads files of rows
and tables, and reads the answers to them."""


def policy(rule: StoreRule, bucket: str) -> dict[str, Any]:
    """The policy document of one user."""
    arn = f"arn:aws:s3:::{bucket}"
    listing = {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetBucketLocation"], "Resource": [arn]}
    statements = [listing]
    for action, keys in (("s3:GetObject", rule.reads), ("s3:PutObject", rule.writes)):
        if keys:
            actions = [action] if action == "s3:GetObject" else [action, "s3:AbortMultipartUpload"]
            statements.append({"Effect": "Allow", "Action": actions, "Resource": [f"{arn}/{key}" for key in keys]})
    return {"Version": "2012-10-17", "Statement": statements}


def files(bucket: str) -> dict[str, str]:
    """Name and content of each user's file."""
    return {f"{rule.user}.json": json.dumps(policy(rule, bucket), indent=2) + "\n" for rule in RULES}


if __name__ == "__main__":
    bucket, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files(bucket).items():
        (folder / name).write_text(content)
