"""The golden set: rows frozen in sound times, on which no challenger may be clearly worse than the anchor.

Slow poisoning needs no alarm: each challenger is a little better on the newest rows, whose labels are a little more
wrong, and after some of them the model has forgotten what was right. Frozen rows and a frozen model do not move along.
A real change of the world makes them obsolete instead; so the set does not bind
- once the champion itself, by an accepted decision, has left the world of the set,
- nor for a challenger that answers an alarm, unless the rows since show that the champion is as good as on the set.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill_validation.domain.answers import Answers
from tidemill_validation.domain.bootstrap import Difference, drawn
from tidemill_validation.domain.gate import Finding
from tidemill_validation.domain.scores import LOWER_IS_BETTER

Array = NDArray[Any]
ANCHOR = "anchor"
"""The check a sound package may fail with ``CODE``, like ``gate.BETTER``: a person may promote it all the same."""
CODE = "worse_than_anchor"
"""What a person may overrule."""
UNANSWERED = "no_golden_answers"
"""What nobody may: the model is not sound."""
RECENT = 500
"""The newest rows by which the champion is asked whether the world is as before."""
_RESAMPLES = 500
_SURE = 0.95


@dataclass(frozen=True)
class Sample:
    """Rows [n] and what a model answers."""

    y: Array
    answers: Answers


def clearly_worse(d: Difference, margin: float) -> bool:
    """The whole interval lies below 0, and the difference is more than ``margin``."""
    return d.high < 0 and d.difference < -margin


def as_before(metric: str, positive: int, before: Sample, now: Sample, share: float, seed: int) -> bool:
    """Whether one model's score on the later of two independent samples is surely at least ``share`` of that on the
    earlier one (bootstrap of both): the world is as it was. Where that cannot be shown, an alarm is believed."""
    rng = np.random.default_rng(seed)
    then, today = (drawn(metric, s.y, s.answers, positive, _RESAMPLES, rng) for s in (before, now))
    enough = today * share <= then if metric in LOWER_IS_BETTER else today >= share * then
    enough = enough[np.isfinite(then) & np.isfinite(today)]
    return bool(len(enough)) and float(enough.mean()) >= _SURE


def finding(rows: int, challenger: Difference, margin: float, *, left: bool, changed: bool) -> Finding:
    """``challenger`` against the anchor on the set. ``left``: the champion has left the set's world. ``changed``: the
    challenger answers an alarm, and nothing shows that the champion is as good as before."""
    d = challenger
    on = f"on {rows} golden rows: difference {d.difference:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"
    if left:
        return Finding(ANCHOR, True, f"the champion has left the world of the golden set, which does not bind; {on}")
    if not clearly_worse(d, margin):
        return Finding(ANCHOR, True, f"not clearly worse than the anchor {on}", d.difference, -margin)
    if changed:
        why = f"worse than the anchor {on}; but nothing shows that the champion is as good as before the alarm"
        return Finding(ANCHOR, True, why, d.difference, -margin)
    why = f"worse than the anchor {on}, and the world is as before: a person may approve it"
    return Finding(ANCHOR, False, why, d.difference, -margin, CODE)
