"""The figures of a run as a part of the README."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from faultkit.checker import Row

_BEGIN, _END = "<!-- figures: begin -->", "<!-- figures: end -->"
_HEAD = (
    "| scenario | seed | sent and accepted | answered | lost | raw duplicates | after de-duplication "
    "| conflicting | dead letters | faults | recovery s (median / max) | seconds | verdict |"
)


def _line(row: Row) -> str:
    recovery = "" if row.recovery_median is None else f"{row.recovery_median:.1f} / {row.recovery_max:.1f}"
    verdict = "ok" if row.passed else "**failed**"
    cells = (
        row.scenario, row.seed, row.sent, row.answered, row.lost, row.duplicated_raw, row.doubled, row.conflicting,
        row.dead_lettered, row.faults, recovery, f"{row.seconds:.0f}", verdict,
    )  # fmt: skip
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _further(rows: Sequence[Row]) -> list[str]:
    lines = [
        f"- {row.scenario} (seed {row.seed}): "
        + ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in row.figures.items())
        for row in rows
        if row.figures
    ]
    lines += [f"- {row.scenario} (seed {row.seed}) **failed**: {row.broken[0]}" for row in rows if row.broken]
    return lines


def render(rows: Sequence[Row], mutants: Sequence[tuple[str, bool]]) -> str:
    """Markdown: the rows, what else was measured, the mutants."""
    lines = [f"Run of {datetime.now(UTC):%Y-%m-%d}.", "", _HEAD, "| --- " * _HEAD.count(" | ") + "| --- |"]
    lines += [*map(_line, rows), "", *_further(rows)]
    if mutants:
        caught = sum(found for _, found in mutants)
        lines += [
            "",
            f"Mutants caught: {caught} of {len(mutants)}.",
            "",
            "| a safety line, broken | |",
            "| --- | --- |",
        ]
        lines += [f"| {name} | {'caught' if found else '**lived**'} |" for name, found in mutants]
    return "\n".join(lines)


def write(page: Path, rows: Sequence[Row], mutants: Sequence[tuple[str, bool]]) -> None:
    """Put the figures between the page's two marks. Raises ValueError when it has none."""
    text = page.read_text()
    begin, end = text.index(_BEGIN) + len(_BEGIN), text.index(_END)
    page.write_text(f"{text[:begin]}\n{render(rows, mutants)}\n{text[end:]}")
