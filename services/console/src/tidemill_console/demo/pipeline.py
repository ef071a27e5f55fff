"""The use case: will a player hit ten or more home runs this season?"""

from tidemill_console.demo.seasons import FEATURES, TARGET
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

SPEC = PipelineSpec(
    name="home-runs",
    description="Ten or more home runs this season, of players with at least 50 at-bats",
    task="classification",
    target=TARGET,
    positive=1,
    primary="f1",
    features=tuple(Feature(name=name, kind="numeric") for name in FEATURES),
    exclude=("player", "season", "stint"),
    keys=("player", "season", "stint"),
    time="played",
    # A fifth of each season is kept for the judge: right after a change there is little else to judge by.
    split=SplitPolicy(train=0.7, validation=0.1, test=0.2),
    rows=RowPolicy(min_rows=200),
    search=SearchPolicy(families=("hist_gradient_boosting", "linear"), trials=3, seconds=10, seed=7),
    # Old rows hurt after a change: a training waits until enough have come since the alarm, and takes only those. A
    # second answer with more rows (settle_rows) was refused by the gate each time here.
    retrain=RetrainPolicy(triggers=("concept",), min_rows=300, settle_rows=0, cool_down_seconds=5),
    promotion=PromotionPolicy(confidence=0.8, newest_rows=1_000),
    drift=DriftPolicy(window_rows=500, error_delta=0.05, feedback_rows=500, feedback_seconds=0.5),
)
