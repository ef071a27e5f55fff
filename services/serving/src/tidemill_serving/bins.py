"""Bins for the values a regression answers with."""

import math

from pydantic import ValidationError

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.package import PackageManifest, Reference
from tidemill_serving.loading import Loaded
from tidemill_shared.store import Store


async def edges_of(store: Store, loaded: Loaded) -> tuple[float, ...]:
    """Quantiles of the model's own answers in training, the same on every replica; none for a classifier. A package
    that does not tell them has one bin for all."""
    if loaded.model.task != "regression":
        return ()
    return await _edges(store, loaded.manifest) or (math.inf,)


async def _edges(store: Store, manifest: ArtifactRef) -> tuple[float, ...]:
    package = await store.document(manifest, PackageManifest)
    try:
        reference = await store.document(package.files["reference.json"], Reference)
    except (KeyError, ValidationError):
        return ()
    histogram = reference.prediction.histogram
    return tuple(histogram.edges) if histogram else ()
