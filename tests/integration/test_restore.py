"""Redis lost, volume and all, in the middle of the work: what the object store holds is enough to go on."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tidemill_console.stack import SERVICES, Stack
from tidemill_console.supervision import Supervisor

pytestmark = pytest.mark.slow
TIDEMILL = str(Path(sys.executable).parent / "tidemill")
READY_SECONDS = 120.0


def tidemill(directory: Path, *words: str, timeout: float = 240) -> "subprocess.CompletedProcess[str]":
    """Run the command against the stack in ``directory``; it must succeed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TIDEMILL_")}
    done = subprocess.run(
        [TIDEMILL, "--directory", str(directory), *words],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
        cwd=directory.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Path]:
    """A running stack, stopped at the end."""
    directory = tmp_path / "state"
    tidemill(directory, "up")
    yield directory
    tidemill(directory, "down")


def declare(directory: Path, name: str) -> None:
    """A small use case."""
    spec = {"name": name, "task": "classification", "target": "y", "positive": "yes", "primary": "accuracy"}
    spec |= {"rows": {"min_rows": 50}, "search": {"families": ["linear"], "trials": 1, "seconds": 5}}
    file = directory.parent / f"{name}.json"
    file.write_text(json.dumps(spec))
    tidemill(directory, "declare", str(file))


def rows(directory: Path, first: int, last: int) -> Path:
    """A file of rows."""
    lines = [f"{i},{i % 97},{'red' if i % 3 else 'blue'},{'yes' if i % 97 > 48 else 'no'}" for i in range(first, last)]
    file = directory.parent / f"rows-{first}.csv"
    file.write_text("\n".join(["id,x,colour,y", *lines]) + "\n")
    return file


def publish(directory: Path, name: str, file: Path, *, wait: bool) -> str:
    """Publish rows; the event's id."""
    done = tidemill(directory, "publish", name, str(file), "--json", *(("--wait", "90") if wait else ()))
    return str(json.loads(done.stdout)["event"])


def champion(directory: Path, name: str) -> str | None:
    """The version that was promoted last."""
    status = json.loads(tidemill(directory, "status", "--json").stdout)
    return next((c["version"] for c in status["champions"] if c["pipeline"] == name), None)


def eventually(condition: Callable[[], Any], what: str, seconds: float = READY_SECONDS) -> Any:
    """What ``condition`` gives as soon as that is something."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


def lose_redis(directory: Path) -> None:
    """The server's end, its files gone, a new and empty one in its place."""
    supervisor = Supervisor(directory.resolve())
    supervisor.stop("redis")
    lost = [p for p in (directory / "redis").iterdir() if p.is_dir() or p.suffix in {".rdb", ".aof"}]
    assert lost, "Redis had written nothing"
    for path in lost:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    supervisor.start("redis")


def answered(directory: Path, name: str) -> bool:
    """Whether the champion answers."""
    asked, out = directory.parent / "asked.csv", directory.parent / "out.jsonl"
    asked.write_text("id,x,colour\n1,70,red\n")
    tidemill(directory, "predict", name, str(asked), "-o", str(out))
    return bool(json.loads(out.read_text().splitlines()[0])["prediction"] == "yes")


@pytest.mark.timeout(500)
def test_redis_lost_in_the_middle_of_the_work_loses_nothing_accepted(stack: Path) -> None:
    supervisor = Supervisor(stack.resolve())
    declare(stack, "served")
    publish(stack, "served", rows(stack, 0, 400), wait=True)
    tidemill(stack, "wait", "served", "--timeout", "90")
    before = champion(stack, "served")
    # In the middle of the work: a dataset nobody has trained on, and rows nobody has prepared.
    supervisor.stop("training")
    declare(stack, "begun")
    publish(stack, "begun", rows(stack, 0, 400), wait=True)
    supervisor.stop("ingestion")
    accepted = publish(stack, "served", rows(stack, 400, 600), wait=False)

    lose_redis(stack)
    began = time.monotonic()
    said = json.loads(tidemill(stack, "restore", "--json").stdout)["events"]
    assert said["data.arrived.v1"] == 1
    assert said["dataset.prepared.v1"] == 1
    assert said["model.promoted.v1"] == 1
    for name in ("training", "ingestion"):
        supervisor.start(name)
    eventually(lambda: all(Stack(stack).readiness(name) is None for name in SERVICES), "not ready")
    assert time.monotonic() - began < READY_SECONDS
    assert champion(stack, "served") == before
    assert answered(stack, "served")
    outcome = stack / "store" / "tidemill" / "outcomes" / f"{accepted}.json"
    eventually(outcome.exists, "the accepted rows have no outcome")
    assert json.loads(outcome.read_text())["prepared"]["new_rows"] == 200
    for log in (stack / "logs").glob("*.log"):
        assert "permission" not in log.read_text(errors="replace").lower(), log.name
    begun = eventually(lambda: champion(stack, "begun"), "the dataset that was prepared led to no champion")
    a_backup_in_an_empty_place(stack, {"served": champion(stack, "served"), "begun": begun})


@contextlib.contextmanager
def the_demo(directory: Path, until: int) -> Iterator["subprocess.Popen[str]"]:
    """Seasons after seasons while the block runs; what it says is in ``demo.txt``, its JSON object in ``demo.json``."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TIDEMILL_")}
    words = [TIDEMILL, "--directory", str(directory), "demo", "--json", "--until", str(until), "--pace", "1"]
    with (directory.parent / "demo.json").open("w") as out, (directory.parent / "demo.txt").open("w") as said:
        demo = subprocess.Popen(words, stdout=out, stderr=said, text=True, env=environment, cwd=directory.parent)
    try:
        yield demo
    finally:
        demo.kill()
        demo.wait()


@pytest.mark.timeout(500)
def test_the_demo_goes_on_when_redis_was_lost_in_its_middle(stack: Path) -> None:
    said, store = stack.parent / "demo.txt", stack / "store" / "tidemill"
    with the_demo(stack, until=1940) as demo:
        eventually(lambda: re.search(r"1919: F1.*answered", said.read_text()) or demo.poll(), "no season of 1919", 240)
        assert demo.poll() is None, said.read_text()
        name = str(re.search(r"declared pipeline (\S+):", said.read_text())[1])  # type: ignore[index]
        promoted, version = len(list((store / "registry" / name / "promotions").iterdir())), champion(stack, name)

        lose_redis(stack)
        began = time.monotonic()
        restored = json.loads(tidemill(stack, "restore", "--json").stdout)["events"]
        eventually(lambda: all(Stack(stack).readiness(service) is None for service in SERVICES), "not ready")
        seconds = time.monotonic() - began
        assert seconds < READY_SECONDS
        assert restored["model.promoted.v1"] == 1
        assert champion(stack, name) == version

        assert demo.wait(300) in (0, 1), said.read_text()  # 1 where requests were in flight: they were Redis's alone
    report = json.loads((stack.parent / "demo.json").read_text().splitlines()[-1])
    print(f"ready after {seconds:.1f} s, {restored}, lost {report['lost']} of {report['lost_seasons']}")
    assert report["doubled"] == 0, said.read_text()
    assert all(season < 1935 for season in report["lost_seasons"]), report  # the season then asked, or those before
    assert len(list((store / "registry" / name / "promotions").iterdir())) >= promoted
    accepted = {p.stem for p in (store / "inbox").iterdir()}
    assert len(accepted) > 1
    eventually(lambda: accepted <= {p.stem for p in (store / "outcomes").iterdir()}, "accepted rows without an outcome")


def a_backup_in_an_empty_place(stack: Path, before: dict[str, str | None]) -> None:
    """Everything but the credentials is gone, and comes back from a copy."""
    copy = stack.parent / "backup"
    taken = json.loads(tidemill(stack, "backup", "--to", str(copy), "--json").stdout)
    assert taken["objects"] == sum(1 for p in (copy / "objects").rglob("*") if p.is_file()) > 10
    tidemill(stack, "down")
    for folder in ("store/tidemill", "redis", "cache"):
        shutil.rmtree(stack / folder)
    tidemill(stack, "up")
    assert champion(stack, "served") is None
    restored = json.loads(tidemill(stack, "restore", "--from", str(copy), "--json").stdout)
    assert restored["objects"] == taken["objects"]
    for name, version in before.items():
        tidemill(stack, "wait", name, "--timeout", "90")
        assert champion(stack, name) == version
    assert answered(stack, "served")
