"""The body of a training, run in a child process. Its imports are inside, so that the parent stays small."""

import platform
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from tidemill_training.job import Job, Trained, Unfit

PRELOAD = (
    "tidemill_training.domain.search",
    "tidemill_training.domain.rows",
    "tidemill_training.domain.importance",
    "skops.io",
)


def train(job: Job, progress: Callable[[Any], None]) -> Trained | Unfit:
    """Read, search, evaluate, refit on train and validation together, explain, write ``model.skops``."""
    import numpy as np
    import pandas as pd
    import skops.io

    from tidemill_training.domain import candidates, evaluation, rows, search
    from tidemill_training.domain.importance import permutation_importance
    from tidemill_training.domain.preprocessing import assemble, frame

    progress({"stage": "started"})
    tables = {
        "train": rows.read(rows.Files(job.train, job.from_ordinal), job.since),
        "validation": rows.read(rows.Files(job.validation, job.from_ordinal), job.since),
    }
    tables = rows.newest(tables, job.newest)
    if tables["train"].num_rows < 10:
        return Unfit("too_few_rows", f"{tables['train'].num_rows} training rows are left, at least 10 are needed")
    frames = {split: rows.to_frame(table) for split, table in tables.items()}
    if not len(frames["validation"]):
        frames["validation"] = frames["train"].iloc[:0]
    numeric, categorical = list(job.numeric), list(job.categorical)
    x = {split: frame(f, numeric, categorical) for split, f in frames.items()}
    if job.task == "classification":
        codes = {label: i for i, label in enumerate(job.classes)}
        y = {split: f[job.target].map(codes).to_numpy(np.int64) for split, f in frames.items()}
        present = np.unique(y["train"])
        if len(present) < 2:
            return Unfit("one_class", f"every training row has the class {job.classes[int(present[0])]!r}")
    else:
        y = {split: f[job.target].to_numpy(np.float64) for split, f in frames.items()}
    positive = job.classes.index(job.positive) if job.positive in job.classes else max(0, len(job.classes) - 1)
    problem = search.Problem(
        job.task, x["train"], y["train"], x["validation"], y["validation"], len(numeric), len(categorical),
        len(job.classes), positive, job.metric,
    )  # fmt: skip
    budget = search.Budget(job.families, job.trials, job.seconds, job.seed, job.jobs)
    best = search.search(problem, budget, progress)

    progress({"stage": "evaluating"})
    judged = x["validation"], y["validation"]
    if not len(judged[1]):
        judged = x["train"], y["train"]
    fitted = search.fit(problem, best.family, best.parameters, budget, x["train"], y["train"])
    metrics = search.scores(fitted, problem, *judged)
    dummy = assemble("baseline", candidates.baseline(job.task), len(numeric), len(categorical))
    baseline = search.scores(dummy.fit(x["train"], y["train"]), problem, *judged)
    bins: list[tuple[float, float, int]] = []
    matrix: list[list[int]] = []
    if job.task == "classification":
        p = search.probabilities(fitted, judged[0], len(job.classes))
        bins = evaluation.calibration(judged[1], p, positive)
        matrix = evaluation.confusion(judged[1], p)

    progress({"stage": "explaining"})
    some = slice(-job.importance_rows, None)

    def score(shuffled: Any) -> float:
        found = search.scores(fitted, problem, shuffled, judged[1][some])
        return evaluation.better(job.metric, found.get(job.metric, found.get("accuracy", 0.0)))

    importances = permutation_importance(
        score, judged[0].iloc[some], repeats=3, seed=job.seed, seconds=job.importance_seconds
    )

    progress({"stage": "fitting"})
    x_all = pd.concat([x["train"], x["validation"]])
    y_all = np.concatenate([y["train"], y["validation"]])
    final = search.fit(problem, best.family, best.parameters, budget, x_all, y_all)
    if best.family == "random_forest":
        final[-1].n_jobs = None  # a fact about this machine, not about the model
    skops.io.dump(final, job.folder / "model.skops")
    progress({"stage": "storing"})
    return Trained(
        family=best.family,
        parameters=best.parameters,
        metrics=metrics,
        baseline=baseline,
        calibration=tuple(bins),
        confusion=tuple(tuple(row) for row in matrix),
        trials=best.trials,
        importances=tuple(importances),
        categories={name: tuple(sorted(v for v in x_all[name].unique() if v)) for name in categorical},
        rows={split: len(f) for split, f in frames.items()},
        environment={"python": platform.python_version()}
        | {name: version(name) for name in ("numpy", "pandas", "scikit-learn", "skops")},
    )
