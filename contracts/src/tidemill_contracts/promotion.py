"""Validation, promotion, deployment."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.dataset import Reason
from tidemill_contracts.document import Document
from tidemill_contracts.names import EventId, Name, Version
from tidemill_contracts.pipeline import ColumnName, Metric


class Check(Document):
    """One gate's finding."""

    name: str
    passed: bool
    message: str
    value: float | None = None
    bound: float | None = None


class Comparison(Document):
    """Champion against challenger on the same newest rows (paired bootstrap, Efron & Tibshirani 1993)."""

    champion: Version
    rows: int
    metric: Metric | Literal["cost"]
    champion_score: float
    challenger_score: float
    difference: float
    """Challenger minus champion, sign turned so that positive is better."""
    low: float
    high: float
    confidence: float
    resamples: int


class ValidationReport(Document):
    """The judgement on a package."""

    kind: Literal["validation"] = "validation"
    pipeline: Name
    version: Version
    package: ArtifactRef
    dataset: ArtifactRef
    passed: bool
    promote: bool
    rows: int
    metrics: dict[str, float]
    checks: tuple[Check, ...]
    comparison: Comparison | None = None
    against: Version | None = None
    """The champion when it was written; it proves nothing against a later one."""
    reasons: tuple[Reason, ...] = ()
    causes: tuple[EventId, ...]
    seed: int
    code_version: str


class ValidatedModel(Document):
    """Payload of ``model.validated``: good enough to serve. Promotion follows unless a person must approve."""

    pipeline: Name
    version: Version
    manifest: ArtifactRef
    report: ArtifactRef
    metrics: dict[str, float]
    approval: Literal["automatic", "person"]


class RejectedModel(Document):
    """Payload of ``model.rejected``."""

    pipeline: Name
    version: Version
    manifest: ArtifactRef
    report: ArtifactRef
    reasons: tuple[Reason, ...] = Field(min_length=1)


class ApprovedModel(Document):
    """Payload of ``model.approved``: a person lets a validated model become champion."""

    version: Version
    by: str = Field(max_length=200)
    note: str = Field(default="", max_length=500)
    signature: str | None = Field(default=None, max_length=128)
    """Base64 of the operator's Ed25519 signature over the request."""


class RequestedRollback(Document):
    """Payload of ``rollback.requested``: return to an older promoted model."""

    version: Version | None = None
    """None: the model that was champion before the present one."""
    by: str = Field(max_length=200)
    reason: str = Field(default="", max_length=500)
    signature: str | None = Field(default=None, max_length=128)
    """Base64 of the operator's Ed25519 signature over the request."""


class RequestedAnchor(Document):
    """Payload of ``anchor.requested``: the present champion is what later ones are measured by."""

    version: Version | None = None
    """The champion that is meant; when it is another one meanwhile, nothing is done. A request that names none, or no
    anchor, is refused."""
    anchor: int | None = Field(default=None, ge=0)
    """Number of entries in the log of anchors, 0 for none; when another one has followed meanwhile, nothing is done."""
    since: datetime | None = None
    """Only test rows from then on belong to the golden set; None: those the champion was judged by."""
    by: str = Field(max_length=200)
    reason: str = Field(default="", max_length=500)
    signature: str | None = Field(default=None, max_length=128)
    """Base64 of the operator's Ed25519 signature over the request."""


class Anchor(Document):
    """One entry of the append-only anchors: a model, and the frozen rows on which no challenger may be clearly worse
    than it. The highest sequence is the present one."""

    kind: Literal["anchor"] = "anchor"
    pipeline: Name
    sequence: int = Field(ge=1)
    version: Version
    manifest: ArtifactRef
    """The package manifest of the model."""
    attestation: ArtifactRef
    golden: ArtifactRef
    """The golden set."""
    rows: int = Field(ge=1)
    target: ColumnName
    reason: str
    cause: EventId
    anchored_at: datetime
    signature: str | None = Field(default=None, max_length=128)
    """Base64 of validation's Ed25519 signature over everything else. Readers refuse an entry without it."""


class AnchoredModel(Document):
    """Payload of ``model.anchored``."""

    pipeline: Name
    version: Version
    sequence: int
    anchor: ArtifactRef
    golden: ArtifactRef
    rows: int
    reason: str


class Promotion(Document):
    """One entry of the append-only registry; the highest sequence is the champion."""

    kind: Literal["promotion", "rollback"] = "promotion"
    pipeline: Name
    sequence: int = Field(ge=1)
    version: Version
    manifest: ArtifactRef
    """The package manifest."""
    attestation: ArtifactRef
    report: ArtifactRef
    previous: Version | None = None
    withdrawn: Version | None = None
    """The champion that proved worse than the one before it; it is not promoted again."""
    reason: str
    cause: EventId
    promoted_at: datetime
    signature: str | None = Field(default=None, max_length=128)
    """Base64 of validation's Ed25519 signature over everything else. Readers refuse an entry without it."""


class PromotedModel(Document):
    """Payload of ``model.promoted``."""

    pipeline: Name
    version: Version
    sequence: int
    kind: Literal["promotion", "rollback"]
    promotion: ArtifactRef
    manifest: ArtifactRef
    attestation: ArtifactRef
    previous: Version | None = None
    withdrawn: Version | None = None
    """The champion that proved worse than the one before it; it is not promoted again."""
    reason: str


class DeployedModel(Document):
    """Payload of ``model.deployed``: this very digest is loaded and answered its golden requests."""

    pipeline: Name
    version: Version
    sequence: int
    manifest: ArtifactRef
    instance: str
    seconds: float
