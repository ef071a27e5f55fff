"""What is promised is judged by the figures: each planted violation is found, and nothing else is."""

from typing import Any

import pytest

from tidemill_console.acceptance.targets import TARGETS, Kind, judged

GOOD: dict[str, Any] = {
    "score": 0.9,
    "last_quarter": 0.9,
    "recovered_share": [0.95, 1.02],
    "detected_after": [31, 1_000],
    "retrains": 0,
    "retrains_a_change": [2, 0],
    "verdicts": {"data:stable": 24, "concept:stable": 24, "concept:insufficient_data": 900},
    "unanswered": 0,
    "poisoned_promotions": [],
    "rolled_back_after": [1_000],
    "breaker": [[6_000, 7_000], [8_000, None]],
}
POISONED = [{"row": 7_000, "rows": 900, "wrong": 3}]


def row(policy: str = "tidemill", seed: int = 1, **changes: Any) -> dict[str, Any]:
    return {"policy": policy, "stream": f"s-{seed}", **GOOD, **changes}


def found(kind: Kind, *ours: dict[str, Any], **periodic: Any) -> dict[str, dict[str, Any]]:
    seeds = range(1, len(ours) + 1)
    rows = [r | {"stream": f"s-{seed}"} for seed, r in zip(seeds, ours, strict=True)]
    others = [row(policy, seed, **periodic) for seed in seeds for policy in ("twin", "periodic")]
    return judged(kind, rows, [*rows, *others])


@pytest.mark.parametrize("kind", TARGETS)
def test_good_figures_meet_every_target(kind: Kind) -> None:
    said = found(kind, row(), row())
    assert set(said) == {target.name for target in TARGETS[kind]}
    assert [name for name, verdict in said.items() if verdict["met"] is not True] == []


@pytest.mark.parametrize(
    ("kind", "target", "planted", "worst"),
    [
        ("abrupt", "recovered_share", {"recovered_share": [1.0, 0.9499]}, 0.9499),
        ("abrupt", "detected_after", {"detected_after": [1_001, 31]}, 1_001),
        ("abrupt", "detected_after", {"detected_after": [31, None]}, None),
        ("abrupt", "retrains_a_change", {"retrains_a_change": [0, 3]}, 3),
        ("gradual", "last_quarter_of_periodic", {"last_quarter": 0.87}, 0.9667),
        ("control", "retrains", {"retrains": 1}, 1),
        ("control", "drift_verdicts_in_200_windows", {"verdicts": {"data:stable": 22, "data:drift": 2}}, 2),
        ("poisoned", "poisoned_promotions", {"poisoned_promotions": POISONED}, 1),
        ("unlearnable", "breaker_open", {"breaker": []}, 0),
        ("unlearnable", "breaker_open", {"breaker": [[6_000, 7_000]]}, 0),
        ("unlearnable", "retrains", {"retrains": 25}, 25),
        ("misled", "rolled_back_after", {"rolled_back_after": [1_001]}, 1_001),
        ("misled", "rolled_back_after", {"rolled_back_after": [None]}, None),
        ("unknown", "unanswered", {"unanswered": 1}, 1),
        ("unknown", "from_twin", {"score": 0.911}, 0.011),
    ],
)
def test_a_planted_violation_is_found_in_one_seed_of_two(
    kind: Kind, target: str, planted: dict[str, Any], worst: float | None
) -> None:
    said = found(kind, row(), row(**planted))
    assert [name for name, verdict in said.items() if not verdict["met"]] == [target]
    assert (said[target]["worst"], said[target]["short"]) == (worst, 1)


def test_who_is_behind_the_best_of_the_others_by_more_than_a_hundredth_falls_short() -> None:
    assert found("unknown", row(), score=0.91)["behind_the_best"]["met"] is True
    said = found("unknown", row(score=0.8989), score=0.91)["behind_the_best"]
    assert (said["met"], said["worst"], said["bound"]) == (False, 0.0111, 0.01)


def test_a_twin_is_no_rival_and_the_others_are_asked_what_can_be_asked_of_them() -> None:
    twin, static = row("twin", score=0.95), row("static", score=0.8, recovered_share=[0.5], detected_after=[None])
    rows = [row(), twin, static]
    assert judged("unknown", rows[:1], rows)["behind_the_best"]["worst"] == -0.1
    said = judged("abrupt", [static], rows)
    assert set(said) == {"recovered_share", "retrains_a_change", "unanswered", "behind_the_best"}
    assert (said["recovered_share"]["met"], said["behind_the_best"]["worst"]) == (False, 0.15)


def test_drift_verdicts_are_counted_over_the_windows_of_all_seeds() -> None:
    calm, alarmed = {"data:stable": 100, "concept:stable": 99}, {"data:stable": 99, "data:drift": 1}
    said = found("control", row(verdicts=calm), row(verdicts=alarmed), row(verdicts=alarmed))
    assert said["drift_verdicts_in_200_windows"]["worst"] == pytest.approx(1.3333)
    many = found("control", *[row(verdicts=calm)] * 4, row(verdicts=alarmed), row(verdicts=alarmed))
    assert many["drift_verdicts_in_200_windows"]["met"] is True


def test_what_was_not_recorded_is_neither_met_nor_short() -> None:
    old = {k: v for k, v in row().items() if k not in ("breaker", "poisoned_promotions")}
    for kind, target in (("poisoned", "poisoned_promotions"), ("unlearnable", "breaker_open")):
        said = judged(kind, [old], [old, row("periodic")])  # type: ignore[arg-type]
        assert (said[target]["met"], said[target]["of"]) == (None, 0)
