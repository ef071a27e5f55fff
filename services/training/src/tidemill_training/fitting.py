"""A training from rows to model file: the domain's functions in their order. Imported in child processes only."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from tidemill_training.domain import evaluation, judging, row_sets, rows, search
from tidemill_training.domain.importance import explained
from tidemill_training.domain.model_file import to_bytes
from tidemill_training.domain.preprocessing import frame, frequent_categories
from tidemill_training.job import SEVERAL, Job, Trained, Unfit

Progress = Callable[[Any], None]
LEAST_ROWS = 20
"""Training rows, and of each of two classes one for each fold."""
LEAST_OF_A_CLASS = 3
_ROWS_FOR_THREADS = 50_000
"""Below this a second thread saves less than 0.2 s of a boosted fit, and costs as much where the cores are taken."""
_LOOK_SECONDS = 0.05


def train(job: Job, progress: Progress) -> Trained | Unfit:
    """Read, search, judge, explain, write ``model.skops``.

    Validation rows that judge are not learned from afterwards: packaging and monitoring take the error on them for the
    error in production, and a model that has seen them would make hardly any. Those too few to judge are training rows.
    """
    progress({"stage": "started"})
    train_rows, validation_rows, older_rows = _read(job)
    refused = unusable(job, train_rows)
    if refused:
        return refused
    told = _problem(job, train_rows, validation_rows)
    problem = judging.pooled(told)
    with threadpool_limits(_threads(job.jobs, len(train_rows))):
        try:
            winner = search.search(problem, search.Budget(job.families, job.trials, job.seconds), progress)
        except ValueError as error:
            return Unfit("unusable_rows", str(error)[:1000], len(train_rows))
        older = judging.Older(_layout(job, older_rows), _target(job, older_rows)) if len(older_rows) else None
        problem, winner, choice = row_sets.choose(problem, winner, older, progress)
        progress({"stage": "evaluating", "rows": choice.taken if choice else None})
        baseline = evaluation.scores(judging.judge_baseline(problem))
        progress({"stage": "explaining"})
        importances = explained(
            row_sets.learning(told, problem.older),
            winner,
            job.metric,
            rows=job.importance_rows,
            seed=job.seed,
            seconds=job.importance_seconds,
        )
        progress({"stage": "storing"})
        _write(job, winner.model)
    return Trained(
        family=winner.family,
        parameters=winner.parameters,
        threshold=winner.answers.threshold,
        judged_rows=len(winner.answers.y),
        metrics=evaluation.scores(winner.answers),
        baseline=baseline,
        calibration=tuple(evaluation.calibration(winner.answers)),
        confusion=tuple(tuple(row) for row in evaluation.confusion(winner.answers)),
        trials=winner.trials,
        importances=tuple(importances),
        categories={c: _known(problem, c) for c in job.categorical},
        choice=asdict(choice) if choice else None,
        rows={"train": len(problem.y), "validation": len(problem.y_validation)},
        environment={"python": platform.python_version()}
        | {name: version(name) for name in ("numpy", "pandas", "scikit-learn", "skops")},
        cpu_seconds=round(time.process_time(), 3),
    )


def _threads(jobs: int, rows: int) -> int:
    """OpenMP threads for a fit: no more than there are idle cores, since threads that wait for each other spin.

    Forests are not concerned: their threads do not spin.
    """
    if rows < _ROWS_FOR_THREADS or jobs == 1:
        return 1
    idle: float = (os.cpu_count() or 1) * (1 - psutil.cpu_percent(_LOOK_SECONDS) / 100)
    return max(1, min(jobs, round(idle)))


def unusable(job: Job, frame: pd.DataFrame) -> Unfit | None:
    """Why no model can be fitted on these rows: too few, of one class, or with a class nearly absent."""
    if len(frame) < LEAST_ROWS:
        return Unfit("too_few_rows", f"{len(frame)} training rows, at least {LEAST_ROWS} are needed", len(frame))
    if job.task != "classification":
        return None
    counts = {label: int((frame[job.target] == label).sum()) for label in job.classes}
    present = [label for label, count in counts.items() if count]
    if len(present) < 2:
        return Unfit("one_class", "every training row has the same class" if present else "no class", len(frame))
    plenty = sum(count >= LEAST_OF_A_CLASS for count in counts.values())
    least = 1 if len(counts) > SEVERAL and plenty >= SEVERAL else LEAST_OF_A_CLASS
    for number, (_, count) in enumerate(counts.items(), start=1):
        if count < least:  # by number: what a cell holds is not told
            why = f"class {number} of {len(counts)} has {count} training rows, at least {least} are needed"
            return Unfit("missing_class", why, len(frame))
    return None


def _read(job: Job) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Training and validation rows of the selection; and training rows before it, where they may be learned from."""
    tables = {
        split: rows.read(rows.Files(paths, job.from_ordinal), job.since)
        for split, paths in (("train", job.train), ("validation", job.validation))
    }
    tables = rows.newest(tables, job.newest)
    every = rows.Files((*job.older, *job.train), job.from_ordinal)
    if len(job.classes) > SEVERAL and len(tables["train"]):
        tables["train"] = rows.examples(every, tables["train"], job.target, job.classes, LEAST_OF_A_CLASS)
    older = rows.others(every, tables["train"]) if job.evidence and len(tables["train"]) else pa.table({})
    frames = {split: rows.to_frame(table) for split, table in tables.items()}
    empty = frames["train"].iloc[:0]
    validation = frames["validation"] if len(frames["validation"]) else empty
    return frames["train"], validation, rows.to_frame(older)


def _problem(job: Job, train_rows: pd.DataFrame, validation_rows: pd.DataFrame) -> judging.Problem:
    x = _layout(job, train_rows)
    return judging.Problem(
        task=job.task,
        metric=job.metric,
        x=x,
        y=_target(job, train_rows),
        x_validation=_layout(job, validation_rows),
        y_validation=_target(job, validation_rows),
        numeric=len(job.numeric),
        categories=frequent_categories(x, len(job.numeric)),
        classes=len(job.classes),
        positive=job.classes.index(job.positive) if job.positive in job.classes else max(0, len(job.classes) - 1),
        seed=job.seed,
        jobs=job.jobs,
        tune_threshold=job.tune_threshold,
    )


def _layout(job: Job, table: pd.DataFrame) -> pd.DataFrame:
    return frame(table, list(job.numeric), list(job.categorical))


def _known(problem: judging.Problem, column: str) -> tuple[str, ...]:
    """Categories of a column among all rows learned from, sorted."""
    older = set(problem.older.x[column]) if problem.older else set()
    return tuple(sorted(v for v in older | set(problem.x[column]) if v))


def _target(job: Job, frame: pd.DataFrame) -> Any:
    if job.task != "classification":
        return frame[job.target].to_numpy(np.float64)
    codes = {label: code for code, label in enumerate(job.classes)}
    return np.array([codes[label] for label in frame[job.target].tolist()], dtype=np.int64)


def _write(job: Job, model: Pipeline) -> None:
    if hasattr(model[-1], "n_jobs"):
        model[-1].n_jobs = None  # a fact about this machine, not about the model
    (job.folder / "model.skops").write_bytes(to_bytes(model))
