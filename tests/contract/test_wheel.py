"""The contracts' distribution asks for pydantic and nothing else."""

import re
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = ("annotated_types", "pydantic", "pydantic_core", "typing_extensions", "typing_inspection")
BLOCKER = f"""
import sys
class OnlyPydantic:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top.startswith("_sysconfigdata"):  # the standard library's, under a name of the platform
            return
        if top not in sys.stdlib_module_names and top not in {(*ALLOWED, "tidemill_contracts")!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)
sys.meta_path.insert(0, OnlyPydantic())
sys.path.insert(0, sys.argv[1])
import tidemill_contracts.registry, tidemill_contracts.package, tidemill_contracts.streams
assert tidemill_contracts.__file__.startswith(sys.argv[1]), tidemill_contracts.__file__
print(len(tidemill_contracts.registry.EVENTS))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT / "contracts",
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_requires_pydantic_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    assert [r.partition(">")[0] for r in metadata.get_all("Requires-Dist", [])] == ["pydantic"]
    assert metadata["Requires-Python"] == ">=3.11"


def test_the_wheel_holds_the_typed_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"tidemill_contracts"}
    assert "tidemill_contracts/py.typed" in names


def test_it_imports_when_nothing_but_pydantic_is_there(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    done = subprocess.run([sys.executable, "-I", "-c", BLOCKER, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


@pytest.mark.slow
def test_a_fresh_environment_gets_pydantic_and_nothing_else(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "fresh", with_pip=True)
    python = tmp_path / "fresh" / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    # The versions of the lock, without its hashes: with hashes pip would want one for the wheel too.
    pins = re.findall(r"^[a-z0-9-]+==[^ ;]+", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    (tmp_path / "pins.txt").write_text("\n".join(pins))
    subprocess.run([*pip, "install", "-c", tmp_path / "pins.txt", wheel], check=True, capture_output=True)
    listed = subprocess.run([*pip, "list", "--format=freeze"], check=True, capture_output=True, text=True).stdout
    installed = {line.partition("==")[0].replace("-", "_") for line in listed.split()} - {"pip", "setuptools"}
    assert installed == {*ALLOWED, "tidemill_contracts"}
