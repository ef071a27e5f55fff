"""``up``, ``down``, ``status``."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from tidemill_console.connection import Client, connected, directory
from tidemill_console.output import fail, notes, results, run, say, show_json
from tidemill_console.stack import SERVICES, Stack
from tidemill_contracts.artifacts import promotions_prefix, trials_prefix
from tidemill_contracts.promotion import Promotion
from tidemill_contracts.registry import EVENTS
from tidemill_contracts.rollout import Trial
from tidemill_contracts.streams import stream_key
from tidemill_shared.append_log import AppendLog
from tidemill_shared.dead_letters import DeadLetters
from tidemill_shared.errors import TidemillError
from tidemill_shared.halts import halted

AsJson = Annotated[bool, typer.Option("--json", help="One JSON value on stdout, for scripts.")]


def up() -> None:
    """Start the embedded stack and wait until it is ready."""
    stack = Stack(directory())
    try:
        stack.up(say)
    except TidemillError as error:
        fail(str(error))
    ports = stack.ports().services
    say(f"up. State: {stack.directory}. Open Inference Protocol: http://127.0.0.1:{ports['serving']}/v2")
    say(f"New rows: POST http://127.0.0.1:{ports['ingestion']}/v1/pipelines/NAME/data. Stop with: tidemill down")


def down() -> None:
    """Stop the embedded stack; its data stays."""
    stack = Stack(directory())
    try:
        stopped = stack.down(say)
    except TidemillError as error:
        fail(str(error))
    say("down" if stopped else f"nothing was running in {stack.directory}")


def status(as_json: AsJson = False) -> None:
    """Services, streams with lag and pending entries, champions, dead letters, streams no longer read."""
    stack = Stack(directory())
    state = run(_state())
    state["services"] = stack.processes() if stack.running() else []
    if as_json:
        show_json(state)
        return
    _print(state)


async def _state() -> dict[str, Any]:
    async with connected() as client:
        return {
            "streams": [row for name in _streams(client) if (row := await _stream(client, name))],
            "champions": [await _champion(client, name) for name in client.pipelines.names()],
            "halted": await halted(client.bus.redis, client.namespace, SERVICES),
            "dead_letters": await DeadLetters(client.bus.nodes, client.namespace).count(),
        }


def _streams(client: Client) -> list[str]:
    names = [stream_key(client.namespace, t) for t, cls in EVENTS.items() if cls.plane == "control"]
    for pipeline in client.pipelines.names():
        names += [stream_key(client.namespace, t, pipeline) for t, cls in EVENTS.items() if cls.plane == "data"]
    return names


async def _stream(client: Client, name: str) -> dict[str, Any] | None:
    redis = client.bus.nodes.of(name)
    if not await redis.exists(name):
        return None
    groups: Any = await redis.xinfo_groups(name)
    rows = []
    for group in groups:
        last = group["last-delivered-id"].decode()
        lag = group.get("lag")
        if lag is None:  # before Redis 7, or after deletions: count what comes behind the last delivered entry
            behind: Any = await redis.xrange(name, min=f"({last}", count=10_000)
            lag = len(behind)
        rows.append({"group": group["name"].decode(), "lag": lag, "pending": group["pending"]})
    return {"stream": name, "length": await redis.xlen(name), "groups": rows}


async def _champion(client: Client, pipeline: str) -> dict[str, Any]:
    last = await AppendLog(client.store, promotions_prefix(pipeline), Promotion).last()
    if last is None:
        return {"pipeline": pipeline, "version": None, "sequence": 0}
    sequence, promotion = last
    trial = await AppendLog(client.store, trials_prefix(pipeline), Trial).last()
    tried = trial[1] if trial and not trial[1].over and trial[1].against == promotion.version else None
    return {
        "pipeline": pipeline,
        "trial": tried and tried.model_dump(mode="json", include={"version", "stage", "share", "reason", "decided_at"}),
        "version": promotion.version,
        "sequence": sequence,
        "kind": promotion.kind,
        "since": promotion.promoted_at,
        "reason": promotion.reason,
    }


def _print(state: dict[str, Any]) -> None:
    if state["services"]:
        table = Table("service", "state", "ready", "pid", "MB", "up", title="Services", title_justify="left")
        for p in state["services"]:
            ready = "yes" if p["ready"] else (p["reason"] or "no")
            up_for = f"{p['uptime_seconds']} s"
            table.add_row(p["name"], p["state"], ready, str(p["pid"] or ""), f"{p['rss_bytes'] / 1e6:.0f}", up_for)
        results.print(table)
    table = Table("stream", "length", "group", "lag", "pending", title="Streams", title_justify="left")
    for stream in state["streams"]:
        for group in stream["groups"] or [{"group": "", "lag": "", "pending": ""}]:
            name, length = stream["stream"], str(stream["length"])
            table.add_row(name, length, group["group"], str(group["lag"]), str(group["pending"]))
    results.print(table)
    table = Table("pipeline", "champion", "promotion", "since", "reason", title="Champions", title_justify="left")
    for c in state["champions"]:
        since = c.get("since")
        ago = f"{(datetime.now(UTC) - since).total_seconds():.0f} s ago" if since else ""
        table.add_row(c["pipeline"], c["version"] or "none yet", str(c["sequence"]), ago, c.get("reason", ""))
    results.print(table)
    for c in state["champions"]:
        if c.get("trial"):
            t = c["trial"]
            share = f", {t['share']:.0%} of the requests" if t["share"] else ""
            results.print(f"{c['pipeline']} tries {t['version']}: {t['stage']}{share}; {t['reason']}", markup=False)
            results.print(f"See or end it: tidemill trial show {c['pipeline']}, tidemill trial end {c['pipeline']}")
    letters = state["dead_letters"]
    results.print(f"Dead letters: {letters}" + (" (tidemill dead-letters list)" if letters else ""))
    for row in state["halted"]:
        results.print(f"{row['service']} has stopped reading {row['stream']}: {row['why']}.", markup=False)
    if state["halted"]:
        results.print("Mend the cause, then: tidemill dead-letters resume")
    if any(not p["ready"] and p["reason"] for p in state["services"]):
        notes.print("A service is not ready: see its log in the stack's logs folder.")
