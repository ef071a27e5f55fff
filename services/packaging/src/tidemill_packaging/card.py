"""The model card: what a person should know before using the model (Mitchell et al. 2019), from the manifest alone."""

from tidemill_contracts.model import ModelManifest, RowSet
from tidemill_contracts.package import Parity

_OLDER: dict[RowSet, str] = {
    "since": "",
    "newest": " and as many of the newest older ones",
    "all": " and all older ones",
    "weighted": " and all older ones, weighted by age",
}


def model_card(model: ModelManifest, parity: Parity, warnings: tuple[str, ...] = ()) -> str:
    """Markdown."""
    since = f"rows since {model.selection.since:%Y-%m-%d}" if model.selection.since else "all rows"
    since += _OLDER[model.row_choice.taken] if model.row_choice else ""
    metrics = "\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(model.metrics.items()))
    features = ", ".join(f"`{f.name}` ({f.kind})" for f in model.features)
    classes = f"Classes: {', '.join(map(str, model.classes))}.\n" if model.classes else ""
    notes = "".join(f"\nNote: {warning}.\n" for warning in warnings)
    return f"""# {model.pipeline} {model.version}

Predicts `{model.target}` ({model.task}). {classes}
Family: {model.family}. Trained on dataset {model.dataset_version} ({since}: {model.rows}), because of: {model.trigger}.

Features: {features}.

Scores on the validation split:

| metric | value |
| --- | --- |
{metrics}

The package agrees with the trained model on {parity.label_agreement:.4%} of {parity.rows} rows
(99.9th percentile of differences {parity.p999:.2g}, largest {parity.maximum:.2g}).
{notes}
Limits: it knows what its training rows knew. How well it does on rows that training never saw is in the validation
report; whether production still looks like its training rows is the monitor's business.
"""
