"""A column of the reference, as plain values."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Column:
    """Counts between ``edges`` (numeric; one more count than edges) or by category."""

    name: str
    kind: str
    rows: int
    missing: int
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    categories: dict[str, int] = field(default_factory=dict)
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    std: float | None = None
    longest_run: int | None = None
    outside: int | None = None
    """Values beyond the range of the column that this one is counted like."""
    sample: bytes = b""
    """The bins of some rows, the same for every column: see ``reference.sampled``."""
