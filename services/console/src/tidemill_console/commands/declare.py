"""``declare``: tell the system about a use case."""

import json
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from tidemill_console.commands.stack import AsJson
from tidemill_console.connection import Client, connected
from tidemill_console.output import USAGE, describe, fail, run, say, show_json
from tidemill_contracts.events import PipelineDeclared
from tidemill_contracts.pipeline import DeclaredPipeline, PipelineSpec
from tidemill_shared.pipelines import store_pipeline


def declare(
    file: Annotated[Path, typer.Argument(help="A TOML or JSON file, or - for JSON on standard input.")],
    as_json: AsJson = False,
) -> None:
    """Declare a pipeline, or a new revision of one."""
    spec = read_spec(file)
    declared, changed = run(_declare(spec))
    if as_json:
        show_json({"pipeline": spec.name, "version": declared.version, "revision": declared.spec.revision})
    elif changed:
        say(f"declared {spec.name}, revision {declared.spec.revision}, version {declared.version}")
    else:
        say(f"{spec.name} is declared like this already (revision {declared.spec.revision}): nothing changed")


def read_spec(file: Path) -> PipelineSpec:
    """The specification in a file; a sentence for each thing that is wrong."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        raw: Any = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
        return PipelineSpec.model_validate(raw)
    except OSError as error:
        fail(f"cannot read {file}: {error.strerror}", USAGE)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        kind = "TOML" if file.suffix == ".toml" else "JSON"
        fail(f"{file} is not {kind}: {error}", USAGE)
    except ValidationError as error:
        fail(f"{file}: {describe(error)}", USAGE)


async def _declare(spec: PipelineSpec) -> tuple[DeclaredPipeline, bool]:
    async with connected() as client:
        return await declare_pipeline(client, spec)


async def declare_pipeline(client: Client, spec: PipelineSpec) -> tuple[DeclaredPipeline, bool]:
    """Store and announce the specification as the next revision; False when it is the present one already."""
    present = await client.pipelines.declared(spec.name)
    if present:
        if spec.model_copy(update={"revision": present.spec.revision}) == present.spec:
            # Announced again all the same: the announcement, not the file, may be what was lost.
            await client.bus.offer(PipelineDeclared.root(present, subject=spec.name, source="urn:tidemill:console"))
            return present, False
        spec = spec.model_copy(update={"revision": present.spec.revision + 1})
    declared = await store_pipeline(client.store, spec)
    await client.bus.offer(PipelineDeclared.root(declared, subject=spec.name, source="urn:tidemill:console"))
    return declared, True
