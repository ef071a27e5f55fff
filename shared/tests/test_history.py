"""The record for fault injection: off by default, one line a step, and a process that dies where it is told to."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tidemill_shared import history
from tidemill_shared.delivery import Delivery
from tidemill_shared.settings import HistorySettings

TAKEN = Delivery("{t}:data.arrived.v1", "data.arrived.v1", "1-0", b'{"id": "e1"}')


def test_nothing_is_written_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    history.configure("c-1", HistorySettings())
    history.record("read", [TAKEN])
    assert list(tmp_path.iterdir()) == []


def test_each_step_of_each_entry_and_object_is_a_line(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    broken = Delivery(TAKEN.stream, TAKEN.type, "2-0", b"\xff")
    history.configure("c-1", HistorySettings(file=file))
    try:
        history.record("read", [TAKEN, broken])
        for key in ("raw/x", "datasets/p/v/manifest.json", "registry/p/datasets/1.json"):
            history.record_put(key)
    finally:
        history.configure("c-1", HistorySettings())
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["step"] for line in lines] == ["read", "read", "artifact", "manifest", "pointer"]
    assert [(line["entry"], line["id"]) for line in lines[:2]] == [("1-0", "e1"), ("2-0", None)]
    assert all(line["consumer"] == "c-1" and line["at"] > 0 for line in lines)


def test_the_process_dies_at_the_step_it_is_told_to(tmp_path: Path) -> None:
    told = tmp_path / "die"
    body = (
        "import pathlib; from tidemill_shared import history; from tidemill_shared.settings import HistorySettings;"
        f"told = pathlib.Path({str(told)!r}); history.configure('c', HistorySettings(kill_file=told));"
        "history.record_put('0/manifest.json'); told.write_text('manifest');"
        "history.record_put('a'); print('alive', flush=True); history.record_put('1/manifest.json'); print('never')"
    )
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "alive\n")
    assert not told.exists()
