"""Write, or with ``--check`` compare, everything that is generated from the contracts and the settings classes.

JSON Schemas, the AsyncAPI and OpenAPI documents, ``.env.example``, the tables of events and settings in the READMEs.
"""

import argparse
import sys
import tomllib
from pathlib import Path, PurePosixPath

from generation import asyncapi, openapi, schemas, tables

ROOT = Path(__file__).resolve().parent.parent


def generated(root: Path) -> dict[PurePosixPath, str]:
    """Path in the repository to the text it should hold."""
    version = tomllib.loads((root / "contracts" / "pyproject.toml").read_text())["project"]["version"]
    services = sorted(path.parent.name for path in root.glob("services/*/pyproject.toml"))
    files = schemas.files() | {asyncapi.PATH: asyncapi.file(version)} | tables.environment(root, services)
    files |= openapi.files(root)
    files |= _page(root, PurePosixPath("contracts/README.md"), {"events": tables.all_events()})
    for service in services:
        page = PurePosixPath("services") / service / "README.md"
        files |= _page(root, page, {"events": tables.events_of(service), "settings": tables.settings_of(root, service)})
    return files


def _page(root: Path, path: PurePosixPath, parts: dict[str, str]) -> dict[PurePosixPath, str]:
    if not (root / path).exists():
        return {}
    page = (root / path).read_text()
    for marker, body in parts.items():
        page = tables.between(page, marker, body)
    return {path: page}


def differences(root: Path, files: dict[PurePosixPath, str]) -> list[str]:
    """A sentence for each file that is missing, outdated, or generated no longer."""
    found = []
    for path, text in files.items():
        target = root / path
        if not target.exists():
            found.append(f"{path} is missing")
        elif target.read_text() != text:
            found.append(f"{path} is out of date")
    left = {PurePosixPath(p.relative_to(root).as_posix()) for p in (root / schemas.FOLDER).glob("*.json")} - set(files)
    return found + [f"{path} describes nothing any more" for path in sorted(left)]


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: written, or nothing differs; 1: something differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; exit code 1 when something differs")
    options = parser.parse_args(arguments)
    files = generated(ROOT)
    found = differences(ROOT, files)
    if options.check:
        for sentence in found:
            print(sentence, file=sys.stderr)
        if found:
            print("run `make contracts` and commit what it writes", file=sys.stderr)
        return 1 if found else 0
    for path, text in files.items():
        target = ROOT / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    for stale in set((ROOT / schemas.FOLDER).glob("*.json")) - {ROOT / path for path in files}:
        stale.unlink()
    print(f"{len(files)} files generated, {len(found)} of them changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
