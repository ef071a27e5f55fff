"""JSON Schemas: one file for every event and for every stored document that others may read."""

import json
from pathlib import PurePosixPath
from typing import Any

from pydantic import BaseModel

from tidemill_contracts.dataset import DatasetManifest
from tidemill_contracts.model import ModelManifest
from tidemill_contracts.package import PackageManifest
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.promotion import Promotion
from tidemill_contracts.registry import EVENTS
from tidemill_contracts.rollout import Trial

FOLDER = PurePosixPath("contracts/schemas")
DOCUMENTS: dict[str, type[BaseModel]] = {
    "pipeline-spec": PipelineSpec,
    "dataset-manifest": DatasetManifest,
    "model-manifest": ModelManifest,
    "package-manifest": PackageManifest,
    "promotion": Promotion,
    "trial": Trial,
}


def schema(name: str, cls: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what a reader accepts as ``cls``."""
    body = cls.model_json_schema(mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:tidemill:schema:{name}",
        **body,
    }


def files() -> dict[PurePosixPath, str]:
    """Path in the repository to text."""
    models: dict[str, type[BaseModel]] = {**EVENTS, **DOCUMENTS}
    return {
        FOLDER / f"{name}.json": json.dumps(schema(name, cls), indent=2, ensure_ascii=False) + "\n"
        for name, cls in sorted(models.items())
    }
