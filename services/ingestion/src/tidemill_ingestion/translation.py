"""Between the contracts' documents and the domain's plain values."""

from collections.abc import Iterable

from tidemill_contracts.dataset import ArrivedData, DatasetManifest, Reason, RejectedDataset
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_ingestion.domain.job import Feature, Policy, Refusal, Refused

_MESSAGE = 1000


def policy_of(spec: PipelineSpec) -> Policy:
    """The preparation's view of a specification."""
    return Policy(
        task=spec.task,
        target=spec.target,
        features=tuple(Feature(f.name, f.kind) for f in spec.features) if spec.features else None,
        positive=spec.positive,
        exclude=spec.exclude,
        keys=spec.keys,
        time=spec.time,
        train=spec.split.train,
        validation=spec.split.validation,
        window_rows=spec.rows.window_rows if spec.rows.keep == "sliding" else None,
        min_rows=spec.rows.min_rows,
        max_missing=spec.rows.max_missing,
    )


def fixed_features(manifest: DatasetManifest, spec: PipelineSpec) -> tuple[Feature, ...]:
    """The features that new rows of an existing dataset must have: the dataset's, or the subset of them that a
    later revision asks for. Raises Refused (breaking_schema) when a revision asks for something else."""
    target = next(column.name for column in manifest.columns if column.role == "target")
    if (spec.target, spec.task) != (target, manifest.task):
        message = (
            f"The pipeline now predicts {spec.target!r} ({spec.task}), its dataset holds {target!r} "
            f"({manifest.task}): declare it under a new name."
        )
        raise Refused("breaking_schema", message, column=spec.target)
    stored = {column.name: Feature(column.name, column.kind) for column in manifest.columns if column.role == "feature"}
    if spec.features is None:
        return tuple(stored.values())
    for feature in spec.features:
        if feature.name not in manifest.dropped and stored.get(feature.name) != Feature(feature.name, feature.kind):
            message = (
                f"The pipeline now asks for the {feature.kind} feature {feature.name!r}, which its dataset does not "
                "have: declare it under a new name."
            )
            raise Refused("breaking_schema", message, column=feature.name)
    return tuple(stored[feature.name] for feature in spec.features if feature.name in stored)


def rejected(
    pipeline: str, data: ArrivedData, refusals: Iterable[Refusal], quarantine: object = None
) -> RejectedDataset:
    """The payload of a refusal."""
    reasons = [Reason(code=r.code, message=r.message[:_MESSAGE], column=r.column, count=r.count) for r in refusals]
    return RejectedDataset.model_validate(
        {
            "pipeline": pipeline,
            "uri": data.uri,
            "sha256": data.sha256,
            "origin": data.origin,
            "reasons": reasons,
            "quarantine": quarantine,
        }
    )
