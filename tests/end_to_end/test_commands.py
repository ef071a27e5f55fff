"""Every shell command of the pages a newcomer reads, run as it stands."""

import contextlib
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import tidemill_serving
from tidemill_shared.signing import generate_keys
from tidemill_shared.testing.servers import Servers

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("ingestion", "training", "packaging", "validation", "serving", "monitoring")
ELSEWHERE = {
    "contracts/README.md": "tests/contract/test_readme.py",
    "tests/benchmarks/README.md": "the Makefile's bench targets",
    "tests/acceptance/README.md": "the Makefile's acceptance target",
    "tests/contract/README.md": "the Makefile's fuzz target",
    "tests/chaos/README.md": "the Makefile's chaos target",
}
"""Pages whose commands another test, or a target of its own, runs."""
RUN_BY_CI = ("make test", "make check")


def blocks(page: str) -> list[list[str]]:
    """The ``sh`` blocks of a page: of each, its commands, continued lines joined and comments dropped."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    found = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    commands = [[re.sub(r"(^|\s)#.*", "", line).strip() for line in block.splitlines()] for block in found]
    return [[command for command in block if command] for block in commands]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The repository as somebody just got it, without their ``.tidemill``, with the environment already made."""
    files = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).split()
    for name in files:
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
        os.utime(target, (0, 0))  # older than .venv: make finds nothing to install
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    return tmp_path


def shell(
    command: str, cwd: Path, extra: dict[str, str] | None = None, seconds: float = 240
) -> "subprocess.CompletedProcess[str]":
    """Run a command as a person would, without the settings of whoever runs the tests."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TIDEMILL_", "PYTEST_", "MAKE", "MFLAGS", "ARGS"))}
    return subprocess.run(
        ["sh", "-euc", command],
        cwd=cwd,
        env=kept | (extra or {}),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def test_every_page_with_commands_is_run() -> None:
    pages = subprocess.check_output(["git", "ls-files", "*.md"], cwd=ROOT, text=True).split()
    here = {"README.md", "CONTRIBUTING.md", "deploy/SECURITY.md", *(f"services/{name}/README.md" for name in SERVICES)}
    assert {page for page in pages if blocks(page)} <= here | ELSEWHERE.keys()


def test_the_two_commands(checkout: Path) -> None:
    demo, test = blocks("README.md")[0]
    assert (demo, test) == ("make demo", "make test")
    done = shell(demo, checkout, {"ARGS": "--until 1916 --pace wait"})
    assert "answered 188, lost 0, doubled 0" in done.stderr, done.stderr[-3000:]
    done = shell(test, checkout, {"ARGS": "-q contracts/tests/test_contracts_names.py"})
    assert done.returncode == 0, done.stdout[-3000:]
    assert "passed" in done.stdout


def test_using_it(checkout: Path) -> None:
    def until_interrupted(command: str) -> None:
        done = shell(f"timeout --signal=INT 5 {command}", checkout)
        assert done.returncode in (124, 130), done.stderr
        assert "model.deployed" in done.stdout

    try:
        *used, down = blocks("README.md")[1]
        (rotate,), status = blocks("deploy/SECURITY.md")[0], next(c for c in used if c.endswith("status"))
        for command in (*used, rotate, status, down):
            if " watch" in command:
                until_interrupted(command)
                continue
            done = shell(command, checkout)
            assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    finally:
        shell("make down", checkout)
    told = rows_of(checkout / "answers.csv")
    asked = rows_of(checkout / "my-first" / "new.csv")
    assert len(told) == len(asked) > 0
    # The package in the folder is the model that answered.
    predict = tidemill_serving.load(checkout / "my-package")
    features = predict.layout.numeric
    answers = predict([{name: float(row[name]) if row[name] else None for name in features} for row in asked])
    assert [str(answer.prediction).lower() for answer in answers] == [row["prediction"].lower() for row in told]
    assert {row["model_version"] for row in told} == {predict.version}


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open() as lines:
        return list(csv.DictReader(lines))


def test_contributing(checkout: Path) -> None:
    ci = (ROOT / ".ci" / "run").read_text().splitlines()
    for command in [line for block in blocks("CONTRIBUTING.md") for line in block]:
        if command in RUN_BY_CI:
            assert command in ci
        else:
            done = shell(command, checkout)
            assert done.returncode == 0, f"{command}\n{done.stderr[-3000:]}"


@pytest.fixture
def secrets_folder(servers: Servers, signing_keys: tuple[Path, Path], tmp_path: Path) -> Path:
    """The files that the services' pages name."""
    (tmp_path / "redis.secret").write_text(servers.redis_password)
    (tmp_path / "store.secret").write_text(servers.secret_key)
    shutil.copy(signing_keys[0], tmp_path / "private.pem")
    shutil.copy(signing_keys[1], tmp_path / "public.pem")
    for name, data in zip(("promotion.private.pem", "promotion.pem"), generate_keys(), strict=True):
        (tmp_path / name).write_bytes(data)
    for file in tmp_path.iterdir():
        file.chmod(0o600)
    return tmp_path


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_alone(name: str, servers: Servers, secrets_folder: Path) -> None:
    (block,) = blocks(f"services/{name}/README.md")
    script = "\n".join(block)
    for port, here in (("6379", servers.redis_port), ("9000", servers.store_port)):
        assert f":{port}" in script
        script = script.replace(f":{port}", f":{here}")
    script = script.replace("python -m", f"exec {sys.executable} -m")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TIDEMILL_")}
    environment["TIDEMILL_STORE__ACCESS_KEY"] = servers.access_key
    running = subprocess.Popen(
        ["sh", "-euc", script],
        cwd=secrets_folder,
        env=environment,
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with _stopped(running) as lines:
        _until(lambda: any('"ready"' in line for line in lines) or running.poll() is not None, 60)
        assert running.poll() is None, "".join(lines)
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0, "".join(lines)


@pytest.mark.skipif(
    shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode != 0,
    reason="no Docker engine answers",
)
@pytest.mark.timeout(900)
def test_compose(checkout: Path) -> None:
    up, demo, status = blocks("README.md")[2]
    try:
        done = shell(up, checkout, seconds=600)
        assert done.returncode == 0, done.stderr[-3000:]
        done = shell(f"{demo} --until 1916 --pace wait", checkout)
        assert "answered 188, lost 0, doubled 0" in done.stderr + done.stdout, done.stderr[-3000:]
        assert shell(status, checkout).returncode == 0
        for command in (*blocks("deploy/SECURITY.md")[1], status):
            done = shell(command, checkout)
            assert done.returncode == 0, f"{command}\n{done.stderr[-3000:]}"
    finally:
        shell("docker compose down --volumes", checkout)


@contextlib.contextmanager
def _stopped(running: "subprocess.Popen[str]") -> Iterator[list[str]]:
    """Its lines of output as they come; the process is gone afterwards."""
    lines: list[str] = []
    assert running.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(iter(running.stdout.readline, "")))  # type: ignore[union-attr]
    reader.start()
    try:
        yield lines
    finally:
        if running.poll() is None:
            running.kill()
        reader.join(10)
        running.stdout.close()


def _until(reached, seconds: float) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.05)
