"""Rollouts: a challenger that passed the gate works beside the champion before it takes its place."""

from datetime import datetime
from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, model_validator

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.document import Document
from tidemill_contracts.names import EventId, Name, Version

Stage = Literal["shadow", "canary", "finished", "abandoned"]
DURATION_STEP = 1.25
"""Each bin of durations reaches so many times further than the one before; bin 0 ends at a microsecond."""


class RolloutPolicy(Document):
    """How a challenger that passed the gate takes the champion's place. Without ``shadow`` and ``canary`` it does so
    at once."""

    shadow: bool = False
    """First it answers the same requests in silence, into a stream of its own."""
    canary: tuple[float, ...] = ()
    """Then it answers these shares of the requests, one after the other, for example ``[0.05, 0.25, 0.5]``."""
    bake_rows: int = Field(default=500, ge=1)
    """Rows the challenger answers in a step before the next one."""
    bake_seconds: float = Field(default=0.0, ge=0)
    """A step lasts at least so long."""
    max_errors: float = Field(default=0.01, ge=0, le=1)
    """Share of rows it may fail beyond the champion's."""
    max_slowdown: float = Field(default=3.0, ge=1)
    """Its median time of a call may be so many times the champion's; a millisecond more is always allowed."""
    max_distance: float | None = Field(default=0.3, gt=0, le=1)
    """Total variation between the two models' predictions, noise taken off: at least this share of the rows would be
    answered otherwise. None: a new model may answer as it likes."""

    watch_rows: int = Field(default=0, ge=0)
    """Rows after a promotion, however it came about, in which the model before comes back when the new one fails, slows
    down or answers otherwise beyond the limits above; 0: none."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if not all(0 < share < 1 for share in self.canary) or any(a >= b for a, b in pairwise(self.canary)):
            raise ValueError("rollout.canary: shares must rise, each above 0 and below 1")
        return self

    @property
    def stages(self) -> tuple[tuple[Stage, float], ...]:
        """Stages with their shares, in order."""
        canary: tuple[tuple[Stage, float], ...] = tuple(("canary", share) for share in self.canary)
        return (("shadow", 0.0), *canary) if self.shadow else canary


class Observation(Document):
    """What one model did since a stage began."""

    version: Version
    rows: int = Field(default=0, ge=0)
    failed: int = Field(default=0, ge=0)
    """Rows without an answer."""
    calls: dict[str, int] = Field(default_factory=dict)
    """Calls by duration: bin ``k`` ends at 1.25 to the power of k microseconds."""
    routes: dict[str, dict[str, int]] = Field(default_factory=dict)
    """The same apart by how the rows came: ``stream`` (a call is a batch) or ``http`` (a request's share of a call)."""
    answers: dict[str, int] = Field(default_factory=dict)
    """Rows by prediction: a class as text, or the number of a value's bin."""


class ObservedRollout(Document):
    """Payload of ``rollout.observed``: what one serving process has counted since the stage began."""

    trial: int = Field(default=0, ge=0)
    """Sequence number of the entry that began the stage; 0: a promotion is watched."""
    promotion: int | None = Field(default=None, ge=1)
    """Sequence number of the promotion that is watched: the model before is then the champion here, and the promoted
    one the challenger."""
    run: str = Field(min_length=1, max_length=128)
    """The process; its later counts replace its earlier ones."""
    champion: Observation
    challenger: Observation
    problem: str = Field(default="", max_length=1000)
    """Why the challenger cannot be loaded there, if so."""


class Evidence(Document):
    """What a decision rests on."""

    rows: int
    """By the challenger."""
    failed: int
    champion_rows: int
    champion_failed: int
    milliseconds: float | None = None
    """Median of a call, on the route (stream or HTTP) on which both models had the most."""
    champion_milliseconds: float | None = None
    distance: float | None = None
    """Total variation between the predictions, noise taken off."""


class Trial(Document):
    """One entry of the append-only log of rollouts; the highest says what is being tried."""

    kind: Literal["trial"] = "trial"
    pipeline: Name
    sequence: int = Field(ge=1)
    stage: Stage
    share: float = Field(default=0.0, ge=0, le=1)
    """Of requests that the challenger answers."""
    step: int = Field(default=0, ge=0)
    """Number of the stage in the policy it began with."""
    version: Version
    manifest: ArtifactRef
    """The challenger's package manifest."""
    attestation: ArtifactRef
    report: ArtifactRef
    against: Version
    """The champion; beside another one the trial is over."""
    reason: str
    refused: bool = False
    """Abandoned because the challenger proved bad; it is not promoted again."""
    evidence: Evidence | None = None
    cause: EventId
    decided_at: datetime
    signature: str | None = Field(default=None, max_length=128)
    """Base64 of validation's Ed25519 signature over everything else. Readers refuse an entry without it."""

    @property
    def over(self) -> bool:
        """Whether nothing is tried any more."""
        return self.stage in ("finished", "abandoned")


class RequestedTrial(Document):
    """Payload of ``trial.requested``: what a person wants of the trial that is under way."""

    action: Literal["advance", "promote", "end"]
    """``advance``: the next stage now, or after the last one the promotion; ``promote``: at once; ``end``: no more."""
    trial: int = Field(ge=1)
    """Sequence number of the entry that is meant; when another one has followed meanwhile, nothing is done."""
    refuse: bool = False
    """With ``end``: the challenger is not promoted or tried again."""
    by: str = Field(max_length=200)
    reason: str = Field(default="", max_length=500)
    signature: str | None = Field(default=None, max_length=128)
    """Base64 of the operator's Ed25519 signature over the request."""


class ChangedRollout(Document):
    """Payload of ``rollout.changed``: a trial began, went on to its next stage, or ended."""

    pipeline: Name
    version: Version
    against: Version
    sequence: int
    stage: Stage
    share: float
    trial: ArtifactRef
    reason: str
    evidence: Evidence | None = None
