"""The join gives what an offline join gives, whatever the order, the repetitions and the batches."""

import json
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill_monitoring.domain.join import Join, OpenRow
from tidemill_monitoring.domain.outcome import Answer, AnsweredRow, LabelledRow

Piece = tuple[str, str]
KINDS = ("request", "answer", "label")


def answer(id_: str) -> Answer:
    return Answer(id_.endswith("1"), (0.25, 0.75), (False, True), "a" * 12, "b" * 12)


class Store:
    """Open rows as their JSON, and ids of finished rows, as they lie in Redis."""

    def __init__(self) -> None:
        self.open: dict[str, str] = {}
        self.done: set[str] = set()
        self.answered: list[AnsweredRow] = []
        self.labelled: list[LabelledRow] = []
        self.repeated = 0

    def take(self, pieces: Sequence[Piece]) -> None:
        ids = {id_ for _, id_ in pieces}
        join = Join(
            {i: OpenRow.load(json.loads(self.open[i])) for i in ids if i in self.open},
            {i for i in ids if i in self.done},
        )
        for kind, id_ in pieces:
            if kind == "request":
                join.request(id_, {"x": float(len(id_)), "c": id_}, 1_000.0)
            elif kind == "answer":
                join.complete(id_, answer(id_))
            elif kind == "label":
                join.label(id_, id_.endswith("2"), 1_010.0)
            else:
                join.fail(id_)
        self.open |= {i: json.dumps(join.known[i].dump()) for i in join.touched}
        for id_ in join.finished:
            self.open.pop(id_, None)
            self.done.add(id_)
        assert set(join.opened) <= {*join.touched, *join.finished}
        self.answered += join.answered
        self.labelled += join.labelled
        self.repeated += join.counts["repeated"]


@st.composite
def histories(draw: st.DrawFn) -> list[list[Piece]]:
    """Every piece of up to 12 rows, some missing, each 1 to 3 times, shuffled, cut into batches."""
    pieces: list[Piece] = []
    for number in range(draw(st.integers(1, 12))):
        for kind in KINDS:
            pieces += [(kind, f"row-{number}")] * draw(st.integers(0, 3))
    pieces = draw(st.permutations(pieces))
    batches: list[list[Piece]] = []
    while pieces:
        size = draw(st.integers(1, len(pieces)))
        batches.append(list(pieces[:size]))
        pieces = pieces[size:]
    return batches


@given(histories())
@settings(max_examples=300, deadline=None)
def test_it_equals_the_offline_join(batches: list[list[Piece]]) -> None:
    store = Store()
    for batch in batches:
        store.take(batch)
    seen = {kind: {i for batch in batches for k, i in batch if k == kind} for kind in KINDS}
    answered, whole = seen["request"] & seen["answer"], seen["request"] & seen["answer"] & seen["label"]
    assert sorted(row.id for row in store.answered) == sorted(answered)
    assert sorted(row.row.id for row in store.labelled) == sorted(whole)
    assert set(store.open) == set().union(*seen.values()) - whole
    assert store.done == whole
    for row in store.labelled:
        assert row.row.features == {"x": float(len(row.row.id)), "c": row.row.id}
        assert row.label == row.row.id.endswith("2")
        assert row.row.answer == answer(row.row.id)
    pieces = sum(len(batch) for batch in batches)
    assert store.repeated == pieces - sum(len(ids) for ids in seen.values())


def test_a_refused_request_ends_its_row() -> None:
    store = Store()
    store.take([("request", "a"), ("label", "a"), ("fail", "a"), ("label", "a"), ("answer", "a")])
    assert store.done == {"a"}
    assert not store.labelled
    assert not store.open


def test_the_label_observed_last_counts() -> None:
    for order in ([(1, 1.0), (0, 2.0)], [(0, 2.0), (1, 1.0)], [(0, 2.0), (1, 2.0)]):
        join = Join({}, set())
        join.request("a", {"x": 1.0}, 0.0)
        for value, at in order:
            join.label("a", value, at)
        join.complete("a", answer("a"))
        assert [(row.label, row.at) for row in join.labelled] == [(0, 2.0)]
        assert join.delays == [2.0]
        join.label("a", 1, 3.0)
        assert join.corrections == [("a", 1, 3.0)]
