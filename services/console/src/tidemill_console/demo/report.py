"""What the replay comes to: figures by decade, policies side by side, nothing lost, nothing doubled."""

from typing import Any

from rich.table import Table

from tidemill_console.demo.record import Record
from tidemill_console.demo.scoring import Pairs, over
from tidemill_console.demo.seasons import FIRST_LIVE, Line
from tidemill_console.output import notes, say
from tidemill_contracts.events import DriftDetected, ModelDeployed, ModelPromoted, ModelRejected, RetrainSuppressed
from tidemill_contracts.events import TrainingGranted as Granted

FIRST_SCORED = 1925
"""The game changes in the ten seasons before; from here on a system that learns should have learnt."""
RECOVERED = 0.95
"""Share of the periodic policy's F1 from which on the score counts as recovered."""
_NAMES = ("static", "tidemill", "periodic")


def policies(record: Record, others: dict[str, Any], seasons: dict[int, list[Line]]) -> dict[str, Pairs]:
    """Truth and prediction by season for each policy; ``others`` is what ``baselines.replay`` found."""
    found = {"tidemill": record.pairs()}
    for name in ("static", "periodic"):
        found[name] = {
            int(year): [(line.label, p) for line, p in zip(seasons[int(year)], said, strict=True)]
            for year, said in others[name].items()
        }
    return found


def report(record: Record, others: dict[str, Any], seasons: dict[int, list[Line]], until: int) -> dict[str, Any]:
    """Every figure, as JSON values; ``passed`` decides the exit code."""
    pairs = policies(record, others, seasons)
    scores = {f"f1_{name}": round(over(pairs[name], min(FIRST_SCORED, until), until), 3) for name in _NAMES}
    # A replay that ends before the game has changed has nothing to recover from.
    recovered = until < 1930 or scores["f1_tidemill"] >= RECOVERED * scores["f1_periodic"]
    return {
        "requests_sent": len(record.sent),
        "answered": record.answered,
        "lost": record.lost,
        "doubled": record.doubled,
        "raw_duplicates": record.raw_duplicates,
        "failed": len(record.failed),
        **scores,
        **_events(record),
        "retrains_periodic": others["retrains"],
        "decades": _decades(pairs, until),
        "passed": not record.lost and not record.doubled and recovered,
    }


def _events(record: Record) -> dict[str, Any]:
    refusals = [e.data.reason for e in record.of(RetrainSuppressed)] + ["gate" for _ in record.of(ModelRejected)]
    drifts = record.of(DriftDetected)
    return {
        "drifts": sum(e.data.kind == "concept" for e in drifts),
        "drift_events": [
            {"kind": e.data.kind, "noticed_in": e.data.noticed_at.year, "raised_in": record.seasons[e.id]}
            for e in drifts
        ],
        "retrains": sum(e.data.trigger != "first_data" for e in record.of(Granted)),
        "promotions": len(record.of(ModelPromoted)),
        "new_champion_answers_from": [s for e in record.of(ModelDeployed) if (s := record.seasons[e.id])],
        "refusals": len(refusals),
        "refusals_by_reason": {reason: refusals.count(reason) for reason in sorted(set(refusals))},
        "seconds_from_drift_to_new_champion": [round(s, 1) for s in record.seconds_to_new_champion()],
    }


def _decades(pairs: dict[str, Pairs], until: int) -> list[dict[str, Any]]:
    return [
        {"decade": start, "rows": sum(len(pairs["tidemill"].get(y, ())) for y in range(start, start + 10))}
        | {name: round(over(pairs[name], start, min(start + 9, until)), 3) for name in _NAMES}
        for start in range(FIRST_LIVE, until + 1, 10)
    ]


def show(found: dict[str, Any]) -> None:
    """The report as a person reads it."""
    table = Table("decade from", title="F1: ten or more home runs this season?", title_justify="left")
    for heading in ("rows", "trained once", "Tidemill", "every 2 000 rows"):
        table.add_column(heading, justify="right")
    for d in found["decades"]:
        table.add_row(str(d["decade"]), str(d["rows"]), *(f"{d[name]:.3f}" for name in _NAMES))
    table.add_section()
    table.add_row("1925 to end", "", *(f"{found[f'f1_{name}']:.3f}" for name in _NAMES), style="bold")
    table.add_row("retrains", "", "0", str(found["retrains"]), str(found["retrains_periodic"]))
    notes.print(table)
    drifts = ", ".join(f"{d['kind']} {d['raised_in']}" for d in found["drift_events"]) or "none"
    refusals = ", ".join(f"{n} {reason}" for reason, n in found["refusals_by_reason"].items()) or "none"
    seconds = ", ".join(f"{s:.1f}" for s in found["seconds_from_drift_to_new_champion"]) or "none came"
    say(f"drift detected in season: {drifts}")
    say(f"promotions: {found['promotions']}, the first model included; refusals: {refusals}")
    say(f"seconds from a concept drift to the new champion answering: {seconds}")
    say(
        f"requests sent {found['requests_sent']}, answered {found['answered']} (failed {found['failed']}), lost "
        f"{found['lost']}, doubled {found['doubled']} (raw duplicates {found['raw_duplicates']})"
    )
    if found["rss_mb_at_rest"]:
        say(f"resident memory of the stack: {found['rss_mb_at_rest']} MB at rest before the replay, "
            f"{found['rss_mb_at_end']} MB after it")  # fmt: skip
    say(f"{found['seconds']} s")
    if not found["passed"]:
        say("not passed: a request was lost or doubled, or the score did not recover")
