"""What two packages answer to the same rows, and by how much one is better. Imported in child processes only."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill_shared.model_bytes import check_model
from tidemill_validation.domain import bootstrap, slices
from tidemill_validation.domain.answers import Answers
from tidemill_validation.domain.package import Package
from tidemill_validation.job import Candidate, Job

Array = NDArray[Any]


def opened(job: Job, candidate: Candidate) -> Package:
    """The package, checked before a runtime reads it."""
    check_model(candidate.onnx)
    return Package(
        candidate.onnx,
        numeric=candidate.numeric,
        categorical=candidate.categorical,
        classify=job.task == "classification",
        positive=candidate.classes.index(candidate.positive) if candidate.positive in candidate.classes else None,
        threshold=candidate.threshold,
    )


def positive(job: Job) -> int:
    """The positive class among those of the rows; the last one where none is named."""
    named = job.challenger.positive
    return job.classes.index(named) if named in job.classes else max(0, len(job.classes) - 1)


def difference(job: Job, y: Array, old: Answers, new: Answers, seed: int | None = None) -> bootstrap.Difference:
    """By the primary metric, or by the mean cost where costs are stated."""
    seed = job.seed if seed is None else seed
    if job.costs is None:
        return bootstrap.compare(
            job.metric,
            y,
            old,
            new,
            positive(job),
            resamples=job.resamples,
            confidence=job.confidence,
            seed=seed,
        )
    losses = [slices.row_losses(y, answers, np.array(job.costs)) for answers in (old, new)]
    return bootstrap.of_losses(*losses, resamples=job.resamples, confidence=job.confidence, seed=seed)
