"""The page: everything that happened is on it, nothing foreign gets in, nothing else is needed to read it."""

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

from tidemill_console.report.chart import VERDICTS, draw
from tidemill_console.report.page import page
from tidemill_console.report.timeline import Timeline
from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.drift import (
    BrokenData,
    DetectedDrift,
    EstimatedPerformance,
    EvaluatedDrift,
    MeasuredPerformance,
    RecoveredPerformance,
    Statistic,
    Window,
)
from tidemill_contracts.envelope import Event
from tidemill_contracts.events import (
    DataBroken,
    DriftDetected,
    DriftEvaluated,
    ModelPromoted,
    PerformanceMeasured,
    PerformanceRecovered,
    RetrainSuppressed,
)
from tidemill_contracts.model import SuppressedRetrain
from tidemill_contracts.promotion import PromotedModel

START = datetime(2026, 5, 1, tzinfo=UTC)
OLD, NEW = "0" * 11 + "a", "0" * 11 + "b"
NASTY = '<script>alert("x")</script>'


def at(minute: int, cls: Any, data: Any, pipeline: str = "spins") -> Event[Any]:
    made: Event[Any] = cls.root(data, subject=pipeline, source="urn:test", time=START + timedelta(minutes=minute))
    return made


def measured(minute: int, score: float | None) -> Event[Any]:
    estimated = EstimatedPerformance(metric="f1", value=0.8, rows=100, method="confidence", calibration_rows=50)
    window = Window(rows=100, first=minute * 10 + 1, last=minute * 10 + 100)
    facts = {"standard_error": 0.02, "labelled": 90, "coverage": 0.9, "complete": False, "estimated": estimated}
    return at(
        minute,
        PerformanceMeasured,
        MeasuredPerformance(model_version=OLD, metric="f1", score=score, window=window, **facts),
    )


def history() -> list[Event[Any]]:
    test = Statistic(
        name=NASTY, test="psi", statistic=0.4, threshold=0.1, reference_rows=9, current_rows=9, verdict="drift"
    )
    window = Window(rows=100, first=1, last=100, late=3)
    ref = ArtifactRef(key="packages/spins/manifest.json", sha256="0" * 64, size=1)
    promoted = PromotedModel(
        pipeline="spins",
        version=NEW,
        sequence=2,
        kind="promotion",
        promotion=ref,
        manifest=ref,
        attestation=ref,
        reason="b",
    )
    detected = DetectedDrift(
        kind="concept", model_version=OLD, noticed_at=START, noticed_row=220, began_row=190, window=window,
        evidence=(test,), course="gradual",
    )  # fmt: skip
    broken = BrokenData(
        kind="unit_changed", column="x", first=1, noticed_row=32, noticed_at=START, share=1.0, rows=32, message=NASTY
    )
    verdicts = [
        at(m, DriftEvaluated, EvaluatedDrift(
            kind="data", model_version=OLD, verdict=v, window=window, statistics=(test,), correction="bh"
        ))
        for m, v in enumerate(VERDICTS)
    ]  # fmt: skip
    recovered = RecoveredPerformance(
        model_version=NEW, metric="f1", score=0.9, baseline=0.88, rows_to_detect=30, rows_to_retrain=400, seconds=12.0
    )
    refused = SuppressedRetrain(trigger="drift", reason="cool_down", message="cooling down", queued=True)
    return [
        *verdicts,
        measured(5, 0.9),
        measured(6, None),
        at(7, DataBroken, broken),
        at(8, DriftDetected, detected),
        at(8, RetrainSuppressed, refused),
        measured(9, 0.6),
        at(10, ModelPromoted, promoted),
        at(11, PerformanceRecovered, recovered),
        at(12, DriftDetected, detected, "other"),
    ]


def test_everything_of_the_pipeline_is_told_and_nothing_of_others() -> None:
    timeline = Timeline.of("spins", "f1", history())
    assert [p.value for p in timeline.points] == [0.9, 0.6]
    assert [c.verdict for c in timeline.verdicts["data"]] == list(VERDICTS)
    assert [h.what for h in timeline.happenings] == ["broken data", "drift", "no training", "promotion", "recovered"]
    assert "gradual, noticed at row 220, began at row 190" in timeline.happenings[1].details
    assert timeline.count("drift") == 1


def test_the_picture_is_well_formed_and_shows_each_thing_once() -> None:
    timeline = Timeline.of("spins", "f1", history())
    picture = ElementTree.fromstring(draw(timeline))  # noqa: S314 - our own picture
    tags = [element.tag for element in picture.iter()]
    assert tags.count("circle") == 2
    assert tags.count("rect") == 4
    assert len([e for e in picture.iter("path") if e.get("class") == "mark"]) == 4
    numbers = [float(n) for e in picture.iter() for n in re.findall(r"-?\d+\.\d+", e.get("points") or e.get("d") or "")]
    assert all(0 <= n <= 1_060 for n in numbers)


class Tags(HTMLParser):
    """Which tags and addresses a page holds."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_needs_nothing_else_and_runs_nothing() -> None:
    text = page(Timeline.of("spins", "f1", history()), START)
    tags = Tags()
    tags.feed(text)
    assert tags.links == []
    assert "script" not in tags.seen
    assert text.count("&lt;script&gt;") >= 2
    assert "default-src &#x27;none&#x27;" in text or "default-src 'none'" in text
    for words in ("cooling down", "400", "rows to retrain", "unit_changed", NEW):
        assert words in text


def test_a_pipeline_without_history_has_a_page_too() -> None:
    text = page(Timeline.of("spins", "f1", []), START)
    assert "No window has closed yet." in text
    assert "Nothing yet." in text
