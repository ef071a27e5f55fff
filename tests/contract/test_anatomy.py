"""Every folder in services/ has the anatomy and is registered everywhere it must be; failures name what is missing."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/pyproject.toml"))
COMMAND = "console"
"""The one package that is a command and not a consumer of events."""
WORKSPACE: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EACH = pytest.mark.parametrize("service", SERVICES)


def manifest(folder: Path) -> dict[str, Any]:
    """A package's pyproject."""
    return tomllib.loads((folder / "pyproject.toml").read_text())


def test_there_is_nothing_else_in_services() -> None:
    folders = {p.name for p in (ROOT / "services").iterdir() if p.is_dir() and any(p.rglob("*.py"))}
    assert folders == set(SERVICES), "a folder in services/ has no pyproject.toml"


@EACH
def test_it_has_the_anatomy(service: str) -> None:
    folder = ROOT / "services" / service
    package = f"src/tidemill_{service}"
    wanted = [f"{package}/{name}" for name in ("__init__.py", "__main__.py", "py.typed")] + ["README.md"]
    if service != COMMAND:
        wanted += [f"{package}/{name}" for name in ("app.py", "settings.py", "domain/__init__.py")]
    missing = [name for name in wanted if not (folder / name).exists()]
    assert not missing, f"services/{service} lacks {', '.join(missing)}"
    assert list(folder.glob("tests/test_*.py")), f"services/{service}/tests has no test_*.py"
    assert not list(folder.glob("tests/**/__init__.py")), "a package named tests would collide with the others"
    wiring = folder / package / "app.py"
    if wiring.exists():
        lines = len(wiring.read_text().splitlines())
        assert lines <= 110, f"{wiring.relative_to(ROOT)} has {lines} lines; it should read as a table of contents"


@pytest.mark.parametrize("service", [name for name in SERVICES if name != COMMAND])
def test_its_readme_carries_the_generated_tables(service: str) -> None:
    page = (ROOT / "services" / service / "README.md").read_text()
    missing = [m for m in ("<!-- events -->", "<!-- settings -->") if m not in page]
    assert not missing, f"services/{service}/README.md lacks {' and '.join(missing)}"


@EACH
def test_it_is_registered_everywhere(service: str) -> None:
    name, module = f"tidemill-{service}", f"tidemill_{service}"
    tools = WORKSPACE["tool"]
    imports = tools["importlinter"]
    layers = next(c for c in imports["contracts"] if c["type"] == "layers" and "containers" not in c)["layers"][0]
    pure = next(c for c in imports["contracts"] if c["name"].startswith("a domain is pure"))["source_modules"]
    places = {
        "[project] dependencies of the root pyproject.toml": any(
            re.split(r"[\[<>=]", d)[0] == name for d in WORKSPACE["project"]["dependencies"]
        ),
        "[tool.uv.sources]": name in tools["uv"]["sources"],
        "[tool.mypy] mypy_path": f"services/{service}/src" in tools["mypy"]["mypy_path"].split(":"),
        "[tool.importlinter] root_packages": module in imports["root_packages"],
        "the layers of [tool.importlinter]": module in layers.split(" | "),
        "the pure domains of [tool.importlinter]": f"{module}.domain" in pure,
    }
    readme, compose = ROOT / "README.md", ROOT / "docker-compose.yml"
    if readme.exists():
        places["README.md"] = f"services/{service}" in readme.read_text()
    if compose.exists() and service != COMMAND:
        places["docker-compose.yml"] = service in yaml.safe_load(compose.read_text())["services"]
    missing = [place for place, found in places.items() if not found]
    assert not missing, f"services/{service} is not registered in: {'; '.join(missing)}"


@pytest.mark.parametrize("folder", ["contracts", "shared", *(f"services/{s}" for s in SERVICES)])
def test_the_lock_holds_all_it_depends_on(folder: str) -> None:
    project = manifest(ROOT / folder)["project"]
    asked = [
        *project.get("dependencies", ()),
        *(d for e in project.get("optional-dependencies", {}).values() for d in e),
    ]
    names = {re.split(r"[\[<>=; ]", d)[0].lower().replace("_", "-") for d in asked}
    pinned = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    missing = {n for n in names if not n.startswith("tidemill-")} - pinned
    assert not missing, f"requirements.lock lacks {sorted(missing)}: run `make lock`"


def test_the_lock_names_no_address_and_hashes_everything() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert not re.findall(r"--(?:extra-)?index-url|--find-links|https?://", lock)
    entries = re.split(r"\n(?=[a-z0-9])", lock[lock.index("\n") :])
    assert all("--hash=sha256:" in entry for entry in entries if "==" in entry.split("\n")[0])


def test_no_package_is_called_like_a_service() -> None:
    found = [p for p in ROOT.glob("*/**/__init__.py") if not {".venv", ".peers"} & set(p.parts)]
    named = [p for p in found if p.parent.name in SERVICES]
    assert not named, f"an importable {named[0].parent.name!r} would shadow a library of that name"


def test_versions_agree() -> None:
    folders = [ROOT / "contracts", ROOT / "shared", *(ROOT / "services" / s for s in SERVICES)]
    assert len({manifest(f)["project"]["version"] for f in folders}) == 1


def test_the_makefile_lists_every_target_in_its_help() -> None:
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    described = re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE)
    assert set(phony.split()) == set(described)
