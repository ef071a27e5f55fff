"""Runs the clean-room replay in a fresh interpreter."""

import asyncio
import hashlib
import sys
from pathlib import Path

from tidemill_packaging.job import Unpackable

SCRIPT = Path(__file__).with_name("replay.py")


async def replay(folder: Path, seconds: float) -> bytes | Unpackable:
    """The proof for ``model.onnx``, ``golden.json`` and ``signature.json`` in the folder, or why there is none."""
    model, golden, signature = (folder / name for name in ("model.onnx", "golden.json", "signature.json"))
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",  # neither the environment nor the working directory can add to what is importable
        str(SCRIPT),
        str(model),
        digest,
        str(golden),
        str(signature),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": ""},
    )
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    except TimeoutError:
        return Unpackable("replay", "too_slow", f"no answer within {seconds:.0f} s")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode or not out.strip():
        return Unpackable("replay", "not_replayed", err.decode(errors="replace").strip()[-900:] or "it said nothing")
    return out.strip().splitlines()[-1]
