"""What the system is made of and what it may never call: rules that a tool runs, not a page that asks."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidemill_shared import store_permissions

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(p for folder in ("contracts", "shared", "services", "deploy") for p in (ROOT / folder).rglob("*.py"))
# multiprocessing's own channel between a service and the child it forked is the one place that serialises objects.
FORBIDDEN_MODULES = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "read_pickle", "to_pickle", "unsafe_load", "full_load", "system", "popen"}
_NAMES = "|".join(sorted(FORBIDDEN_MODULES))
CODE_IN_TEXT = re.compile(
    rf"\b(?:import|from) (?:[\w, ]*\b)?(?:{_NAMES})\b|\b(?:{_NAMES})\.(?:dump|load)s?\b|\.joblib\b"
)
"""Code for another interpreter, or the name of such a file, in a text."""
SAFE_YAML = {"safe_load", "safe_load_all", "safe_dump", "safe_dump_all", "dump"}


def offences(tree: ast.AST) -> Iterator[str]:
    """Each thing in a module that could run what a file says."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.partition(".")[0] in FORBIDDEN_MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in FORBIDDEN_MODULES:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            yield from _call(node)


def texts(tree: ast.AST) -> Iterator[str]:
    """Texts that name what no module may import: a program for ``python -c``, a file that only joblib writes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE_IN_TEXT.search(node.value):
            yield node.value


def _call(node: ast.Call) -> Iterator[str]:
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    owner = function.value.id if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) else ""
    if name in FORBIDDEN_CALLS and not (name == "compile" and owner == "re"):
        yield f"{owner}.{name}()"
    if owner == "yaml" and name not in SAFE_YAML:
        yield f"yaml.{name}()"
    for keyword in node.keywords:
        true = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
        if keyword.arg in ("allow_pickle", "shell") and true:
            yield f"{name}({keyword.arg}=True)"


def test_nothing_runs_what_a_file_says() -> None:
    assert len(SOURCES) > 200
    found = {str(p.relative_to(ROOT)): list(offences(ast.parse(p.read_text()))) for p in SOURCES}
    assert {p: o for p, o in found.items() if o} == {}


def test_nothing_is_pickled_by_another_interpreter_either() -> None:
    everything = [p for p in (*SOURCES, *(ROOT / "tests").rglob("*.py")) if p != Path(__file__)]
    trees = {str(p.relative_to(ROOT)): ast.parse(p.read_text()) for p in everything}
    assert {p: o for p, tree in trees.items() if (o := list(texts(tree)))} == {}


@pytest.mark.parametrize(
    "text", ["import joblib, fitted", "import json, pickle", "from joblib import load", "joblib.dump(m, f)", "m.joblib"]
)
def test_the_rule_for_texts_finds_each_of_them(text: str) -> None:
    assert list(texts(ast.parse(repr(text))))


@pytest.mark.parametrize(
    "code",
    ["import pickle", "from joblib import load", "import yaml\nyaml.load(x)", "eval('1')",
     "numpy.load(f, allow_pickle=True)",
     "subprocess.run(x, shell=True)", "pandas.read_pickle(f)", "import marshal as m", "os.system('x')"],
)  # fmt: skip
def test_the_rule_finds_each_of_them(code: str) -> None:
    assert list(offences(ast.parse(code)))


def test_every_pin_of_the_lock_has_its_digests_and_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in re.sub(r"^\s*#.*$", "", lock, flags=re.MULTILINE)
    pins = re.findall(r"^[A-Za-z0-9._-]+==.*(?:\n\s+--hash=.*)*", lock, re.MULTILINE)
    assert len(pins) > 50
    assert [pin for pin in pins if not re.search(r"--hash=sha256:[0-9a-f]{64}", pin)] == []


def test_containers_may_do_next_to_nothing() -> None:
    import yaml

    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    for name, service in compose["services"].items():
        if service.get("profiles") == ["observability"]:
            continue
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert service["user"] == "10001:10001", name
        assert "privileged" not in service, name
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", ())), name
        environment = service.get("environment") or {}
        secret = [
            k for k in environment if re.search("PASSWORD|SECRET|PRIVATE|TOKEN|KEY$", k) and not k.endswith("_FILE")
        ]
        assert secret == [], name


def test_the_image_runs_as_nobody_and_takes_in_what_it_needs() -> None:
    recipe = (ROOT / "deploy" / "service.Dockerfile").read_text().splitlines()
    last = recipe[max(i for i, line in enumerate(recipe) if line.startswith("FROM ")) :]
    assert "USER 10001:10001" in last
    assert last.index("USER 10001:10001") < next(i for i, line in enumerate(last) if line.startswith("ENTRYPOINT"))
    assert not any(line.startswith("ADD ") or "sudo" in line or "curl" in line for line in recipe)
    assert any("--require-hashes --no-deps -r selected.lock" in line for line in recipe)
    assert [line for line in last if line.startswith("COPY")] == ["COPY --from=build /opt/tidemill /opt/tidemill"]
    secret = re.compile("PASSWORD|SECRET|TOKEN|PRIVATE", re.IGNORECASE)
    assert not [line for line in recipe if line.startswith(("ARG", "ENV")) and secret.search(line)]
    # What the build may see is a list of what it needs: no .tidemill, no .env, no .git can slip in.
    context = (ROOT / ".dockerignore").read_text().split()
    assert context[0] == "*"
    assert all(part.startswith("!") or part == "**/__pycache__" for part in context[1:])
    wanted = {part.split("/")[0].removeprefix("!") for part in context[1:]} - {"**"}
    assert wanted == {"requirements.lock", "contracts", "shared", "services", "deploy"}


def test_each_container_holds_its_own_secrets_only() -> None:
    import yaml

    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    holders: dict[str, set[str]] = {}
    for name, service in compose["services"].items():
        for volume in service.get("volumes", ()):
            holders.setdefault(volume.partition(":")[0], set()).add(name)
    for user in ("ingestion", "training", "packaging", "validation", "serving", "monitoring"):
        assert holders[f"redis-{user}"] == {"credentials", user}
    assert holders["signing-key"] == {"credentials", "packaging"}
    assert holders["promotion-key"] == {"credentials", "validation"}
    assert holders["operator-key"] == {"credentials", "tidemill"}
    assert holders["api-keys"] == {"credentials", "tidemill"}


def test_the_policies_for_the_object_store_are_those_of_the_code() -> None:
    folder = ROOT / "deploy" / "store-policies"
    wanted = store_permissions.files("tidemill")
    assert {file.name: file.read_text() for file in folder.iterdir()} == wanted, (
        "python -m tidemill_shared.store_permissions tidemill deploy/store-policies writes them"
    )
    for rule in store_permissions.RULES:
        assert "Delete" not in wanted[f"{rule.user}.json"]
        assert rule.user == "operator" or "*" not in rule.writes
