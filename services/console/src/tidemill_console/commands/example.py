"""``example``: files to begin with."""

import csv
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from tidemill_console.demo.seasons import FEATURES, FIRST_LIVE, Line, first_file, read
from tidemill_console.output import USAGE, fail, say


def example(
    folder: Annotated[Path, typer.Argument(help="Where to write pipeline.toml, rows.csv and new.csv.")],
    overwrite: Annotated[bool, typer.Option(help="Write over files that are there.")] = False,
) -> None:
    """Write a pipeline, rows to learn from, and rows to predict: the demo's use case, to try and to change."""
    seasons = read()
    there = [name for name in ("pipeline.toml", "rows.csv", "new.csv") if (folder / name).exists()]
    if there and not overwrite:
        fail(f"{folder} holds {', '.join(there)} already: name another folder, or add --overwrite", USAGE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        template = files("tidemill_console.demo").joinpath("example.toml").read_text()
        (folder / "pipeline.toml").write_text(template)
        (folder / "rows.csv").write_bytes(first_file(seasons))
        _write_new(folder / "new.csv", seasons[FIRST_LIVE])
    except OSError as error:
        fail(f"cannot write to {folder}: {error.strerror}", USAGE)
    say(f"{folder}/pipeline.toml: the use case; rows.csv: seasons before {FIRST_LIVE}; new.csv: those of {FIRST_LIVE}")
    say(f"next: tidemill declare {folder}/pipeline.toml")


def _write_new(path: Path, lines: list[Line]) -> None:
    with path.open("w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(FEATURES)
        writer.writerows([["" if v is None else f"{v:g}" for v in line.features.values()] for line in lines])
