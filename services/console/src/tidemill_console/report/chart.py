"""The score over time with what happened, and the verdicts below it, as one SVG picture."""

from collections.abc import Callable, Sequence
from datetime import datetime
from html import escape

from tidemill_console.report.timeline import Happening, Point, Timeline

WIDTH, HEIGHT = 1_060, 300
_LEFT, _RIGHT, _TOP = 84, 14, 34
_STRIP, _GAP = 18, 6
VERDICTS = {"stable": "#9ccfb4", "warning": "#f0c75e", "drift": "#d2553f", "insufficient_data": "#d9dce1"}
MARKS = {
    "drift": "#b3261e",
    "broken data": "#7a3e9d",
    "degraded": "#d97706",
    "recovered": "#0f766e",
    "promotion": "#15803d",
    "rollback": "#1d4ed8",
}
Scale = Callable[[datetime], float]


def draw(timeline: Timeline) -> str:
    """The picture; a sentence where there is nothing to draw yet."""
    times = [p.time for p in timeline.points] + [c.time for cells in timeline.verdicts.values() for c in cells]
    times += [h.time for h in timeline.happenings]
    if not times:
        return "<p>No window has closed yet.</p>"
    first, last = min(times), max(times)
    span = max((last - first).total_seconds(), 1.0)

    def across(time: datetime) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (time - first).total_seconds() / span

    bottom = HEIGHT if timeline.points else _TOP + 24
    height = bottom + len(timeline.verdicts) * (_STRIP + _GAP) + 34
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Score and verdicts over time">',
        *(_scores(timeline.points, across) if timeline.points else ()),
        *_marks(timeline.happenings, across, bottom),
        *_strips(timeline, across, bottom + 10),
        *_axis(first, last, height - 10),
        "</svg>",
    ]
    return "\n".join(parts)


def _scores(points: Sequence[Point], across: Scale) -> list[str]:
    seen = [p.value for p in points] + [p.estimated for p in points if p.estimated is not None]
    low, high = min(seen), max(seen)
    room = max((high - low) * 0.15, 0.02 * max(abs(high), 1e-9))
    low, high = low - room, high + room

    def up(value: float) -> float:
        return HEIGHT - (HEIGHT - _TOP) * (min(max(value, low), high) - low) / (high - low)

    grid = []
    for step in range(5):
        value = low + (high - low) * step / 4
        grid.append(f'<path class="grid" d="M{_LEFT} {up(value):.1f}H{WIDTH - _RIGHT}"/>')
        grid.append(f'<text x="{_LEFT - 8}" y="{up(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    upper = [f"{across(p.time):.1f},{up(p.value + 1.96 * p.error):.1f}" for p in points]
    lower = [f"{across(p.time):.1f},{up(p.value - 1.96 * p.error):.1f}" for p in reversed(points)]
    line = " ".join(f"{across(p.time):.1f},{up(p.value):.1f}" for p in points)
    estimates = " ".join(f"{across(p.time):.1f},{up(p.estimated):.1f}" for p in points if p.estimated is not None)
    dots = [
        f'<circle cx="{across(p.time):.1f}" cy="{up(p.value):.1f}" r="2.6"><title>{escape(p.label)}</title></circle>'
        for p in points
    ]
    return [
        *grid,
        f'<polygon class="band" points="{" ".join([*upper, *lower])}"/>',
        f'<polyline class="estimate" points="{estimates}"/>',
        f'<polyline class="score" points="{line}"/>',
        *dots,
    ]


def _marks(happenings: Sequence[Happening], across: Scale, bottom: int) -> list[str]:
    return [
        f'<path class="mark" style="stroke:{MARKS[h.what]}" d="M{across(h.time):.1f} {_TOP - 8}V{bottom}">'
        f"<title>{escape(f'{h.what}: {h.details}')}</title></path>"
        for h in happenings
        if h.mark and h.what in MARKS
    ]


def _strips(timeline: Timeline, across: Scale, top: int) -> list[str]:
    parts = []
    for number, (name, cells) in enumerate(sorted(timeline.verdicts.items())):
        y = top + number * (_STRIP + _GAP)
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(name[:12])}</text>')
        begins = [_LEFT, *(across(c.time) for c in cells)]
        for cell, left, right in zip(cells, begins[:-1], begins[1:], strict=True):
            parts.append(
                f'<rect x="{left:.1f}" y="{y}" width="{max(right - left - 0.6, 1):.1f}" height="{_STRIP}"'
                f' fill="{VERDICTS[cell.verdict]}"><title>{escape(f"{name}: {cell.label}")}</title></rect>'
            )
    return parts


def _axis(first: datetime, last: datetime, y: int) -> list[str]:
    return [
        f'<text x="{_LEFT}" y="{y}">{first:%Y-%m-%d %H:%M:%S}</text>',
        f'<text x="{WIDTH - _RIGHT}" y="{y}" text-anchor="end">{last:%Y-%m-%d %H:%M:%S} UTC</text>',
    ]
