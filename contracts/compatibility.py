"""Compare the schemas with those of the newest release: within a version, events and documents change additively only.

Allowed: a new event, a new optional field, other words in a title or description. Everything else would break a reader
or a writer of the release, and needs a new type with the next major version (``model.trained.v2``) beside the old one.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = "contracts/schemas"
_WORDS = frozenset({"title", "description", "examples", "$comment"})


def breaking(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """A sentence for each difference between two JSON Schemas that is not an addition."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        if old != new:
            yield f"{path or '/'}: {json.dumps(old)} became {json.dumps(new)}"
        return
    for key in sorted((old.keys() | new.keys()) - _WORDS):
        where = f"{path}/{key}"
        if key in ("properties", "$defs"):
            yield from _members(old.get(key, {}), new.get(key, {}), where)
        elif key == "required":
            yield from _required(set(old.get(key, ())), set(new.get(key, ())), where)
        elif key not in new:
            yield f"{where}: removed"
        elif key not in old:
            yield f"{where}: added"
        else:
            yield from breaking(old[key], new[key], where)


def _members(old: dict[str, Any], new: dict[str, Any], path: str) -> Iterator[str]:
    for name, body in old.items():
        if name not in new:
            yield f"{path}/{name}: removed"
        else:
            yield from breaking(body, new[name], f"{path}/{name}")


def _required(old: set[str], new: set[str], path: str) -> Iterator[str]:
    yield from (f"{path}: {name!r} is required now" for name in sorted(new - old))
    yield from (f"{path}: {name!r} is required no more" for name in sorted(old - new))


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """All breaking changes between two sets of schemas, by file name."""
    return [
        sentence
        for name, body in sorted(old.items())
        for sentence in ([f"{name}: removed"] if name not in new else breaking(body, new[name], name))
    ]


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)  # noqa: S607 - git of the PATH
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def released(root: Path) -> tuple[str, dict[str, Any]] | None:
    """The newest release's tag and its schemas; None when there is no release, or no git to ask."""
    tag = (_git(root, "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*") or "").strip()
    if not tag:
        return None
    names = (_git(root, "ls-tree", "--name-only", tag, f"{SCHEMAS}/") or "").split()
    texts = {Path(name).name: _git(root, "show", f"{tag}:{name}") for name in names}
    return tag, {name: json.loads(text) for name, text in texts.items() if text}


def main(root: Path = ROOT) -> int:
    """Exit code 0: nothing to compare with, or additions only; 1: something breaks."""
    release = released(root)
    if release is None:
        print("no release to compare the schemas with")
        return 0
    tag, old = release
    found = compare(old, {path.name: json.loads(path.read_text()) for path in (root / SCHEMAS).glob("*.json")})
    for sentence in found:
        print(sentence, file=sys.stderr)
    if found:
        print(f"these changes break readers or writers of {tag}: declare a new event type instead", file=sys.stderr)
        return 1
    print(f"additions only since {tag}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
