"""The data: seasons of batting records."""

import csv
import gzip
import io
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files

FEATURES = (
    "games",
    "at_bats",
    "runs",
    "hits",
    "doubles",
    "triples",
    "runs_batted_in",
    "stolen_bases",
    "walks",
    "strikeouts",
)
TARGET = "ten_or_more"
FIRST_LIVE = 1915
"""Seasons before this one are the first data set."""


@dataclass(frozen=True)
class Line:
    """One player's season: what is known before, and how it ended."""

    player: str
    year: int
    stint: int
    features: dict[str, float | None]
    label: int

    @property
    def key(self) -> str:
        """Player, season and stint."""
        return f"{self.player}-{self.year}-{self.stint}"


def played(year: int) -> datetime:
    """The event time of a season."""
    return datetime(year, 10, 1, tzinfo=UTC)


def read() -> dict[int, list[Line]]:
    """Lines with at least 50 at-bats, by season, in order."""
    packed = files("tidemill_console.demo").joinpath("baseball.csv.gz").read_bytes()
    seasons: dict[int, list[Line]] = defaultdict(list)
    for row in csv.DictReader(io.StringIO(gzip.decompress(packed).decode())):
        if float(row["at_bats"] or 0) < 50:
            continue
        features = {name: float(row[name]) if row[name] else None for name in FEATURES}
        label = int(float(row["home_runs"] or 0) >= 10)
        seasons[int(row["year"])].append(Line(row["player"], int(row["year"]), int(row["stint"]), features, label))
    return dict(seasons)


def first_file(seasons: dict[int, list[Line]]) -> bytes:
    """The seasons before the live ones, as a CSV file."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["player", "season", "stint", "played", *FEATURES, TARGET])
    for year in sorted(y for y in seasons if y < FIRST_LIVE):
        for line in seasons[year]:
            cells = ["" if v is None else f"{v:g}" for v in line.features.values()]
            writer.writerow([line.player, year, line.stint, f"{played(year):%Y-%m-%d}", *cells, line.label])
    return out.getvalue().encode()
