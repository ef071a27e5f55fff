"""``trace``: where something came from and what came of it."""

from collections import defaultdict
from typing import Annotated, Any

import typer
from rich.tree import Tree

from tidemill_console.commands.stack import AsJson
from tidemill_console.connection import Client, connected
from tidemill_console.history import line
from tidemill_console.output import results, run, show_json
from tidemill_contracts.envelope import FIELD, Event
from tidemill_contracts.events import (
    DataArrived,
    DatasetPrepared,
    ModelPromoted,
    ModelTrained,
    PredictionCompleted,
    PredictionsCompleted,
    PredictionsRequested,
)
from tidemill_contracts.registry import EVENTS, InvalidEvent, parse
from tidemill_contracts.streams import stream_key
from tidemill_shared.errors import TidemillError

Story = dict[str, Event[Any]]


def trace(
    what: Annotated[str, typer.Argument(help="An event id, a prediction id, or a dataset or model version.")],
    as_json: AsJson = False,
) -> None:
    """Causes up to the raw file, and effects, of an event, dataset, model or prediction."""
    causes, effects = run(_trace(what))
    if as_json:
        show_json({"causes": [e.model_dump(mode="json") for e in causes], "effects": _nested(effects)})
        return
    tree = Tree(f"[bold]{what}[/]")
    upwards = tree.add("caused by")
    for event in causes:
        upwards = upwards.add(_line(event))
    _grow(tree.add("led to"), effects)
    results.print(tree)


def _line(event: Event[Any]) -> str:
    text = line(event).replace("[", r"\[")
    return f"{text}\n  {event.data.uri}" if isinstance(event, DataArrived) else text


def _nested(effects: Any) -> list[dict[str, Any]]:
    return [{"event": e.model_dump(mode="json"), "effects": _nested(more)} for e, more in effects]


def _grow(tree: Tree, effects: Any) -> None:
    for event, more in effects:
        _grow(tree.add(_line(event)), more)


async def _trace(what: str) -> tuple[list[Event[Any]], Any]:
    async with connected() as client:
        story = await _read(client)
    starts = _find(story, what)
    if not starts:
        raise TidemillError(f"nothing called {what!r} is in the streams: an event, prediction or version is expected")
    start = starts[0]
    children: dict[str, list[Event[Any]]] = defaultdict(list)
    for event in story.values():
        for cause in _causes(event, story):
            children[cause.id].append(event)
    return _upwards(start, story), [(start, _downwards(start, children, {start.id}))]


async def _read(client: Client) -> Story:
    story: Story = {}
    for type_, cls in EVENTS.items():
        for pipeline in client.pipelines.names() if cls.plane == "data" else [None]:
            stream = stream_key(client.namespace, type_, pipeline)
            entries: Any = await client.bus.nodes.of(stream).xrange(stream)
            for _, fields in entries:
                try:
                    event = parse(fields.get(FIELD.encode(), b""))
                except InvalidEvent:
                    continue  # it lies in the dead letters
                note(story, event)
    return story


def note(story: Story, event: Event[Any]) -> None:
    """Remember an event, and of a table the events its rows would have been: a row is asked for by its id."""
    story.setdefault(event.id, event)
    if isinstance(event, (PredictionsRequested, PredictionsCompleted)):
        for row in event.each():
            story.setdefault(row.id, row)


def _find(story: Story, what: str) -> list[Event[Any]]:
    if what in story:
        event = story[what]
        # A prediction is best told from its answer, which names the model.
        answers: list[Event[Any]] = [
            e for e in story.values() if isinstance(e, PredictionCompleted) and e.data.prediction_id == what
        ]
        return answers or [event]
    made = (ModelTrained, DatasetPrepared)
    return [e for e in story.values() if isinstance(e, made) and e.data.version == what]


def _causes(event: Event[Any], story: Story) -> list[Event[Any]]:
    found = [story[event.causationid]] if event.causationid in story else []
    # What the causation chain cannot say: which model answered, which dataset a model learned from.
    if isinstance(event, PredictionCompleted):
        found += [
            e for e in story.values() if isinstance(e, ModelPromoted) and e.data.version == event.data.model_version
        ][:1]
    if isinstance(event, ModelTrained):
        found += [
            e
            for e in story.values()
            if isinstance(e, DatasetPrepared) and e.data.version == event.data.dataset_version and e not in found
        ][:1]
    return found


def _upwards(event: Event[Any], story: Story) -> list[Event[Any]]:
    chain: list[Event[Any]] = []
    seen = {event.id}
    left = _causes(event, story)
    while left:
        cause = left.pop(0)
        if cause.id not in seen:
            seen.add(cause.id)
            chain.append(cause)
            left += _causes(cause, story)
    return chain


def _downwards(event: Event[Any], children: dict[str, list[Event[Any]]], seen: set[str]) -> Any:
    found = []
    for child in children[event.id][:200]:
        if child.id not in seen:
            seen.add(child.id)
            found.append((child, _downwards(child, children, seen)))
    return found
