"""The part of the lock that one service needs: `python select_requirements.py SERVICE [EXTRA…]`, beside the lock.

The lock says who needs whom in its `# via` comments; they are followed from the service's own requirements, so that
every version and digest stays the one the lock names.
"""

import re
import sys
import tomllib
from pathlib import Path

ENTRY = re.compile(r"^([a-z0-9][a-z0-9._-]*)==[^\n]*(?:\n[ ]+[^\n]*)*", re.MULTILINE)
BUILD = {"hatchling", "editables"}


def canonical(name: str) -> str:
    """The name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[str]) -> set[str]:
    """Names out of requirement strings."""
    return {canonical(re.match(r"[A-Za-z0-9._-]+", r).group()) for r in requirements}  # type: ignore[union-attr]


def needed(service: str, extras: list[str]) -> set[str]:
    """What the service and the two packages it stands on ask for."""
    found: set[str] = set()
    for folder in ("contracts", "shared", f"services/{service}"):
        project = tomllib.loads(Path(folder, "pyproject.toml").read_text())["project"]
        found |= names(project["dependencies"])
        for extra in extras:
            found |= names(project.get("optional-dependencies", {}).get(extra, []))
        # redis[hiredis] and the like: the extra's package is a requirement of its own in the lock
        for requirement in project["dependencies"]:
            found |= {canonical(e) for e in re.findall(r"\[([^\]]+)\]", requirement)}
    return found | BUILD


def main() -> None:
    """Print the selected entries."""
    entries: dict[str, list[str]] = {}
    parents: dict[str, set[str]] = {}
    for match in ENTRY.finditer(Path("requirements.lock").read_text()):
        block = match.group()
        name = canonical(match.group(1))
        entries.setdefault(name, []).append(block)
        via = block.partition("# via")[2]
        for parent in re.findall(r"^\s*(?:#\s+)?([A-Za-z0-9][A-Za-z0-9._-]*)", via.replace("#", "\n"), re.MULTILINE):
            parents.setdefault(canonical(parent), set()).add(name)
    wanted: set[str] = set()
    left = needed(sys.argv[1], sys.argv[2:]) & entries.keys()
    while left:
        name = left.pop()
        wanted.add(name)
        left |= parents.get(name, set()) - wanted
    for name in sorted(wanted):
        sys.stdout.write("\n".join(entries[name]) + "\n")


if __name__ == "__main__":
    main()
