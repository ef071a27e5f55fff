"""A prepared version into the object store: parts, then quarantine and profile, then the manifest that names them."""

import asyncio
from importlib.metadata import version

from tidemill_contracts.artifacts import ArtifactRef, dataset_key
from tidemill_contracts.dataset import Column, DatasetManifest, Part, PreparedDataset, Profile
from tidemill_contracts.document import content_version
from tidemill_contracts.events import DataArrived
from tidemill_contracts.pipeline import DeclaredPipeline
from tidemill_ingestion.domain.job import Prepared, WrittenPart
from tidemill_ingestion.history import Head
from tidemill_shared.store import Store

_CODE_VERSION = version("tidemill-ingestion")


async def keep(
    store: Store, event: DataArrived, declared: DeclaredPipeline, source: ArtifactRef, head: Head | None, made: Prepared
) -> PreparedDataset:
    """The payload that announces the version. A crash on the way leaves objects nobody refers to, and the same
    work again writes the same ones."""
    pipeline = event.pipeline
    kept = [head.manifest.parts[number] for number in made.kept] if head else []
    digests = [part.file.sha256 for part in kept] + [part.sha256 for part in made.parts]
    version_ = content_version(declared.version, str(made.from_ordinal), *digests)

    async def put(part: WrittenPart) -> Part:
        return Part(
            split=part.split,
            file=await store.put_file(dataset_key(pipeline, version_, part.path.name), part.path),
            rows=part.rows,
            first_ordinal=part.first_ordinal,
            last_ordinal=part.last_ordinal,
            time_min=part.time_min,
            time_max=part.time_max,
            origin=event.data.origin,
        )

    async def put_quarantine() -> ArtifactRef | None:
        if made.quarantine is None:
            return None
        return await store.put_file(dataset_key(pipeline, version_, "quarantine.parquet"), made.quarantine)

    profile = Profile.model_validate(made.profile)
    new, quarantine, profiled = await asyncio.gather(
        asyncio.gather(*(put(part) for part in made.parts)),
        put_quarantine(),
        store.put_document(dataset_key(pipeline, version_, "profile.json"), profile),
    )
    manifest = DatasetManifest(
        pipeline=pipeline,
        version=version_,
        sequence=head.prepared.sequence + 1 if head else 1,
        task=declared.spec.task,
        columns=_columns(declared, made),
        classes=made.classes,
        parts=(*kept, *new),
        from_ordinal=made.from_ordinal,
        next_ordinal=made.next_ordinal,
        rows=made.rows,
        new_rows=made.new_rows,
        quarantined=made.quarantined,
        coerced=made.coerced,
        dropped=made.dropped,
        quarantine=quarantine,
        profile=profiled,
        source=source,
        spec=declared.ref,
        parent=head.prepared.manifest if head else None,
        causes=(event.id,),
        code_version=_CODE_VERSION,
    )
    ref = await store.put_document(dataset_key(pipeline, version_, "manifest.json"), manifest)
    return PreparedDataset(
        pipeline=pipeline,
        version=version_,
        sequence=manifest.sequence,
        manifest=ref,
        spec=declared.ref,
        rows=manifest.rows,
        new_rows=made.new_rows,
        quarantined=sum(made.quarantined.values()),
        origin=event.data.origin,
        time_min=min((part.time_min for part in made.parts), default=None),
        time_max=max((part.time_max for part in made.parts), default=None),
    )


def _columns(declared: DeclaredPipeline, made: Prepared) -> tuple[Column, ...]:
    spec = declared.spec
    target = Column(name=spec.target, kind="numeric" if spec.task == "regression" else "categorical", role="target")
    return (*(Column(name=f.name, kind=f.kind, role="feature") for f in made.features), target)
