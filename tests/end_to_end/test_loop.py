"""The whole loop as a person runs it: the embedded stack, the demo, bad input, a restart, a killed service."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import redis

from tidemill_console.stack import SERVICES, Stack
from tidemill_contracts.artifacts import raw_key
from tidemill_contracts.dataset import ArrivedData
from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import DataArrived, DatasetRejected
from tidemill_contracts.registry import parse_as
from tidemill_contracts.streams import stream_key

pytestmark = pytest.mark.slow
TIDEMILL = str(Path(sys.executable).parent / "tidemill")
SPEC = {
    "name": "colours",
    "task": "classification",
    "target": "y",
    "positive": "yes",
    "primary": "accuracy",
    "rows": {"min_rows": 50},
    "search": {"families": ["linear"], "trials": 1, "seconds": 5},
}


def tidemill(directory: Path, *words: str, timeout: float = 240) -> "subprocess.CompletedProcess[str]":
    """Run the command against the stack in ``directory``."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TIDEMILL_")}
    return subprocess.run(
        [TIDEMILL, "--directory", str(directory), *words],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
        cwd=directory.parent,
        check=False,
    )


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running stack, stopped at the end."""
    directory = tmp_path_factory.mktemp("loop") / "state"
    done = tidemill(directory, "up")
    assert done.returncode == 0, done.stderr
    yield directory
    tidemill(directory, "down")


def report_of(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    """The demo's JSON object."""
    assert done.stdout, done.stderr[-3000:]
    report: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return report


def rows(count: int) -> list[str]:
    return [f"{i % 97},{'red' if i % 3 else 'blue'},{'yes' if i % 97 > 48 else 'no'}" for i in range(count)]


def csv(path: Path, lines: list[str], header: str = "x,colour,y") -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def at_rest(directory: Path) -> dict[str, Any]:
    """Streams with what their groups have read, and champions, once nobody is busy any more."""
    before: dict[str, Any] = {}
    deadline = time.monotonic() + 120
    while True:
        state = json.loads(tidemill(directory, "status", "--json").stdout)
        now = {name: state[name] for name in ("streams", "champions", "dead_letters")}
        busy = any(group["lag"] or group["pending"] for stream in now["streams"] for group in stream["groups"])
        # Streams are read one after the other: an event may have moved on behind the reader.
        if now == before and not busy:
            return now
        assert time.monotonic() < deadline, now["streams"]
        before = now


@pytest.mark.timeout(300)
def test_a_drill_recovers_elsewhere_and_leaves_production_as_it_was(stack: Path, tmp_path: Path) -> None:
    spec = tmp_path / "rehearsed.json"
    own = {"name": "rehearsed", "keys": ["id"], "exclude": ["id"], "retrain": {"min_rows": 200, "mode": "suggest"}}
    spec.write_text(json.dumps(SPEC | own))
    assert tidemill(stack, "declare", str(spec)).returncode == 0
    numbered = csv(tmp_path / "rows.csv", [f"{i},{line}" for i, line in enumerate(rows(400))], "id,x,colour,y")
    assert tidemill(stack, "publish", "rehearsed", str(numbered), "--wait", "60").returncode == 0
    assert tidemill(stack, "wait", "rehearsed", "--timeout", "120").returncode == 0
    before = at_rest(stack)
    assert [champion["sequence"] for champion in before["champions"]] == [1]
    done = tidemill(stack, "drill", "rehearsed", "--calm", "250", "--after", "1000", "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["recovered"] and report["unanswered"] == 0
    assert report["accuracy_at_the_change"] < 0.5 < 0.9 < min(report["accuracy_before"], report["accuracy_after"])
    assert 0 <= report["rows_to_detect"] < report["rows_to_a_new_champion"] <= 750
    assert report["trainings"] >= 1
    assert at_rest(stack) == before


@pytest.mark.timeout(300)
def test_the_world_changes_and_the_score_recovers(stack: Path) -> None:
    done = tidemill(stack, "demo", "--until", "1930", "--pace", "wait", "--json", "--plot", "score.png")
    report = report_of(done)
    assert done.returncode == 0, done.stderr[-3000:]
    assert report["requests_sent"] == report["answered"] > 1_500
    assert report["lost"] == report["doubled"] == report["failed"] == 0
    assert report["drifts"] >= 1
    assert 1 <= report["retrains"] <= 3
    assert report["promotions"] >= 2
    assert report["f1_tidemill"] > report["f1_static"]
    assert (stack.parent / "score.png").stat().st_size > 10_000


def somebodys(folder: Path, task: str) -> tuple[Path, list[str]]:
    """A stream as others keep them: cells are missing, times and names stand by, labels come late or never."""
    rng = np.random.default_rng(5)
    lines = [f"when;who;size;colour;late;{task}"]
    for i in range(360):
        size, colour = rng.uniform(0, 9), rng.choice(["red", "blue", ""])
        truth = f"{3 * size + rng.normal():.3f}" if task == "price" else "true" if size > 4.5 else "false"
        shown = "" if i % 20 == 7 else f"{size:.2f}"
        lines.append(
            f"2026-01-01 10:{i // 60:02}:{i % 60:02};n{i};{shown};{colour};{-1 if i % 9 == 0 else i % 5};{truth}"
        )
    (folder / f"{task}.csv").write_text("\n".join(lines) + "\n")
    return folder / f"{task}.csv", ["--target", task, "--delay", "late", "--first", "200", "--block", "80"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("task", "metric"), [("price", "r2"), ("large", "accuracy")])
def test_somebodys_stream_is_played(stack: Path, tmp_path: Path, task: str, metric: str) -> None:
    file, options = somebodys(tmp_path, task)
    done = tidemill(stack, "acceptance", "--json", "--stream", str(file), *options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "'when' is left out" in done.stderr and "'who' is left out" in done.stderr
    reports = {row["policy"]: row for row in map(json.loads, done.stdout.splitlines())}
    ours = reports["tidemill"]
    assert (ours["metric"], ours["rows"], ours["unanswered"]) == (metric, 160, 0)
    assert ours["score"] > 0.7 > reports["no_change"]["score"]


def refused_event(directory: Path, size: int) -> list[str]:
    """Publish a new-data event that declares ``size`` bytes, with redis-py alone; the codes of its rejection."""
    settings = Stack(directory).settings()
    data = ArrivedData(
        uri=f"s3://{settings.store.bucket}/{raw_key('colours', '0' * 64, '.csv')}", sha256="0" * 64, size=size
    )
    event = DataArrived.root(data, subject="colours", source="urn:example:shell")
    with redis.Redis.from_url(
        settings.redis.url, username=settings.redis.username, password=settings.redis.secret()
    ) as client:
        client.xadd(event.stream(settings.namespace), {FIELD: event.to_json()})
        stream, last = stream_key(settings.namespace, DatasetRejected.type_name()), "0"
        while True:
            for entry, fields in client.xread({stream: last}, block=30_000)[0][1]:
                last = entry
                rejected = parse_as(DatasetRejected, fields[FIELD.encode()])
                if rejected.causationid == event.id:
                    return [reason.code for reason in rejected.data.reasons]


@pytest.mark.timeout(300)
def test_each_bad_input_ends_with_a_reason_and_stops_nothing(stack: Path, tmp_path: Path) -> None:
    spec = tmp_path / "colours.json"
    spec.write_text(json.dumps(SPEC))
    assert tidemill(stack, "declare", str(spec)).returncode == 0

    def publish(file: Path) -> dict[str, Any]:
        done = tidemill(stack, "publish", "colours", str(file), "--wait", "60", "--json")
        outcome: dict[str, Any] = json.loads(done.stdout)["outcome"]
        assert done.returncode == (1 if outcome["rejected"] else 0), done.stderr
        return outcome

    def refused(file: Path) -> list[str]:
        return [reason["code"] for reason in publish(file)["rejected"]["reasons"]]

    one_class = [line.replace("no", "yes") for line in rows(200)]
    assert "one_class" in refused(csv(tmp_path / "one-class.csv", one_class))
    good = publish(csv(tmp_path / "good.csv", [f"{i},{line}" for i, line in enumerate(rows(400))], "id,x,colour,y"))
    assert good["prepared"]["new_rows"] == 400
    renamed = csv(tmp_path / "renamed.csv", [f"{i},{line}" for i, line in enumerate(rows(50))], "id,x,color,y")
    assert "breaking_schema" in refused(renamed)
    (tmp_path / "cut.csv.gz").write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\x4c")
    assert refused(tmp_path / "cut.csv.gz")
    (tmp_path / "empty.csv").write_bytes(b"")
    assert refused(tmp_path / "empty.csv")
    assert refused_event(stack, size=3_000_000_000) == ["too_large"]
    infinite = csv(tmp_path / "infinite.csv", ["9001,inf,red,yes", "9002,5,red,no"], "id,x,colour,y")
    assert publish(infinite)["prepared"]["quarantined"] == 1

    deadline = time.monotonic() + 90
    while True:
        state = json.loads(tidemill(stack, "status", "--json").stdout)
        champion = next(c for c in state["champions"] if c["pipeline"] == "colours")
        if champion["version"]:
            break
        assert time.monotonic() < deadline, "no champion"
        time.sleep(0.2)
    asked = csv(tmp_path / "asked.csv", ["1,70,red", "2,3,mauve", "3,,blue"], "id,x,colour")
    # The champion may still be on its way into serving.
    while True:
        done = tidemill(stack, "predict", "colours", str(asked), "-o", str(tmp_path / "out.jsonl"))
        answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        if answers[0]["error"] != "no_model" or time.monotonic() > deadline:
            break
    assert done.returncode == 1
    assert [a["error"] for a in answers] == [None, "unknown_category", None]
    assert answers[0]["prediction"] == "yes"
    scored = tidemill(stack, "score", "colours", str(asked), "--row-id", "id", "-o", str(tmp_path / "scored.parquet"))
    assert scored.returncode == 1, scored.stderr
    found = pq.read_table(tmp_path / "scored.parquet").to_pylist()
    assert [(r["row"], r["prediction"], r["error"]) for r in found] == [
        (row, answer["prediction"], answer["error"]) for row, answer in zip(("1", "2", "3"), answers, strict=True)
    ]
    assert all(p["ready"] for p in json.loads(tidemill(stack, "status", "--json").stdout)["services"] if p["reason"])
    traced = tidemill(stack, "trace", answers[0]["prediction_id"])
    assert traced.returncode == 0
    assert "s3://" in traced.stdout, traced.stdout


@pytest.mark.timeout(300)
def test_everything_is_still_there_after_down_and_up(stack: Path) -> None:
    before = json.loads(tidemill(stack, "status", "--json").stdout)
    assert tidemill(stack, "down").returncode == 0
    assert tidemill(stack, "status").returncode == 3
    assert tidemill(stack, "up").returncode == 0
    after = json.loads(tidemill(stack, "status", "--json").stdout)
    assert [c["version"] for c in after["champions"]] == [c["version"] for c in before["champions"]]
    lengths = {s["stream"]: s["length"] for s in after["streams"]}
    assert all(lengths[s["stream"]] >= s["length"] for s in before["streams"])


@pytest.mark.timeout(400)
def test_kill_each_service_while_the_demo_runs(stack: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TIDEMILL_")}
    command = [TIDEMILL, "--directory", str(stack), "demo", "--until", "1930", "--pace", "2", "--json"]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=stack.parent
    )
    lines: list[str] = []
    assert running.stderr is not None
    for line in running.stderr:
        lines.append(line)
        if "replaying" in line:
            break
    for name in SERVICES:
        pid = next(p["pid"] for p in Stack(stack).processes() if p["name"] == name)
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait(5)
        time.sleep(2.5)  # the pace of the killer, not a wait for a result
    out, err = running.communicate(timeout=200)
    report = json.loads(out.strip().splitlines()[-1])
    assert report["lost"] == 0, err[-3000:]
    assert report["doubled"] == 0
    assert report["answered"] == report["requests_sent"]


def test_a_terminated_demo_leaves_nothing_running(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    with subprocess.Popen(
        [TIDEMILL, "--directory", directory, "demo"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path
    ) as demo:
        deadline = time.monotonic() + 60
        while not Stack(directory).running() and time.monotonic() < deadline:
            time.sleep(0.05)
        supervisor = psutil.Process(int((directory / "supervisord.pid").read_text()))
        demo.terminate()
        demo.communicate(timeout=60)
    assert demo.returncode not in (0, -signal.SIGTERM)
    assert not supervisor.is_running()
