"""The streams of the acceptance, made by `river` from a seed, and the seasons of baseball.

Every stream begins with FIRST rows of its first concept, which are the first data set.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from river.datasets import synth

from tidemill_console.acceptance.stream import Misled, Stream, stream
from tidemill_console.acceptance.targets import Kind
from tidemill_console.demo import seasons

FIRST = 2_000
CONCEPT = 4_000
GRADUAL = 4_000
"""Rows over which one concept gives way to the other."""


def _taken(parts: Iterable[Any]) -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    rows = [(x, int(y)) for x, y in parts]
    table = pd.DataFrame([x for x, _ in rows])
    table.columns = [f"x{c}" if isinstance(c, int) else str(c) for c in table.columns]
    return table, np.array([y for _, y in rows])


def _sea(variant: int, seed: int, rows: int) -> Iterable[Any]:
    return islice(synth.SEA(variant=variant, noise=0.1, seed=seed), rows)


def sea(seed: int) -> Stream:
    """Four concepts, the thresholds 8, 9, 7 and 9.5, and 10 % of labels flipped (Street and Kim 2001)."""
    parts = [*_sea(0, 10 * seed, FIRST + CONCEPT)]
    for variant in (1, 2, 3):
        parts += _sea(variant, 10 * seed + variant, CONCEPT)
    changes = tuple(FIRST + CONCEPT * k for k in (1, 2, 3))
    return stream(f"sea-{seed}", *_taken(parts), changes=changes, first=FIRST)


def stagger(seed: int) -> Stream:
    """Three concepts over three categories each (Schlimmer and Granger 1986)."""
    parts: list[Any] = []
    for k, rows in enumerate((FIRST + CONCEPT, CONCEPT, CONCEPT)):
        parts += islice(synth.STAGGER(classification_function=k, seed=10 * seed + k), rows)
    table, labels = _taken(parts)
    changes = (FIRST + CONCEPT, FIRST + 2 * CONCEPT)
    return stream(f"stagger-{seed}", table.astype(str).astype(object), labels, changes=changes, first=FIRST)


def _agrawal(function: int, seed: int, rows: int) -> list[Any]:
    return list(islice(synth.Agrawal(classification_function=function, seed=seed), rows))


def agrawal(seed: int) -> Stream:
    """From function 0 to function 3 at once (Agrawal et al. 1993)."""
    parts = _agrawal(0, 2 * seed, FIRST + CONCEPT) + _agrawal(3, 2 * seed + 1, 2 * CONCEPT)
    return stream(f"agrawal-{seed}", *_taken(parts), changes=(FIRST + CONCEPT,), first=FIRST)


def agrawal_gradual(seed: int) -> Stream:
    """From function 0 to function 3 over GRADUAL rows, by a sigmoid as in MOA."""
    rows, middle = FIRST + 4 * CONCEPT, FIRST + CONCEPT + GRADUAL // 2
    old, new = _agrawal(0, 2 * seed, rows), _agrawal(3, 2 * seed + 1, rows)
    chance = 1 / (1 + np.exp(-4 * (np.arange(rows) - middle) / GRADUAL))
    take = np.random.default_rng(seed).uniform(size=rows) < chance
    parts = [b if now else a for a, b, now in zip(old, new, take, strict=True)]
    return stream(f"agrawal-gradual-{seed}", *_taken(parts), changes=(FIRST + CONCEPT,), first=FIRST)


def stationary(seed: int) -> Stream:
    """Nothing ever changes."""
    return stream(f"stationary-{seed}", *_taken(_sea(0, seed, FIRST + 3 * CONCEPT)), first=FIRST)


def virtual(seed: int) -> Stream:
    """A column that the label does not depend on moves by two standard deviations."""
    table, labels = _taken(_sea(0, seed, FIRST + 3 * CONCEPT))
    unused = np.random.default_rng(seed).normal(size=len(table))
    unused[FIRST + CONCEPT :] += 2
    return stream(f"virtual-{seed}", table.assign(unused=unused), labels, first=FIRST)


def delayed(seed: int) -> Stream:
    """SEA whose labels come 1 to 500 rows late, and three of ten never."""
    whole = sea(seed)
    rng = np.random.default_rng(seed)
    waits = np.where(rng.uniform(size=len(whole)) < 0.3, -1, rng.integers(1, 501, len(whole)))
    return stream(f"delayed-{seed}", whole.table, whole.labels, changes=whole.changes, first=FIRST, delays=waits)


def poisoned(share: float) -> Callable[[int], Stream]:
    """A batch of 1 000 rows in which ``share`` of the labels are flipped; what follows is as before."""

    def made(seed: int) -> Stream:
        table, labels = _taken(_sea(0, seed, FIRST + 3 * CONCEPT))
        batch = np.zeros(len(labels), bool)
        batch[FIRST + CONCEPT : FIRST + CONCEPT + 1_000] = True
        flipped = np.where(batch & (np.random.default_rng(seed).uniform(size=len(labels)) < share), 1 - labels, labels)
        made = stream(f"poisoned-{share:.0%}-{seed}", table, flipped, first=FIRST)
        return replace(made, wrong=tuple(int(row) for row in np.flatnonzero(flipped != labels)))

    return made


def misled(seed: int, live: int = 2 * CONCEPT) -> Stream:
    """Nothing ever changes, but in the middle an operator publishes FIRST rows whose classes are exchanged, and trains
    on them alone."""
    whole = stream(f"misled-{seed}", *_taken(_sea(0, seed, FIRST + live)), first=FIRST)
    table, labels = _taken(_sea(0, 100 + seed, FIRST))
    return replace(whole, misled=Misled(FIRST + live // 2, table, np.array([str(1 - v) for v in labels], object)))


def unlearnable(seed: int) -> Stream:
    """From a moment on the label is a coin's."""
    table, labels = _taken(_sea(0, seed, FIRST + 4 * CONCEPT))
    coins = np.random.default_rng(seed).integers(0, 2, len(labels))
    change = FIRST + CONCEPT
    mixed = np.where(np.arange(len(labels)) < change, labels, coins)
    return stream(f"unlearnable-{seed}", table, mixed, changes=(change,), first=FIRST)


def baseball(seed: int) -> Stream:
    """Ten or more home runs, season after season in an order drawn by the seed; nobody knows the changes."""
    rng = np.random.default_rng(seed)
    lines = [line for _, found in sorted(seasons.read().items()) for line in rng.permutation(np.array(found, object))]
    first = sum(line.year < seasons.FIRST_LIVE for line in lines)
    table = pd.DataFrame([line.features for line in lines]).astype(float)
    return stream(f"baseball-{seed}", table, [line.label for line in lines], first=first)


CASES: dict[str, Callable[[int], Stream]] = {
    "sea": sea,
    "stagger": stagger,
    "agrawal": agrawal,
    "agrawal_gradual": agrawal_gradual,
    "stationary": stationary,
    "virtual": virtual,
    "delayed": delayed,
    "baseball": baseball,
    "poisoned_5": poisoned(0.05),
    "poisoned_20": poisoned(0.20),
    "poisoned_50": poisoned(0.50),
    "unlearnable": unlearnable,
    "misled": misled,
}
KINDS: dict[str, Kind] = {
    "sea": "abrupt",
    "stagger": "abrupt",
    "agrawal": "abrupt",
    "agrawal_gradual": "gradual",
    "stationary": "control",
    "virtual": "control",
    "delayed": "abrupt",
    "baseball": "unknown",
    "poisoned_5": "poisoned",
    "poisoned_20": "poisoned",
    "poisoned_50": "poisoned",
    "unlearnable": "unlearnable",
    "misled": "misled",
}
