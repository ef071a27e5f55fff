"""The score over the seasons, as a picture."""

from pathlib import Path

from tidemill_console.demo.scoring import Pairs, rolling

_COLOURS = {"Tidemill": "#0b6e99", "every 2 000 rows": "#8a8f98", "static": "#c2410c"}


def draw(
    path: Path, policies: dict[str, Pairs], drifts: list[tuple[int, str]], promotions: list[int], *, seasons: int = 5
) -> None:
    """F1 of the last five seasons for each policy; alarms and promotions marked. SVG or PNG by the name."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(11, 5.2), layout="constrained")
    for name, pairs in policies.items():
        line = rolling(pairs, seasons)
        wide = 2.4 if name == "Tidemill" else 1.5
        axes.plot(*zip(*line, strict=True), label=name, color=_COLOURS.get(name, "#444"), linewidth=wide)
    for number, year in enumerate(sorted({y for y, kind in drifts if kind == "concept"})):
        axes.axvline(year, color="#b91c1c", linestyle=(0, (4, 3)), linewidth=1.1, label="" if number else "drift alarm")
    for number, year in enumerate(promotions):
        axes.axvline(year, color="#15803d", linewidth=1.1, label="" if number else "new champion answers")
    axes.set_ylim(0, 1)
    axes.set_xlabel("season")
    axes.set_ylabel(f"F1, last {seasons} seasons")
    axes.set_title("Ten or more home runs this season?", loc="left", fontweight="bold")
    axes.grid(visible=True, axis="y", color="#e5e7eb")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower center", ncols=5, frameon=False, bbox_to_anchor=(0.5, -0.22))
    figure.savefig(path, dpi=130)
    plt.close(figure)
