"""The pipeline a stream is played through."""

from tidemill_console.acceptance.stream import TRAIN, Stream, label_of
from tidemill_contracts.pipeline import (
    DriftPolicy,
    Feature,
    PipelineSpec,
    PromotionPolicy,
    RetrainPolicy,
    RowPolicy,
    SearchPolicy,
    SplitPolicy,
)

TARGET = "truth"
TIME, KEY = "at", "row"
FEEDBACK_SECONDS = 1.0
"""A block's rows are to be one arrival, also where a busy machine takes its time over them; fewer wait so long."""


def specification(stream: Stream, name: str, seed: int, block: int) -> PipelineSpec:
    """The product's defaults, but for what a replay needs: no waiting by the clock, since its clock is the row. An
    operator who is to mislead it has also taken away the golden set, which would have seen it."""
    numeric = [Feature(name=c, kind="numeric") for c in stream.numeric]
    return PipelineSpec(
        name=name,
        task=stream.task,
        target=TARGET,
        primary="accuracy" if stream.classifies else "rmse",
        features=(*numeric, *(Feature(name=c, kind="categorical") for c in stream.categorical)),
        keys=(KEY,),
        exclude=(KEY,),
        time=TIME,
        unknown_categories="accept",
        split=SplitPolicy(train=TRAIN, validation=0.1, test=0.2),
        rows=RowPolicy(min_rows=100),
        search=SearchPolicy(families=("hist_gradient_boosting", "linear"), trials=3, seconds=30, seed=seed),
        retrain=RetrainPolicy(cool_down_seconds=0),
        promotion=PromotionPolicy(anchor="off" if stream.misled else "automatic"),
        drift=DriftPolicy(feedback_rows=block, feedback_seconds=FEEDBACK_SECONDS),
    )


def rehearsal(stream: Stream, spec: PipelineSpec, block: int) -> PipelineSpec:
    """A pipeline's own settings on a stream of its rows: as above, but a person is not waited for either."""
    numeric = [Feature(name=c, kind="numeric") for c in stream.numeric]
    changes = {
        "name": f"drill-{spec.name}"[:63].rstrip("-"),
        "revision": 1,
        "target": TARGET,
        "positive": None if spec.positive is None else label_of(spec.positive),
        "features": (*numeric, *(Feature(name=c, kind="categorical") for c in stream.categorical)),
        "keys": (KEY,),
        "exclude": (KEY,),
        "time": TIME,
        "retrain": spec.retrain.model_copy(update={"mode": "auto", "cool_down_seconds": 0, "every_seconds": None}),
        "promotion": spec.promotion.model_copy(update={"approval": "automatic"}),
        "drift": spec.drift.model_copy(
            update={"feedback": True, "feedback_rows": block, "feedback_seconds": FEEDBACK_SECONDS}
        ),
    }
    return PipelineSpec.model_validate(spec.model_copy(update=changes).model_dump())
