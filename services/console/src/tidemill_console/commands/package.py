"""``package``: the champion's files in a folder, for a program of one's own."""

from pathlib import Path
from typing import Annotated

import typer

from tidemill_console.commands.stack import AsJson
from tidemill_console.connection import connected
from tidemill_console.output import run, say, show_json
from tidemill_contracts.artifacts import ArtifactRef, promotions_prefix
from tidemill_contracts.package import Attestation, PackageManifest
from tidemill_contracts.promotion import Promotion
from tidemill_shared.append_log import AppendLog
from tidemill_shared.errors import TidemillError
from tidemill_shared.signing import Verifier


def package(
    pipeline: Annotated[str, typer.Argument(help="The pipeline.")],
    folder: Annotated[Path, typer.Argument(help="Where its files go.")],
    as_json: AsJson = False,
) -> None:
    """Copy the champion's package into a folder, verified; `tidemill_serving.load` answers rows with it."""
    manifest = run(_fetch(pipeline, folder))
    if as_json:
        show_json({"pipeline": pipeline, "manifest": manifest.sha256, "folder": str(folder)})
    say(f"written to {folder}; the manifest's digest is {manifest.sha256}")


async def _fetch(pipeline: str, folder: Path) -> ArtifactRef:
    async with connected() as client:
        champion = await AppendLog(client.store, promotions_prefix(pipeline), Promotion).last()
        if champion is None:
            raise TidemillError(f"no model of {pipeline!r} has been promoted")
        ref = champion[1].manifest
        if client.keys.public_file:
            attestation = await client.store.document(champion[1].attestation, Attestation)
            Verifier(client.keys.public_file).verify(attestation, ref.key, ref.sha256)
        manifest = await client.store.document(ref, PackageManifest)
        for name, file in manifest.files.items():
            await client.store.get_file(file, folder / name)
        # Last, so that a folder with a manifest is whole.
        await client.store.get_file(champion[1].attestation, folder / "manifest.dsse.json")
        await client.store.get_file(ref, folder / "manifest.json")
        return ref
