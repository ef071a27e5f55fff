"""When two models are compared again on rows that neither has seen, and how sure each look must be.

A look comes when the number of such rows passes FIRST, and each time it has doubled. All looks together are wrong no
more often than a single one would be: each takes its share of the error (Bonferroni).
"""

FIRST = 100


def marks(last: int) -> list[int]:
    """Numbers of rows at which a look comes, up to ``last`` of them."""
    found = [FIRST * 2**k for k in range(64) if FIRST * 2**k < last]
    return [*found, last] if last >= FIRST else []


def due(before: int, now: int, last: int) -> bool:
    """Whether rows from ``before`` (exclusive) to ``now`` bring a look."""
    return any(before < mark <= now for mark in marks(last))


def confidence(of_all: float, last: int) -> float:
    """Of a single look, so that all together have ``of_all``."""
    return 1 - (1 - of_all) / max(1, len(marks(last)))
