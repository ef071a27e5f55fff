"""The page: one file that needs nothing else, with a picture and the tables behind it."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from tidemill_console.report.chart import MARKS, VERDICTS, draw
from tidemill_console.report.timeline import Timeline

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1c2430;background:#fff;max-width:1100px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.3rem 0}.soft{color:#5b6675}
.facts{display:flex;flex-wrap:wrap;gap:.6rem;margin:1.2rem 0}
.facts div{border:1px solid #e3e6ea;border-radius:8px;padding:.5rem .9rem;min-width:6.5rem}
.facts b{display:block;font-size:1.35rem;font-variant-numeric:tabular-nums}
svg{width:100%;height:auto;margin-top:.6rem}svg text{font:11px system-ui,sans-serif;fill:#5b6675}
.grid{stroke:#edf0f3}.band{fill:#0b6e99;opacity:.12}.score{fill:none;stroke:#0b6e99;stroke-width:2}
.estimate{fill:none;stroke:#8a8f98;stroke-width:1.4;stroke-dasharray:4 3}circle{fill:#0b6e99}
.mark{stroke-width:1.6;fill:none}.key{font-size:.85rem}.key span{margin-right:1rem;white-space:nowrap}
.key i{display:inline-block;width:.8rem;height:.8rem;border-radius:2px;margin-right:.35rem;vertical-align:-1px}
table{border-collapse:collapse;width:100%;font-size:.88rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #edf0f3;vertical-align:top;overflow-wrap:anywhere}
th{color:#5b6675;font-weight:600}.bad{color:#b3261e}.good{color:#15803d}
"""
_MOST = 400
"""Rows of the table of what happened; the newest stay."""


def page(timeline: Timeline, now: datetime) -> str:
    """The whole document."""
    name = escape(timeline.pipeline)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        f'<meta name="viewport" content="width=device-width"><title>{name} · Tidemill</title>',
        f"<style>{_STYLE}</style></head><body>",
        f'<h1>{name}</h1><p class="soft">Tidemill report of {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC</p>',
        _facts(timeline),
        f"<h2>{escape(timeline.metric)} of each window, and the verdicts</h2>",
        draw(timeline),
        _key(),
        "<h2>Recoveries</h2>",
        _recoveries(timeline),
        "<h2>The last window's tests</h2>",
        _tests(timeline),
        "<h2>What happened</h2>",
        _happenings(timeline),
        "</body></html>",
    ]
    return "\n".join(parts)


def _facts(timeline: Timeline) -> str:
    facts = [
        ("windows measured", len(timeline.points)),
        ("latest score", f"{timeline.points[-1].value:.3f}" if timeline.points else "-"),
        *((f"{what}s" if what == "drift" else what, timeline.count(what)) for what in ("drift", "broken data")),
        *((f"{what}s", timeline.count(what)) for what in ("training", "promotion", "rollback")),
        ("refused", timeline.count("refused")),
        ("recovered", timeline.count("recovered")),
    ]
    cells = "".join(f"<div><b>{escape(str(value))}</b>{escape(name)}</div>" for name, value in facts)
    return f'<div class="facts">{cells}</div>'


def _key() -> str:
    colours = {"score": "#0b6e99", "estimated without labels": "#8a8f98"} | MARKS
    colours |= {verdict.replace("_", " "): colour for verdict, colour in VERDICTS.items() if verdict != "drift"}
    items = "".join(f'<span><i style="background:{c}"></i>{escape(name)}</span>' for name, c in colours.items())
    return f'<p class="key soft">{items}</p>'


def _recoveries(timeline: Timeline) -> str:
    rows = [
        (
            f"{time:%Y-%m-%d %H:%M:%S}",
            f"{r.score:.3f} (baseline {r.baseline:.3f})",
            *("-" if n is None else str(n) for n in (r.rows_to_detect, r.rows_to_retrain, r.rows_to_recover)),
            "-" if r.seconds is None else f"{r.seconds:.0f}",
        )
        for time, r in timeline.recoveries
    ]
    head = ("when", "score", "rows to detect", "rows to retrain", "rows to recover", "seconds since the alarm")
    return _table(head, rows, "Nothing had to be recovered from.")


def _tests(timeline: Timeline) -> str:
    rows = [
        (
            t.name,
            t.test,
            f"{t.statistic:.4g}",
            f"{t.threshold:.4g}",
            "-" if t.p_value is None else f"{t.p_value:.2g}",
            "-" if t.effect is None else f"{t.effect:.3g}",
            "-" if t.severity is None else f"{t.severity:.3g}",
            f"{t.reference_rows} / {t.current_rows}",
            t.verdict.replace("_", " "),
        )
        for t in timeline.tests[:15]
    ]
    head = ("column", "test", "statistic", "threshold", "p", "effect", "severity", "rows before / now", "verdict")
    return _table(head, rows, "No window of inputs has closed yet.")


def _happenings(timeline: Timeline) -> str:
    newest = list(reversed(timeline.happenings))[:_MOST]
    rows = [(f"{h.time:%Y-%m-%d %H:%M:%S}", h.what, h.details) for h in newest]
    return _table(("when", "what", "details"), rows, "Nothing yet.", [h.tone for h in newest])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], nothing: str, tones: Sequence[str] = ()) -> str:
    body = [
        f'<tr class="{tones[n] if tones else ""}">' + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for n, row in enumerate(rows)
    ]
    if not body:
        return f'<p class="soft">{escape(nothing)}</p>'
    return f"<table><tr>{''.join(f'<th>{escape(h)}</th>' for h in head)}</tr>{''.join(body)}</table>"
