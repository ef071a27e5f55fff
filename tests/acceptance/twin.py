"""Tidemill's policy in one process: the pure domains of monitoring, training and validation, without events between.

The order of things is that of the live replay: a block of rows is answered, what became known is judged by the monitor,
then those rows are data, then the governor decides. A served model is the trained one; packaging changes nothing.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray

from tidemill_console.acceptance.outcome import Outcome
from tidemill_console.acceptance.specification import specification
from tidemill_console.acceptance.stream import Stream, moment, row_of
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_monitoring.domain.calibration import Calibration
from tidemill_monitoring.domain.findings import Degraded, Detected, Evaluated, Recovered, Resolved
from tidemill_monitoring.domain.monitor import Champion, Found, Monitor
from tidemill_monitoring.domain.outcome import Answer, AnsweredRow, LabelledRow
from tidemill_monitoring.domain.reference import Reference, categorical_column, importance_shares, numeric_column
from tidemill_monitoring.holding import Held
from tidemill_monitoring.translation import policy_of as drift_policy
from tidemill_training.domain import governor, importance, judging, row_sets, search
from tidemill_training.domain.evaluation import scores
from tidemill_training.domain.preprocessing import frame, frequent_categories
from tidemill_training.domain.state import Facts, Refusal, Run, Start, State, Trigger
from tidemill_training.governing import policy_of as retrain_policy
from tidemill_validation.domain import bootstrap, gate, golden, looks
from tidemill_validation.domain.answers import Answers

Array = NDArray[Any]
TRAIN, VALIDATION, TEST = 0, 1, 2
_GATE_ROWS = 20
_EDGES = 19
_IMPORTANCE_ROWS, _IMPORTANCE_SECONDS = 1_000, 10.0


@dataclass(frozen=True)
class Model:
    """A trained model with what the others know of it."""

    version: str
    problem: judging.Problem
    winner: search.Winner
    since: int | None
    reference: Reference
    seen: int
    """Labelled rows that were there when it was trained."""
    learned: Array
    """The rows it learned from."""

    def answer(self, x: pd.DataFrame) -> tuple[Array, Array]:
        """Class indexes [n] and probabilities [n, classes] of rows in the model's layout."""
        p = judging.answer(self.problem, self.winner.model, x)
        return p.argmax(axis=1), p


def _began(finding: Detected | Degraded) -> datetime | None:
    at = finding.began_at if isinstance(finding, Detected) else None
    return None if at is None else datetime.fromtimestamp(at, UTC)


class Twin:
    """One stream, played offline."""

    def __init__(self, stream: Stream, *, seed: int, block: int, spec: PipelineSpec | None = None) -> None:
        self.stream = stream
        self.spec = spec or specification(stream, "twin", seed, block)
        self.block = block
        # What an operator publishes besides comes after the stream's rows, with the event time it has.
        more = [stream.misled] if stream.misled else []
        self.table = pd.concat([stream.table, *(m.table for m in more)], ignore_index=True)
        self.at = np.concatenate([np.arange(len(stream)), *(np.full(len(m), m.row) for m in more)])
        self.x = frame(self.table, stream.numeric, stream.categorical)
        self.classes = stream.classes
        labels = np.concatenate([stream.labels, *(m.labels for m in more)])
        self.y = np.array([self.classes.index(v) for v in labels.tolist()], np.int64)
        self.split = np.full(len(self.y), -1, np.int8)
        self.known: list[int] = []
        self.monitor = Monitor.new(drift_policy(self.spec), Calibration())
        self.governor = State()
        self.clock = datetime(2001, 1, 1, tzinfo=UTC)
        self.champion: Model | None = None
        self.made = 0
        self.sequence = 0
        self.promoted: dict[str, Champion] = {}
        self.former: Model | None = None
        self.waiting: Model | None = None
        self.anchor: Model | None = None
        self.golden: list[int] = []
        self.withdrawn = 0
        self.unproven = True
        self.outcome = Outcome("twin", np.full(len(stream), "", dtype=object))
        self.refused: list[str] = []
        self.choices: list[row_sets.Choice] = []
        self.verdicts: list[str] = []

    def play(self) -> Outcome:
        """The whole stream."""
        begun = time.monotonic()
        self._arrive(list(range(self.stream.first)))
        self._promote(self._train(None, None))
        self._freeze()
        answered: dict[int, AnsweredRow] = {}
        before = self.stream.first
        for begin in range(self.stream.first, len(self.stream), self.block):
            self._mislead(begin)
            end = min(begin + self.block, len(self.stream))
            rows = self._answered(begin, end)
            answered |= dict(zip(range(begin, end), rows, strict=True))
            self._hear(self.monitor.answered(rows, self.promoted), end)
            known = self.stream.known(before, end)
            truths = [LabelledRow(answered.pop(i), self.classes[self.y[i]]) for i in known]
            labelled = self.monitor.counts["labelled"]
            self._hear(self.monitor.labelled(truths, float(end)), end)
            self._arrive(self._sound(known, labelled))
            starts = self._decided()
            self._look(end, len(known))
            self._begin(starts, end)
            self._note_breaker(end)
            before = end
        self.outcome.alarms.sort()
        self.outcome.refusals = {r: self.refused.count(r) for r in sorted(set(self.refused))}
        self.outcome.verdicts = {v: self.verdicts.count(v) for v in sorted(set(self.verdicts))}
        self.outcome.seconds = time.monotonic() - begun
        return self.outcome

    def _mislead(self, row: int) -> None:
        """Where an operator errs at this row: their rows are data, and the only ones they let be trained on."""
        misled = self.stream.misled
        if misled is None or misled.row != row:
            return
        self._arrive(list(range(len(self.stream), len(self.y))))
        asked = Trigger("misled", "operator", self._tick(), since=misled.moment(0), force=True)
        champion = self.champion.version if self.champion else None
        self.governor, _ = governor.admit(self.governor, asked, retrain_policy(self.spec), champion)
        self._begin(self._decided(), row)

    def _note_breaker(self, now: int) -> None:
        spells, is_open = self.outcome.breaker, self.governor.breaker_since is not None
        was_open = bool(spells) and spells[-1][1] is None
        if is_open and not was_open:
            spells.append((now, None))
        elif was_open and not is_open:
            spells[-1] = (spells[-1][0], now)

    def _arrive(self, rows: list[int]) -> None:
        """Rows become data: the oldest of an arrival train, the newest test, as ingestion splits them."""
        ordered = sorted(rows)
        rank = (np.arange(len(ordered)) + 0.5) / max(len(ordered), 1)
        policy = self.spec.split
        self.split[ordered] = np.digitize(rank, (policy.train, policy.train + policy.validation))
        self.known += ordered

    def _sound(self, rows: list[int], labelled: int) -> list[int]:
        """Rows in doubt are kept from the data; ``labelled`` rows had a label before these."""
        held = Held.load(orjson.dumps(self.monitor.held()))
        numbers = enumerate(rows, labelled + 1)
        return [row for number, row in numbers if not held.doubts(row - self.stream.first + 1, number)]

    def _answered(self, begin: int, end: int) -> list[AnsweredRow]:
        assert self.champion is not None
        labels, p = self.champion.answer(self.x.iloc[begin:end])
        self.outcome.predicted[begin:end] = [self.classes[k] for k in labels]
        classes, version = tuple(self.classes), self.champion.version
        return [
            AnsweredRow(
                str(row),
                self.stream.cells(row),
                moment(row).timestamp(),
                Answer(self.classes[labels[i]], tuple(p[i].tolist()), classes, version, "twin"),
            )
            for i, row in enumerate(range(begin, end))
        ]

    def _hear(self, found: Found, now: int) -> None:
        for _, finding in found:
            if isinstance(finding, Evaluated):
                self.verdicts.append(f"{finding.kind}:{finding.verdict}")
            if isinstance(finding, Resolved | Recovered):
                self._relieve(finding)
            if not isinstance(finding, Detected | Degraded):
                continue
            about = finding.kind if isinstance(finding, Detected) else "performance"
            if about in ("concept", "performance"):
                self.outcome.alarms.append(row_of(datetime.fromtimestamp(finding.noticed_at, UTC)))
            trigger = Trigger(
                id=f"{about}-{now}-{len(self.outcome.alarms)}",
                kind="performance" if about == "performance" else "drift",
                asked_at=self._tick(),
                about=about,
                model=finding.version,
                since=datetime.fromtimestamp(finding.noticed_at, UTC),
                began=_began(finding),
                gradual=isinstance(finding, Detected) and finding.course == "gradual",
            )
            policy = retrain_policy(self.spec)
            champion = self.champion.version if self.champion else None
            self.governor, refusal = governor.admit(self.governor, trigger, policy, champion)
            self.refused += [refusal.reason] if refusal else []
            self._begin(self._decided(), now)

    def _relieve(self, finding: Resolved | Recovered) -> None:
        refusal = None
        if isinstance(finding, Recovered) and finding.rows_to_retrain is not None:
            champion = self.champion.version if self.champion else None
            self.governor, refusal = governor.recovered(self.governor, finding.version, champion)
        elif isinstance(finding, Recovered) or finding.reason == "stable":
            about = "performance" if isinstance(finding, Recovered) else finding.kind
            self.governor, refusal = governor.resolved(self.governor, about, finding.version)
        self.refused += [refusal.reason] if refusal else []

    def _decided(self) -> list[Start]:
        facts, policy = self._facts(), retrain_policy(self.spec)
        self.governor, said = governor.settle(self.governor, policy, facts, self._tick())
        self.refused += [d.reason for d in said if isinstance(d, Refusal)]
        return [d for d in said if isinstance(d, Start)]

    def _begin(self, starts: list[Start], now: int) -> None:
        """Live through what was decided, and what that leads to."""
        while starts:
            for start in starts:
                self._retrain(start, now)
            starts = self._decided()

    def _look(self, now: int, new: int) -> None:
        """Rows that arrived after a decision judge it again."""
        champion, former = self.champion, self.former
        if champion and former and self._proves_better(former, champion, new):
            self.withdrawn += 1
            self.governor = governor.withdrawn(self.governor)
            self._promote(former)
            self.outcome.withdrawn.append((self.outcome.promotions[-1], now))
            self._note_promotion(former, now)
            self.former, self.waiting = None, None
            self.refused.append("withdrawn")
        elif champion and self.waiting and self._proves_better(self.waiting, champion, new):
            better = self.waiting
            if self._guarded(better):
                self._succeed(better, now)
        settled = champion and champion is self.champion and len(self.known) - champion.seen >= self._baked
        if champion and champion.since is not None and champion is not self.anchor and settled:
            self._freeze()

    @property
    def _baked(self) -> int:
        return self.spec.promotion.bake_rows

    def _freeze(self) -> None:
        """The champion is the anchor, and its test rows the golden set."""
        assert self.champion is not None
        self.anchor = self.champion
        self.golden = self._rows(TEST, self.champion.since, None)[-self.spec.promotion.newest_rows :]

    def _guarded(self, model: Model) -> bool:
        """Whether the golden set lets the model pass."""
        champion, anchor = self.champion, self.anchor
        assert champion is not None and anchor is not None
        if self.spec.promotion.anchor == "off":
            return True
        margin, y = self.spec.promotion.margin, self.y[self.golden]
        left = golden.clearly_worse(self._difference(champion, anchor, self.golden, 0), margin)
        changed = False
        if model.since is not None:
            rows = [row for row in self.known if self.at[row] >= model.since][-golden.RECENT :]
            before = golden.Sample(y, self._answers(champion, self.golden))
            now = golden.Sample(self.y[rows], self._answers(champion, rows))
            share, positive = self.spec.drift.recovered_share, len(self.classes) - 1
            changed = not golden.as_before(str(self.spec.primary), positive, before, now, share, 0)
        d = self._difference(model, anchor, self.golden, 0)
        found = golden.finding(len(y), d, margin, left=left, changed=changed)
        self.refused += [] if found.passed else [found.code]
        return found.passed

    def _answers(self, model: Model, rows: list[int]) -> Answers:
        return Answers(*model.answer(self.x.iloc[rows]))

    def _difference(
        self, rival: Model, champion: Model, rows: list[int], seed: int, confidence: float | None = None
    ) -> bootstrap.Difference:
        return bootstrap.compare(
            str(self.spec.primary),
            self.y[rows],
            self._answers(champion, rows),
            self._answers(rival, rows),
            len(self.classes) - 1,
            resamples=2_000,
            confidence=confidence or self.spec.promotion.confidence,
            seed=seed,
        )

    def _succeed(self, model: Model, now: int) -> None:
        self.former = self.champion
        self._promote(model)
        self.waiting = None
        settle_rows = retrain_policy(self.spec).settle_rows
        self.governor = governor.promoted(self.governor, model.version, self._tick(), settle_rows)
        self._note_promotion(model, now)

    def _note_promotion(self, model: Model, now: int) -> None:
        self.outcome.promotions.append(now)
        self.outcome.learned.append(model.learned)

    def _proves_better(self, rival: Model, champion: Model, new: int) -> bool:
        policy = self.spec.promotion
        first = max(rival.seen, champion.seen)
        now = len(self.known) - first
        if not policy.bake_rows or not looks.due(now - new, now, policy.bake_rows):
            return False
        since = max((s for s in (rival.since, champion.since) if s is not None), default=None)
        rows = [row for row in self.known[first:] if since is None or self.at[row] >= since][-policy.newest_rows :]
        return self._gains(rival, champion, rows, looks.confidence(policy.confidence, policy.bake_rows))

    def _facts(self) -> Facts:
        queued = self.governor.queued
        since = row_of(queued.since) if queued and queued.since else None
        rows = int((self.at[self.known] >= since).sum()) if since is not None else 0
        return Facts("twin", self.champion.version if self.champion else None, rows)

    def _retrain(self, start: Start, now: int) -> None:
        self.outcome.retrains.append(now)
        trigger = start.trigger
        since = row_of(trigger.since) if trigger.since else None
        run = Run(trigger.run, trigger, self._tick(), "twin")
        self.governor = governor.begin(self.governor, run)
        policy = retrain_policy(self.spec)
        model = self._train(since, start.newest)
        version = model.version if model else None
        self.governor = governor.finish(
            self.governor,
            run.id,
            self._tick(),
            model=version,
            rows_failed=model is None,
            settle_rows=policy.settle_rows,
        )
        if model is None:
            return
        if self._better(model):
            self._succeed(model, now)
        else:
            self.refused.append("gate")
            self.waiting = model if self.unproven else self.waiting
            self.governor = governor.reject(self.governor, model.version)

    def _rows(self, split: int, since: int | None, newest: int | None) -> list[int]:
        rows = [row for row in self.known if since is None or self.at[row] >= since]
        counted = [place for place, row in enumerate(rows) if self.split[row] != TEST]  # as training counts
        first = counted[-newest] if newest and len(counted) > newest else 0
        return [row for row in rows[first:] if self.split[row] == split]

    def _train(self, since: int | None, newest: int | None) -> Model | None:
        train, held = self._rows(TRAIN, since, newest), self._rows(VALIDATION, since, newest)
        if len(train) < 20 or np.bincount(self.y[train], minlength=len(self.classes)).min() < 3:
            return None
        numeric = len(self.stream.numeric)
        told = judging.Problem(
            task="classification",
            metric=str(self.spec.primary),
            x=self.x.iloc[train],
            y=self.y[train],
            x_validation=self.x.iloc[held],
            y_validation=self.y[held],
            numeric=numeric,
            categories=frequent_categories(self.x.iloc[train], numeric),
            classes=len(self.classes),
            positive=len(self.classes) - 1,
            seed=self.spec.search.seed,
            jobs=1,
            tune_threshold=True,
        )
        problem, policy = judging.pooled(told), self.spec.search
        winner = search.search(problem, search.Budget(policy.families, policy.trials, policy.seconds), lambda _: None)
        problem, winner, choice = row_sets.choose(problem, winner, self._older(train, since), lambda _: None)
        self.choices += [choice] if choice else []
        older = [row for row in self.known if self.split[row] == TRAIN] if choice and choice.taken != "since" else []
        learned = np.array(sorted({*train, *held, *older}), np.int64)
        self.made += 1
        version = f"{self.made:012x}"
        if problem is not told:
            train, held = sorted([*train, *held]), self._rows(TEST, since, newest)
        described = held if len(held) >= _GATE_ROWS else train
        answers = judging.answer(problem, winner.model, self.x.iloc[described])
        importances = importance.explained(
            row_sets.learning(told, problem.older),
            winner,
            str(self.spec.primary),
            rows=_IMPORTANCE_ROWS,
            seed=self.spec.search.seed,
            seconds=_IMPORTANCE_SECONDS,
        )
        shares = importance_shares({i.name: (i.mean, i.error) for i in importances})
        reference = self._reference(version, train, answers[:, problem.positive], winner, shares)
        return Model(version, problem, winner, since, reference, len(self.known), learned)

    def _older(self, train: list[int], since: int | None) -> judging.Older | None:
        """Training rows from before those selected, where an alarm's answer may learn from them."""
        if since is None or self.spec.retrain.rows != "evidence":
            return None
        selected = set(train)
        rows = [row for row in self.known if self.split[row] == TRAIN and row not in selected]
        return judging.Older(self.x.iloc[rows], self.y[rows]) if rows else None

    def _reference(
        self, version: str, train: list[int], answers: Array, winner: search.Winner, shares: Mapping[str, float]
    ) -> Reference:
        columns = [_numeric(c, self.table[c].to_numpy()[train], shares.get(c)) for c in self.stream.numeric]
        for name in self.stream.categorical:
            counts = self.table[name].iloc[train].value_counts()
            known = {str(k): int(v) for k, v in counts.items()}
            columns.append(categorical_column(name, len(train), 0, known, shares.get(name)))
        held = scores(winner.answers)[str(self.spec.primary)]
        return Reference(version, tuple(columns), _numeric("prediction", answers), held, len(winner.answers.y))

    def _better(self, model: Model) -> bool:
        champion = self.champion
        assert champion is not None
        since = max((s for s in (model.since, champion.since) if s is not None), default=None)
        rows = self._rows(TEST, since, None)[-self.spec.promotion.newest_rows :]
        gains = self._gains(model, champion, rows, self.spec.promotion.confidence)
        guarded = self._guarded(model)
        self.unproven = self.unproven and guarded
        return gains and guarded

    def _gains(self, rival: Model, champion: Model, rows: list[int], confidence: float) -> bool:
        """Whether the rival is significantly better; ``unproven`` says whether only evidence is missing."""
        self.unproven = True
        if len(rows) < _GATE_ROWS:
            return False
        policy = self.spec.promotion
        d = self._difference(rival, champion, rows, self.spec.search.seed, confidence)
        found = gate.replaces(d, policy.margin, champion_misses_goals=False)
        self.unproven = found.code == "no_significant_gain"
        return found.passed

    def _promote(self, model: Model | None) -> None:
        assert model is not None, "the first data set trains no model"
        self.sequence += 1
        self.champion = model
        self.promoted = {model.version: Champion(model.version, self.sequence, model.reference)}

    def _tick(self) -> datetime:
        self.clock += timedelta(seconds=1)
        return self.clock


def _numeric(name: str, values: Array, share: float | None = None) -> Any:
    known = values[~np.isnan(values)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, _EDGES + 2)[1:-1])) if len(known) else np.empty(0)
    counts = np.bincount(np.searchsorted(edges, known, side="right"), minlength=len(edges) + 1)
    missing = len(values) - len(known)
    return numeric_column(name, len(values), missing, edges.tolist(), counts.tolist(), importance=share)
