import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidemill_console.app import app
from tidemill_console.commands.declare import read_spec
from tidemill_console.commands.predictions import read_rows
from tidemill_console.demo import scoring, seasons
from tidemill_console.demo.pipeline import SPEC
from tidemill_console.demo.plot import draw
from tidemill_console.history import line
from tidemill_console.stack import Stack
from tidemill_console.supervision import Program, configuration, socket_path
from tidemill_contracts.events import TrainingRequested
from tidemill_contracts.model import RequestedTraining
from tidemill_shared.embedded import Command

runner = CliRunner()


def test_a_command_without_a_stack_says_how_to_start_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIDEMILL_REDIS__URL", raising=False)
    done = runner.invoke(app, ["--directory", str(tmp_path / "none"), "status"])
    assert done.exit_code == 3
    assert "tidemill up" in done.output


def test_a_wrong_specification_says_where_and_what(tmp_path: Path) -> None:
    file = tmp_path / "spec.json"
    file.write_text(json.dumps({"name": "No Capitals", "task": "classification", "target": "y", "primary": "mae"}))
    done = runner.invoke(app, ["declare", str(file)])
    assert done.exit_code == 2
    assert "name" in done.output
    file.write_text("{")
    assert runner.invoke(app, ["declare", str(file)]).exit_code == 2
    assert runner.invoke(app, ["declare", str(tmp_path / "missing.toml")]).exit_code == 2


def test_a_specification_may_be_toml(tmp_path: Path) -> None:
    file = tmp_path / "spec.toml"
    file.write_text('name = "a"\ntask = "classification"\ntarget = "y"\nprimary = "f1"\n[promotion.goals]\nf1 = 0.5\n')
    assert read_spec(file).promotion.goals == {"f1": 0.5}


def test_rows_are_read_as_json_would_carry_them(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("a,b\n1,x\n,\n")
    assert read_rows(file) == [{"a": 1, "b": "x"}, {"a": None, "b": None}]


def test_the_supervisor_is_told_of_no_secret(tmp_path: Path) -> None:
    program = Program("redis", Command(("/bin/redis server", "x%y"), env={"A": 'quo"te'}), tmp_path / "log", 1)
    text = configuration(tmp_path, [program])
    assert 'command="/bin/redis server" "x%%y"' in text
    assert len(str(socket_path(tmp_path / ("deep/" * 40)))) < 108


def test_no_secret_lies_in_what_the_stack_writes_for_its_supervisor(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "state")
    stack._prepare(lambda _: None)
    written = (stack.directory / "supervisord.conf").read_text() + (stack.directory / "store.sh").read_text()
    for secret in (
        stack.credentials.redis_password(),
        stack.credentials.store_secret_key,
        stack.credentials.private_key,
    ):
        assert secret.read_text().strip() not in written
        assert secret.stat().st_mode & 0o077 == 0


def test_the_address_of_redis_has_a_user_and_never_the_administrator(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "state")
    stack._prepare(lambda _: None)
    for user in ("producer", "consumer", "operator"):
        done = runner.invoke(app, ["--directory", str(stack.directory), "redis-url", user])
        secret = stack.credentials.redis_password(user).read_text()
        assert done.output == f"redis://{user}:{secret}@127.0.0.1:{stack.ports().redis}/0\n"
    assert runner.invoke(app, ["--directory", str(stack.directory), "redis-url", "serving"]).exit_code == 2


def test_secrets_are_made_anew_on_request(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "state")
    stack._prepare(lambda _: None)
    made = stack.credentials
    parts = {
        "redis": [made.redis_password("serving"), made.redis_access_list],
        "http": [made.api_key("reader"), made.api_keys],
        "store": [made.store_secret_key],
        "signing": [private for private, _ in made.key_pairs],
    }
    for part, files in parts.items():
        before = {file: file.read_bytes() for file in made.directory.rglob("*") if file.is_file()}
        done = runner.invoke(app, ["--directory", str(stack.directory), "rotate", part])
        assert done.exit_code == 0, done.output
        after = {file: file.read_bytes() for file in made.directory.rglob("*") if file.is_file()}
        assert after.keys() == before.keys()
        assert all(after[file] != before[file] for file in files)
        others = [file for other, theirs in parts.items() if other != part for file in theirs]
        assert all(after[file] == before[file] for file in others)
        assert all(file.stat().st_mode & 0o077 == 0 for file in after)
        for secret in files:
            assert after[secret].decode().strip() not in done.output
    assert runner.invoke(app, ["--directory", str(stack.directory), "rotate", "everything"]).exit_code == 2


def test_an_event_reads_as_one_line() -> None:
    event = TrainingRequested.root(
        RequestedTraining(reason="why not"), subject="p", source="urn:x", time=datetime(2020, 1, 2, tzinfo=UTC)
    )
    assert line(event).split() == ["2020-01-02", "00:00:00", "p", "training.requested", "reason=why", "not"]


def test_the_seasons_are_the_ones_the_attribution_speaks_of() -> None:
    found = seasons.read()
    assert min(found) == 1871
    assert max(found) == 2007
    before = [line for year, lines in found.items() if year < seasons.FIRST_LIVE for line in lines]
    assert len(before) == 2282
    assert len(seasons.first_file(found).splitlines()) == 2283
    keys = [line.key for lines in found.values() for line in lines]
    assert len(keys) == len(set(keys))
    assert {f.name for f in SPEC.features or ()} == set(seasons.FEATURES)


def test_f1_counts_as_the_textbook_does() -> None:
    assert scoring.f1([(1, 1), (1, 0), (0, 1), (0, 0)]) == 0.5
    assert scoring.f1([(0, 0)]) == 0.0
    assert scoring.over({1: [(1, 1)], 2: [(1, 0)]}, 1, 1) == 1.0


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    pairs = {year: [(1, 1), (0, year % 2)] for year in range(1915, 1935)}
    draw(tmp_path / "score.svg", {"Tidemill": pairs, "static": pairs}, [(1922, "concept")], [1925])
    assert "<svg" in (tmp_path / "score.svg").read_text()
