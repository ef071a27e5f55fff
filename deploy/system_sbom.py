"""What the system itself is made of, as CycloneDX 1.6 JSON: ``python deploy/system_sbom.py > sbom.cdx.json``.

Out of requirements.lock alone, so that the same lock gives the same bytes: each package with its version, its package
URL and the digests of its files.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_OWN = re.compile(r'^version = "([^"]+)"', re.MULTILINE)


def components(lock: str) -> list[dict[str, Any]]:
    """One component a pin, in the lock's order. Raises ValueError for a pin without a digest."""
    found: list[dict[str, Any]] = []
    for line in lock.splitlines():
        if pin := _PIN.match(line):
            name, version = pin[1].lower().replace("_", "-"), pin[2]
            purl = f"pkg:pypi/{name}@{version}"
            found.append({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
        for digest in _HASH.findall(line):
            references = found[-1].setdefault("externalReferences", [{"type": "distribution", "url": "", "hashes": []}])
            references[0]["url"] = f"https://pypi.org/project/{found[-1]['name']}/{found[-1]['version']}/"
            references[0]["hashes"].append({"alg": "SHA-256", "content": digest})
    bare = [c["purl"] for c in found if "externalReferences" not in c]
    if bare:
        raise ValueError(f"requirements.lock pins {', '.join(bare)} without a digest")
    return found


def document(lock: str, version: str) -> dict[str, Any]:
    """The bill of materials."""
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "bom-ref": "tidemill", "name": "tidemill", "version": version}
        },
        "components": components(lock),
    }


if __name__ == "__main__":
    own = _OWN.search((ROOT / "pyproject.toml").read_text())
    made = document((ROOT / "requirements.lock").read_text(), own[1] if own else "0")
    sys.stdout.write(json.dumps(made, indent=1) + "\n")
