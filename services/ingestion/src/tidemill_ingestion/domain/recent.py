"""The newest parts of a dataset."""

from collections.abc import Sequence

from tidemill_ingestion.domain.job import EarlierPart


def newest(parts: Sequence[EarlierPart], rows: int) -> tuple[int, ...]:
    """Positions of the parts that hold the newest ``rows`` rows (or all there are), newest first.

    The splits of one arrival share its ordinals, so they are taken together.
    """
    chosen: list[int] = []
    oldest = 0
    for position in sorted(range(len(parts)), key=lambda p: (-parts[p].last_ordinal, p)):
        part = parts[position]
        if rows <= 0 and (not chosen or part.last_ordinal < oldest):
            break
        oldest = min(oldest, part.first_ordinal) if chosen else part.first_ordinal
        chosen.append(position)
        rows -= part.rows
    return tuple(chosen)
